//! Ends an access token at once.

use super::{end_token, find_token};
use crate::keys::{self, Clock, DeadlineKind};
use crate::rows;
use crate::scope::{Failure, Scope};
use crate::{AccessTokenRevoke, Outcome, expiry};

/// One whose time is over is not there any more, also when it was not swept yet.
pub(crate) fn apply(scope: &mut Scope<'_>, revoke: AccessTokenRevoke) -> Result<Outcome, Failure> {
    let AccessTokenRevoke { id } = revoke;
    let revision = scope.revision;
    let Some(row) = find_token(scope, id)? else {
        return Ok(Outcome::AccessDelete { deleted: false, revision });
    };
    if let Some(at_ms) = row.expires_wall_ms {
        let key = keys::access_token(scope.group, id);
        expiry::unschedule(scope, Clock::Wall, at_ms, DeadlineKind::AccessToken, &key);
    }
    end_token(scope, id, &row)?;
    let deleted = rows::is_live(row.expires_wall_ms, scope.meta.stamp.wall_ms);
    Ok(Outcome::AccessDelete { deleted, revision })
}
