//! Snapshots of the applied state: taken, read in pieces for sending, received in pieces.

mod manifest;
pub mod memory;
mod receive;
pub mod rocks;

use crate::Error;
use crate::state::AppliedMeta;
use bytes::Bytes;
use std::sync::Arc;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// A plain file name, without directories.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// CRC-32C of its content.
    pub crc32c: u32,
}

/// A complete snapshot. Its files stay as they are while anybody holds it.
pub trait Snapshot: Send + Sync + 'static {
    /// What it contains; read from the snapshot itself, not from memory.
    fn meta(&self) -> &AppliedMeta;
    /// Its files, in the order they are sent.
    fn files(&self) -> &[SnapshotFile];
    /// Up to `len` bytes of file number `file` from `offset`; shorter only at its end. Blocks.
    ///
    /// # Errors
    /// When the file is unreadable.
    fn read(&self, file: usize, offset: u64, len: usize) -> Result<Bytes, Error>;
    /// For the store that made it to recognise its own.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Takes, keeps and receives the snapshots of one group. One is kept, besides those in use.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Takes a snapshot of what is applied now and keeps it as the current one. Everything
    /// applied is on disk afterwards, so the log may be purged up to it. Blocks.
    ///
    /// # Errors
    /// When the device fails.
    fn build(&self) -> Result<Arc<dyn Snapshot>, Error>;

    /// The newest complete snapshot.
    fn current(&self) -> Option<Arc<dyn Snapshot>>;

    /// Starts, or goes on with, receiving a snapshot with these contents.
    ///
    /// # Errors
    /// When a file name is not a plain one, the total passes the limit, or the device fails.
    fn receive(
        &self,
        meta: AppliedMeta,
        files: Vec<SnapshotFile>,
    ) -> Result<Box<dyn SnapshotReceiver>, Error>;
}

/// A snapshot on its way in. Dropping it keeps the files that are complete, so that the next
/// attempt with the same contents needs only the others.
pub trait SnapshotReceiver: Send {
    /// The numbers of the files still needed, in order.
    fn missing(&self) -> Vec<usize>;
    /// Writes a piece; pieces of one file come in order, from offset 0. Blocks.
    ///
    /// # Errors
    /// When the piece is out of order or too long, or the device fails.
    fn write(&mut self, file: usize, offset: u64, data: &[u8]) -> Result<(), Error>;
    /// Checks every length and checksum, syncs, and makes it the current snapshot. Blocks.
    ///
    /// # Errors
    /// When anything is missing or differs; what differs is deleted.
    fn finish(self: Box<Self>) -> Result<Arc<dyn Snapshot>, Error>;
}
