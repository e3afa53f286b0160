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
use crate::{Error, Tuning};
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

    /// Opens the stores of a group, once.
    ///
    /// # Errors
    /// When one of them is damaged, they contradict each other, or the device fails.
    pub fn stores(&self, group: GroupId) -> Result<Stores, Error> {
        let dir = self.dir.join("groups").join(group.to_string());
        let log = self.log.group(group)?;
        let state = RocksState::open(&dir.join("state"), &self.budget)?;
        check(&*log, state.applied().applied, state.installed(), &dir.display().to_string())?;
        let snapshots = RocksSnapshots::open(&dir.join("snapshots"), &state, &self.budget)?;
        Ok(Stores {
            log,
            state: Box::new(state),
            snapshots: Arc::new(snapshots),
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
        let state = MemoryState::open(disk, group);
        check(&*log, state.applied().applied, state.installed()?, "memory")?;
        Ok(Self {
            log,
            state: Box::new(state),
            snapshots: Arc::new(MemorySnapshots::open(disk, group)),
            offload: Offload::Inline,
        })
    }
}

/// The rules between log and state: purged ≤ applied ≤ last, and both mean the same entry. A
/// state that began as a snapshot may be ahead of the log it was installed beside.
fn check(
    log: &dyn LogStore,
    applied: Option<LogPosition>,
    installed: Option<LogPosition>,
    location: &str,
) -> Result<(), Error> {
    let bounds = log.bounds();
    let index = |position: Option<LogPosition>| position.map(|position| position.index);
    let corrupt = |reason| Error::Corrupt { location: location.to_owned(), reason };
    if index(bounds.purged) > index(applied) {
        return Err(corrupt(format!(
            "the state ends at {}, but the log begins behind {}",
            display(index(applied)),
            display(index(bounds.purged))
        )));
    }
    let Some(applied) = applied else { return Ok(()) };
    if index(bounds.last) < Some(applied.index) {
        if installed == Some(applied) {
            return Ok(());
        }
        return Err(corrupt(format!(
            "the state ends at {applied}, but the log ends at {}: entries that were synced are \
             gone",
            display(index(bounds.last))
        )));
    }
    let found = if index(bounds.purged) == Some(applied.index) {
        bounds.purged
    } else {
        let entries = log.read(applied.index, LogIndex(applied.index.0 + 1), 0)?;
        entries.first().map(|entry| entry.position)
    };
    if found != Some(applied) {
        return Err(corrupt(format!(
            "the state ends at {applied}, but the log has {found:?} there"
        )));
    }
    Ok(())
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
