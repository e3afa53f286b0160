//! A disk in memory that outlives its node and forgets what was not synced: the storage of a
//! simulated node.
//!
//! Log changes of all groups form one ordered journal, as in one write-ahead log. A sync moves a
//! prefix of it to the durable image; [`MemoryDisk::crash`] throws the rest away. The applied
//! state is durable only as of its last flush, as with RocksDB, and snapshots once they are
//! complete. Everything random comes from one seed.

use crate::Error;
use crate::log::flusher::SyncGate;
use crate::log::memory::{Change, LogImage, MemoryLog};
use crate::log::{Completion, LogCounters, LogStore};
use crate::snapshot::memory::SnapshotImage;
use crate::state::memory::StateImage;
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use quorate_state::{GroupId, LogIndex};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a [`MemoryDisk`] behaves.
#[derive(Clone, Debug)]
pub struct DiskModel {
    /// All random choices follow from it.
    pub seed: u64,
    /// How long a sync takes; with none it is finished when the write returns, and needs no
    /// runtime.
    pub sync_delay: Option<RangeInclusive<Duration>>,
    /// One in so many commits of the state is followed by a flush of it; 0 flushes only for
    /// snapshots.
    pub state_flush_one_in: u32,
    /// Whether a crash keeps a random prefix of what was not synced, as a real disk may, or
    /// nothing of it.
    pub crash_keeps_prefix: bool,
}

impl DiskModel {
    /// Syncs at once; flushes the state only for snapshots.
    #[must_use]
    pub fn immediate() -> Self {
        Self { seed: 0, sync_delay: None, state_flush_one_in: 0, crash_keeps_prefix: false }
    }

    /// Syncs take 100 µs to 3 ms; the state is flushed at random, and crashes keep a random
    /// prefix.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            sync_delay: Some(Duration::from_micros(100)..=Duration::from_millis(3)),
            state_flush_one_in: 16,
            crash_keeps_prefix: true,
        }
    }
}

/// The disk of one simulated node. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryDisk {
    disk: Arc<Mutex<Disk>>,
}

/// Who waits for a sync: the watermark it raises (in which generation, to what), and whom it tells.
pub(crate) struct Waiting {
    pub(crate) mark: Option<(Arc<SyncGate>, u64, Option<LogIndex>)>,
    pub(crate) done: Option<Completion>,
}

impl Waiting {
    fn complete(self, result: Result<(), Error>) {
        if let (Ok(()), Some((gate, generation, through))) = (&result, self.mark) {
            gate.raise(generation, through);
        }
        if let Some(done) = self.done {
            done(result);
        }
    }
}

/// What is on the disk, and what is on its way there.
pub(crate) struct Disk {
    model: DiskModel,
    rng: StdRng,
    /// Crashes so far. What was opened in another epoch is cut off.
    epoch: u64,
    failed: Option<String>,
    logs: BTreeMap<GroupId, LogImage>,
    synced_logs: BTreeMap<GroupId, LogImage>,
    /// Changes that are in `logs` but not in `synced_logs`, oldest first.
    journal: VecDeque<(GroupId, Change)>,
    /// Changes ever made durable; a position in the stream is this plus an offset.
    journal_start: u64,
    /// Who waits, and for the stream to be durable up to where.
    waiting: VecDeque<(u64, Waiting)>,
    /// Whether a task is syncing.
    syncing: bool,
    gates: BTreeMap<GroupId, Arc<SyncGate>>,
    pub(crate) counters: LogCounters,
    /// What it says when it is asked; it takes more all the same.
    pub(crate) free_bytes: u64,
    pub(crate) states: BTreeMap<GroupId, StateImage>,
    pub(crate) snapshots: BTreeMap<GroupId, SnapshotImage>,
}

impl Disk {
    pub(crate) fn log(&mut self, group: GroupId) -> &LogImage {
        self.logs.entry(group).or_default()
    }

    /// Makes a change readable, and remembers it for the next sync.
    pub(crate) fn change(&mut self, group: GroupId, change: Change) {
        self.logs.entry(group).or_default().apply(&change);
        self.journal.push_back((group, change));
    }

