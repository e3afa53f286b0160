//! Makes an access token.

use super::{
    changed, check_name, check_roles, check_roles_exist, conflict, count, find_token, hold,
};
use crate::keys::{self, AccessHolder, Clock, DeadlineKind};
use crate::limits::{ACCESS_TOKEN_TTL_MS_MAX, ACCESS_TOKEN_TTL_MS_MIN, ACCESS_TOKENS_MAX};
use crate::member::check_token_hash;
use crate::rows::{self, AccessTokenRow};
use crate::scope::{Failure, Scope, at_most};
use crate::{AccessTokenCreate, Outcome, Rejection, Txn as _, codec, expiry};

impl AccessTokenCreate {
    /// What can be said of it without the state. Whoever proposes it asks first: an entry with more
    /// roles than there may be does not decode.
    ///
    /// # Errors
    /// When its hash, name, roles or ttl are not what they have to be.
    pub fn check(&self) -> Result<(), Rejection> {
        check_token_hash(&self.hash)?;
        check_name("token's name", &self.name)?;
        check_roles("token", &self.roles)?;
        let Some(ttl_ms) = self.ttl_ms else { return Ok(()) };
        if ttl_ms < ACCESS_TOKEN_TTL_MS_MIN {
            return Err(Rejection::Invalid(format!(
                "the token's ttl is {ttl_ms} ms, the least is {ACCESS_TOKEN_TTL_MS_MIN} ms"
            )));
        }
        at_most("ttl of a token in milliseconds", ttl_ms, ACCESS_TOKEN_TTL_MS_MAX)
    }
}

/// An id is random, so one that is there is another token's, or this one's again: that is for sessions
/// and idempotency keys to recognise. One whose time is over counts until it is swept.
pub(crate) fn apply(scope: &mut Scope<'_>, create: &AccessTokenCreate) -> Result<Outcome, Failure> {
    create.check()?;
    let AccessTokenCreate { id, hash, name, roles, ttl_ms } = create;
    if find_token(scope, *id)?.is_some() {
        return Err(conflict(format!("the token {id} was given out already; make another")));
    }
    check_roles_exist(scope, roles)?;
    let tokens = rows::access_meta(&scope.txn, scope.group)?.tokens;
    at_most("access tokens", tokens + 1, ACCESS_TOKENS_MAX)?;
    let created_wall_ms = scope.meta.stamp.wall_ms;
    let row = AccessTokenRow {
        hash: hash.clone(),
        name: name.clone(),
        roles: roles.clone(),
        created_wall_ms,
        expires_wall_ms: ttl_ms.map(|ttl_ms| created_wall_ms.saturating_add(ttl_ms)),
    };
    let key = keys::access_token(scope.group, *id);
    scope.txn.put(&key, &codec::encode(&row));
    if let Some(at_ms) = row.expires_wall_ms {
        expiry::schedule(scope, Clock::Wall, at_ms, DeadlineKind::AccessToken, &key);
    }
    hold(scope, AccessHolder::Token(*id), roles);
    count(scope, |meta| meta.tokens += 1)?;
    changed(scope);
    Ok(Outcome::Done)
}
