//! What an operation sees and may touch while one entry is applied.

use crate::digest::Recorder;
use crate::history::{self, History, Recent};
use crate::limits::{
    CACHE_BYTES_PER_ENTRY_MAX, CACHE_ROWS_PER_ENTRY_MAX, DELETE_PATTERN_KEYS_MAX,
    DELIVERIES_PER_ENTRY_MAX, EXPIRE_PER_ENTRY_MAX, PURGE_PER_ENTRY_MAX, REDRIVE_PER_ENTRY_MAX,
    REDRIVE_STEPS_MAX, SCAN_STEPS_MAX,
};
use crate::lock::Locks;
use crate::machine::{Earliest, Levels, Memory};
use crate::queue::Queues;
use crate::rows::{CacheMetaRow, MetaRow, QueuesMetaRow};
use crate::session::{Pending, Sessions};
use crate::{
    ConsumerId, Event, Fatal, FeatureLevel, GroupId, LogIndex, QueueId, Rejection, Revision, Stamp,
    TableError, Txn, codec, keys, queue,
};
use std::collections::{BTreeMap, BTreeSet};

/// Why an operation came to no outcome of its own. The two kinds meet only here, on the way out
/// of an operation; neither is ever turned into the other.
pub(crate) enum Failure {
    /// The user's; an outcome that every replica computes alike.
    Rejected(Rejection),
    /// The node's.
    Fatal(Fatal),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Fatal> for Failure {
    fn from(fatal: Fatal) -> Self {
        Self::Fatal(fatal)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::Fatal(Fatal::Table(error))
    }
}

/// The entry being applied.
pub(crate) struct Scope<'a> {
    pub(crate) group: GroupId,
    pub(crate) index: LogIndex,
    /// Of the command being applied.
    pub(crate) revision: Revision,
    pub(crate) txn: Recorder<'a>,
    /// Written to its row once, when the entry ends.
    pub(crate) meta: &'a mut MetaRow,
    /// Likewise. Whoever takes back what a command wrote puts the copy back that it took before.
    pub(crate) history: &'a mut History,
    /// Its rows, as far as they are known.
    pub(crate) recent: &'a mut Recent,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) locks: &'a mut Locks,
    /// Keys of locks that tickets were taken from: they may pass on. Empty between commands.
    pub(crate) unblocked: BTreeSet<Vec<u8>>,
    pub(crate) queues: &'a mut Queues,
    /// Written to its row once, when the entry ends.
    pub(crate) cache: &'a mut CacheMetaRow,
    /// Queues whose counts changed; written when the entry ends.
    pub(crate) queues_touched: BTreeSet<QueueId>,
    /// Queues that may have something to deliver. Empty between commands.
    pub(crate) queues_due: BTreeSet<QueueId>,
    /// Consumers that may have ended: they were closed, and have lost the last of their jobs.
    pub(crate) consumers_closed: BTreeSet<ConsumerId>,
    /// Sessions that came to own a key (true) or not to own it any more, in their order.
    pub(crate) key_owners: Vec<(crate::SessionId, bool)>,
    /// Answers and floors of this entry by session; written when the entry ends, so that a
    /// session costs one small row per entry, not one per command.
    pub(crate) pending: BTreeMap<crate::SessionId, Pending>,
    pub(crate) earliest: &'a mut Earliest,
    /// Changed, together with its row, by `member::raise` alone.
    pub(crate) levels: &'a mut Levels,
    pub(crate) events: Vec<Event>,
    pub(crate) allowance: Allowance,
}

