//! Snapshots of the applied state: taken, read in pieces for sending, received in pieces.

pub(crate) mod manifest;
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
    /// Reads file number `file` as a whole, and compares it with its checksum. Blocks.
    ///
    /// # Errors
    /// When it is not what it was when the snapshot was made, or unreadable.
    fn check(&self, file: usize) -> Result<(), Error>;
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

    /// Takes a new snapshot in the place of one that is damaged, after it has read the whole state: they
    /// may share files. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the state is damaged as well, or the device fails: the node must stop.
    fn renew(&self) -> Result<Arc<dyn Snapshot>, Error>;

    /// The newest complete snapshot.
    fn current(&self) -> Option<Arc<dyn Snapshot>>;

    /// Starts, or goes on with, receiving a snapshot with these contents.
    ///
    /// # Errors
    /// [`Error::Transfer`] when a file name is not a plain one, the total passes the limit, or the
    /// disk has no room for it; another when the device fails: the node must stop.
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
    /// [`Error::Transfer`] when the piece is out of order or too long, or the file was another one;
    /// another when the device fails: the node must stop.
    fn write(&mut self, file: usize, offset: u64, data: &[u8]) -> Result<(), Error>;
    /// Checks every length and checksum, those inside of the files as well, syncs, and makes it the
    /// current snapshot. Blocks.
    ///
    /// # Errors
    /// [`Error::Transfer`] when anything is missing or differs; what differs is deleted.
    /// [`Error::CorruptCopy`] when the files are what was announced, and damaged: they were damaged when
    /// the sender took its snapshot. Another when the device fails: the node must stop.
    fn finish(self: Box<Self>) -> Result<Arc<dyn Snapshot>, Error>;
}
