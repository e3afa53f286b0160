//! Reads about the members of the cluster.

use crate::machine::Fatal;
use crate::rows::{self, MemberAddrRow, MemberPlanRow, MemberRow};
use crate::{FeatureLevel, GroupId, Member, MemberIdentity, NodeId, Read, keys, member};

/// What is planned for a member, or for a node that is to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPlan {
    /// Whom it is about.
    pub member: MemberIdentity,
    /// What is to be true of it.
    pub what: Planned,
}

/// What is to be true of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// It belongs to the cluster.
    Join {
        /// How it is reached.
        member: Member,
        /// Whether it stays without a vote.
        learner: bool,
        /// Who leaves when it votes.
        replaces: Option<MemberIdentity>,
    },
    /// It votes.
    Promote {
        /// Who leaves when it does.
        replaces: Option<MemberIdentity>,
    },
    /// It does not belong to the cluster.
    Remove,
}

/// The client and HTTP address a node published last.
///
/// # Errors
/// When the tables fail.
pub fn member_addresses(
    tables: &dyn Read,
    group: GroupId,
    node: NodeId,
) -> Result<Option<(String, String)>, Fatal> {
    let Some(bytes) = tables.get(&keys::member_addr(group, node))? else { return Ok(None) };
    let row: MemberAddrRow = rows::decode("member address row", &bytes)?;
    Ok(Some((row.client_addr, row.http_addr)))
}

/// What is planned for members, by id.
///
/// # Errors
/// When the tables fail.
pub fn member_plans(tables: &dyn Read, group: GroupId) -> Result<Vec<MemberPlan>, Fatal> {
    let planned = |(node, row): (NodeId, MemberRow)| {
        let what = match row.plan {
            MemberPlanRow::Settled | MemberPlanRow::Gone => return None,
            MemberPlanRow::Join { peer_addr, client_addr, learner, replaces } => {
                let member = Member { uuid: row.uuid, peer_addr, client_addr };
                Planned::Join { member, learner, replaces }
            }
            MemberPlanRow::Promote { replaces } => Planned::Promote { replaces },
            MemberPlanRow::Remove => Planned::Remove,
        };
        Some(MemberPlan { member: MemberIdentity { node, uuid: row.uuid }, what })
    };
    Ok(member::all(tables, group)?.into_iter().filter_map(planned).collect())
}

/// Whether a node was a member and has left for good.
///
/// # Errors
/// When the tables fail.
pub fn has_left(tables: &dyn Read, group: GroupId, member: MemberIdentity) -> Result<bool, Fatal> {
    let row: Option<MemberRow> =
        rows::find(tables, "member row", &keys::member(group, member.node))?;
    Ok(row.is_some_and(|row| row.uuid == member.uuid && row.plan == MemberPlanRow::Gone))
}

/// The feature level of the cluster.
///
/// # Errors
/// When the tables fail.
pub fn feature_level(tables: &dyn Read, group: GroupId) -> Result<FeatureLevel, Fatal> {
    rows::feature_level(tables, group)
}
