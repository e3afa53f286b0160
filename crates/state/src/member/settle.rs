//! Ends a plan that was carried out.

use super::{find, write};
use crate::rows::{MemberPlanRow, MemberRow};
use crate::scope::{Failure, Scope};
use crate::{MemberSettle, Outcome};

/// A node that was replaced votes no more by now; that it leaves is planned with the same entry.
pub(crate) fn apply(scope: &mut Scope<'_>, settle: MemberSettle) -> Result<Outcome, Failure> {
    let MemberSettle { member, gone } = settle;
    let Some(row) = find(scope, member.node)?.filter(|row| row.uuid == member.uuid) else {
        return Ok(Outcome::Done);
    };
    let (plan, replaced) = match row.plan {
        MemberPlanRow::Remove if gone => (MemberPlanRow::Gone, None),
        MemberPlanRow::Join { replaces, .. } | MemberPlanRow::Promote { replaces } if !gone => {
            (MemberPlanRow::Settled, replaces)
        }
        _ => return Ok(Outcome::Done),
    };
    write(scope, member.node, &MemberRow { uuid: member.uuid, plan });
    if let Some(replaced) = replaced {
        let known = find(scope, replaced.node)?;
        if known.is_none_or(|known| known.plan != MemberPlanRow::Gone) {
            let plan = MemberPlanRow::Remove;
            write(scope, replaced.node, &MemberRow { uuid: replaced.uuid, plan });
        }
    }
    Ok(Outcome::Done)
}
