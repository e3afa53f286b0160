//! Lets one node join that shows a token.

use super::check_token_hash;
use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::{INVITATION_TTL_MS_MAX, INVITATION_TTL_MS_MIN, INVITATIONS_MAX};
use crate::rows::InvitationRow;
use crate::scope::{Failure, Scope, at_most};
use crate::{MemberInvite, Outcome, Read as _, Rejection, Txn as _, codec, expiry};
use std::ops::ControlFlow;

pub(crate) fn apply(scope: &mut Scope<'_>, invite: &MemberInvite) -> Result<Outcome, Failure> {
    let MemberInvite { token_hash, ttl_ms, replaces } = invite;
    check_token_hash(token_hash)?;
    if *ttl_ms < INVITATION_TTL_MS_MIN {
        return Err(Failure::Rejected(Rejection::Invalid(format!(
            "the token's ttl is {ttl_ms} ms, the least is {INVITATION_TTL_MS_MIN} ms"
        ))));
    }
    at_most("ttl of a token in milliseconds", *ttl_ms, INVITATION_TTL_MS_MAX)?;
    let key = keys::invitation(scope.group, token_hash);
    if scope.txn.get(&key)?.is_some() {
        return Err(super::conflict("the token was given out already; make another".to_owned()));
    }
    let (from, to) = keys::table_range(scope.group, keys::table::INVITATION);
    let mut count = 0_u64;
    scope.txn.scan(&from, &to, &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    at_most("tokens that are valid at once", count + 1, INVITATIONS_MAX)?;
    let deadline_ms = scope.lease_ms().saturating_add(*ttl_ms);
    let row = InvitationRow { deadline_ms, replaces: *replaces };
    scope.txn.put(&key, &codec::encode(&row));
    expiry::schedule(scope, Clock::Lease, deadline_ms, DeadlineKind::Invitation, &key);
    Ok(Outcome::Done)
}
