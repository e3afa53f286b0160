//! Rows that entries look at again and again, as the last commit left them.
//!
//! Most writes read the row they replace, and the same keys are written many times: of the time that it took
//! to apply a write, searching the database for its row was the largest part. A row comes in when an entry
//! reads it; a commit replaces it here only if it is here. So what is written and never read, as the history
//! of changes is, takes no room.

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use quorate_state::TableError;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of rows that are kept: the rows of some ten thousand keys.
const BYTES_MAX: u64 = 8 << 20;
/// Larger rows are not worth the room: to copy one costs as much as to find it.
const ROW_BYTES_MAX: usize = 4 << 10;
/// Bytes that a row takes beside its key and value, roughly.
const OVERHEAD_BYTES: usize = 96;
/// Bytes of an average row: only what is allocated first goes by it.
const ROW_BYTES: u64 = 512;

/// Belongs to one generation of the state, and to its one writer.
pub(super) struct HotRows {
    rows: Mutex<Rows>,
}

type Rows = Cache<Vec<u8>, Vec<u8>, ByBytes>;

#[derive(Clone)]
struct ByBytes;

impl Weighter<Vec<u8>, Vec<u8>> for ByBytes {
    fn weight(&self, key: &Vec<u8>, value: &Vec<u8>) -> u64 {
        // A usize is at most 64 bits wide on every target of Rust.
        (key.len() + value.len() + OVERHEAD_BYTES) as u64
    }
}

impl HotRows {
    pub(super) fn new() -> Self {
        let items = usize::try_from(BYTES_MAX / ROW_BYTES).expect("a small constant");
        Self { rows: Mutex::new(Cache::with_weighter(items, BYTES_MAX, ByBytes)) }
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Nothing is left half done: a row is in it as a whole or not at all.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row, from here or else from `read`, which has what was committed last.
    pub(super) fn get(
        &self,
        key: &[u8],
        read: impl FnOnce() -> Result<Option<Vec<u8>>, TableError>,
    ) -> Result<Option<Vec<u8>>, TableError> {
        if let Some(value) = self.rows().get(key) {
            return Ok(Some(value.clone()));
        }
        let found = read()?;
        if let Some(value) = &found
            && value.len() <= ROW_BYTES_MAX
        {
            self.rows().insert(key.to_owned(), value.clone());
        }
        Ok(found)
    }

    /// Takes over what was committed.
    pub(super) fn committed(&self, writes: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
        let mut rows = self.rows();
        for (key, value) in writes {
            match value {
                Some(value) if value.len() <= ROW_BYTES_MAX => {
                    // Gives it back if there is none to replace.
                    let _ = rows.replace(key, value, true);
                }
                _ => drop(rows.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn committed(rows: &HotRows, key: &[u8], value: Option<&[u8]>) {
        rows.committed([(key.to_vec(), value.map(<[u8]>::to_vec))].into_iter());
    }

    #[test]
    fn a_row_is_read_once_and_follows_what_is_committed() {
        let rows = HotRows::new();
        let reads = Cell::new(0);
        let get = |there: Option<&[u8]>| {
            let read = || {
                reads.set(reads.get() + 1);
                Ok(there.map(<[u8]>::to_vec))
            };
            rows.get(b"k", read).unwrap()
        };
        // Written and never read: not kept.
        committed(&rows, b"k", Some(b"1"));
        assert_eq!(get(Some(b"1")), Some(b"1".to_vec()));
        assert_eq!(get(None), Some(b"1".to_vec()));
        assert_eq!(reads.get(), 1);
        committed(&rows, b"k", Some(b"2"));
        assert_eq!(get(None), Some(b"2".to_vec()));
        committed(&rows, b"k", Some(&[7; ROW_BYTES_MAX + 1]));
        assert_eq!(get(Some(b"3")), Some(b"3".to_vec()), "too large a row leaves no older one");
        committed(&rows, b"k", None);
        assert_eq!(get(None), None);
        assert_eq!(reads.get(), 3);
    }

    #[test]
    fn it_is_bounded_in_bytes() {
        let rows = HotRows::new();
        for number in 0..100_000_u32 {
            rows.get(&number.to_be_bytes(), || Ok(Some(vec![1; 256]))).unwrap();
        }
        let kept = rows.rows();
        assert!(kept.weight() <= BYTES_MAX && kept.len() > 10_000, "{} rows", kept.len());
    }
}
