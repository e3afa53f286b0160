//! Damaged bytes: whatever is damaged, a store says so or still answers what was acknowledged.

use crate::support::{
    GROUP, all, append, at, copy_dir, entries, entry, meta, positions, put, rows, seed, shown,
    tuning,
};
use bytes::Bytes;
use quorate_state::LogPosition;
use quorate_storage::{Error, Storage, Stores};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::{Path, PathBuf};

const LOG_MIB: u64 = 4;

/// Files below `dir` with this ending, largest last.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for item in std::fs::read_dir(dir).expect("readable") {
        let path = item.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort_by_key(|path| path.metadata().expect("readable").len());
    found
}

fn flip(path: &Path, bit: u64) {
    let mut content = std::fs::read(path).expect("readable");
    content[usize::try_from(bit / 8).expect("small")] ^= 1 << (bit % 8);
    // A hard link elsewhere must keep the old bytes.
    std::fs::remove_file(path).expect("removed");
    std::fs::write(path, content).expect("written");
}

fn bits(path: &Path) -> u64 {
    path.metadata().expect("readable").len() * 8
}

fn open(dir: &Path) -> Result<Stores, Error> {
    Stores::open(dir, GROUP, &tuning())
}

/// A log whose entries are all synced and all still in the write-ahead log, as a crash leaves it.
fn crashed(count: u64, len_max: usize) -> (tempfile::TempDir, Vec<(LogPosition, Bytes)>) {
    let (live, crashed) =
        (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
    let stores = open(live.path()).expect("it opens");
    let written: Vec<_> = (0..count).map(|index| entry(at(1, index), len_max)).collect();
    for some in written.chunks(16) {
        append(&*stores.log, some.to_vec());
    }
    copy_dir(live.path(), crashed.path());
    (crashed, shown(&written))
}

/// Required: a flipped bit in the middle of the write-ahead log stops the node, which says so.
#[test]
fn a_flipped_bit_in_the_middle_of_the_write_ahead_log_is_told() {
    let (dir, written) = crashed(LOG_MIB * 512, 4_096);
    let intact = tempfile::tempdir().expect("a dir");
    copy_dir(dir.path(), intact.path());
    assert_eq!(shown(&all(&*open(intact.path()).expect("it opens").log)), written);

    let wal = files(&dir.path().join("log"), ".log").pop().expect("there is one");
    assert!(bits(&wal) > LOG_MIB << 22, "the log is only {} bits long", bits(&wal));
    flip(&wal, bits(&wal) / 2);
    for _ in 0..2 {
        let error = open(dir.path()).err().expect("it must not open");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        let text = error.to_string();
        let name = wal.file_name().expect("a file").to_string_lossy();
        assert!(text.contains(&*name) && text.contains("at offset"), "{text}");
        assert!(text.contains("remove the node from the cluster"), "{text}");
    }
}

/// A flipped bit anywhere in it, its last block and record headers included: it does not open, or
/// everything acknowledged is there.
#[test]
fn no_flipped_bit_in_the_write_ahead_log_loses_an_entry_silently() {
    let seed = seed("no_flipped_bit_in_the_write_ahead_log_loses_an_entry_silently");
    let mut rng = StdRng::seed_from_u64(seed);
    let (dir, written) = crashed(100, 2_000);
    let mut told = 0;
    const FLIPS: u64 = 150;
    for round in 0..FLIPS {
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(dir.path(), copy.path());
        let wal = files(&copy.path().join("log"), ".log").pop().expect("there is one");
        // Half of them in the last 2 KiB, which RocksDB itself would take for a torn tail.
        let from = if round % 2 == 0 { 0 } else { bits(&wal) - (2 << 13) };
        let bit = rng.random_range(from..bits(&wal));
        flip(&wal, bit);
        match open(copy.path()) {
            Err(Error::Corrupt { .. }) => told += 1,
            Err(other) => panic!("bit {bit}, seed {seed}: {other}"),
            Ok(stores) => {
                assert_eq!(shown(&all(&*stores.log)), written, "bit {bit}, seed {seed}");
            }
        }
    }
    // Nearly every bit of the file matters.
    assert!(told > FLIPS * 9 / 10, "only {told} of {FLIPS} flips were told, seed {seed}");
}

/// Where the records of a write-ahead log begin: blocks of 32 KiB, in them records with a header
/// of checksum (4), length (2) and type (1).
fn record_offsets(content: &[u8]) -> Vec<usize> {
    let mut offsets = Vec::new();
    for (number, block) in content.chunks(32 << 10).enumerate() {
        let mut at = 0;
        while let Some(&[_, _, _, _, low, high, kind]) = block.get(at..at + 7) {
            if kind == 0 {
                break;
            }
            offsets.push((number << 15) + at);
            at += 7 + usize::from(u16::from_le_bytes([low, high]));
        }
    }
    offsets
}

/// The lengths in the last records: with one of them too long, RocksDB takes the rest of the file
/// for a torn tail and opens without it.
#[test]
fn no_flipped_bit_in_a_length_at_the_end_loses_an_entry_silently() {
    let (dir, _) = crashed(40, 100);
    let wal = files(&dir.path().join("log"), ".log").pop().expect("there is one");
    let offsets = record_offsets(&std::fs::read(wal).expect("readable"));
    assert!(offsets.len() >= 3, "{offsets:?}");
    let mut by_mark = 0;
    for offset in offsets.iter().rev().take(3) {
        for bit in 0..16 {
            let copy = tempfile::tempdir().expect("a dir");
            copy_dir(dir.path(), copy.path());
            let wal = files(&copy.path().join("log"), ".log").pop().expect("there is one");
            flip(&wal, u64::try_from((offset + 4) * 8 + bit).expect("small"));
            let text = open(copy.path()).err().expect("it must not open").to_string();
            by_mark += u64::from(text.contains("was synced"));
        }
    }
    assert!(by_mark > 10, "only {by_mark} were left to the mark: is this test still of use?");
}

/// What a crash tears off the end was not synced, and is dropped.
#[test]
fn a_torn_tail_opens_with_what_was_synced() {
    let live = tempfile::tempdir().expect("a dir");
    let stores = open(live.path()).expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    let wal = files(&live.path().join("log"), ".log").pop().expect("there is one");
    let mark = std::fs::read(live.path().join("log/synced")).expect("readable");
    let synced = std::fs::read(&wal).expect("readable").len();
    append(&*stores.log, vec![entry(at(1, 10), 30_000)]);
    append(&*stores.log, vec![entry(at(1, 11), 30_000)]);
    let whole = std::fs::read(&wal).expect("readable").len();
    assert!(whole > synced);
    let mut lengths: Vec<usize> = (synced..whole).step_by((whole - synced) / 20).collect();
    lengths.extend([synced + 1, synced + 6, synced + 7, synced + 8, whole - 1]);
    for len in lengths {
        // The crash: the mark of the first sync, and only a part of what came after it.
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(live.path(), copy.path());
        std::fs::write(copy.path().join("log/synced"), &mark).expect("written");
        let torn = copy.path().join("log/db").join(wal.file_name().expect("a file"));
        let content = std::fs::read(&torn).expect("readable");
        std::fs::write(&torn, &content[..len]).expect("written");
        let stores = open(copy.path()).expect("a torn tail is no damage");
        let found = positions(&all(&*stores.log));
        assert!(found.len() >= 10, "cut at {len}: {found:?}");
        assert_eq!(found[..10], positions(&entries(1, 0..=9)));
        assert_eq!(stores.log.bounds().last, found.last().copied());
        // And it goes on from there.
        let next = found.len() as u64;
        append(&*stores.log, entries(2, next..=next + 3));
        drop(stores);
        let stores = open(copy.path()).expect("it opens");
        assert_eq!(stores.log.bounds().last, Some(at(2, next + 3)));
    }
}

/// The same cut, but it was synced: the mark knows.
#[test]
fn a_synced_tail_that_is_gone_is_told() {
    let (dir, _) = crashed(100, 1_000);
    let cut = |len: Option<usize>| {
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(dir.path(), copy.path());
        let wal = files(&copy.path().join("log"), ".log").pop().expect("there is one");
        let content = std::fs::read(&wal).expect("readable");
        match len {
            Some(len) => std::fs::write(&wal, &content[..content.len() - len]).expect("written"),
            None => std::fs::remove_file(&wal).expect("removed"),
        }
        // It does not open, and not at the second try either.
        let first = open(copy.path()).err().expect("it must not open").to_string();
        let second = open(copy.path()).err().expect("it must not open").to_string();
        (first, second)
    };
    for len in [Some(1), Some(100), Some(50_000), None] {
        let (first, second) = cut(len);
        assert!(first.contains("was synced"), "{len:?}: {first}");
        assert!(second.contains("was synced"), "{len:?}: {second}");
    }
}

/// Without the mark there are still the commit mark and the state to hold against the log.
#[test]
fn a_lost_mark_is_told() {
    let (dir, _) = crashed(10, 100);
    std::fs::remove_file(dir.path().join("log/synced")).expect("removed");
    let text = open(dir.path()).err().expect("it must not open").to_string();
    assert!(text.contains("missing beside an existing log"), "{text}");
}

/// Table files of the log: an entry is read as it was written, or not at all.
#[test]
fn no_flipped_bit_in_a_table_of_the_log_changes_an_entry() {
    let seed = seed("no_flipped_bit_in_a_table_of_the_log_changes_an_entry");
    let mut rng = StdRng::seed_from_u64(seed);
    let (dir, written) = crashed(100, 1_000);
    // Recovery writes what it finds into tables.
    drop(open(dir.path()).expect("it opens"));
    let mut named = 0;
    for _ in 0..60 {
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(dir.path(), copy.path());
        let table = files(&copy.path().join("log"), ".sst").pop().expect("there is one");
        let bit = rng.random_range(0..bits(&table));
        flip(&table, bit);
        let read = open(copy.path()).and_then(|stores| {
            stores.log.read(quorate_state::LogIndex(0), quorate_state::LogIndex(999), usize::MAX)
        });
        match read {
            Ok(found) => assert_eq!(shown(&found), written, "bit {bit}, seed {seed}"),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt { .. }), "bit {bit}, seed {seed}: {error}");
                let name = table.file_name().expect("a file").to_string_lossy().into_owned();
                named += u64::from(error.to_string().contains(&name));
            }
        }
    }
    assert!(named > 30, "only {named} of 60 errors name the file, seed {seed}");
}

