//! The newest entries, decoded, in memory: what replication and apply read.
//!
//! openraft reads every entry back once to apply it and once per follower. Served from here those
//! reads touch no disk and decode nothing twice, because clones of an entry share its payload.

use super::{LogEntry, record};
use quorate_state::LogIndex;
use std::collections::VecDeque;

/// Consecutive entries at the end of a log, bounded in bytes.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    bytes_max: usize,
}

/// Memory of an entry: its encoded form, and about as much again once it is decoded.
fn cost(entry: &LogEntry) -> usize {
    2 * record::weight(entry)
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds an entry that follows the last one.
    pub(crate) fn push(&mut self, entry: LogEntry) {
        debug_assert!(
            self.entries
                .back()
                .is_none_or(|last| last.position.index.0 + 1 == entry.position.index.0),
            "the tail cache holds consecutive entries"
        );
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= cost(&oldest);
        }
    }

    /// Forgets what lies behind `keep` (everything for none).
    pub(crate) fn truncate_after(&mut self, keep: Option<LogIndex>) {
        while let Some(last) = self.entries.back() {
            if keep.is_some_and(|keep| last.position.index <= keep) {
                return;
            }
            self.bytes -= cost(last);
            self.entries.pop_back();
        }
    }

    /// Forgets what lies at or before `through`.
    pub(crate) fn purge(&mut self, through: LogIndex) {
        while let Some(first) = self.entries.front() {
            if first.position.index > through {
                return;
            }
            self.bytes -= cost(first);
            self.entries.pop_front();
        }
    }

    /// The entry at `index`, if it is here.
    pub(crate) fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let first = self.entries.front()?.position.index.0;
        let offset = index.0.checked_sub(first)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entries of `from <= index < to`, as many as fit in `bytes_max` but at least one. None
    /// when it does not hold the range's beginning; `to` may lie no further than the log's end.
    pub(crate) fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Option<Vec<LogEntry>> {
        let first = self.entries.front()?.position.index.0;
        let offset = usize::try_from(from.0.checked_sub(first)?).ok()?;
        if offset >= self.entries.len() {
            return None;
        }
        let mut out = Vec::new();
        let mut bytes = 0;
        for entry in self.entries.range(offset..) {
            if entry.position.index >= to {
                break;
            }
            bytes += record::weight(entry);
            if bytes > bytes_max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Some(out)
    }

    #[cfg(test)]
    fn held(&self) -> (Option<u64>, Option<u64>, usize) {
        let index = |entry: &LogEntry| entry.position.index.0;
        (self.entries.front().map(index), self.entries.back().map(index), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Payload;
    use quorate_state::{LogPosition, Term};

    fn blank(index: u64) -> LogEntry {
        LogEntry {
            position: LogPosition { term: Term(1), index: LogIndex(index) },
            payload: Payload::Blank,
        }
    }

    fn filled(range: std::ops::Range<u64>, bytes_max: usize) -> TailCache {
        let mut cache = TailCache::new(bytes_max);
        range.for_each(|index| cache.push(blank(index)));
        cache
    }

    fn indexes(entries: Option<Vec<LogEntry>>) -> Option<Vec<u64>> {
        entries.map(|entries| entries.iter().map(|entry| entry.position.index.0).collect())
    }

    #[test]
    fn it_keeps_the_newest_that_fit() {
        let one = cost(&blank(0));
        assert_eq!(filled(0..10, 3 * one).held(), (Some(7), Some(9), 3 * one));
        // Not even one fits: it stays empty instead of growing past its bound.
        assert_eq!(filled(0..10, one - 1).held(), (None, None, 0));
    }

    #[test]
    fn it_serves_ranges_that_begin_inside() {
        let cache = filled(5..10, 1 << 20);
        let read = |from, to, bytes| indexes(cache.read(LogIndex(from), LogIndex(to), bytes));
        assert_eq!(read(4, 8, 1 << 20), None);
        assert_eq!(read(5, 8, 1 << 20), Some(vec![5, 6, 7]));
        assert_eq!(read(8, 10, 1 << 20), Some(vec![8, 9]));
        assert_eq!(read(10, 12, 1 << 20), None);
        // At least one, however small the bound.
        assert_eq!(read(6, 10, 0), Some(vec![6]));
        assert_eq!(read(6, 10, 2 * record::weight(&blank(6))), Some(vec![6, 7]));
    }

    #[test]
    fn both_ends_are_cut() {
        let mut cache = filled(0..10, 1 << 20);
        cache.truncate_after(Some(LogIndex(6)));
        cache.purge(LogIndex(2));
        let one = cost(&blank(0));
        assert_eq!(cache.held(), (Some(3), Some(6), 4 * one));
        assert_eq!(cache.get(LogIndex(2)).map(|entry| entry.position.index.0), None);
        assert_eq!(cache.get(LogIndex(3)).map(|entry| entry.position.index.0), Some(3));
        cache.truncate_after(None);
        assert_eq!(cache.held(), (None, None, 0));
        cache.push(blank(40));
        assert_eq!(cache.held(), (Some(40), Some(40), one));
    }
}
