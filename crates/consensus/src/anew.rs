//! A cluster of one node that begins with a state from elsewhere, as from a backup.

use crate::StartError;
use crate::bootstrap::cluster_id;
use crate::log_adapter::encode_vote;
use crate::types::vote;
use quorate_state::{
    GroupId, LogPosition, Member, Membership, NodeId, StoredMembership, Term, restore,
};
use quorate_storage::Stores;
use quorate_storage::state::AppliedMeta;
use std::collections::BTreeMap;
use std::sync::mpsc;

/// How much is added to the term, which is the epoch of messages: more elections than the cluster
/// that the state is from can have had since.
const TERMS: u64 = 1 << 20;

/// Makes stores whose state came from elsewhere, and whose log is empty, those of a cluster of this
/// node alone; answers the cluster's id. All is on disk when it returns. Blocks.
///
/// # Errors
/// When the state holds nothing, its numbers are used up, or storage fails.
pub fn begin_anew(
    mut stores: Stores,
    group: GroupId,
    node: NodeId,
    member: Member,
    wall_ms: u64,
) -> Result<String, StartError> {
    let refused = |error: &dyn std::fmt::Display| StartError::Refused(error.to_string());
    let AppliedMeta { applied, .. } = stores.state.applied();
    let Some(applied) = applied else {
        return Err(refused(&"it holds no state: no entry was ever applied"));
    };
    let mut txn = stores.state.begin();
    let index = restore::begin_anew(txn.as_txn(), group, applied.index, wall_ms)
        .map_err(|fatal| refused(&fatal))?;
    let position = LogPosition { term: Term(applied.term.0.saturating_add(TERMS)), index };
    let members = BTreeMap::from([(node, member)]);
    let id = cluster_id(&members);
    let membership = Membership { voters: vec![[node].into()], nodes: members };
    let membership = StoredMembership { position: Some(position), membership };
    txn.commit(&AppliedMeta { applied: Some(position), membership })?;
    // The log begins behind the state, in a term that no vote of another one can undercut.
    stores.log.purge(position)?;
    let (done, saved) = mpsc::channel();
    let vote = encode_vote(&vote(position.term.0, node.0, false));
    stores.log.save_vote(vote, Box::new(move |saving| drop(done.send(saving))))?;
    saved.recv().map_err(|_| {
        StartError::Consensus("the log closed before the vote was saved".to_owned())
    })??;
    // Puts the state on disk as well; and nodes that join need one.
    stores.snapshots.build()?;
    Ok(id)
}
