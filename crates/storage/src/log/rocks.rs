//! The log of all groups of a node in one RocksDB database: one stream of writes, one sync.

use super::flusher::{Flusher, Job, Mark, SyncGate};
use super::record::{self, Committed, Key, Row};
use super::rules::{check_follows, check_kept, check_truncation, display, next};
use super::sync_mark::SyncMark;
use super::tail_cache::{Cached, TailCache};
use super::{Completion, LogBounds, LogCounters, LogEntry, LogStore, Synced, recovery};
use crate::files::{available_bytes, create_dir_durable, sync_dir};
use crate::rocks::{Budget, db_error};
use crate::{Error, Tuning};
use bytes::Bytes;
use quorate_state::{GroupId, LogIndex, LogPosition};
use rocksdb::{DB, ReadOptions, WriteBatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Entries a truncation removes one by one; a range deletion would slow the reads that follow,
/// and they are of just this range.
const TRUNCATE_SINGLY_MAX: u64 = 1_024;

/// The database that holds the logs of all groups of a node.
pub struct RocksLog {
    device: Arc<Device>,
    groups: Mutex<BTreeMap<GroupId, Arc<GroupLog>>>,
}

/// What the groups share.
pub(super) struct Device {
    // Before the database: its thread ends while the database is still open.
    flusher: Flusher,
    pub(super) db: Arc<DB>,
    pub(super) path: PathBuf,
    tuning: Tuning,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// The log of one group.
struct GroupLog {
    group: GroupId,
    device: Arc<Device>,
    gate: Arc<SyncGate>,
    state: Mutex<State>,
}

/// What a group's log knows of itself without asking the disk. Changed together with the
/// database, under one lock, so that reads and writes see the same log.
struct State {
    bounds: LogBounds,
    /// Index of the first entry, or of the next one when there is none.
    first: LogIndex,
    /// Entries below this index are gone from the database; those from it to the purged one are
    /// only hidden.
    hidden_from: LogIndex,
    committed: Committed,
    cache: TailCache,
}

impl RocksLog {
    /// Whether there is a database in `dir`. Nothing is created.
    #[must_use]
    pub fn is_at(dir: &Path) -> bool {
        dir.join("db").join("CURRENT").exists()
    }

    /// Opens the database in `dir`, or creates it.
    ///
    /// # Errors
    /// When anything in it is damaged, including what only its being too short shows, or the
    /// device fails.
    pub fn open(dir: &Path, budget: &Budget) -> Result<Self, Error> {
        create_dir_durable(dir)?;
        let path = dir.join("db");
        let mut mark = SyncMark::open(&dir.join("synced"), path.join("CURRENT").exists())?;
        let db = Arc::new(recovery::open(&path, budget, mark.newest())?);
        sync_dir(dir)?;
        let flusher = Flusher::start(budget.tuning().sync_queue_len_max, {
            let (db, path) = (Arc::clone(&db), path.clone());
            Box::new(move || {
                // Taken before the sync: all writes up to it are finished, so the sync has them.
                let sequence = db.latest_sequence_number();
                db.flush_wal(true).map_err(|error| db_error(&path, error))?;
                mark.note(sequence)
            })
        })?;
        let device = Device {
            flusher,
            db,
            path,
            tuning: budget.tuning().clone(),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        Ok(Self { device: Arc::new(device), groups: Mutex::new(BTreeMap::new()) })
    }

    /// The log of a group; the same one each time.
    ///
    /// # Errors
    /// When what is stored of it contradicts itself or is unreadable.
    pub fn group(&self, group: GroupId) -> Result<Arc<dyn LogStore>, Error> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = groups.get(&group) {
            return Ok(Arc::clone(log) as Arc<dyn LogStore>);
        }
        let log = Arc::new(GroupLog::load(group, Arc::clone(&self.device))?);
        groups.insert(group, Arc::clone(&log));
        Ok(log)
    }
}

impl Device {
    fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        self.flusher.check()?;
        // Not synced: that is the flusher's work.
        self.db.write(batch).map_err(|error| self.flusher.fail(db_error(&self.path, error)))
    }

    pub(super) fn corrupt(&self, group: GroupId, row: Row, reason: String) -> Error {
        let row = match row {
            Row::Entry(index) => format!("entry {index}"),
            Row::Purged => String::from("purge mark"),
            Row::Vote => String::from("vote"),
            Row::Committed => String::from("commit mark"),
        };
        Error::Corrupt {
            location: format!("{} of group {group} in {}", row, self.path.display()),
            reason,
        }
    }

    /// The body of a row.
    fn row(&self, group: GroupId, row: Row) -> Result<Option<Vec<u8>>, Error> {
        let key = record::key(group, row);
        let value = self.db.get_pinned(key).map_err(|error| db_error(&self.path, error))?;
        let Some(value) = value else { return Ok(None) };
        match record::decode_row(&key, &value) {
            Ok(body) => Ok(Some(body.to_owned())),
            Err(reason) => Err(self.corrupt(group, row, reason)),
        }
    }
}

impl GroupLog {
    fn load(group: GroupId, device: Arc<Device>) -> Result<Self, Error> {
        let bad = |row, reason: &str| device.corrupt(group, row, reason.to_owned());
        let purge_mark = match device.row(group, Row::Purged)? {
            None => None,
            Some(body) => Some(
                record::decode_mark(&body)
                    .ok_or_else(|| bad(Row::Purged, "it has a bad length"))?,
            ),
        };
        let purged = purge_mark.map(|(position, _)| position);
        let committed = match device.row(group, Row::Committed)? {
            None => Committed::default(),
            Some(body) => record::decode_committed(&body)
                .ok_or_else(|| bad(Row::Committed, "it has a bad length"))?,
        };
        let (first, last) = match device.ends(group, purged)? {
            Some((first, last)) => (first, Some(device.entry(group, last)?.position)),
            None => (purged.map_or(LogIndex(0), |purged| next(purged.index)), purged),
        };
        let last_seen = last.map(|position| position.index);
        if last_seen < committed.held {
            return Err(device.corrupt(
                group,
                Row::Committed,
                format!(
                    "the log ends at {}, but the group had committed {} of it",
                    display(last_seen),
                    display(committed.held)
                ),
            ));
        }
        // Recovery has put everything it found into synced table files.
        let gate = Arc::new(SyncGate::new(last_seen));
        device.flusher.register(&gate);
        let state = State {
            bounds: LogBounds { purged, last },
            first,
            hidden_from: purge_mark.and_then(|(_, hidden)| hidden).unwrap_or(first),
            committed,
            cache: TailCache::new(device.tuning.tail_cache_bytes),
        };
        Ok(Self { group, device, gate, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, row: Row) -> Key {
        record::key(self.group, row)
    }

    fn mark(&self, generation: u64, through: Option<LogIndex>) -> Mark {
        Mark { gate: Arc::clone(&self.gate), generation, through }
    }
}

impl LogStore for GroupLog {
    fn bounds(&self) -> LogBounds {
        self.lock().bounds
    }

    fn append(&self, entries: Vec<LogEntry>, done: Completion) -> Result<(), Error> {
        // Before the lock, since readers need that, too.
        let cached: Vec<Cached> = entries.iter().map(Cached::copy).collect();
        let mut state = self.lock();
        let Some(end) = entries.last().map(|entry| entry.position) else {
            drop(state);
            return self.device.flusher.submit(Job { mark: None, done: Some(done) });
        };
        check_follows(state.bounds.last, &entries)?;
        let mut batch = WriteBatch::default();
        let mut bytes = 0;
        for entry in &entries {
            let key = self.key(Row::Entry(entry.position.index));
            let value = record::encode_entry(&key, entry);
            bytes += value.len();
            batch.put(key, value);
        }
        self.device.write(batch)?;
        if state.bounds.last.is_none() {
            state.first = entries[0].position.index;
            state.hidden_from = state.first;
        }
        state.bounds.last = Some(end);
        let count = u64::try_from(entries.len()).expect("a length fits in 64 bits");
        for cached in cached {
            state.cache.push(cached);
        }
        let mark = self.mark(self.gate.generation(), Some(end.index));
        // The queue may be full: whoever empties it may need this lock.
        drop(state);
        self.device.entries.fetch_add(count, Ordering::Relaxed);
        self.device
            .bytes
            .fetch_add(u64::try_from(bytes).expect("a length fits in 64 bits"), Ordering::Relaxed);
        self.device.flusher.submit(Job { mark: Some(mark), done: Some(done) })
    }

    fn truncate_after(&self, keep: Option<LogPosition>) -> Result<(), Error> {
        let mut state = self.lock();
        let Some(last) = state.bounds.last else { return Ok(()) };
        let keep_index = keep.map(|position| position.index);
        if keep_index >= Some(last.index) {
            return Ok(());
        }
        check_truncation(&state.bounds, state.committed.held, keep_index)?;
        let kept = match keep {
            Some(keep) if keep_index > state.bounds.purged.map(|purged| purged.index) => {
                let found = match state.cache.get(keep.index) {
                    Some(entry) => entry.position,
                    None => self.device.entry(self.group, keep.index)?.position,
                };
                check_kept(keep, found)?;
                Some(keep)
            }
            _ => state.bounds.purged,
        };
        let from = keep_index.map_or(state.first, next);
        let mut batch = WriteBatch::default();
        if last.index.0 - from.0 < TRUNCATE_SINGLY_MAX {
            for index in from.0..=last.index.0 {
                batch.delete(self.key(Row::Entry(LogIndex(index))));
            }
        } else {
            let end = record::key(self.group, Row::Entry(next(last.index)));
            batch.delete_range(record::key(self.group, Row::Entry(from)), end);
        }
        // Before the write: nobody may see the old watermark beside the new entries.
        let generation = self.gate.lower(keep_index);
        self.device.write(batch)?;
        state.bounds.last = kept;
        state.cache.truncate_after(keep_index);
        drop(state);
        // Syncs that were under way can't raise the watermark any more; this one does, so that
        // what was kept counts as synced though nothing may follow.
        let mark = self.mark(generation, keep_index);
        self.device.flusher.submit(Job { mark: Some(mark), done: None })
    }

    fn purge(&self, through: LogPosition) -> Result<(), Error> {
        let mut state = self.lock();
        if state.bounds.purged.is_some_and(|purged| purged.index >= through.index) {
            return Ok(());
        }
        let last_index = state.bounds.last.map(|last| last.index);
        let empties = last_index <= Some(through.index);
        let end = next(through.index);
        let hidden = end.0.saturating_sub(state.hidden_from.0);
        let mut batch = WriteBatch::default();
        let mut hidden_from = state.hidden_from;
        if hidden > 0 && (empties || hidden >= self.device.tuning.purge_step_entries) {
            let first = record::key(self.group, Row::Entry(hidden_from));
            batch.delete_range(first, record::key(self.group, Row::Entry(end)));
            hidden_from = end;
        }
        let key = self.key(Row::Purged);
        batch.put(key, record::encode_purged(&key, through, hidden_from));
        self.device.write(batch)?;
        state.bounds.purged = Some(through);
        state.first = end;
        state.hidden_from = hidden_from;
        state.cache.purge(through.index);
        if !empties {
            return Ok(());
        }
        state.bounds.last = Some(through);
        let mark = self.mark(self.gate.generation(), Some(through.index));
        drop(state);
        // The log begins behind a snapshot now; it counts as synced when the mark is.
        self.device.flusher.submit(Job { mark: Some(mark), done: None })
    }

    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
        let state = self.lock();
        let from = from.max(state.first);
        let to = to.min(state.bounds.last.map_or(LogIndex(0), |last| next(last.index)));
        if from >= to {
            return Ok(Vec::new());
        }
        if let Some(entries) = state.cache.read(from, to, max_bytes) {
            return Ok(entries);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(self.key(Row::Entry(to)));
        // A follower that is behind reads through once; the cache is for the state.
        options.fill_cache(false);
        // Made under the lock, an iterator sees the log as it is now; it is read without it.
        let mut rows = self.device.db.raw_iterator_opt(options);
        drop(state);
        rows.seek(self.key(Row::Entry(from)));
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in (from.0..to.0).map(LogIndex) {
            let row = Row::Entry(index);
            let Some((key, value)) = rows.item() else {
                rows.status().map_err(|error| db_error(&self.device.path, error))?;
                return Err(self.device.corrupt(self.group, row, String::from("it is missing")));
            };
            if key != self.key(row) {
                return Err(self.device.corrupt(self.group, row, String::from("it is missing")));
            }
            let entry = record::decode_entry(&self.key(row), index, &Bytes::copy_from_slice(value))
                .map_err(|reason| self.device.corrupt(self.group, row, reason))?;
            bytes += record::weight(&entry);
            if bytes > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
            rows.next();
        }
        Ok(entries)
    }

    fn save_vote(&self, vote: Bytes, done: Completion) -> Result<(), Error> {
        let key = self.key(Row::Vote);
        let mut batch = WriteBatch::default();
        batch.put(key, record::encode_row(&key, &[&vote]));
        self.device.write(batch)?;
        self.device.flusher.submit(Job { mark: None, done: Some(done) })
    }

    fn vote(&self) -> Result<Option<Bytes>, Error> {
        Ok(self.device.row(self.group, Row::Vote)?.map(Bytes::from))
    }

    fn save_committed(&self, committed: Option<LogPosition>) -> Result<(), Error> {
        let mut state = self.lock();
        let held = committed.map(|position| position.index);
        let last = state.bounds.last.map(|position| position.index);
        let committed = Committed { position: committed, held: held.min(last) };
        if committed == state.committed {
            return Ok(());
        }
        let key = self.key(Row::Committed);
        let mut batch = WriteBatch::default();
        batch.put(key, record::encode_committed(&key, committed));
        self.device.write(batch)?;
        state.committed = committed;
        Ok(())
    }

    fn committed(&self) -> Result<Option<LogPosition>, Error> {
        Ok(self.lock().committed.position)
    }

    fn synced(&self) -> watch::Receiver<Synced> {
        self.gate.watch()
    }

    fn counters(&self) -> LogCounters {
        let sync_times = self.device.flusher.sync_times();
        LogCounters {
            syncs: sync_times.count(),
            sync_times,
            entries: self.device.entries.load(Ordering::Relaxed),
            bytes: self.device.bytes.load(Ordering::Relaxed),
        }
    }

    fn stored_bytes(&self, from: LogIndex) -> u64 {
        self.device.stored_bytes(self.group, from)
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        available_bytes(&self.device.path)
    }
}
