//! openraft's state machine over the deterministic [`Machine`] and a [`StateStore`].
//!
//! The rule that keeps a node openable: an entry is written to the state only after this node's
//! own log has it on disk. openraft may hand over a committed entry before that (a quorum of other
//! nodes has it), and a memtable flush after such a write would leave the state ahead of its log.

use crate::aside::Asides;
use crate::levels::Levels;
#[cfg(feature = "planted-faults")]
use crate::planted;
use crate::trace::Milestones;
use crate::types::{
    LogId, RaftPayload, RaftStoredMembership, TypeConfig, log_id, membership, position,
    raft_stored_membership,
};
use futures::{Stream, TryStreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::{OptionalSend, SnapshotMeta};
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use quorate_state::{Event, GroupId, LogIndex, Machine, StoredMembership};
use quorate_storage::log::Synced;
use quorate_storage::snapshot::{Snapshot as StoredSnapshot, SnapshotStore};
use quorate_storage::state::{AppliedMeta, StateStore};
use quorate_storage::{Histogram, Offload};
use std::io;
use std::sync::Arc;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// Entries applied in one batch of the state: bounds what a reader waits for and what is lost
/// between two visible states. With 256 KiB per entry it is also a bound on memory.
const ENTRIES_PER_BATCH: usize = 64;

/// What followers of the apply stream are told.
#[derive(Clone, Debug)]
pub enum Applied {
    /// Events of entries, after their batch became visible.
    Events(Arc<Vec<Event>>),
    /// The state was replaced by a snapshot: whatever was derived from it must be derived again.
    Resync,
}

pub(crate) struct MachineAdapter {
    group: GroupId,
    machine: Machine,
    state: Box<dyn StateStore>,
    snapshots: Arc<dyn SnapshotStore>,
    offload: Offload,
    synced: watch::Receiver<Synced>,
    /// Index behind the last applied entry: 0 before the first.
    applied: watch::Sender<u64>,
    told: broadcast::Sender<Applied>,
    times: Arc<Histogram>,
    snapshot_times: Arc<Histogram>,
    asides: Arc<Asides>,
    levels: Arc<Levels>,
    milestones: Arc<Milestones>,
    meta: AppliedMeta,
}

pub(crate) struct MachineParts {
    pub(crate) group: GroupId,
    pub(crate) state: Box<dyn StateStore>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    pub(crate) offload: Offload,
    pub(crate) synced: watch::Receiver<Synced>,
    pub(crate) applied: watch::Sender<u64>,
    pub(crate) told: broadcast::Sender<Applied>,
    /// How long it takes to apply a batch that is on disk.
    pub(crate) times: Arc<Histogram>,
    /// How long it takes to take a snapshot.
    pub(crate) snapshot_times: Arc<Histogram>,
    /// Who is told what is published.
    pub(crate) asides: Arc<Asides>,
    /// What this node knows, and is told of the cluster's level.
    pub(crate) levels: Arc<Levels>,
    /// Told when entries are being applied.
    pub(crate) milestones: Arc<Milestones>,
}

impl MachineAdapter {
    pub(crate) fn open(parts: MachineParts) -> io::Result<Self> {
        let MachineParts { group, state, snapshots, offload, synced, applied, told, .. } = parts;
        let (times, asides, levels) = (parts.times, parts.asides, parts.levels);
        let (snapshot_times, milestones) = (parts.snapshot_times, parts.milestones);
        let meta = state.applied();
        let machine = open_machine(group, state.as_ref(), &levels)?;
        applied.send_replace(end_of(&meta));
        Ok(Self {
            group,
            machine,
            state,
            snapshots,
            offload,
            synced,
            applied,
            told,
            times,
            snapshot_times,
            asides,
            levels,
            milestones,
            meta,
        })
    }

    /// Waits until this node's log has `index` on disk.
    async fn synced_through(&mut self, index: LogIndex) -> io::Result<()> {
        #[cfg(feature = "planted-faults")]
        if is_planted(Fault::StateAheadOfLog) {
            return Ok(());
        }
        let synced = self
            .synced
            .wait_for(|synced| match synced {
                Synced::Through(through) => *through >= Some(index),
                Synced::Failed(_) => true,
            })
            .await
            .map_err(|_| io::Error::other("the log closed"))?;
        match &*synced {
            Synced::Through(_) => Ok(()),
            Synced::Failed(reason) => Err(io::Error::other(reason.clone())),
        }
    }

    async fn apply_batch(&mut self, entries: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let (first, last) = (position(&first.log_id), position(&last.log_id));
        self.synced_through(last.index).await?;
        if self.milestones.is_watched() {
            self.milestones.applying(first.index.0..=last.index.0);
        }

        let begun = Instant::now();
        let mut meta = self.meta.clone();
        let mut answers = Vec::with_capacity(entries.len());
        let mut events = Vec::new();
        let mut published = Vec::new();
        let mut txn = self.state.begin();
        #[cfg(feature = "planted-faults")]
        let mut halves = planted::Halves::default();
        for (entry, responder) in entries {
            let position = position(&entry.log_id);
            meta.applied = Some(position);
            let outcomes = match entry.payload {
                RaftPayload::Blank => Vec::new(),
                RaftPayload::Membership(raft) => {
                    meta.membership = StoredMembership {
                        position: Some(position),
                        membership: membership(&raft),
                    };
                    Vec::new()
                }
                RaftPayload::Normal(body) => {
                    let fatal = |error: &dyn std::fmt::Display| {
                        io::Error::other(format!("entry {position} can't be applied: {error}"))
                    };
                    let batch = body.0.batch().map_err(|error| fatal(&error))?;
                    let rows = txn.as_txn();
                    #[cfg(feature = "planted-faults")]
                    let mut rows = halves.over(rows, &batch);
                    #[cfg(feature = "planted-faults")]
                    let rows = &mut rows;
                    let applied = self
                        .machine
                        .apply(rows, position.index, &batch)
                        .map_err(|error| fatal(&error))?;
                    for event in applied.events {
                        match event {
                            Event::Published { namespace, publication } => {
                                published.push((position.term.0, namespace, publication));
                            }
                            event => events.push(event),
                        }
                    }
                    applied.outcomes
                }
            };
            if let Some(responder) = responder {
                answers.push((responder, outcomes));
            }
        }
        #[cfg(feature = "planted-faults")]
        if is_planted(Fault::TransactionInTwoBatches) {
            drop(txn);
            halves.commit(self.state.as_mut(), &self.meta, &meta).await?;
        } else {
            txn.commit(&meta).map_err(io::Error::other)?;
        }
        #[cfg(not(feature = "planted-faults"))]
        txn.commit(&meta).map_err(io::Error::other)?;
        self.meta = meta;
        self.times.record(begun.elapsed());

        self.levels.applied(self.machine.feature_level());
        // Visible now: first the events, so that whoever sees the index finds those of its entries
        // told; then the index that readers wait for, then the callers.
        for (term, namespace, publication) in published {
            self.asides.published(term, &namespace, &publication);
        }
        if !events.is_empty() {
            // Nobody listening is fine: whoever starts later derives from the tables.
            let _ = self.told.send(Applied::Events(Arc::new(events)));
        }
        self.applied.send_replace(end_of(&self.meta));
        for (responder, outcomes) in answers {
            responder.send(outcomes);
        }
        Ok(())
    }
}

fn open_machine(group: GroupId, state: &dyn StateStore, levels: &Levels) -> io::Result<Machine> {
    let view = state.reader().view();
    let machine = Machine::open_knowing(group, view.tables.as_ref(), levels.newest());
    let machine = machine.map_err(io::Error::other)?;
    levels.applied(machine.feature_level());
    Ok(machine)
}

/// Runs what waits for the disk without holding up the other tasks of this thread.
fn blocking<T>(offload: Offload, work: impl FnOnce() -> T) -> T {
    let threads = tokio::runtime::Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if offload == Offload::Threads && threads { tokio::task::block_in_place(work) } else { work() }
}

fn end_of(meta: &AppliedMeta) -> u64 {
    meta.applied.map_or(0, |position| position.index.0 + 1)
}

fn snapshot_meta(meta: &AppliedMeta) -> io::Result<SnapshotMetaOf<TypeConfig>> {
    Ok(SnapshotMeta {
        last_log_id: meta.applied.map(log_id),
        last_membership: raft_stored_membership(&meta.membership).map_err(io::Error::other)?,
    })
}

fn raft_snapshot(
    snapshot: Arc<dyn StoredSnapshot>,
) -> io::Result<SnapshotOf<TypeConfig, Arc<dyn StoredSnapshot>>> {
    Ok(Snapshot { meta: snapshot_meta(snapshot.meta())?, snapshot })
}

impl RaftStateMachine<TypeConfig> for MachineAdapter {
    type SnapshotData = Arc<dyn StoredSnapshot>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, RaftStoredMembership)> {
        let membership = raft_stored_membership(&self.meta.membership).map_err(io::Error::other)?;
        Ok((self.meta.applied.map(log_id), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        while let Some(entry) = entries.try_next().await? {
            batch.push(entry);
            if batch.len() == ENTRIES_PER_BATCH {
                self.apply_batch(std::mem::take(&mut batch)).await?;
            }
        }
        self.apply_batch(batch).await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (snapshots, times) = (Arc::clone(&self.snapshots), Arc::clone(&self.snapshot_times));
        Builder { snapshots, offload: self.offload, times }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: Arc<dyn StoredSnapshot>,
    ) -> io::Result<()> {
        // It syncs files and opens a database. The core's task may be queued behind this one, and
        // its heartbeats must not wait.
        let (state, group, levels) = (&mut self.state, self.group, &self.levels);
        self.machine = blocking(self.offload, || {
            state.install(snapshot).map_err(io::Error::other)?;
            open_machine(group, state.as_ref(), levels)
        })?;
        self.meta = self.state.applied();
        // openraft may send this node's snapshot on at once. One that was received is the current
        // one already; one that came another way is taken anew.
        let current = self.snapshots.current().map(|snapshot| snapshot.meta().applied);
        if current != Some(self.meta.applied) {
            self.get_snapshot_builder().await.build_snapshot().await?;
        }
        self.applied.send_replace(end_of(&self.meta));
        let _ = self.told.send(Applied::Resync);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<SnapshotOf<TypeConfig, Arc<dyn StoredSnapshot>>>> {
        self.snapshots.current().map(raft_snapshot).transpose()
    }
}

/// Takes a snapshot; its meta is read from the snapshot, so that it fits whatever is in it.
pub(crate) struct Builder {
    snapshots: Arc<dyn SnapshotStore>,
    offload: Offload,
    times: Arc<Histogram>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Arc<dyn StoredSnapshot>;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<SnapshotOf<TypeConfig, Arc<dyn StoredSnapshot>>> {
        let snapshots = Arc::clone(&self.snapshots);
        let begun = Instant::now();
        let built = self.offload.run(move || snapshots.build()).await;
        let built = built.map_err(io::Error::other)?;
        self.times.record(begun.elapsed());
        raft_snapshot(built)
    }
}