/// What is left of what one entry may do. It is the entry's and not each command's, because the
/// entry holds up the others, and has up to [`crate::limits::ENTRY_COMMANDS_MAX`] commands. A
/// command that finds nothing left still does the least there is of its work.
#[derive(Clone, Copy)]
pub(crate) struct Allowance {
    /// Rows of expired sessions to delete.
    pub(crate) session_rows: usize,
    /// Keys to delete by selectors.
    pub(crate) keys: usize,
    /// Steps of scans for them.
    pub(crate) steps: usize,
    /// Jobs to deliver.
    pub(crate) deliveries: usize,
    /// Rows of purged jobs to delete.
    pub(crate) purged_rows: usize,
    /// Dead letters to put back.
    pub(crate) redriven: u64,
    /// Rows to look at for them.
    pub(crate) redrive_steps: usize,
    /// Rows of entries of the cache, and of their tags, to delete.
    pub(crate) cache_rows: usize,
    /// Bytes of entries of the cache to read for that.
    pub(crate) cache_bytes: usize,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        group: GroupId,
        index: LogIndex,
        txn: &'a mut dyn Txn,
        memory: &'a mut Memory,
    ) -> Self {
        let Memory { meta, history, recent, sessions, locks, queues, cache, earliest, levels } =
            memory;
        Self {
            group,
            index,
            revision: meta.revision,
            txn: Recorder::new(txn),
            meta,
            history,
            recent,
            sessions,
            locks,
            unblocked: BTreeSet::new(),
            queues,
            cache,
            queues_touched: BTreeSet::new(),
            queues_due: BTreeSet::new(),
            consumers_closed: BTreeSet::new(),
            key_owners: Vec::new(),
            pending: BTreeMap::new(),
            earliest,
            levels,
            events: Vec::new(),
            allowance: Allowance {
                session_rows: EXPIRE_PER_ENTRY_MAX,
                keys: DELETE_PATTERN_KEYS_MAX,
                steps: SCAN_STEPS_MAX,
                deliveries: DELIVERIES_PER_ENTRY_MAX,
                purged_rows: PURGE_PER_ENTRY_MAX,
                redriven: REDRIVE_PER_ENTRY_MAX,
                redrive_steps: REDRIVE_STEPS_MAX,
                cache_rows: CACHE_ROWS_PER_ENTRY_MAX,
                cache_bytes: CACHE_BYTES_PER_ENTRY_MAX,
            },
        }
    }

    /// A new leader's clocks may lie behind the old one's; the replicated ones never go back.
    pub(crate) fn advance_clocks(&mut self, stamp: Stamp) {
        let clocks = &mut self.meta.stamp;
        clocks.lease_ms = clocks.lease_ms.max(stamp.lease_ms);
        clocks.wall_ms = clocks.wall_ms.max(stamp.wall_ms);
    }

    /// Gives what follows the revision of the command at `position`. A sweep has that of the
    /// first command, so this may come twice for one position.
    pub(crate) fn begin_command(&mut self, position: u32) {
        let revision = Revision::new(self.meta.revision_base, self.index, position);
        if revision != self.revision {
            self.history.events = 0;
        }
        self.revision = revision;
        self.meta.revision = revision;
    }

    /// Does `work` so that nothing of it remains when it fails. Not to be nested.
    ///
    /// This is the one place that says what is put back: whoever adds a field is made to decide
    /// about it here, because the pattern names them all.
    pub(crate) fn atomically<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Self {
            // Put back: the tables, by keeping the writes aside; counters and clocks of the
            // group; the accounts of the history and the cache; the earliest deadline; events; what
            // the entry may still do.
            txn,
            meta,
            history,
            recent,
            earliest,
            events,
            allowance,
            queues,
            cache,
            // The same for all of a command.
            group: _,
            index: _,
            revision: _,
            // Of sessions only how many keys they own, by what was noted of it. Who asks, and what
            // is remembered for it, is dealt with before and after.
            sessions: _,
            key_owners,
            pending: _,
            // No part of a transaction raises it.
            levels: _,
            // By what their maps note of each key that is changed.
            locks,
            // Empty before, so emptied.
            unblocked,
            queues_due,
            // A queue that was touched in vain is written as it was.
            queues_touched: _,
            // Each is looked at once more.
            consumers_closed: _,
        } = self;
        debug_assert!(
            unblocked.is_empty() && queues_due.is_empty(),
            "a command left something that may pass on"
        );
        let before = (
            **meta,
            **history,
            **earliest,
            events.len(),
            *allowance,
            key_owners.len(),
            (queues.meta, queues.counted),
            **cache,
            recent.len(),
        );
        txn.stage();
        locks.begin();
        queues.begin();
        let done = work(self);
        self.txn.unstage(done.is_ok());
        self.locks.end(done.is_ok());
        self.queues.end(done.is_ok());
        if done.is_err() {
            let (meta, history, earliest, events, allowance, key_owners, queues, cache, recent) =
                before;
            (self.queues.meta, self.queues.counted) = queues;
            *self.meta = meta;
            *self.cache = cache;
            *self.history = history;
            self.recent.truncate(recent);
            *self.earliest = earliest;
            self.events.truncate(events);
            self.allowance = allowance;
            self.unblocked.clear();
            self.queues_due.clear();
            crate::session::undo_key_owners(self, key_owners);
        }
        done
    }

    /// The lease clock of this entry.
    pub(crate) fn lease_ms(&self) -> u64 {
        self.meta.stamp.lease_ms
    }

    /// The feature level of the cluster. What an operation does differently from an earlier build it
    /// does only from the level on that came with it: replicas of both builds apply the same entries.
    pub(crate) fn level(&self) -> FeatureLevel {
        self.levels.cluster
    }

    /// Trims the history and writes what was collected, then the digest over everything written.
    pub(crate) fn finish(
        mut self,
        before: MetaRow,
        history_before: History,
        queues_before: QueuesMetaRow,
        cache_before: CacheMetaRow,
        digest: &mut u64,
    ) -> Result<Vec<Event>, Fatal> {
        crate::session::write_pending(&mut self);
        queue::write_touched(&mut self);
        history::trim(&mut self)?;
        if self.queues.meta != queues_before {
            let row = codec::encode(&self.queues.meta);
            self.txn.put(&keys::queues_meta(self.group), &row);
        }
        if *self.cache != cache_before {
            self.txn.put(&keys::cache_meta(self.group), &codec::encode(self.cache));
        }
        if self.history.row != history_before.row {
            self.txn.put(&keys::history_meta(self.group), &codec::encode(&self.history.row));
        }
        if *self.meta != before {
            self.txn.put(&keys::meta(self.group), &codec::encode(self.meta));
        }
        if let Some((folded, txn)) = self.txn.finish(*digest) {
            *digest = folded;
            txn.put(&keys::digest(self.group), &codec::encode(&folded));
        }
        Ok(self.events)
    }
}

/// Checks a size against its structural bound.
pub(crate) fn within(what: &str, bytes: usize, limit: u64) -> Result<(), Rejection> {
    at_most(what, u64::try_from(bytes).unwrap_or(u64::MAX), limit)
}

/// Checks an amount against its structural bound.
pub(crate) fn at_most(what: &str, actual: u64, limit: u64) -> Result<(), Rejection> {
    if actual <= limit {
        return Ok(());
    }
    Err(Rejection::LimitExceeded { what: what.to_owned(), actual, limit })
}
