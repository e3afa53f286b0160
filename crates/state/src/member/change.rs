//! Plans what is to become of a member.

use super::{all, check_room, check_uuid, conflict, find, write};
use crate::rows::{MemberPlanRow, MemberRow};
use crate::scope::{Failure, Scope};
use crate::{MemberAim, MemberChange, Outcome};

pub(crate) fn apply(scope: &mut Scope<'_>, change: MemberChange) -> Result<Outcome, Failure> {
    let MemberChange { member, aim } = change;
    let before = find(scope, member.node)?;
    if let Some(row) = &before {
        check_uuid(member, row)?;
    }
    let plan = match aim {
        MemberAim::Gone => MemberPlanRow::Remove,
        MemberAim::Voter { replaces } => MemberPlanRow::Promote { replaces },
    };
    let node = member.node;
    match before.map(|row| row.plan) {
        Some(MemberPlanRow::Gone) => {
            return Err(conflict(format!("node {node} was removed from the cluster")));
        }
        Some(planned) if planned == plan => return Ok(Outcome::Done),
        Some(MemberPlanRow::Remove) => {
            return Err(conflict(format!("node {node} is being removed from the cluster")));
        }
        // To leave comes before all else, also before it has come.
        Some(MemberPlanRow::Join { .. } | MemberPlanRow::Promote { .. })
            if plan == MemberPlanRow::Remove => {}
        Some(MemberPlanRow::Join { .. }) => {
            return Err(conflict(format!("node {node} is still joining; wait for that")));
        }
        Some(MemberPlanRow::Promote { .. }) => {
            return Err(conflict(format!("node {node} is being promoted already")));
        }
        settled @ (Some(MemberPlanRow::Settled) | None) => {
            check_room(&all(&scope.txn, scope.group)?, settled.is_some())?;
        }
    }
    write(scope, node, &MemberRow { uuid: member.uuid, plan });
    Ok(Outcome::Done)
}