/// The same for the state: the error of a read names the file.
#[test]
fn no_flipped_bit_in_a_table_of_the_state_changes_a_row() {
    let seed = seed("no_flipped_bit_in_a_table_of_the_state_changes_a_row");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a dir");
    let mut stores = open(dir.path()).expect("it opens");
    append(&*stores.log, entries(1, 0..=0));
    let keys: Vec<[u8; 8]> = (0..2_000_u64).map(u64::to_be_bytes).collect();
    let pairs: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (&key[..], &key[..])).collect();
    put(&mut *stores.state, &meta(1, 0), &pairs);
    let written = rows(&*stores.state.reader().view().tables);
    drop(stores);
    let mut named = 0;
    for _ in 0..60 {
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(dir.path(), copy.path());
        let table = files(&copy.path().join("groups"), ".sst").pop().expect("there is one");
        let bit = rng.random_range(0..bits(&table));
        flip(&table, bit);
        let name = table.file_name().expect("a file").to_string_lossy().into_owned();
        let text = match open(copy.path()) {
            Err(error) => error.to_string(),
            Ok(stores) => {
                let view = stores.state.reader().view();
                let mut found = Vec::new();
                let scanned = view.tables.scan(&[], &[0xff; 64], &mut |key, value| {
                    found.push((key.to_vec(), value.to_vec()));
                    std::ops::ControlFlow::Continue(())
                });
                match scanned {
                    Err(error) => error.to_string(),
                    Ok(()) => {
                        assert_eq!(found, written, "bit {bit}, seed {seed}");
                        continue;
                    }
                }
            }
        };
        assert!(text.contains("corrupt data in"), "bit {bit}, seed {seed}: {text}");
        named += u64::from(text.contains(&name));
    }
    assert!(named > 30, "only {named} of 60 errors name the file, seed {seed}");
}

