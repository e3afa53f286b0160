//! The history of changes: what watches are served from, and resume from.
//!
//! Every change of a key passes [`set`] or [`deleted`], in the batch of the change itself, so a
//! node that has the tables has the history that belongs to them, after a restart or a snapshot
//! too. Whoever replays the events of a namespace over the keys as they were at some revision gets
//! the keys as they are: the rows of KV, expired and not yet swept ones included. A key that
//! expired is reported when it is swept, or right before the command that writes it anew.
//!
//! All events of one revision belong together. Trimming goes by rows and may leave a part of a
//! revision; readers treat all of it as gone.

mod recent;

use crate::keys;
use crate::limits::{HISTORY_BYTES_MAX, HISTORY_ROW_BYTES, HISTORY_TRIM_ROWS_MAX};
#[cfg(feature = "planted-faults")]
use crate::planted::{Fault, is_planted};
use crate::rows::{self, HistoryChange, HistoryMetaRow, HistoryRow, KvRow};
use crate::scope::Scope;
use crate::{Fatal, GroupId, Read, Revision, Txn};
pub(crate) use recent::Recent;
use serde::{Deserialize, Serialize};

/// Where an event stands in the history.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HistoryPosition {
    /// Of the command, transaction or step that it belongs to.
    pub revision: Revision,
    /// Its number among the events of that revision, from 0.
    pub event: u32,
}

impl HistoryPosition {
    /// Behind all events of a revision.
    #[must_use]
    pub fn behind(revision: Revision) -> Self {
        Self { revision, event: u32::MAX }
    }

    /// Before all events of a revision, and behind those of every older one.
    #[must_use]
    pub fn before(revision: Revision) -> Self {
        Self::behind(Revision(revision.0.saturating_sub(1)))
    }

    pub(crate) fn next(self) -> Self {
        match self.event.checked_add(1) {
            Some(event) => Self { event, ..self },
            None => Self { revision: Revision(self.revision.0 + 1), event: 0 },
        }
    }
}

/// Why a key is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeleteCause {
    /// A command deleted it.
    Deleted,
    /// Its ttl ran out.
    Expired,
    /// The session that owned it ended.
    SessionEnded,
}

/// The history's accounts while entries are applied. A copy of them can be put back, together with
/// the rows that were written since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    pub(crate) row: HistoryMetaRow,
    /// Events that the revision of the current command has so far.
    pub(crate) events: u32,
}

impl History {
    pub(crate) fn open(tables: &dyn Read, group: GroupId) -> Result<Self, Fatal> {
        Ok(Self { row: rows::history_meta(tables, group)?, events: 0 })
    }
}

/// Records that the key (of the row in KV) was given `row`.
pub(crate) fn set(scope: &mut Scope<'_>, key: &[u8], row: &KvRow<'_>) {
    let lease_ms = scope.lease_ms();
    let change = HistoryChange::Set {
        version: row.version,
        create_revision: row.create_revision,
        ttl_ms: row.deadline_ms.map(|deadline_ms| deadline_ms.saturating_sub(lease_ms)),
        value: row.value,
    };
    record(scope, key, change);
}

/// Records that the key (of the row in KV) is gone.
pub(crate) fn deleted(scope: &mut Scope<'_>, key: &[u8], cause: DeleteCause) {
    record(scope, key, HistoryChange::Delete(cause));
}

fn record(scope: &mut Scope<'_>, key: &[u8], change: HistoryChange<'_>) {
    let position = HistoryPosition { revision: scope.revision, event: scope.history.events };
    let history_key = keys::history(scope.group, position);
    let value = HistoryRow { id: keys::id(key), change }.encode();
    scope.txn.put(&history_key, &value);
    let bytes = counted_bytes(&history_key, &value);
    scope.history.events += 1;
    scope.history.row.bytes += bytes;
    scope.recent.push(position, bytes);
}

/// What a row counts for.
pub(crate) fn counted_bytes(key: &[u8], value: &[u8]) -> u64 {
    // A usize is at most 64 bits wide on every target of Rust.
    HISTORY_ROW_BYTES + key.len() as u64 + value.len() as u64
}

/// Deletes the oldest rows while there are too many bytes of them, as far as one entry may.
pub(crate) fn trim(scope: &mut Scope<'_>) -> Result<(), Fatal> {
    let mut row = scope.history.row;
    let mut old = Vec::new();
    while row.bytes > HISTORY_BYTES_MAX && old.len() < HISTORY_TRIM_ROWS_MAX {
        let room = HISTORY_TRIM_ROWS_MAX - old.len();
        let oldest = scope.recent.take_oldest(&scope.txn, scope.group, row.trimmed, room)?;
        let Some((position, bytes)) = oldest else { break };
        row.bytes = row.bytes.saturating_sub(bytes);
        row.trimmed = position;
        old.push(position);
    }
    #[cfg(feature = "planted-faults")]
    if is_planted(Fault::WatchEventDropped) && !old.is_empty() {
        let before = old.len().checked_sub(2).map(|at| old[at]);
        row.trimmed = before.unwrap_or(scope.history.row.trimmed);
    }
    for position in old {
        scope.txn.delete(&keys::history(scope.group, position));
    }
    scope.history.row = row;
    Ok(())
}