    /// Whether this commit of a state is followed by a flush.
    pub(crate) fn flushes_state(&mut self) -> bool {
        let one_in = self.model.state_flush_one_in;
        one_in > 0 && self.rng.random_range(0..one_in) == 0
    }

    fn journal_end(&self) -> u64 {
        self.journal_start + u64::try_from(self.journal.len()).expect("a length fits in 64 bits")
    }

    /// Makes the stream durable up to `end`; those who waited for that.
    fn sync_to(&mut self, end: u64) -> Vec<Waiting> {
        while self.journal_start < end {
            let Some((group, change)) = self.journal.pop_front() else { break };
            self.synced_logs.entry(group).or_default().apply(&change);
            self.journal_start += 1;
        }
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|(position, _)| *position <= end) {
            ready.extend(self.waiting.pop_front().map(|(_, waiting)| waiting));
        }
        ready
    }

    /// Starts a new epoch from what is durable; those whose writes are lost.
    fn restart(&mut self) -> Vec<Waiting> {
        self.epoch += 1;
        self.journal.clear();
        self.syncing = false;
        self.failed = None;
        self.gates.clear();
        self.logs = self.synced_logs.iter().map(|(id, log)| (*id, log.clone())).collect();
        self.states.values_mut().for_each(StateImage::forget_unflushed);
        self.waiting.drain(..).map(|(_, waiting)| waiting).collect()
    }
}

fn cut_off() -> Error {
    Error::Io {
        action: "use",
        path: PathBuf::from("memory"),
        reason: String::from("its simulated node was stopped: open the disk again"),
    }
}

