//! The applied state in memory, on a [`MemoryDisk`] that forgets what was not flushed.

use super::{AppliedMeta, StateReader, StateStore, StateTxn, View};
use crate::Error;
use crate::memory::MemoryDisk;
use crate::snapshot::Snapshot;
use crate::snapshot::memory::MemorySnapshot;
use quorate_state::{GroupId, LogPosition, MemoryTables, Read, StoredMembership, TableError, Txn};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The tables and how far they have come: always changed together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    pub(crate) meta: AppliedMeta,
    pub(crate) rows: MemoryTables,
}

impl Read for Tables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.rows.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        self.rows.scan(from, to, visit)
    }
}

impl super::Tables for Tables {
    fn membership(&self) -> Result<StoredMembership, TableError> {
        Ok(self.meta.membership.clone())
    }

    fn rows_estimate(&self) -> u64 {
        u64::try_from(self.rows.len()).unwrap_or(u64::MAX)
    }
}

/// One group's state on the disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateImage {
    pub(crate) current: Tables,
    flushed: Tables,
    /// Where the snapshot ended that this state began as.
    pub(crate) installed: Option<LogPosition>,
}

impl StateImage {
    pub(crate) fn flush(&mut self) {
        self.flushed = self.current.clone();
    }

    /// What was on disk last, said to be as new as what is applied.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn flushed_as_current(&self) -> Tables {
        Tables { meta: self.current.meta.clone(), rows: self.flushed.rows.clone() }
    }

    pub(crate) fn forget_unflushed(&mut self) {
        self.current = self.flushed.clone();
    }
}

/// One group's state. A handle from before a crash of its disk refuses everything.
pub struct MemoryState {
    disk: MemoryDisk,
    epoch: u64,
    group: GroupId,
}

impl MemoryState {
    /// Opens the state of a group, as of this epoch of the disk.
    #[must_use]
    pub fn open(disk: &MemoryDisk, group: GroupId) -> Self {
        Self { disk: disk.clone(), epoch: disk.epoch(), group }
    }

    /// Where the snapshot ended that this state began as.
    ///
    /// # Errors
    /// When the disk was cut off.
    pub fn installed(&self) -> Result<Option<LogPosition>, Error> {
        self.image(|image| image.installed)
    }

    /// Makes everything applied durable.
    ///
    /// # Errors
    /// When the disk was cut off.
    pub fn flush(&self) -> Result<(), Error> {
        self.image(StateImage::flush)
    }

    fn image<T>(&self, read: impl FnOnce(&mut StateImage) -> T) -> Result<T, Error> {
        self.disk.with(self.epoch, |disk| Ok(read(disk.states.entry(self.group).or_default())))
    }
}

impl StateStore for MemoryState {
    fn applied(&self) -> AppliedMeta {
        // Nobody uses what a dead node answers, and the trait has no error here.
        self.image(|image| image.current.meta.clone()).unwrap_or_default()
    }

    fn begin(&mut self) -> Box<dyn StateTxn + '_> {
        let rows = self.image(|image| image.current.rows.clone()).unwrap_or_default();
        Box::new(MemoryTxn { rows, state: self })
    }

    fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(MemoryReader { disk: self.disk.clone(), epoch: self.epoch, group: self.group })
    }

    fn install(&mut self, snapshot: Arc<dyn Snapshot>) -> Result<(), Error> {
        let snapshot = snapshot.as_any().downcast_ref::<MemorySnapshot>().ok_or_else(|| {
            Error::Invariant(String::from("a snapshot of another kind of store can't be installed"))
        })?;
        let tables = snapshot.tables()?;
        self.image(|image| {
            image.installed = tables.meta.applied;
            image.current = tables;
            image.flush();
        })
    }
}

/// An open transaction: a copy of the tables, which costs a pointer, to take their place.
struct MemoryTxn<'a> {
    rows: MemoryTables,
    state: &'a mut MemoryState,
}

impl Read for MemoryTxn<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.rows.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        self.rows.scan(from, to, visit)
    }
}

impl Txn for MemoryTxn<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.rows.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.rows.delete(key);
    }
}

impl StateTxn for MemoryTxn<'_> {
    fn commit(self: Box<Self>, meta: &AppliedMeta) -> Result<(), Error> {
        let Self { rows, state } = *self;
        state.disk.with(state.epoch, |disk| {
            let flushes = disk.flushes_state();
            let image = disk.states.entry(state.group).or_default();
            super::check_advances(&image.current.meta, meta)?;
            // Nobody else writes, so they are still the tables it began with.
            image.current.rows = rows;
            image.current.meta = meta.clone();
            if flushes {
                image.flush();
            }
            Ok(())
        })
    }

    fn as_txn(&mut self) -> &mut dyn Txn {
        self
    }
}

struct MemoryReader {
    disk: MemoryDisk,
    epoch: u64,
    group: GroupId,
}

impl StateReader for MemoryReader {
    fn view(&self) -> View {
        let tables = self.disk.with(self.epoch, |disk| {
            Ok(disk.states.entry(self.group).or_default().current.clone())
        });
        match tables {
            Ok(tables) => View { applied: tables.meta.applied, tables: Box::new(tables) },
            Err(error) => View::failed(&error),
        }
    }
}
