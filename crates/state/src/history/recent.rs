//! Where the rows of the history are and what each counts for, so that trimming need not read them.
//!
//! What is trimmed was written 64 MiB ago and is in no cache any more: to find out from the table what is
//! next to go cost as much as to write it. The rows that were there when the machine was opened are read, a
//! part at a time, when it is their turn; those written since are known.

use super::{HistoryPosition, counted_bytes};
use crate::keys::{self, Key};
use crate::{Fatal, GroupId, Read, Revision};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Rows that are read at once.
const READ_ROWS_MAX: usize = 1_024;

/// Bounded by the history: 16 bytes for each of its rows, which count for a hundred and more.
#[derive(Debug)]
pub(crate) struct Recent {
    /// Oldest first. Without the older ones they are all there are.
    rows: VecDeque<Row>,
    /// Rows that were read ahead of those, oldest first.
    read: VecDeque<Row>,
    /// Whether there may be rows between what was read and `rows`.
    older: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    revision: Revision,
    event: u32,
    bytes: u32,
}

impl Row {
    fn new(position: HistoryPosition, bytes: u64) -> Self {
        let HistoryPosition { revision, event } = position;
        let bytes = u32::try_from(bytes).expect("a key and a value are at most some MiB");
        Self { revision, event, bytes }
    }

    fn position(self) -> HistoryPosition {
        HistoryPosition { revision: self.revision, event: self.event }
    }
}

impl Recent {
    /// Of a machine that knows nothing of the table yet.
    pub(crate) fn unread() -> Self {
        Self { rows: VecDeque::new(), read: VecDeque::new(), older: true }
    }

    /// How many were written since it was opened and not trimmed.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes back what was written since there were so many. Nothing may have been trimmed meanwhile.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.rows.truncate(len);
    }

    /// A row was written behind all others.
    pub(super) fn push(&mut self, position: HistoryPosition, bytes: u64) {
        self.rows.push_back(Row::new(position, bytes));
    }

    /// The oldest row behind `trimmed`, and what it counts for; it is to be deleted. Reads up to about
    /// `room` rows ahead if it must read.
    pub(super) fn take_oldest(
        &mut self,
        tables: &dyn Read,
        group: GroupId,
        trimmed: HistoryPosition,
        room: usize,
    ) -> Result<Option<(HistoryPosition, u64)>, Fatal> {
        if self.read.is_empty() && self.older {
            self.read = self.read_ahead(tables, group, trimmed, room.min(READ_ROWS_MAX))?;
            self.older = !self.read.is_empty();
        }
        let oldest = self.read.pop_front().or_else(|| self.rows.pop_front());
        Ok(oldest.map(|row| (row.position(), u64::from(row.bytes))))
    }

    fn read_ahead(
        &self,
        tables: &dyn Read,
        group: GroupId,
        trimmed: HistoryPosition,
        rows_max: usize,
    ) -> Result<VecDeque<Row>, Fatal> {
        // From the newest trimmed row on, not from the table's start: what was trimmed lies there
        // deleted, and an LSM tree walks over deleted rows one by one.
        let from = keys::history(group, trimmed.next());
        let to = match self.rows.front() {
            Some(first) => keys::history(group, first.position()),
            None => keys::table_range(group, keys::table::HISTORY).1,
        };
        scan(tables, group, &from, &to, rows_max)
    }

    /// Holds it against the table, in which `trimmed` was trimmed last.
    pub(crate) fn check(
        &self,
        tables: &dyn Read,
        group: GroupId,
        trimmed: HistoryPosition,
    ) -> Result<(), Fatal> {
        let known = || self.read.iter().chain(&self.rows).copied();
        let from = match known().next() {
            Some(first) if self.older => first.position(),
            None if self.older => return Ok(()),
            _ => trimmed.next(),
        };
        let from = keys::history(group, from);
        let (_, to) = keys::table_range(group, keys::table::HISTORY);
        let there = scan(tables, group, &from, &to, usize::MAX)?;
        // What was not read yet may lie between what was read and what was written.
        let gap = self.older && !self.read.is_empty();
        if gap || there.iter().copied().eq(known()) {
            return Ok(());
        }
        Err(Fatal::Invariant(format!(
            "{} rows of the history are known, and the table has {} behind {trimmed:?}",
            known().count(),
            there.len()
        )))
    }
}

fn scan(
    tables: &dyn Read,
    group: GroupId,
    from: &[u8],
    to: &[u8],
    rows_max: usize,
) -> Result<VecDeque<Row>, Fatal> {
    let mut rows = VecDeque::new();
    let mut malformed = None;
    tables.scan(from, to, &mut |key, value| {
        let Some(Key::History(position)) = keys::parse(group, key) else {
            malformed = Some(key.to_vec());
            return ControlFlow::Break(());
        };
        rows.push_back(Row::new(position, counted_bytes(key, value)));
        if rows.len() < rows_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    match malformed {
        Some(key) => Err(Fatal::Invariant(format!("HISTORY holds the key {key:02x?}"))),
        None => Ok(rows),
    }
}
