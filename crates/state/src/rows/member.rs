//! Values of the tables about members.

use crate::MemberIdentity;
use serde::{Deserialize, Serialize};

/// A node that joined a cluster that was there, or of which something is or was planned. Never
/// deleted, so that no id is given twice, and one that has left can be told so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberRow {
    pub(crate) uuid: u128,
    pub(crate) plan: MemberPlanRow,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberPlanRow {
    /// Nothing: it is what it is to be.
    Settled,
    /// It is to be admitted, as a learner first.
    Join { peer_addr: String, client_addr: String, learner: bool, replaces: Option<MemberIdentity> },
    /// It is to vote.
    Promote { replaces: Option<MemberIdentity> },
    /// It is to leave.
    Remove,
    /// It has left.
    Gone,
}

/// An invitation, until it is used or its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InvitationRow {
    pub(crate) deadline_ms: u64,
    pub(crate) replaces: Option<MemberIdentity>,
}
