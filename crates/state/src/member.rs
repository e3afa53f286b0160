//! The members of the cluster, as far as they are planned: Raft's own membership says who they are.
//!
//! A plan is a row, so whoever leads next goes on with it. It says what is to be true of a member,
//! and not which steps lead there: those follow from the membership that the leader finds.

pub(crate) mod change;
pub(crate) mod expire;
pub(crate) mod invite;
pub(crate) mod join;
pub(crate) mod publish;
pub(crate) mod raise;
pub(crate) mod settle;

use crate::limits::{MEMBER_PLANS_MAX, MEMBERS_EVER_MAX, TOKEN_HASH_BYTES};
use crate::rows::{self, MemberPlanRow, MemberRow};
use crate::scope::{Failure, Scope, at_most};
use crate::{Fatal, MemberIdentity, NodeId, Read, Rejection, Txn as _, codec, keys};
use std::ops::ControlFlow;

fn find(scope: &Scope<'_>, node: NodeId) -> Result<Option<MemberRow>, Fatal> {
    rows::find(&scope.txn, "member row", &keys::member(scope.group, node))
}

fn write(scope: &mut Scope<'_>, node: NodeId, row: &MemberRow) {
    scope.txn.put(&keys::member(scope.group, node), &codec::encode(row));
}

/// All rows, by id. There are few.
pub(crate) fn all(
    tables: &dyn Read,
    group: crate::GroupId,
) -> Result<Vec<(NodeId, MemberRow)>, Fatal> {
    let (from, to) = keys::table_range(group, keys::table::MEMBER);
    let mut found = Ok(Vec::new());
    tables.scan(&from, &to, &mut |key, value| {
        let row = rows::decode("member row", value);
        match (keys::parse(group, key), row, &mut found) {
            (Some(keys::Key::Member(node)), Ok(row), Ok(all)) => all.push((node, row)),
            (_, Err(error), _) => found = Err(error),
            _ => found = Err(Fatal::Invariant(format!("members have the key {key:02x?}"))),
        }
        if found.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    found
}

/// Whether one more may be planned, of a node that has a row or of another one.
fn check_room(all: &[(NodeId, MemberRow)], has_row: bool) -> Result<(), Failure> {
    let planned = all.iter().filter(|(_, row)| is_planned(&row.plan)).count() as u64;
    at_most("planned changes of members", planned + 1, MEMBER_PLANS_MAX)?;
    let rows = all.len() as u64 + u64::from(!has_row);
    at_most("nodes that ever were members", rows, MEMBERS_EVER_MAX)?;
    Ok(())
}

pub(crate) fn is_planned(plan: &MemberPlanRow) -> bool {
    match plan {
        MemberPlanRow::Settled | MemberPlanRow::Gone => false,
        MemberPlanRow::Join { .. } | MemberPlanRow::Promote { .. } | MemberPlanRow::Remove => true,
    }
}

fn conflict(why: String) -> Failure {
    Failure::Rejected(Rejection::MemberConflict(why))
}

fn check_uuid(member: MemberIdentity, row: &MemberRow) -> Result<(), Failure> {
    if row.uuid == member.uuid {
        return Ok(());
    }
    let node = member.node;
    Err(conflict(format!("node {node} has another data directory than the one that is meant")))
}

/// Of a join token, or of an access token.
pub(crate) fn check_token_hash(hash: &[u8]) -> Result<(), Rejection> {
    if hash.len() == TOKEN_HASH_BYTES {
        return Ok(());
    }
    let bytes = hash.len();
    let why = format!("the token's hash has {bytes} bytes instead of {TOKEN_HASH_BYTES}");
    Err(Rejection::Invalid(why))
}
