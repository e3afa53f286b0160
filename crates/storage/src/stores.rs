//! The three stores of a group, opened together and checked against each other.

use crate::log::LogStore;
use crate::log::rocks::RocksLog;
use crate::log::rules::display;
use crate::memory::MemoryDisk;
use crate::rocks::Budget;
use crate::snapshot::SnapshotStore;
use crate::snapshot::memory::MemorySnapshots;
use crate::snapshot::rocks::RocksSnapshots;
use crate::state::StateStore;
use crate::state::memory::MemoryState;
use crate::state::rocks::RocksState;
use crate::{Error, Failures, Tuning};
use quorate_state::{GroupId, LogIndex, LogPosition};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The storage of one node: a log for all groups, and each group's state and snapshots.
///
/// ```text
/// <data directory>/log/                      entries, votes and commit marks of all groups
/// <data directory>/groups/<id>/state/        the applied state
/// <data directory>/groups/<id>/snapshots/    the newest snapshot
/// ```
pub struct Storage {
    dir: PathBuf,
    budget: Budget,
    log: RocksLog,
}

impl Storage {
    /// Opens the storage in a data directory, or creates it. The caller holds the directory's
    /// lock ([`crate::identity::Directory`]).
    ///
    /// # Errors
    /// When the log is damaged or the device fails.
    pub fn open(dir: &Path, tuning: &Tuning) -> Result<Self, Error> {
        let budget = Budget::new(tuning);
        let log = RocksLog::open(&dir.join("log"), &budget)?;
        Ok(Self { dir: dir.to_owned(), budget, log })
    }

    /// The log of a group alone, for whoever does not need its state.
    ///
    /// # Errors
    /// When it is damaged or the device fails.
    pub fn log(&self, group: GroupId) -> Result<Arc<dyn LogStore>, Error> {
        self.log.group(group)
    }

    /// Whether a data directory has a log. Nothing is created.
    #[must_use]
    pub fn has_log(dir: &Path) -> bool {
        RocksLog::is_at(&dir.join("log"))
    }

    /// Opens the stores of a group, once.
    ///
    /// # Errors
    /// When one of them is damaged, they contradict each other, or the device fails.
    pub fn stores(&self, group: GroupId) -> Result<Stores, Error> {
        let dir = self.dir.join("groups").join(group.to_string());
        let log = self.log.group(group)?;
        let mut state = RocksState::open(&dir.join("state"), &self.budget)?;
        let snapshots = RocksSnapshots::open(&dir.join("snapshots"), &state, &self.budget)?;
        let installed = state.installed();
        reconcile(&*log, &mut state, installed, &snapshots, &dir.display().to_string())?;
        Ok(Stores {
            log,
            state: Box::new(state),
            snapshots: Arc::new(snapshots),
            failures: self.budget.failures().clone(),
            offload: Offload::Threads,
        })
    }
}

/// All that a replica of one group stores.
pub struct Stores {
    /// Its log.
    pub log: Arc<dyn LogStore>,
    /// Its applied state.
    pub state: Box<dyn StateStore>,
    /// Its snapshots.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Failures that were nobody's who could stop the node.
    pub failures: Failures,
    /// Where their blocking calls run.
    pub offload: Offload,
}

impl Stores {
    /// Opens the stores of a node with one group; see [`Storage`].
    ///
    /// # Errors
    /// As [`Storage::open`] and [`Storage::stores`].
    pub fn open(dir: &Path, group: GroupId, tuning: &Tuning) -> Result<Self, Error> {
        Storage::open(dir, tuning)?.stores(group)
    }

    /// Opens the stores of a group on a disk in memory.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn memory(disk: &MemoryDisk, group: GroupId) -> Result<Self, Error> {
        let log = disk.log(group);
        let mut state = MemoryState::open(disk, group);
        let snapshots = MemorySnapshots::open(disk, group);
        let installed = state.installed()?;
        reconcile(&*log, &mut state, installed, &snapshots, "memory")?;
        Ok(Self {
            log,
            state: Box::new(state),
            snapshots: Arc::new(snapshots),
            failures: Failures::default(),
            offload: Offload::Inline,
        })
    }
}

