//! The Raft log of one group: entries, the vote, the committed mark. Two implementations: RocksDB
//! ([`rocks`]) and memory that forgets what was not synced ([`memory`]).

pub(crate) mod flusher;
pub mod memory;
pub(crate) mod record;
mod recovery;
pub mod rocks;
pub(crate) mod rules;
mod scan;
pub(crate) mod sync_mark;
mod tail_cache;

use crate::{Durations, Error};
use bytes::Bytes;
use quorate_state::{EntryBody, LogIndex, LogPosition, Membership};
use tokio::sync::watch;

/// One entry of the log.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Its identity.
    pub position: LogPosition,
    /// What it holds.
    pub payload: Payload,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing: the first entry of a term.
    Blank,
    /// Commands for the state machine; encoded once where it was proposed, decoded on each
    /// node when it is applied.
    Commands(EntryBody),
    /// A new membership.
    Membership(Membership),
}

/// Both ends of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// The last entry that was purged: the log begins behind it.
    pub purged: Option<LogPosition>,
    /// The last entry, or `purged` when the log is empty.
    pub last: Option<LogPosition>,
}

/// Called once, when the write it belongs to is on disk (`Ok`) or never will be. It runs on the
/// thread that syncs: while it runs nobody's write becomes durable, and it must not write to a log
/// itself, because that may wait for this very thread.
pub type Completion = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// How far the log is on this node's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Synced {
    /// Every entry with a lower or equal index is on disk; none when the log is empty. Goes back
    /// when the log is truncated.
    Through(Option<LogIndex>),
    /// A write or sync failed: nothing will become durable any more, the node must stop.
    Failed(String),
}

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Syncs that returned without an error. Counted before the completions it allows are called,
    /// so a completion sees at least one more than there were before its write. That says that
    /// the system was asked and agreed; whether the device keeps its word shows only when the
    /// power fails.
    pub syncs: u64,
    /// How long they took; none in memory, where time is that of a simulation.
    pub sync_times: Durations,
    /// Entries appended.
    pub entries: u64,
    /// Bytes of them, as they are stored (in memory: roughly).
    pub bytes: u64,
}

/// The log of one group.
///
/// All changes go through one ordered stream: a completion means that its write and every change
/// submitted before it are on disk. What `append` was given is readable when it returns.
pub trait LogStore: Send + Sync + 'static {
    /// Both ends.
    fn bounds(&self) -> LogBounds;

    /// Appends entries that follow the last one without a gap; returns before they are on disk.
    ///
    /// # Errors
    /// When the entries do not follow, or the store has failed before; `done` is then not called.
    fn append(&self, entries: Vec<LogEntry>, done: Completion) -> Result<(), Error>;

    /// Removes every entry behind `keep` (all of them for none). Not synced by itself: it is on
    /// disk before anything submitted after it.
    ///
    /// # Errors
    /// When the store fails.
    fn truncate_after(&self, keep: Option<LogPosition>) -> Result<(), Error>;

    /// Forgets every entry up to and including `through`, which may lie behind the last entry
    /// (after a snapshot was installed). Like `truncate_after` in its ordering.
    ///
    /// # Errors
    /// When the store fails.
    fn purge(&self, through: LogPosition) -> Result<(), Error>;

    /// Entries of `from <= index < to` that exist, in order, up to about `max_bytes` of them but
    /// at least one when there is any.
    ///
    /// # Errors
    /// When an entry is unreadable or fails its checksum.
    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error>;

    /// Replaces the vote; `done` is called when it is on disk.
    ///
    /// # Errors
    /// When the store has failed before; `done` is then not called.
    fn save_vote(&self, vote: Bytes, done: Completion) -> Result<(), Error>;

    /// The vote saved last.
    ///
    /// # Errors
    /// When it is unreadable.
    fn vote(&self) -> Result<Option<Bytes>, Error>;

    /// Records how far the group has committed. Never synced by itself; it travels with the next
    /// sync.
    ///
    /// # Errors
    /// When the store fails.
    fn save_committed(&self, committed: Option<LogPosition>) -> Result<(), Error>;

    /// What `save_committed` recorded last (an older value after a crash).
    ///
    /// # Errors
    /// When it is unreadable.
    fn committed(&self) -> Result<Option<LogPosition>, Error>;

    /// How far the log is on disk, now and from now on.
    fn synced(&self) -> watch::Receiver<Synced>;

    /// Counters since it was opened (of the device, where groups share one).
    fn counters(&self) -> LogCounters;

    /// About how many bytes the entries from this index on take where they are stored. What was
    /// appended since the log was opened may be missing: [`LogStore::counters`] have it.
    fn stored_bytes(&self, from: LogIndex) -> u64;

    /// Bytes that may still be written where it lies; `u64::MAX` where nothing bounds them. Asks
    /// the file system, so it may block shortly.
    ///
    /// A write that fails for want of space is final, as every failure is, so whoever accepts
    /// writes stops before this comes to 0.
    ///
    /// # Errors
    /// When the system does not tell.
    fn free_bytes(&self) -> Result<u64, Error> {
        Ok(u64::MAX)
    }
}
