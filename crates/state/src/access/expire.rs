//! Ends an access token whose time is over; the sweep calls it with its deadline gone already.

use super::{end_token, find_token};
use crate::Fatal;
use crate::keys::{self, Key};
use crate::scope::Scope;

pub(crate) fn apply(scope: &mut Scope<'_>, token: &[u8]) -> Result<(), Fatal> {
    let Some(Key::AccessToken(id)) = keys::parse(scope.group, token) else {
        return Err(Fatal::Invariant(format!("a deadline names the access token {token:02x?}")));
    };
    let Some(row) = find_token(scope, id)? else {
        return Err(Fatal::Invariant(format!("the access token {id} is due and not there")));
    };
    end_token(scope, id, &row)
}