/// The rules between log, state and snapshot: purged ≤ applied ≤ last, and all mean the same
/// entries.
///
/// A snapshot that arrived is durable before it is installed, and the state it is installed as
/// before the log is cut and purged to fit. Whatever a crash interrupts of that is finished here,
/// so that nobody sees a log with other entries than the snapshot's.
fn reconcile(
    log: &dyn LogStore,
    state: &mut dyn StateStore,
    installed: Option<LogPosition>,
    snapshots: &dyn SnapshotStore,
    location: &str,
) -> Result<(), Error> {
    let corrupt = |reason| Error::Corrupt { location: location.to_owned(), reason };
    let index = |position: Option<LogPosition>| position.map(|position| position.index);
    let applied = state.applied().applied;
    let purged = log.bounds().purged;
    // It contradicts nothing. Whether it may be empty, or was lost, its owner must still see.
    let empty = log.bounds().last.is_none();
    if index(purged) > index(applied) {
        let (applied, purged) = (display(index(applied)), display(index(purged)));
        let reason = format!("the state ends at {applied}, but the log begins behind {purged}");
        return Err(corrupt(reason).of_copy());
    }
    if let Some(applied) = applied {
        match entry_at(log, applied.index)? {
            Some(found) if found == applied => {}
            None if empty && installed == Some(applied) => {}
            _ if installed == Some(applied) => begin_behind(log, applied, location)?,
            Some(found) => {
                return Err(corrupt(format!(
                    "the state ends at {applied}, but the log has {found} there"
                )));
            }
            None => {
                return Err(corrupt(format!(
                    "the state ends at {applied}, but the log ends at {}: entries that were \
                     synced are gone",
                    display(index(log.bounds().last))
                )));
            }
        }
    }
    // One that the log agrees with is left to whoever opened the stores.
    if !empty
        && let Some(snapshot) = snapshots.current()
        && let Some(end) = snapshot.meta().applied
        && Some(end.index) > index(applied)
        && entry_at(log, end.index)? != Some(end)
    {
        check_uncommitted(log, end, location)?;
        // It may have lain there for long.
        for file in 0..snapshot.files().len() {
            snapshot.check(file)?;
        }
        state.install(snapshot)?;
        begin_behind(log, end, location)?;
    }
    Ok(())
}

/// What the log has at an index that is not purged, or is the last that was.
fn entry_at(log: &dyn LogStore, index: LogIndex) -> Result<Option<LogPosition>, Error> {
    if let Some(purged) = log.bounds().purged.filter(|purged| purged.index == index) {
        return Ok(Some(purged));
    }
    let entries = log.read(index, LogIndex(index.0 + 1), 0)?;
    Ok(entries.first().map(|entry| entry.position))
}

/// Makes a log that does not have the snapshot's last entry begin behind it. What it has at that
/// index and later was never committed, or the snapshot would have it. Not synced: what is lost
/// of it is done again, and it is on disk before anything that follows.
fn begin_behind(log: &dyn LogStore, end: LogPosition, location: &str) -> Result<(), Error> {
    check_uncommitted(log, end, location)?;
    tracing::warn!(
        %end,
        last = ?log.bounds().last,
        "the log does not have the last entry of the installed snapshot: it begins behind it now"
    );
    if log.bounds().last.is_some_and(|last| last.index >= end.index) {
        let before = match end.index.0.checked_sub(1) {
            Some(before) => entry_at(log, LogIndex(before))?,
            None => None,
        };
        log.truncate_after(before)?;
    }
    log.purge(end)
}

/// Refuses when the log has committed another entry at the snapshot's end.
fn check_uncommitted(log: &dyn LogStore, end: LogPosition, location: &str) -> Result<(), Error> {
    let found = entry_at(log, end.index)?;
    let committed = log.committed()?;
    match (found, committed) {
        (Some(found), Some(committed)) if committed.index >= end.index => Err(Error::Corrupt {
            location: location.to_owned(),
            reason: format!(
                "the snapshot ends at {end}, but the log has {found} there and has committed it"
            ),
        }),
        _ => Ok(()),
    }
}

/// Where calls run that wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// On threads of their own, so that a runtime's workers never wait.
    Threads,
    /// Where they are called: memory does not wait, and a simulation has one thread.
    Inline,
}

impl Offload {
    /// Runs `work` and waits for what it comes to. Panics where `work` panics.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop work that has begun.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        if self == Self::Inline {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and never ran it: nobody polls this again.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_here_or_elsewhere() {
        let here = std::thread::current().id();
        let inline = Offload::Inline.run(|| std::thread::current().id()).await;
        let threads = Offload::Threads.run(|| std::thread::current().id()).await;
        assert_eq!(inline, here);
        assert_ne!(threads, here);
    }

    #[tokio::test]
    #[should_panic(expected = "on purpose")]
    async fn a_panic_of_the_work_is_passed_on() {
        Offload::Threads.run(|| panic!("on purpose")).await
    }
}