/// A commit mark above the log's end: the log lost what it held when the mark was written.
#[test]
fn a_log_that_ends_below_its_commit_mark_is_refused() {
    let dir = tempfile::tempdir().expect("a dir");
    {
        let storage = Storage::open(dir.path(), &tuning()).expect("it opens");
        let log = storage.stores(GROUP).expect("it opens").log;
        append(&*log, entries(1, 0..=9));
        log.save_committed(Some(at(1, 8))).expect("saved");
    }
    remove_entries_from(dir.path(), 7);
    let text = open(dir.path()).err().expect("it must not open").to_string();
    assert!(text.contains("the log ends at 6, but the group had committed 8"), "{text}");
}

/// An entry missing in the middle.
#[test]
fn a_hole_in_the_log_is_told() {
    let dir = tempfile::tempdir().expect("a dir");
    append(&*open(dir.path()).expect("it opens").log, entries(1, 0..=9));
    remove_entries(dir.path(), 4..5);
    let log = open(dir.path()).expect("both ends are fine").log;
    let error = log
        .read(quorate_state::LogIndex(0), quorate_state::LogIndex(9), usize::MAX)
        .expect_err("4 is gone");
    assert!(error.to_string().contains("entry 4 of group 1"), "{error}");
}

fn remove_entries_from(dir: &Path, first: u64) {
    remove_entries(dir, first..u64::MAX);
}

/// Removes rows behind the store's back.
fn remove_entries(dir: &Path, range: std::ops::Range<u64>) {
    let key = |index: u64| [&GROUP.0.to_be_bytes()[..], &[4], &index.to_be_bytes()[..]].concat();
    let db = rocksdb::DB::open(&rocksdb::Options::default(), dir.join("log/db")).expect("it opens");
    let mut batch = rocksdb::WriteBatch::default();
    batch.delete_range(key(range.start), key(range.end));
    db.write(batch).expect("written");
    db.flush().expect("flushed");
}

/// Every entry is checked as it is read, whichever way it is reached.
#[test]
fn both_ends_are_checked_at_the_start() {
    let dir = tempfile::tempdir().expect("a dir");
    append(&*open(dir.path()).expect("it opens").log, entries(1, 0..=9));
    let key = [&GROUP.0.to_be_bytes()[..], &[4], &9_u64.to_be_bytes()[..]].concat();
    {
        let options = rocksdb::Options::default();
        let db = rocksdb::DB::open(&options, dir.path().join("log/db")).expect("it opens");
        let mut value = db.get(&key).expect("readable").expect("it is there");
        *value.last_mut().expect("not empty") ^= 1;
        db.put(&key, value).expect("written");
    }
    let text = open(dir.path()).err().expect("it must not open").to_string();
    assert!(text.contains("entry 9 of group 1") && text.contains("checksum"), "{text}");
}
