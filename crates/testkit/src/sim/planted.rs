//! Faults planted on purpose, to show that the simulation finds what it is there to find.

use bytes::Bytes;
use quorate_state::{LogIndex, LogPosition};
use quorate_storage::log::{Completion, LogBounds, LogCounters, LogEntry, LogStore, Synced};
use quorate_storage::{Error, Stores};
use std::sync::Arc;
use tokio::sync::watch;

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// Nothing.
    #[default]
    Nothing,
    /// Clients read without the barrier and take the answers for linearizable.
    StaleReads,
    /// Disks say "synced" long before it is true, and then the power fails everywhere at once.
    LyingDisks,
    /// Logs complete writes when they are on disk, but say at once that they are: what is committed
    /// elsewhere is applied here before this node's own log has it.
    EarlyWatermarks,
    /// Clients repeat an increment of unknown outcome under a new name.
    CountTwice,
    /// Clients leave the guard out of their guarded writes, as if it was not checked.
    SkippedGuards,
    /// Clients that push jobs say of some that they were added, and have not sent them.
    PushesNotSent,
    /// Workers that come too late with a job, and are told so, take it for done.
    StaleAcks,
    /// In the broker, which has to be built for it.
    #[cfg(feature = "planted-faults")]
    Consensus(quorate_consensus::planted::Fault),
}

impl Planted {
    /// For what runs on this thread from now on.
    pub(super) fn plant_on_this_thread(self) {
        #[cfg(feature = "planted-faults")]
        if let Self::Consensus(fault) = self {
            quorate_consensus::planted::plant_on_this_thread(fault);
        }
    }

    pub(super) fn stores(self, mut stores: Stores) -> Stores {
        let completes_early = match self {
            Self::LyingDisks => true,
            Self::EarlyWatermarks => false,
            _ => return stores,
        };
        stores.log = Arc::new(LyingLog::over(stores.log, completes_early));
        stores
    }
}

/// A log that takes every write for synced when it is made, not when it is on disk.
struct LyingLog {
    inner: Arc<dyn LogStore>,
    /// Whether it completes them then, too.
    completes_early: bool,
    synced: watch::Sender<Synced>,
}

impl LyingLog {
    fn over(inner: Arc<dyn LogStore>, completes_early: bool) -> Self {
        let synced = watch::Sender::new(Synced::Through(None));
        let log = Self { inner, completes_early, synced };
        log.claim();
        log
    }

    /// What is called when a write is on disk, and what when it is made.
    fn completions(&self, done: Completion) -> (Completion, Completion) {
        let nobody: Completion = Box::new(drop);
        if self.completes_early { (nobody, done) } else { (done, nobody) }
    }

    fn claim(&self) {
        let last = self.inner.bounds().last.map(|position| position.index);
        self.synced.send_replace(Synced::Through(last));
    }
}

impl LogStore for LyingLog {
    fn bounds(&self) -> LogBounds {
        self.inner.bounds()
    }

    fn append(&self, entries: Vec<LogEntry>, done: Completion) -> Result<(), Error> {
        let (on_disk, made) = self.completions(done);
        self.inner.append(entries, on_disk)?;
        self.claim();
        made(Ok(()));
        Ok(())
    }

    fn truncate_after(&self, keep: Option<LogPosition>) -> Result<(), Error> {
        self.inner.truncate_after(keep)?;
        self.claim();
        Ok(())
    }

    fn purge(&self, through: LogPosition) -> Result<(), Error> {
        self.inner.purge(through)?;
        self.claim();
        Ok(())
    }

    fn read(&self, from: LogIndex, to: LogIndex, max_bytes: usize) -> Result<Vec<LogEntry>, Error> {
        self.inner.read(from, to, max_bytes)
    }

    fn save_vote(&self, vote: Bytes, done: Completion) -> Result<(), Error> {
        let (on_disk, made) = self.completions(done);
        self.inner.save_vote(vote, on_disk)?;
        made(Ok(()));
        Ok(())
    }

    fn vote(&self) -> Result<Option<Bytes>, Error> {
        self.inner.vote()
    }

    fn save_committed(&self, committed: Option<LogPosition>) -> Result<(), Error> {
        self.inner.save_committed(committed)
    }

    fn committed(&self) -> Result<Option<LogPosition>, Error> {
        self.inner.committed()
    }

    fn synced(&self) -> watch::Receiver<Synced> {
        self.synced.subscribe()
    }

    fn counters(&self) -> LogCounters {
        self.inner.counters()
    }

    fn stored_bytes(&self, from: LogIndex) -> u64 {
        self.inner.stored_bytes(from)
    }

    fn free_bytes(&self) -> Result<u64, Error> {
        self.inner.free_bytes()
    }
}
