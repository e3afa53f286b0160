//! Makes a node's directory from a backup: a new cluster, of this node alone, that others join.

use super::read::Backup;
use super::{End, Error, Header, Progress};
use crate::config::Config;
use quorate_consensus::{SystemClock, WallClock as _, begin_anew};
use quorate_state::{GroupId, Member};
use quorate_storage::identity::Empty;
use quorate_storage::state::AppliedMeta;
use quorate_storage::state::rebuild::Rebuild;
use quorate_storage::{Stores, Tuning};
use std::path::Path;
use uuid::Uuid;

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The new cluster.
    pub cluster_id: String,
    /// What the backup was of.
    pub header: Header,
    /// What was in it.
    pub end: End,
}

/// Restores a backup into the data directory of a node that has this configuration. The directory
/// becomes a node's only when all is done; what is left of a restore that did not finish is
/// refused by whatever opens it, and removed by hand.
///
/// # Errors
/// When the backup is damaged or needs a newer version, the directory is not empty, or storage
/// fails.
pub fn restore(
    path: &Path,
    config: &Config,
    progress: &mut Progress<'_>,
) -> Result<Restored, Error> {
    let client_addr = config.client_address(config.client_listen.port).to_string();
    let backup = Backup::open(path)?;
    let group = GroupId(backup.header.group_id);
    let empty = Empty::take(&config.data_dir)?;
    let tuning = Tuning::default();
    let mut rebuild = Rebuild::begin(empty.path(), group, &tuning)?;
    let (header, end) = backup.rows(progress, |(key, value)| Ok(rebuild.put(key, value)?))?;
    rebuild.finish(&AppliedMeta {
        applied: Some(header.applied),
        membership: header.membership.clone(),
    })?;
    let uuid = Uuid::new_v4();
    let member =
        Member { uuid: uuid.as_u128(), peer_addr: config.peer_advertise.to_string(), client_addr };
    let stores = Stores::open(empty.path(), group, &tuning)?;
    let cluster_id = begin_anew(stores, group, config.node_id, member, SystemClock.now_ms())?;
    empty.become_node(config.node_id, uuid, &cluster_id)?;
    Ok(Restored { cluster_id, header, end })
}
