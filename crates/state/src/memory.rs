//! Tables in memory: the second implementation of [`Txn`], with snapshots that cost one pointer.
//!
//! A sorted list of chunks of rows, shared between clones and copied when written: a write after a
//! clone copies the list of chunks and the one chunk it changes, not the tables.

use crate::{Read, TableError, Txn};
use bytes::Bytes;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Rows a chunk grows to before it is split: small enough to copy for one write, large enough to
/// keep the list of chunks short.
const CHUNK_ROWS_MAX: usize = 128;

type Row = (Bytes, Bytes);

/// An ordered map of bytes to bytes.
///
/// Cloning takes a snapshot in O(1). Writes are visible at once: a transaction is a clone that
/// takes the original's place when it is committed, and is dropped otherwise.
///
/// ```
/// use quorate_state::{MemoryTables, Read, Txn};
///
/// let mut committed = MemoryTables::default();
/// let mut txn = committed.clone();
/// txn.put(b"key", b"value");
/// assert_eq!(committed.get(b"key")?, None);
/// committed = txn;
/// assert_eq!(committed.get(b"key")?, Some(b"value".to_vec()));
/// # Ok::<(), quorate_state::TableError>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryTables {
    /// None of the chunks is empty, and every key of one is below every key of the next.
    chunks: Arc<Vec<Arc<Vec<Row>>>>,
    rows: usize,
}

impl MemoryTables {
    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The only chunk that can hold `key`; 0 when there is no chunk at all.
    fn chunk_of(&self, key: &[u8]) -> usize {
        self.chunks.partition_point(|chunk| &chunk[0].0[..] <= key).saturating_sub(1)
    }

    /// Where `key` is, or would be, in `chunk`.
    fn position(chunk: &[Row], key: &[u8]) -> Result<usize, usize> {
        chunk.binary_search_by(|(row_key, _)| row_key[..].cmp(key))
    }
}

impl Read for MemoryTables {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        let Some(chunk) = self.chunks.get(self.chunk_of(key)) else { return Ok(None) };
        Ok(Self::position(chunk, key).ok().map(|at| chunk[at].1.to_vec()))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError> {
        for chunk in self.chunks.iter().skip(self.chunk_of(from)) {
            let start = chunk.partition_point(|(key, _)| &key[..] < from);
            for (key, value) in &chunk[start..] {
                if &key[..] >= to || visit(key, value).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Txn for MemoryTables {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let at_chunk = self.chunk_of(key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let value = Bytes::copy_from_slice(value);
        let Some(chunk) = chunks.get_mut(at_chunk) else {
            chunks.push(Arc::new(vec![(Bytes::copy_from_slice(key), value)]));
            self.rows = 1;
            return;
        };
        let chunk = Arc::make_mut(chunk);
        match Self::position(chunk, key) {
            Ok(at) => chunk[at].1 = value,
            Err(at) => {
                chunk.insert(at, (Bytes::copy_from_slice(key), value));
                self.rows += 1;
                if chunk.len() > CHUNK_ROWS_MAX {
                    let upper = chunk.split_off(chunk.len() / 2);
                    chunks.insert(at_chunk + 1, Arc::new(upper));
                }
            }
        }
    }

    fn delete(&mut self, key: &[u8]) {
        let at_chunk = self.chunk_of(key);
        let Some(chunk) = self.chunks.get(at_chunk) else { return };
        // Looked up before anything is copied: deleting what is absent leaves clones shared.
        let Ok(at) = Self::position(chunk, key) else { return };
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at_chunk]);
        chunk.remove(at);
        if chunk.is_empty() {
            chunks.remove(at_chunk);
        }
        self.rows -= 1;
    }
}

impl fmt::Debug for MemoryTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTables").field("rows", &self.rows).finish_non_exhaustive()
    }
}
