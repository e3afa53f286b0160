//! What is planned for members.

use crate::MemberIdentity;
use crate::query::{MemberPlan, Planned};
use crate::rows::MemberPlanRow;

pub(crate) fn replaces(whom: Option<MemberIdentity>) -> String {
    whom.map_or_else(String::new, |whom| format!(" replaces={}", whom.node))
}

pub(crate) fn plan(row: &MemberPlanRow) -> String {
    match row {
        MemberPlanRow::Settled => "settled".to_owned(),
        MemberPlanRow::Join { peer_addr, client_addr, learner, replaces: whom } => {
            let whom = replaces(*whom);
            format!("join peer={peer_addr} client={client_addr} learner={learner}{whom}")
        }
        MemberPlanRow::Promote { replaces: whom } => format!("promote{}", replaces(*whom)),
        MemberPlanRow::Remove => "remove".to_owned(),
        MemberPlanRow::Gone => "gone".to_owned(),
    }
}

/// One of those that are to be carried out.
pub(crate) fn planned(plan: &MemberPlan) -> String {
    let what = match &plan.what {
        Planned::Join { member, learner, replaces: whom } => {
            format!("join peer={} learner={learner}{}", member.peer_addr, replaces(*whom))
        }
        Planned::Promote { replaces: whom } => format!("promote{}", replaces(*whom)),
        Planned::Remove => "remove".to_owned(),
    };
    format!("{} {what}", plan.member.node)
}
