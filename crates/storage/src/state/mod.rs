//! The applied state of one group. Two implementations: RocksDB ([`rocks`]) and memory
//! ([`memory`]).
//!
//! What is committed here is not synced: after a crash the state opens at an older consistent
//! point, and the log is applied again from there.

pub(crate) mod generation;
mod hot_rows;
pub mod memory;
pub mod rebuild;
pub mod rocks;

use crate::Error;
use crate::snapshot::Snapshot;
use quorate_state::{LogPosition, Read, StoredMembership, TableError, Txn};
use std::ops::ControlFlow;
use std::sync::Arc;

/// How far the state has come; written in the same batch as the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedMeta {
    /// The last entry applied.
    pub applied: Option<LogPosition>,
    /// The last membership applied.
    pub membership: StoredMembership,
}

/// The state's only writer; owned by the task that applies.
pub trait StateStore: Send + Sync + 'static {
    /// How far the state has come.
    fn applied(&self) -> AppliedMeta;

    /// Starts a transaction: reads see the state and what was written through it before.
    /// Dropping it without [`StateTxn::commit`] leaves the state as it was.
    fn begin(&mut self) -> Box<dyn StateTxn + '_>;

    /// A handle from which any thread takes views; stays valid over [`StateStore::install`].
    fn reader(&self) -> Arc<dyn StateReader>;

    /// Replaces the whole state by a complete snapshot. When it returns the new state is on disk
    /// and is what the next start opens, whatever happens.
    ///
    /// # Errors
    /// When the snapshot is unreadable or the device fails; the old state is then still there.
    fn install(&mut self, snapshot: Arc<dyn Snapshot>) -> Result<(), Error>;
}

/// An open transaction.
pub trait StateTxn: Txn {
    /// Makes everything written through it, and `meta`, visible at once. Not synced.
    ///
    /// # Errors
    /// When the store fails; the node must stop.
    fn commit(self: Box<Self>, meta: &AppliedMeta) -> Result<(), Error>;

    /// This transaction as the machine's tables.
    fn as_txn(&mut self) -> &mut dyn Txn;
}

/// Hands out consistent views of the newest committed state.
pub trait StateReader: Send + Sync + 'static {
    /// A view of the state as it is now; cheap. It pins resources: keep it for a request, not
    /// longer.
    fn view(&self) -> View;
}

/// An immutable, consistent view of the state.
pub struct View {
    /// The last entry it contains; read from the view itself.
    pub applied: Option<LogPosition>,
    /// Its tables.
    pub tables: Box<dyn Tables>,
}

/// The tables of a view, and what is known of them beside their rows.
pub trait Tables: Read + Send + Sync {
    /// The membership as of the view; apart because few ask for it.
    ///
    /// # Errors
    /// When it can't be read.
    fn membership(&self) -> Result<StoredMembership, TableError>;

    /// About how many rows there are.
    fn rows_estimate(&self) -> u64;
}

impl View {
    /// A view of a state that can't be read: every read of it fails with this error.
    pub(crate) fn failed(error: &Error) -> Self {
        Self { applied: None, tables: Box::new(Unreadable(error.to_string())) }
    }
}

/// Tables that could not be opened.
struct Unreadable(String);

impl Tables for Unreadable {
    fn membership(&self) -> Result<StoredMembership, TableError> {
        Err(TableError(self.0.clone()))
    }

    fn rows_estimate(&self) -> u64 {
        0
    }
}

impl Read for Unreadable {
    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        Err(TableError(self.0.clone()))
    }

    fn scan(
        &self,
        _from: &[u8],
        _to: &[u8],
        _visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        Err(TableError(self.0.clone()))
    }
}

/// What is applied never goes back, except by an install.
fn check_advances(from: &AppliedMeta, to: &AppliedMeta) -> Result<(), Error> {
    let (from, to) = (from.applied, to.applied);
    if to.map(|position| position.index) < from.map(|position| position.index) {
        return Err(Error::Invariant(format!("the state is at {from:?} and can't go to {to:?}")));
    }
    Ok(())
}
