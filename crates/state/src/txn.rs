//! The ordered byte-key tables the machine works on: [`Read`] for queries, [`Txn`] for apply.

use std::ops::ControlFlow;

/// A failure of the tables below the machine. It is always fatal to the node: it never depends on
/// what a user asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TableError(pub String);

/// Read access to an ordered map of bytes to bytes.
pub trait Read {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the storage below fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError>;

    /// Calls `visit` with each pair of `from <= key < to`, in key order, until it breaks. Visits
    /// nothing when `from >= to`.
    ///
    /// # Errors
    /// When the storage below fails.
    #[allow(clippy::type_complexity, reason = "an alias would hide how a visitor looks")]
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), TableError>;
}

/// Read and write access; reads see the writes made through it before. Nothing is visible to
/// others, or kept, until the owner of the transaction commits it as a whole.
pub trait Txn: Read {
    /// Sets `key` to `value`.
    fn put(&mut self, key: &[u8], value: &[u8]);
    /// Removes `key`; removing what is absent is no error.
    fn delete(&mut self, key: &[u8]);
}