fn broken(reason: &str) -> Error {
    Error::Io { action: "sync", path: PathBuf::from("memory"), reason: reason.to_owned() }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(model: DiskModel) -> Self {
        let disk = Disk {
            rng: StdRng::seed_from_u64(model.seed),
            model,
            epoch: 0,
            failed: None,
            logs: BTreeMap::new(),
            synced_logs: BTreeMap::new(),
            journal: VecDeque::new(),
            journal_start: 0,
            waiting: VecDeque::new(),
            syncing: false,
            gates: BTreeMap::new(),
            counters: LogCounters::default(),
            free_bytes: u64::MAX,
            states: BTreeMap::new(),
            snapshots: BTreeMap::new(),
        };
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Cuts the power: forgets what was not synced, cuts off everything opened before, and leaves
    /// the disk ready to be opened again. Writes under way complete with an error.
    pub fn crash(&self) {
        let lost = {
            let mut disk = self.lock();
            if disk.model.crash_keeps_prefix {
                let kept = disk.journal_end();
                let start = disk.journal_start;
                let kept = disk.rng.random_range(start..=kept);
                // They are on disk, but nobody was told.
                let mut untold = disk.sync_to(kept);
                let mut lost = disk.restart();
                untold.append(&mut lost);
                untold
            } else {
                disk.restart()
            }
        };
        lost.into_iter().for_each(|waiting| waiting.complete(Err(cut_off())));
    }

    /// Stops cleanly: everything reaches the disk, then everything opened before is cut off.
    pub fn close(&self) {
        let (ready, lost) = {
            let mut disk = self.lock();
            let end = disk.journal_end();
            let ready = disk.sync_to(end);
            disk.states.values_mut().for_each(StateImage::flush);
            (ready, disk.restart())
        };
        ready.into_iter().for_each(|waiting| waiting.complete(Ok(())));
        lost.into_iter().for_each(|waiting| waiting.complete(Err(cut_off())));
    }

    /// Makes this and every later sync fail, until the next crash.
    pub fn fail(&self, reason: &str) {
        let lost: Vec<Waiting> = {
            let mut disk = self.lock();
            disk.failed = Some(reason.to_owned());
            disk.gates.values().for_each(|gate| gate.fail(reason));
            disk.waiting.drain(..).map(|(_, waiting)| waiting).collect()
        };
        lost.into_iter().for_each(|waiting| waiting.complete(Err(broken(reason))));
    }

    /// Forgets all that is on it, and cuts off whoever has opened it: the end of a simulation, in which
    /// something may go on holding the disk.
    pub fn wipe(&self) {
        let lost = {
            let mut disk = self.lock();
            let lost = disk.restart();
            disk.logs.clear();
            disk.synced_logs.clear();
            disk.states.clear();
            disk.snapshots.clear();
            lost
        };
        lost.into_iter().for_each(|waiting| waiting.complete(Err(cut_off())));
    }

    /// Sets how much room it says there is; a crash changes nothing about it.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.lock().free_bytes = bytes;
    }

    /// Sets how long syncs take from the next one on; one that is under way ends as it began.
    pub fn set_sync_delay(&self, delay: Option<RangeInclusive<Duration>>) {
        self.lock().model.sync_delay = delay;
    }

    /// The log of a group, as of this epoch.
    #[must_use]
    pub fn log(&self, group: GroupId) -> Arc<dyn LogStore> {
        let mut disk = self.lock();
        let last = disk.log(group).bounds.last.map(|position| position.index);
        let gate = disk.gates.entry(group).or_insert_with(|| Arc::new(SyncGate::new(last)));
        let gate = Arc::clone(gate);
        Arc::new(MemoryLog::new(self.clone(), disk.epoch, group, gate))
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    pub(crate) fn counters(&self) -> LogCounters {
        self.lock().counters
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the disk, unless it was cut off since `epoch` or has failed.
    pub(crate) fn with<T>(
        &self,
        epoch: u64,
        act: impl FnOnce(&mut Disk) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut disk = self.lock();
        if disk.epoch != epoch {
            return Err(cut_off());
        }
        if let Some(reason) = &disk.failed {
            return Err(broken(reason));
        }
        act(&mut disk)
    }

    /// Lets somebody wait until everything written so far is on disk.
    pub(crate) fn submit(&self, epoch: u64, waiting: Waiting) -> Result<(), Error> {
        #[cfg(feature = "planted-faults")]
        let waiting = match is_planted(Fault::AcknowledgeBeforeFsync) {
            true => {
                waiting.complete(Ok(()));
                Waiting { mark: None, done: None }
            }
            false => waiting,
        };
        let (ready, starts) = self.with(epoch, |disk| {
            let end = disk.journal_end();
            disk.waiting.push_back((end, waiting));
            if disk.model.sync_delay.is_none() {
                disk.counters.syncs += 1;
                return Ok((disk.sync_to(end), false));
            }
            Ok((Vec::new(), !std::mem::replace(&mut disk.syncing, true)))
        })?;
        ready.into_iter().for_each(|waiting| waiting.complete(Ok(())));
        if starts {
            tokio::spawn(Syncing { disk: self.clone(), epoch, finished: false }.run());
        }
        Ok(())
    }
}

/// The task that syncs while anybody waits: as with the real log, a sync serves all that had
/// been written when it began.
struct Syncing {
    disk: MemoryDisk,
    epoch: u64,
    /// Nobody waited any more, and the disk knows that this task is gone.
    finished: bool,
}

impl Syncing {
    async fn run(mut self) {
        while let Ok(Some((end, delay))) = self.begin() {
            tokio::time::sleep(delay).await;
            let ready = self.disk.with(self.epoch, |disk| {
                disk.counters.syncs += 1;
                Ok(disk.sync_to(end))
            });
            // Cut off or failed: whoever did that has answered those who waited.
            let Ok(ready) = ready else { return };
            ready.into_iter().for_each(|waiting| waiting.complete(Ok(())));
        }
    }

    fn begin(&mut self) -> Result<Option<(u64, Duration)>, Error> {
        let finished = &mut self.finished;
        self.disk.with(self.epoch, |disk| {
            if disk.waiting.is_empty() {
                disk.syncing = false;
                *finished = true;
                return Ok(None);
            }
            let delay = disk.model.sync_delay.clone();
            let delay = delay.map_or(Duration::ZERO, |range| disk.rng.random_range(range));
            Ok(Some((disk.journal_end(), delay)))
        })
    }
}

impl Drop for Syncing {
    /// When its runtime goes away under it, the next write starts another one.
    fn drop(&mut self) {
        let mut disk = self.disk.lock();
        if !self.finished && disk.epoch == self.epoch {
            disk.syncing = false;
        }
    }
}
