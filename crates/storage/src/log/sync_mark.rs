//! How far the log's database was synced, in a small file beside it.
//!
//! RocksDB drops an incomplete record at the end of its write-ahead log, because a crash leaves
//! one. Damage there looks the same, and would silently take acknowledged entries along. This
//! file tells them apart: after each sync it notes the database's sequence number, which grows
//! with every write, truncations included. A database that opens with a lower one has lost
//! something that was acknowledged.
//!
//! The file itself is not synced, since that would double the cost of a write. After a power
//! failure it may be behind, never ahead: then the check is weaker, not wrong. Two slots in two
//! sectors are written in turn, so that a torn write leaves the other one.

use crate::Error;
use crate::files::{io_error, parent_of, read_small, sync_dir, write_file_durable};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Distance of the slots: the smallest unit a disk writes as a whole.
const SLOT_BYTES: usize = 512;
/// A number and its checksum.
const MARK_BYTES: usize = 12;
/// Keeps another file's bytes from passing for a slot.
const SALT: &[u8] = b"quorate synced sequence number";

/// The open file.
#[derive(Debug)]
pub(crate) struct SyncMark {
    path: PathBuf,
    file: File,
    /// The slot that is written next: not the one that holds the newest number.
    next_slot: usize,
    newest: u64,
}

fn encode(sequence: u64) -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    mark[..8].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(SALT), &mark[..8]);
    mark[8..].copy_from_slice(&crc.to_be_bytes());
    mark
}

fn decode(content: &[u8], slot: usize) -> Option<u64> {
    let mark: &[u8; MARK_BYTES] = content.get(slot * SLOT_BYTES..)?.first_chunk()?;
    let sequence = u64::from_be_bytes(*mark.first_chunk()?);
    (encode(sequence) == *mark).then_some(sequence)
}

/// The highest number in a file's content, and its slot; none when both are torn.
pub(crate) fn newest(content: &[u8]) -> Option<(u64, usize)> {
    (0..2).filter_map(|slot| Some((decode(content, slot)?, slot))).max()
}

/// The content of a new file.
pub(crate) fn initial(sequence: u64) -> Vec<u8> {
    let mut content = vec![0; SLOT_BYTES + MARK_BYTES];
    content[..MARK_BYTES].copy_from_slice(&encode(sequence));
    content[SLOT_BYTES..].copy_from_slice(&encode(sequence));
    content
}

impl SyncMark {
    /// Opens the mark, or creates it at 0 for a database that is yet to be created.
    pub(crate) fn open(path: &Path, database_exists: bool) -> Result<Self, Error> {
        let corrupt = |reason: &str| Error::Corrupt {
            location: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let limit = u64::try_from(2 * SLOT_BYTES).expect("a small constant");
        let content = match read_small(path, limit)? {
            Some(content) if !content.is_empty() || database_exists => content,
            None if database_exists => {
                return Err(corrupt("the file is missing beside an existing log"));
            }
            _ => {
                let content = initial(0);
                write_file_durable(path, &content)?;
                sync_dir(&parent_of(path))?;
                content
            }
        };
        let (newest, newest_slot) =
            newest(&content).ok_or_else(|| corrupt("neither of its marks has a valid checksum"))?;
        let file = OpenOptions::new()
            .write(true)
            .open(path)
            .map_err(|error| io_error("open", path, &error))?;
        Ok(Self { path: path.to_owned(), file, next_slot: 1 - newest_slot, newest })
    }

    /// The highest number noted.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Notes that everything up to `sequence` is on disk.
    pub(crate) fn note(&mut self, sequence: u64) -> Result<(), Error> {
        if sequence <= self.newest {
            return Ok(());
        }
        let offset = u64::try_from(self.next_slot * SLOT_BYTES).expect("one of two small numbers");
        self.file
            .write_all_at(&encode(sequence), offset)
            .map_err(|error| io_error("write", &self.path, &error))?;
        self.next_slot = 1 - self.next_slot;
        self.newest = sequence;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_number_comes_back_and_a_torn_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("synced");
        let mut mark = SyncMark::open(&path, false).expect("it is created");
        assert_eq!(mark.newest(), 0);
        mark.note(41).expect("written");
        mark.note(42).expect("written");
        assert_eq!(SyncMark::open(&path, true).expect("it is there").newest(), 42);

        // 42 went to the slot that 41 did not: tear it.
        let mut content = std::fs::read(&path).expect("readable");
        let slot = (0..2).find(|slot| decode(&content, *slot) == Some(42)).expect("one has 42");
        content[slot * SLOT_BYTES] ^= 1;
        std::fs::write(&path, &content).expect("writable");
        assert_eq!(SyncMark::open(&path, true).expect("one slot is left").newest(), 41);

        content[(1 - slot) * SLOT_BYTES] ^= 1;
        std::fs::write(&path, &content).expect("writable");
        let error = SyncMark::open(&path, true).expect_err("no slot is left").to_string();
        assert!(error.contains("neither of its marks"), "{error}");
    }

    /// Directories written by one version are read by the next: these bytes never change.
    #[test]
    fn bytes_are_frozen() {
        let hex: String = encode(258).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0000000000000102908a679a");
    }

    #[test]
    fn a_missing_mark_is_created_only_with_its_database() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("synced");
        SyncMark::open(&path, true).expect_err("the log exists, its mark does not");
        SyncMark::open(&path, false).expect("both are new");
        SyncMark::open(&path, false).expect("a start that got no further is repeated");
    }
}
