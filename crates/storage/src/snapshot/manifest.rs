//! What a snapshot consists of: the list of its files, checked, and stored beside them. A
//! directory with a valid list is complete; the list is written last.

use super::SnapshotFile;
use crate::Error;
use crate::files::{io_error, read_small, sync_dir, write_file_durable};
use crate::sealed;
use crate::state::AppliedMeta;
use quorate_state::{LogIndex, LogPosition, StoredMembership, Term};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;

/// Name of the list in a snapshot's directory.
const MANIFEST: &str = "manifest";
/// Bytes of a list, at most: names of 255 bytes, [`FILES_MAX`] times, and a membership.
const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// Files of a snapshot, at most: with RocksDB's 64 MiB tables that is 640 GB.
pub(crate) const FILES_MAX: usize = 10_000;
/// Bytes of a file name, as file systems have it.
const NAME_BYTES_MAX: usize = 255;

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored {
    applied: Option<LogPosition>,
    membership: StoredMembership,
    /// Name, length, CRC-32C.
    files: Vec<(String, u64, u32)>,
}

fn stored(meta: &AppliedMeta, files: &[SnapshotFile]) -> Stored {
    Stored {
        applied: meta.applied,
        membership: meta.membership.clone(),
        files: files.iter().map(|file| (file.name.clone(), file.len, file.crc32c)).collect(),
    }
}

/// Writes the list; the directory is durable when it returns.
pub(crate) fn write(dir: &Path, meta: &AppliedMeta, files: &[SnapshotFile]) -> Result<(), Error> {
    write_file_durable(&dir.join(MANIFEST), &encode(meta, files))?;
    sync_dir(dir)
}

/// The content of the list's file.
pub(crate) fn encode(meta: &AppliedMeta, files: &[SnapshotFile]) -> Vec<u8> {
    sealed::seal(&stored(meta, files))
}

/// Reads the list; none when there is none.
pub(crate) fn read(dir: &Path) -> Result<Option<(AppliedMeta, Vec<SnapshotFile>)>, Error> {
    let path = dir.join(MANIFEST);
    let Some(content) = read_small(&path, MANIFEST_BYTES_MAX).map_err(Error::of_copy)? else {
        return Ok(None);
    };
    parse(&content)
        .map(Some)
        .map_err(|reason| Error::CorruptCopy { location: path.display().to_string(), reason })
}

/// The list in the content of its file; the error says what is wrong.
pub(crate) fn parse(content: &[u8]) -> Result<(AppliedMeta, Vec<SnapshotFile>), String> {
    let stored: Stored = sealed::open(content)?;
    let meta = AppliedMeta { applied: stored.applied, membership: stored.membership };
    let files = stored
        .files
        .into_iter()
        .map(|(name, len, crc32c)| SnapshotFile { name, len, crc32c })
        .collect();
    Ok((meta, files))
}

/// A number that another list would hardly share: tells whether a transfer that was interrupted
/// is the one that goes on. Each file is checked by its own checksum anyway.
pub(crate) fn fingerprint(meta: &AppliedMeta, files: &[SnapshotFile]) -> u32 {
    crc32c::crc32c(&encode(meta, files))
}

/// Checks a list that came from elsewhere, before anything is created by it in `dir`.
pub(crate) fn check(dir: &Path, files: &[SnapshotFile], bytes_max: u64) -> Result<(), Error> {
    let refuse = |reason: String| Error::Transfer { path: dir.to_owned(), reason };
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(refuse(format!("it has {} files, not 1 to {FILES_MAX}", files.len())));
    }
    let mut names = BTreeSet::new();
    let mut total = 0_u64;
    for file in files {
        let name = file.name.as_str();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || !name.bytes().all(plain)
            || name.starts_with('.')
        {
            return Err(refuse(format!("{name:?} is not a plain file name")));
        }
        if !names.insert(name) {
            return Err(refuse(format!("it has two files called {name:?}")));
        }
        total = total.saturating_add(file.len);
    }
    if total > bytes_max {
        return Err(refuse(format!("it has {total} bytes, more than the limit of {bytes_max}")));
    }
    Ok(())
}

/// The files in a snapshot's directory have the lengths the list says.
pub(crate) fn check_lengths(dir: &Path, files: &[SnapshotFile]) -> Result<(), Error> {
    for file in files {
        let path = dir.join(&file.name);
        let len = path.metadata().map_err(|error| io_error("read", &path, &error))?.len();
        if len != file.len {
            return Err(Error::CorruptCopy {
                location: path.display().to_string(),
                reason: format!("it has {len} bytes instead of {}", file.len),
            });
        }
    }
    Ok(())
}

