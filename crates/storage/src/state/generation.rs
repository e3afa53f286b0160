//! Where the state lies: one database directory per generation, and a pointer to the current one.
//!
//! Installing a snapshot makes a new generation beside the old one and then moves the pointer,
//! which is one rename. A crash before it leaves the old state, a crash after it the new one.

use super::AppliedMeta;
use crate::files::{names_in, read_small, remove_dir, replace_file};
use crate::rocks::{self, copy_error};
use crate::sealed;
use crate::{Error, Failures};
use quorate_state::{LogPosition, StoredMembership, TableError, codec};
use rocksdb::{DB, DBPinnableSlice, DBRawIterator, Options, ReadOptions};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// First byte of the machine's keys in the database.
const TABLES: u8 = b'd';
/// The last entry applied.
pub(crate) const APPLIED_KEY: &[u8] = b"mapplied";
/// The last membership applied; apart because it is large and changes rarely.
pub(crate) const MEMBERSHIP_KEY: &[u8] = b"mmembership";
/// Bytes of a pointer file, at most.
const POINTER_BYTES_MAX: u64 = 4 << 10;

/// The content of the pointer file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pointer {
    /// Number of the current generation; the first is 1.
    pub(crate) generation: u64,
    /// Where the snapshot ended that the generation began as.
    pub(crate) installed: Option<LogPosition>,
}

/// Reads the pointer in `dir`.
pub(crate) fn read_pointer(dir: &Path) -> Result<Option<Pointer>, Error> {
    let path = dir.join("CURRENT");
    let content = read_small(&path, POINTER_BYTES_MAX).map_err(Error::of_copy)?;
    let Some(content) = content else { return Ok(None) };
    sealed::open(&content)
        .map(Some)
        .map_err(|reason| Error::CorruptCopy { location: path.display().to_string(), reason })
}

/// Moves the pointer; durable when it returns.
pub(crate) fn write_pointer(dir: &Path, pointer: Pointer) -> Result<(), Error> {
    replace_file(&dir.join("CURRENT"), &sealed::seal(&pointer))
}

/// The directory of a generation.
pub(crate) fn generation_dir(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("gen-{number:06}"))
}

/// The number of a generation that nothing in `dir` has or means, damaged or not.
pub(crate) fn next_number(dir: &Path) -> Result<u64, Error> {
    let names = names_in(dir)?;
    let numbers = names.iter().filter_map(|name| name.strip_prefix("gen-")?.parse::<u64>().ok());
    // An unreadable pointer means none of them.
    let meant = read_pointer(dir).ok().flatten().map(|pointer| pointer.generation);
    Ok(numbers.chain(meant).max().unwrap_or(0).saturating_add(1))
}

/// Removes what generations but `current` have left behind.
pub(crate) fn remove_others(dir: &Path, current: u64) -> Result<(), Error> {
    let current = generation_dir(dir, current);
    for name in names_in(dir)? {
        let path = dir.join(&name);
        if name.starts_with("gen-") && path != current {
            remove_dir(&path)?;
        }
    }
    Ok(())
}

/// An open generation; what reads it keeps it open.
pub(crate) struct Generation {
    // Before the directory: the database is closed when that is removed.
    pub(crate) db: DB,
    pub(crate) dir: GenerationDir,
    failures: Failures,
}

/// The generation's directory, removed when it is out of use and superseded.
pub(crate) struct GenerationDir {
    pub(crate) path: PathBuf,
    pub(crate) number: u64,
    superseded: AtomicBool,
}

impl Drop for GenerationDir {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire)
            && let Err(error) = remove_dir(&self.path)
        {
            // The next start tries again.
            tracing::warn!(%error, "an old state could not be removed");
        }
    }
}

impl Generation {
    pub(crate) fn open(
        dir: &Path,
        number: u64,
        options: &Options,
        failures: &Failures,
    ) -> Result<Self, Error> {
        let path = generation_dir(dir, number);
        let db = rocks::open(options, &path).map_err(Error::of_copy)?;
        let dir = GenerationDir { path, number, superseded: AtomicBool::new(false) };
        Ok(Self { db, dir, failures: failures.clone() })
    }

    /// What a read failed with. It is noted: whoever reads on behalf of a client is told, and can't
    /// stop the node.
    pub(crate) fn failed(&self, error: rocksdb::Error) -> Error {
        self.noted(copy_error(&self.dir.path, error))
    }

    /// As [`Generation::failed`], of a row of this store's own that is not what was written.
    pub(crate) fn unreadable(&self, what: &str, reason: String) -> Error {
        let location = format!("the {what} row of {}", self.dir.path.display());
        self.noted(Error::CorruptCopy { location, reason })
    }

    fn noted(&self, error: Error) -> Error {
        self.failures.note(&error);
        error
    }

    /// As [`Generation::failed`], as the machine has it; the text names the file where RocksDB knows it.
    pub(crate) fn table_error(&self, error: rocksdb::Error) -> TableError {
        TableError(self.failed(error).to_string())
    }

