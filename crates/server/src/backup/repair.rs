//! Gives a node whose state is damaged the state of its cluster, and leaves it its log and its votes.
//!
//! The state follows from the log, so it may be made anew from another node's; the log may not: it is
//! what the node has promised. A node that has lost that is replaced, not repaired.

use super::read::Backup;
use super::{End, Error, Header, Progress};
use quorate_state::{GroupId, LogIndex, LogPosition, NodeId};
use quorate_storage::identity::{Directory, Identity};
use quorate_storage::state::AppliedMeta;
use quorate_storage::state::rebuild::Rebuild;
use quorate_storage::{Storage, Stores, Tuning};
use std::path::Path;

/// What was repaired.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// The node.
    pub node_id: NodeId,
    /// What its state is of now.
    pub header: Header,
    /// What is in it.
    pub end: End,
}

fn open(data_dir: &Path) -> Result<Directory, Error> {
    if !data_dir.is_dir() {
        return Err(Error::Unfit(format!(
            "there is no directory {}; name the data directory of the node to repair",
            data_dir.display()
        )));
    }
    let directory = Directory::open_existing(data_dir)?;
    if directory.identity().cluster_id.is_none() {
        return Err(Error::Unfit(format!(
            "the node of {} belongs to no cluster yet, so there is nothing to repair it from",
            data_dir.display()
        )));
    }
    Ok(directory)
}

/// How the names of files begin with which a repair fetches the state, into the directory itself.
pub const FETCHED: &str = ".quorate-repair-";

/// Removes what repairs left that were killed.
fn sweep(data_dir: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(data_dir).map_err(Error::io("list", data_dir))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("list", data_dir))?;
        if entry.file_name().to_string_lossy().starts_with(FETCHED) {
            std::fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// Whether a directory can be repaired: who it is of, and that its log is whole.
///
/// # Errors
/// When it is no node's, a node runs on it, or its log is damaged as well.
pub fn check(data_dir: &Path) -> Result<Identity, Error> {
    let directory = open(data_dir)?;
    let lost = |what: &dyn std::fmt::Display| {
        Error::Unfit(format!(
            "the log in {} {what}, and with it what the node has promised: it can't be repaired, only \
             replaced (quorate cluster replace)",
            data_dir.display()
        ))
    };
    sweep(data_dir)?;
    // Before it is opened, which would make one.
    if !Storage::has_log(data_dir) {
        return Err(lost(&"is gone"));
    }
    let whole = |error| match error {
        quorate_storage::Error::Corrupt { .. } => lost(&format!("is damaged ({error})")),
        error => Error::Storage(error),
    };
    let storage = Storage::open(data_dir, &Tuning::default()).map_err(whole)?;
    let log = storage.log(GroupId(0)).map_err(whole)?;
    if log.bounds().last.is_none() && log.vote()?.is_none() {
        return Err(lost(&"is empty"));
    }
    Ok(directory.identity().clone())
}

/// Before anything is changed: what a live cluster has applied contains whatever this node knows to be
/// committed. If not, the cluster was set back, and this node may have the only copy.
fn check_newer(
    data_dir: &Path,
    group: GroupId,
    tuning: &Tuning,
    applied: LogPosition,
) -> Result<(), Error> {
    let storage = Storage::open(data_dir, tuning)?;
    let log = storage.log(group)?;
    let (purged, committed) = (log.bounds().purged, log.committed()?);
    let known = committed.or(purged);
    let there = log.read(applied.index, LogIndex(applied.index.0 + 1), 0)?;
    let other = there.first().is_some_and(|entry| entry.position != applied);
    match known {
        Some(known) if known.index > applied.index || (known.index == applied.index && other) => {
            Err(Error::Unfit(format!(
                "the cluster answered a state that ends at {applied}, and this node knows {known} to be \
                 committed: the others were set back. Keep this directory, and find out why"
            )))
        }
        _ => Ok(()),
    }
}

/// Replaces the state of a node that does not run by what a backup of its own cluster holds; the
/// backup must have been made just now, from a live node. Blocks.
///
/// # Errors
/// As [`check()`]; when the backup is of another cluster, does not know the node, or is older than
/// the log; when it is damaged, or storage fails. The node is as it was then.
pub fn repair(
    path: &Path,
    data_dir: &Path,
    progress: &mut Progress<'_>,
) -> Result<Repaired, Error> {
    let directory = open(data_dir)?;
    let identity = directory.identity();
    let backup = Backup::open(path)?;
    let (header, node_id) = (&backup.header, identity.node_id);
    if identity.cluster_id.as_deref() != Some(&header.cluster_id) {
        return Err(Error::Unfit(format!(
            "node {node_id} belongs to another cluster than {}, which was asked: give the endpoints \
             of its own",
            header.cluster_id
        )));
    }
    let known = header.membership.membership.nodes.get(&node_id);
    if known.map(|member| member.uuid) != Some(identity.uuid.as_u128()) {
        return Err(Error::Unfit(format!(
            "the cluster has no node {node_id} with this data directory: it was removed, or the \
             directory is another one. Let a node with an empty directory join instead (--join)"
        )));
    }
    let (group, tuning) = (GroupId(header.group_id), Tuning::default());
    check_newer(data_dir, group, &tuning, header.applied)?;
    let mut rebuild = Rebuild::begin(data_dir, group, &tuning)?;
    let (header, end) = backup.rows(progress, |(key, value)| Ok(rebuild.put(key, value)?))?;
    rebuild.finish(&AppliedMeta {
        applied: Some(header.applied),
        membership: header.membership.clone(),
    })?;
    // The node would find out itself; whoever repairs it wants to know now.
    drop(Stores::open(data_dir, group, &tuning)?);
    Ok(Repaired { node_id, header, end })
}
