//! Gives a new node its id, and plans that it becomes a member.

use super::{all, check_room, check_token_hash, conflict, write};
use crate::keys::{self, Clock, DeadlineKind};
use crate::limits::ADDRESS_BYTES_MAX;
use crate::rows::{self, InvitationRow, MemberPlanRow, MemberRow};
use crate::scope::{Failure, Scope, within};
use crate::{MemberJoin, NodeId, Outcome, Rejection, Txn as _, expiry};

pub(crate) fn apply(scope: &mut Scope<'_>, join: &MemberJoin) -> Result<Outcome, Failure> {
    let MemberJoin { uuid, peer_addr, client_addr, token_hash, learner, known } = join;
    for (what, address) in [("peer", peer_addr), ("client", client_addr)] {
        if address.is_empty() {
            return Err(Failure::Rejected(Rejection::Invalid(format!(
                "the {what} address is empty; a node that joins says where it is reached"
            ))));
        }
        within(&format!("{what} address bytes"), address.len(), ADDRESS_BYTES_MAX)?;
    }
    let members = all(&scope.txn, scope.group)?;
    if let Some((node, row)) = members.iter().find(|(_, row)| row.uuid == *uuid) {
        return match row.plan {
            MemberPlanRow::Gone | MemberPlanRow::Remove => Err(conflict(format!(
                "this directory was of node {node}, which was removed from the cluster; join with \
                 an empty directory"
            ))),
            _ => Ok(Outcome::MemberJoin { node: *node }),
        };
    }
    check_room(&members, false)?;
    let invitation = token_hash.as_deref().map(|hash| invitation(scope, hash)).transpose()?;
    let replaces = invitation.as_ref().and_then(|(_, row)| row.replaces);
    if let Some(replaced) = replaces.filter(|_| *learner) {
        return Err(conflict(format!(
            "the token is for a node that takes the place of node {}, and a learner does not vote; join \
             without --learner",
            replaced.node
        )));
    }
    let last = members.last().map_or(NodeId(0), |(node, _)| *node);
    let highest = last.max(*known).0;
    let node = highest.checked_add(1).map(NodeId).ok_or_else(|| {
        Failure::Rejected(Rejection::Invalid(format!("no id is above {highest}")))
    })?;
    if let Some((key, row)) = invitation {
        // It is used up.
        expiry::unschedule(scope, Clock::Lease, row.deadline_ms, DeadlineKind::Invitation, &key);
        scope.txn.delete(&key);
    }
    let plan = MemberPlanRow::Join {
        peer_addr: peer_addr.clone(),
        client_addr: client_addr.clone(),
        learner: *learner,
        replaces,
    };
    write(scope, node, &MemberRow { uuid: *uuid, plan });
    Ok(Outcome::MemberJoin { node })
}

/// What a token stands for, while it does.
fn invitation(scope: &Scope<'_>, hash: &[u8]) -> Result<(Vec<u8>, InvitationRow), Failure> {
    check_token_hash(hash)?;
    let key = keys::invitation(scope.group, hash);
    let found: Option<InvitationRow> = rows::find(&scope.txn, "invitation row", &key)?;
    let now_ms = scope.lease_ms();
    match found.filter(|row| rows::is_live(Some(row.deadline_ms), now_ms)) {
        Some(row) => Ok((key, row)),
        None => Err(Failure::Rejected(Rejection::TokenUnknown)),
    }
}