/// A directory name that sorts as snapshots follow each other; `serial` keeps names apart.
pub(crate) fn dir_name(applied: Option<LogPosition>, serial: u64) -> String {
    // One more than the index, so that a snapshot of nothing has a place too.
    let (next, term) = applied.map_or((0, 0), |at| (at.index.0 + 1, at.term.0));
    format!("{next:020}-{term:020}-{serial:06}")
}

/// The parts of a directory name.
pub(crate) fn parse_dir_name(name: &str) -> Option<(Option<LogPosition>, u64)> {
    let mut parts = name.split('-').map(str::parse::<u64>);
    let (next, term, serial) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if parts.next().is_some() {
        return None;
    }
    let position = |index| LogPosition { term: Term(term), index: LogIndex(index) };
    Some((next.checked_sub(1).map(position), serial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{Member, Membership, NodeId};

    fn file(name: &str, len: u64) -> SnapshotFile {
        SnapshotFile { name: name.to_owned(), len, crc32c: 0 }
    }

    #[test]
    fn only_plain_names_and_bounded_lists_are_taken() {
        let check = |files: &[SnapshotFile], max| check(Path::new("in"), files, max);
        check(&[file("000012.sst", 5), file("CURRENT", 5)], 10).expect("it is fine");
        let long = "x".repeat(256);
        for name in ["", ".", "..", "a/b", "../a", "/a", ".hidden", "a\0b", "ä", "a b", &long] {
            check(&[file(name, 1)], 10).expect_err(name);
        }
        check(&[file("a", 1), file("a", 1)], 10).expect_err("two of one name");
        check(&[file("a", 6), file("b", 5)], 10).expect_err("too long together");
        check(&[file("a", u64::MAX), file("b", u64::MAX)], u64::MAX - 1).expect_err("no overflow");
        check(&[], 10).expect_err("none");
        let many: Vec<_> = (0..=FILES_MAX).map(|number| file(&number.to_string(), 0)).collect();
        check(&many, 10).expect_err("too many");
    }

    /// Snapshots written by one version are read by the next: these bytes never change.
    #[test]
    fn bytes_are_frozen() {
        let hex = |meta: &AppliedMeta| -> String {
            let sealed = sealed::seal(&stored(meta, &[file("000012.sst", 5)]));
            sealed.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let applied = Some(LogPosition { term: Term(3), index: LogIndex(258) });
        let mut meta = AppliedMeta { applied, ..AppliedMeta::default() };
        assert_eq!(hex(&meta), "01010103fb0201000000010a3030303031322e7373740500e0b8c82a");
        let member =
            Member { uuid: 9, peer_addr: String::from("a:1"), client_addr: String::from("a:2") };
        meta.membership = StoredMembership {
            position: Some(LogPosition { term: Term(3), index: LogIndex(257) }),
            membership: Membership {
                voters: vec![[NodeId(1)].into()],
                nodes: [(NodeId(1), member)].into(),
            },
        };
        assert_eq!(
            hex(&meta),
            "01010103fb02010103fb010101010101010903613a3103613a32010a3030303031322e7373740500\
             a5fd07dd"
        );
    }

    #[test]
    fn directory_names_sort_and_come_back() {
        let at = |term, index| Some(LogPosition { term: Term(term), index: LogIndex(index) });
        let names = [(None, 1), (at(1, 0), 0), (at(1, 9), 5), (at(1, 10), 2), (at(2, 100), 3)].map(
            |(position, serial)| {
                let name = dir_name(position, serial);
                assert_eq!(parse_dir_name(&name), Some((position, serial)));
                name
            },
        );
        assert!(names.is_sorted(), "{names:?}");
        for name in ["building", "incoming-1", "1-2", "1-2-3-4", "a-b-c"] {
            assert_eq!(parse_dir_name(name), None);
        }
    }

    #[test]
    fn a_list_comes_back_and_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let meta = AppliedMeta::default();
        let files = vec![file("a", 1), file("b", 2)];
        assert_eq!(read(dir.path()).expect("readable"), None);
        write(dir.path(), &meta, &files).expect("written");
        assert_eq!(read(dir.path()).expect("readable"), Some((meta, files)));
        let path = dir.path().join(MANIFEST);
        let content = std::fs::read(&path).expect("readable");
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, damaged).expect("writable");
            read(dir.path()).expect_err("a bit was flipped");
        }
    }
}
