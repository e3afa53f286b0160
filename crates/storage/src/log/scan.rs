//! Reads of the log that look at all of it, and at one entry.

use super::LogEntry;
use super::record::{self, Row};
use super::rocks::Device;
use super::rules::next;
use crate::Error;
use crate::rocks::db_error;
use bytes::Bytes;
use quorate_state::{GroupId, LogIndex, LogPosition};
use rocksdb::{DBRawIterator, ReadOptions};

/// Bytes read ahead where the whole log is looked at.
const READAHEAD_BYTES: usize = 2 << 20;

impl Device {
    /// The ends of what follows `purged`: the first and the last entry; none when there are none.
    ///
    /// Looks at every entry's key and term: both ends of the log may be whole while something
    /// between them is not. Recovery sees a write-ahead log that ends too early, but not in what
    /// builds wrote that did not track them, nor damage to what is in tables.
    pub(super) fn ends(
        &self,
        group: GroupId,
        purged: Option<LogPosition>,
    ) -> Result<Option<(LogIndex, LogIndex)>, Error> {
        let corrupt = |index, reason| self.corrupt(group, Row::Entry(index), reason);
        let start = purged.map_or(LogIndex(0), |purged| next(purged.index));
        let mut rows = self.entries_from(group, start);
        let mut first = None;
        let mut before = purged;
        while let Some((key, value)) = rows.item() {
            let Some(index) = record::entry_index(group, key) else { break };
            let Some(term) = record::entry_term(value) else {
                return Err(corrupt(index, format!("{} bytes are too few", value.len())));
            };
            if let Some(before) = before {
                let expected = next(before.index);
                if index != expected {
                    let reason = String::from("it is missing, though later ones exist");
                    return Err(corrupt(expected, reason));
                }
                if term < before.term {
                    let reason = format!("its term is {term}, but it follows entry {before}");
                    return Err(corrupt(index, reason));
                }
            }
            first = first.or(Some(index));
            before = Some(LogPosition { term, index });
            rows.next();
        }
        rows.status().map_err(|error| db_error(&self.path, error))?;
        Ok(first.zip(before.map(|last| last.index)))
    }

    /// About how many bytes the entries from this index on take.
    pub(super) fn stored_bytes(&self, group: GroupId, from: LogIndex) -> u64 {
        let mut rows = self.entries_from(group, from);
        let mut bytes = 0;
        while let Some((key, value)) = rows.item() {
            // A usize is at most 64 bits wide on every target of Rust.
            bytes += (key.len() + value.len()) as u64;
            rows.next();
        }
        // What can't be read is noticed by whoever needs it.
        bytes
    }

    /// The entry at `index`, which must be there.
    pub(super) fn entry(&self, group: GroupId, index: LogIndex) -> Result<LogEntry, Error> {
        let row = Row::Entry(index);
        let key = record::key(group, row);
        let value = self.db.get(key).map_err(|error| db_error(&self.path, error))?;
        let value = value.ok_or_else(|| self.corrupt(group, row, String::from("it is missing")))?;
        record::decode_entry(&key, index, &Bytes::from(value))
            .map_err(|reason| self.corrupt(group, row, reason))
    }

    /// The rows of the entries from `start` to the end of the log.
    fn entries_from(&self, group: GroupId, start: LogIndex) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end_of(group));
        // Each block is needed once, one after the other.
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek(record::key(group, Row::Entry(start)));
        rows
    }
}

/// A key behind every row of a group.
fn end_of(group: GroupId) -> Vec<u8> {
    let mut end = record::key(group, Row::Entry(LogIndex(u64::MAX))).to_vec();
    end.push(0);
    end
}
