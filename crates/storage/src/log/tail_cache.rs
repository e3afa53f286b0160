//! The newest entries, encoded, in memory: what replication and apply read.
//!
//! openraft reads every entry back once to apply it and once per follower. Served from here those
//! reads touch no disk, and clones of an entry share its payload. Nothing is kept decoded: that takes many
//! times the room, and memory that is given back long after it was used is slow to give back.

use super::{LogEntry, Payload, record};
use bytes::Bytes;
use quorate_state::{EntryBody, LogIndex};
use std::collections::VecDeque;

/// Memory of a node in a membership, with its addresses, at most.
const NODE_BYTES: usize = 1 << 10;
/// Memory that a payload takes beside its bytes: what the allocator adds, and a counter once it is shared.
const PAYLOAD_OVERHEAD_BYTES: usize = 64;

/// Consecutive entries at the end of a log, bounded in bytes.
#[derive(Debug)]
pub(crate) struct TailCache {
    entries: VecDeque<Cached>,
    bytes: usize,
    bytes_max: usize,
}

/// An entry as the cache keeps it, and the memory it takes.
#[derive(Debug)]
pub(crate) struct Cached {
    entry: LogEntry,
    bytes: usize,
}

impl Cached {
    /// Copies an entry. What was proposed here or came from a peer may be a slice of the request it came
    /// in, and a small slice keeps a large buffer.
    pub(crate) fn copy(entry: &LogEntry) -> Self {
        let mut bytes = 2 * size_of::<Self>();
        let payload = match &entry.payload {
            Payload::Blank => Payload::Blank,
            Payload::Membership(membership) => {
                bytes += NODE_BYTES * membership.nodes.len();
                Payload::Membership(membership.clone())
            }
            Payload::Commands(body) => {
                bytes += PAYLOAD_OVERHEAD_BYTES + body.encoded().len();
                let copy = Bytes::copy_from_slice(body.encoded());
                Payload::Commands(EntryBody::from_encoded(copy))
            }
        };
        Self { entry: LogEntry { position: entry.position, payload }, bytes }
    }
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds an entry that follows the last one.
    pub(crate) fn push(&mut self, cached: Cached) {
        debug_assert!(
            self.entries.back().is_none_or(|last| {
                last.entry.position.index.0 + 1 == cached.entry.position.index.0
            }),
            "the tail cache holds consecutive entries"
        );
        self.bytes += cached.bytes;
        self.entries.push_back(cached);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    /// Forgets what lies behind `keep` (everything for none).
    pub(crate) fn truncate_after(&mut self, keep: Option<LogIndex>) {
        while let Some(last) = self.entries.back() {
            if keep.is_some_and(|keep| last.entry.position.index <= keep) {
                return;
            }
            self.bytes -= last.bytes;
            self.entries.pop_back();
        }
    }

    /// Forgets what lies at or before `through`.
    pub(crate) fn purge(&mut self, through: LogIndex) {
        while let Some(first) = self.entries.front() {
            if first.entry.position.index > through {
                return;
            }
            self.bytes -= first.bytes;
            self.entries.pop_front();
        }
    }

    /// The entry at `index`, if it is here.
    pub(crate) fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let first = self.entries.front()?.entry.position.index.0;
        let offset = index.0.checked_sub(first)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|cached| &cached.entry)
    }

    /// The entries of `from <= index < to`, as many as fit in `bytes_max` but at least one. None
    /// when it does not hold the range's beginning; `to` may lie no further than the log's end.
    pub(crate) fn read(
        &self,
        from: LogIndex,
        to: LogIndex,
        bytes_max: usize,
    ) -> Option<Vec<LogEntry>> {
        let first = self.entries.front()?.entry.position.index.0;
        let offset = usize::try_from(from.0.checked_sub(first)?).ok()?;
        if offset >= self.entries.len() {
            return None;
        }
        let mut out = Vec::new();
        let mut bytes = 0;
        for Cached { entry, .. } in self.entries.range(offset..) {
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
        let index = |cached: &Cached| cached.entry.position.index.0;
        (self.entries.front().map(index), self.entries.back().map(index), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{LogPosition, Term};

    fn entry(index: u64, payload: Payload) -> LogEntry {
        LogEntry { position: LogPosition { term: Term(1), index: LogIndex(index) }, payload }
    }

    fn blank(index: u64) -> LogEntry {
        entry(index, Payload::Blank)
    }

    fn cost(entry: &LogEntry) -> usize {
        Cached::copy(entry).bytes
    }

    fn filled(range: std::ops::Range<u64>, bytes_max: usize) -> TailCache {
        let mut cache = TailCache::new(bytes_max);
        range.for_each(|index| cache.push(Cached::copy(&blank(index))));
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
        cache.push(Cached::copy(&blank(40)));
        assert_eq!(cache.held(), (Some(40), Some(40), one));
    }

    fn commands(encoded: Bytes) -> LogEntry {
        entry(0, Payload::Commands(EntryBody::from_encoded(encoded)))
    }

    #[test]
    fn it_charges_what_an_entry_takes() {
        let of_blank = cost(&blank(0));
        let large = commands(Bytes::from(vec![7; 100_000]));
        assert_eq!(cost(&large), of_blank + PAYLOAD_OVERHEAD_BYTES + 100_000);
    }

    /// A payload that is a slice of a large buffer does not keep the buffer.
    #[test]
    fn it_keeps_copies() {
        let buffer = Bytes::from(vec![7; 100_000]);
        let proposed = commands(buffer.slice(..10));
        let cached = Cached::copy(&proposed);
        let Payload::Commands(body) = &cached.entry.payload else { panic!("it had commands") };
        assert_eq!(body.encoded(), &[7; 10][..]);
        drop(proposed);
        assert!(buffer.is_unique(), "the cache holds a slice of it");
    }
}
