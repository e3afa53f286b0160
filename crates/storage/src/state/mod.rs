//! The applied state of one group. Two implementations: RocksDB ([`rocks`]) and memory
//! ([`memory`]).
//!
//! What is committed here is not synced: after a crash the state opens at an older consistent
//! point, and the log is applied again from there.

use crate::Error;
use crate::snapshot::Snapshot;
use quorate_state::{LogPosition, Read, StoredMembership, Txn};
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
pub trait StateStore: Send + 'static {
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
    pub tables: Box<dyn Read + Send + Sync>,
}
