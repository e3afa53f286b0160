//! A log in memory, on a [`MemoryDisk`] that forgets what was not synced.

use super::flusher::SyncGate;
use super::rules::{check_follows, check_kept, check_truncation, next};
use super::{Completion, LogBounds, LogCounters, LogEntry, LogStore, Synced, record};
use crate::Error;
use crate::memory::{MemoryDisk, Waiting};
use bytes::Bytes;
use quorate_state::{GroupId, LogIndex, LogPosition};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// One group's log. A handle from before a crash of its disk refuses everything.
pub struct MemoryLog {
    disk: MemoryDisk,
    epoch: u64,
    group: GroupId,
    gate: Arc<SyncGate>,
}

/// A change to a log, as the disk keeps it until it is synced.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Append(Vec<LogEntry>),
    Truncate(Option<LogPosition>),
    Purge(LogPosition),
    Vote(Bytes),
    Committed(Option<LogPosition>),
}

/// What a log holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogImage {
    pub(crate) bounds: LogBounds,
    entries: BTreeMap<LogIndex, LogEntry>,
    vote: Option<Bytes>,
    committed: Option<LogPosition>,
    /// What of `committed` the log held when it was saved.
    committed_held: Option<LogIndex>,
}

impl LogImage {
    /// Makes a change that was checked before.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(entries) => {
                for entry in entries {
                    self.entries.insert(entry.position.index, entry.clone());
                    self.bounds.last = Some(entry.position);
                }
            }
            Change::Truncate(keep) => {
                let behind = keep.map_or(LogIndex(0), |keep| next(keep.index));
                drop(self.entries.split_off(&behind));
                let last = self.entries.last_key_value().map(|(_, entry)| entry.position);
                self.bounds.last = last.or(self.bounds.purged);
            }
            Change::Purge(through) => {
                self.entries = self.entries.split_off(&next(through.index));
                self.bounds.purged = Some(*through);
                if self.entries.is_empty() {
                    self.bounds.last = Some(*through);
                }
            }
            Change::Vote(vote) => self.vote = Some(vote.clone()),
            Change::Committed(committed) => {
                let last = self.bounds.last.map(|position| position.index);
                self.committed = *committed;
                self.committed_held = committed.map(|position| position.index).min(last);
            }
        }
    }

    /// Bytes of the entries from an index on.
    fn weight(&self, from: LogIndex) -> usize {
        self.entries.range(from..).map(|(_, entry)| record::weight(entry)).sum()
    }
}

impl MemoryLog {
    pub(crate) fn new(disk: MemoryDisk, epoch: u64, group: GroupId, gate: Arc<SyncGate>) -> Self {
        Self { disk, epoch, group, gate }
    }

    fn change(
        &self,
        change: Change,
        check: impl FnOnce(&LogImage) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.disk.with(self.epoch, |disk| {
            check(disk.log(self.group))?;
            disk.change(self.group, change);
            Ok(())
        })
    }

    fn wait(
        &self,
        through: Option<Option<LogIndex>>,
        done: Option<Completion>,
    ) -> Result<(), Error> {
        let mark = through.map(|through| (Arc::clone(&self.gate), self.gate.generation(), through));
        self.disk.submit(self.epoch, Waiting { mark, done })
    }
}

impl LogStore for MemoryLog {
    fn bounds(&self) -> LogBounds {
        self.disk
            .with(self.epoch, |disk| Ok(disk.log(self.group).bounds))
            // The trait has no error here, and nobody uses what a dead node answers.
            .unwrap_or_default()
    }

    fn append(&self, entries: Vec<LogEntry>, done: Completion) -> Result<(), Error> {
        let end = entries.last().map(|entry| entry.position.index);
        let bytes: usize = entries.iter().map(record::weight).sum();
        self.disk.with(self.epoch, |disk| {
            check_follows(disk.log(self.group).bounds.last, &entries)?;
            disk.counters.entries += u64::try_from(entries.len()).expect("fits in 64 bits");
            disk.counters.bytes += u64::try_from(bytes).expect("fits in 64 bits");
            disk.change(self.group, Change::Append(entries));
            Ok(())
        })?;
        self.wait(end.map(Some), Some(done))
    }

    fn truncate_after(&self, keep: Option<LogPosition>) -> Result<(), Error> {
        let keep_index = keep.map(|position| position.index);
        let cut = self.disk.with(self.epoch, |disk| {
            let image = disk.log(self.group);
            let bounds = image.bounds;
            if keep_index >= bounds.last.map(|last| last.index) {
                return Ok(false);
            }
            check_truncation(&bounds, image.committed_held, keep_index)?;
            if let Some((keep, entry)) =
                keep.and_then(|keep| Some((keep, image.entries.get(&keep.index)?)))
            {
                check_kept(keep, entry.position)?;
            }
            self.gate.lower(keep_index);
            disk.change(self.group, Change::Truncate(keep));
            Ok(true)
        })?;
        // As on a real disk: syncs under way no longer count, so what was kept needs its own.
        if cut { self.wait(Some(keep_index), None) } else { Ok(()) }
    }

    fn purge(&self, through: LogPosition) -> Result<(), Error> {
        let emptied = self.disk.with(self.epoch, |disk| {
            let bounds = disk.log(self.group).bounds;
            if bounds.purged.is_some_and(|purged| purged.index >= through.index) {
                return Ok(false);
            }
            disk.change(self.group, Change::Purge(through));
            Ok(bounds.last.map(|last| last.index) <= Some(through.index))
        })?;
        if emptied { self.wait(Some(Some(through.index)), None) } else { Ok(()) }
    }

    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
        self.disk.with(self.epoch, |disk| {
            let mut out = Vec::new();
            let mut bytes = 0;
            if from >= to {
                return Ok(out);
            }
            for entry in disk.log(self.group).entries.range(from..to).map(|(_, entry)| entry) {
                bytes += record::weight(entry);
                if bytes > max_bytes && !out.is_empty() {
                    break;
                }
                out.push(entry.clone());
            }
            Ok(out)
        })
    }

    fn save_vote(&self, vote: Bytes, done: Completion) -> Result<(), Error> {
        self.change(Change::Vote(vote), |_| Ok(()))?;
        self.wait(None, Some(done))
    }

    fn vote(&self) -> Result<Option<Bytes>, Error> {
        self.disk.with(self.epoch, |disk| Ok(disk.log(self.group).vote.clone()))
    }

    fn save_committed(&self, committed: Option<LogPosition>) -> Result<(), Error> {
        self.change(Change::Committed(committed), |_| Ok(()))
    }

    fn committed(&self) -> Result<Option<LogPosition>, Error> {
        self.disk.with(self.epoch, |disk| Ok(disk.log(self.group).committed))
    }

    fn synced(&self) -> watch::Receiver<Synced> {
        self.gate.watch()
    }

    fn counters(&self) -> LogCounters {
        self.disk.counters()
    }

    fn stored_bytes(&self, from: LogIndex) -> u64 {
        let weighed = self.disk.with(self.epoch, |disk| Ok(disk.log(self.group).weight(from)));
        weighed.map_or(0, |bytes| u64::try_from(bytes).expect("fits in 64 bits"))
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        self.disk.with(self.epoch, |disk| Ok(disk.free_bytes))
    }
}