    /// The value that was found, copied.
    pub(crate) fn found(
        &self,
        value: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>,
    ) -> Result<Option<Vec<u8>>, TableError> {
        Ok(value.map_err(|error| self.table_error(error))?.map(|value| value.to_vec()))
    }

    /// Visits the tables' rows of `from <= key < to`; `open` makes the iterator.
    pub(crate) fn scan<'a>(
        &self,
        from: &[u8],
        to: &[u8],
        open: impl FnOnce(ReadOptions) -> DBRawIterator<'a>,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        // Without the bound an iterator walks on over the deleted rows behind the range.
        options.set_iterate_upper_bound(table_key(to));
        let mut rows = open(options);
        rows.seek(table_key(from));
        while let Some((key, value)) = rows.item() {
            let key = key.get(1..).unwrap_or_default();
            if visit(key, value).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(|error| self.table_error(error))
    }

    /// Its directory may go once nobody reads it any more.
    pub(crate) fn supersede(&self) {
        self.dir.superseded.store(true, Ordering::Release);
    }

    pub(crate) fn meta(&self) -> Result<AppliedMeta, Error> {
        read_meta(&self.db, &self.dir.path)
    }

    /// Makes everything written durable.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.db.flush().map_err(|error| copy_error(&self.dir.path, error))
    }
}

/// Bytes read ahead where everything is read.
const READAHEAD_BYTES: usize = 2 << 20;

/// Reads every row of a database, whose checksums RocksDB looks at: damage in one of its files is told
/// with the file's name. Blocks for as long as that takes.
pub(crate) fn check_rows(db: &DB, path: &Path) -> Result<(), Error> {
    let mut options = ReadOptions::default();
    // Each block is needed once, one after the other.
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD_BYTES);
    let mut rows = db.raw_iterator_opt(options);
    rows.seek_to_first();
    while rows.valid() {
        rows.next();
    }
    rows.status().map_err(|error| copy_error(path, error))
}

/// How far the state in this database has come.
pub(crate) fn read_meta(db: &DB, path: &Path) -> Result<AppliedMeta, Error> {
    let applied = db.get_pinned(APPLIED_KEY).map_err(|error| copy_error(path, error))?;
    let membership = db.get_pinned(MEMBERSHIP_KEY).map_err(|error| copy_error(path, error))?;
    let corrupt = |what: &str, reason: String| Error::CorruptCopy {
        location: format!("the {what} row of {}", path.display()),
        reason,
    };
    let applied = decode_applied(applied.as_deref()).map_err(|error| corrupt("applied", error))?;
    let membership =
        decode_membership(membership.as_deref()).map_err(|error| corrupt("membership", error))?;
    Ok(AppliedMeta { applied, membership })
}

/// The membership in its row; an empty one before the first.
pub(crate) fn decode_membership(row: Option<&[u8]>) -> Result<StoredMembership, String> {
    match row {
        None => Ok(StoredMembership::default()),
        Some(row) => codec::decode(row).map_err(|error| error.to_string()),
    }
}

/// The position in the applied row; none before the first entry.
pub(crate) fn decode_applied(row: Option<&[u8]>) -> Result<Option<LogPosition>, String> {
    row.map(|row| codec::decode(row).map_err(|error| error.to_string())).transpose()
}

/// A key of the machine's tables as it is in the database.
pub(crate) fn table_key(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(key.len() + 1);
    prefixed.push(TABLES);
    prefixed.extend_from_slice(key);
    prefixed
}

/// What a scan calls for each row.
type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{LogIndex, Member, Membership, NodeId, Term};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Directories written by one version are read by the next: these bytes never change.
    #[test]
    fn bytes_are_frozen() {
        let position = LogPosition { term: Term(3), index: LogIndex(258) };
        assert_eq!(table_key(b"key"), b"dkey");
        assert_eq!((APPLIED_KEY, MEMBERSHIP_KEY), (&b"mapplied"[..], &b"mmembership"[..]));
        assert_eq!(hex(&codec::encode(&Some(position))), "01010103fb0201");
        let pointer = Pointer { generation: 2, installed: Some(position) };
        assert_eq!(hex(&sealed::seal(&pointer)), "0101020103fb0201f65d996c");
        assert_eq!(sealed::open::<Pointer>(&sealed::seal(&pointer)), Ok(pointer));
        let member =
            Member { uuid: 9, peer_addr: String::from("a:1"), client_addr: String::from("a:2") };
        let membership = StoredMembership {
            position: Some(LogPosition { term: Term(3), index: LogIndex(257) }),
            membership: Membership {
                voters: vec![[NodeId(1)].into()],
                nodes: [(NodeId(1), member)].into(),
            },
        };
        assert_eq!(hex(&codec::encode(&membership)), "01010103fb010101010101010903613a3103613a32");
    }
}
