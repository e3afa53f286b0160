//! Damaged bytes: whatever is damaged, a store says so or still answers what was acknowledged.

use crate::support::{
    GROUP, all, append, at, copy_dir, entries, entry, meta, positions, put, rows, seed, shown,
    tuning,
};
use bytes::Bytes;
use quorate_state::LogPosition;
use quorate_storage::log::LogStore;
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
        assert!(text.contains("cluster replace"), "{text}");
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

/// The type of a record, in a write-ahead log and in the manifests: RocksDB waits for ever on
/// some of them.
#[test]
fn every_flipped_bit_in_a_record_type_is_told() {
    let (dir, _) = crashed(40, 1_000);
    let (log, groups) = (dir.path().join("log"), dir.path().join("groups"));
    let manifest = |dir: &Path| {
        let pointers = files(dir, "CURRENT");
        // The state has one of its own, which is no text.
        let mut named = pointers.iter().filter_map(|path| {
            let name = std::fs::read_to_string(path).ok()?;
            Some(path.with_file_name(name.trim_end())).filter(|path| path.is_file())
        });
        named.next().expect("there is one")
    };
    let wal = files(&log, ".log").pop().expect("there is one");
    let damaged = [wal, manifest(&log), manifest(&groups)];
    for path in damaged {
        let name = path.strip_prefix(dir.path()).expect("below it");
        let offsets = record_offsets(&std::fs::read(&path).expect("readable"));
        assert!(!offsets.is_empty(), "{} has no records", name.display());
        for offset in [offsets[0], offsets[offsets.len() / 2], offsets[offsets.len() - 1]] {
            for bit in 0..8 {
                let copy = tempfile::tempdir().expect("a dir");
                copy_dir(dir.path(), copy.path());
                flip(
                    &copy.path().join(name),
                    u64::try_from((offset + 6) * 8 + bit).expect("small"),
                );
                let text = open(copy.path()).err().expect("it must not open").to_string();
                let place = format!("{} at offset {offset}", name.display());
                assert!(text.contains(&place), "{place}, bit {bit}: {text}");
            }
        }
    }
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

/// A torn end with other bytes behind it, as a file system leaves one that made the file longer
/// before it wrote it: nothing that was synced is lost, or the node says what is damaged.
#[test]
fn what_follows_a_torn_tail_loses_nothing_silently() {
    let seed = seed("what_follows_a_torn_tail_loses_nothing_silently");
    let mut rng = StdRng::seed_from_u64(seed);
    let live = tempfile::tempdir().expect("a dir");
    let stores = open(live.path()).expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    let wal = files(&live.path().join("log"), ".log").pop().expect("there is one");
    let mark = std::fs::read(live.path().join("log/synced")).expect("readable");
    let synced = std::fs::read(&wal).expect("readable").len();
    append(&*stores.log, vec![entry(at(1, 10), 30_000)]);
    append(&*stores.log, vec![entry(at(1, 11), 30_000)]);
    let written = shown(&all(&*stores.log));
    let content = std::fs::read(&wal).expect("readable");
    let (mut opened, mut told) = (0, 0);
    for round in 0..90 {
        // Right behind a record at first, then anywhere.
        let len = if round < 6 { synced } else { rng.random_range(synced..content.len()) };
        let tail = [1, 8, 100, 5_000, 40_000, 100_000][round % 6];
        let zeros = round < 6 || rng.random();
        let mut torn = content[..len].to_vec();
        torn.extend((0..tail).map(|_| if zeros { 0 } else { rng.random::<u8>() }));
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(live.path(), copy.path());
        std::fs::write(copy.path().join("log/synced"), &mark).expect("written");
        let path = copy.path().join("log/db").join(wal.file_name().expect("a file"));
        std::fs::write(path, torn).expect("written");
        let context = format!("round {round}, cut at {len}, zeros {zeros}, seed {seed}");
        let stores = match open(copy.path()) {
            Err(Error::Corrupt { .. }) if round >= 6 => {
                told += 1;
                continue;
            }
            Err(error) => panic!("{context}: {error}"),
            Ok(stores) => stores,
        };
        opened += 1;
        let found = shown(&all(&*stores.log));
        assert!(found.len() >= 10, "{context}: {} entries", found.len());
        assert_eq!(found[..], written[..found.len()], "{context}");
        let next = found.len() as u64;
        append(&*stores.log, entries(2, next..=next));
        drop(stores);
        let bounds = open(copy.path()).expect("it opens again").log.bounds();
        assert_eq!(bounds.last, Some(at(2, next)), "{context}");
    }
    assert!(opened > 10 && told > 10, "{opened} opened, {told} were told, seed {seed}");
}

/// The records in a write-ahead log.
fn records(content: &[u8]) -> Vec<Vec<u8>> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    for offset in record_offsets(content) {
        let [low, high, kind] = content[offset + 4..offset + 7] else { panic!("no header") };
        let payload = &content[offset + 7..][..usize::from(u16::from_le_bytes([low, high]))];
        match kind {
            // Whole, or the first part.
            1 | 2 => records.push(payload.to_vec()),
            _ => records.last_mut().expect("it has begun").extend_from_slice(payload),
        }
    }
    records
}

/// A write-ahead log of these records, each shorter than a block.
fn write_ahead_log(records: &[Vec<u8>]) -> Vec<u8> {
    const BLOCK: usize = 32 << 10;
    let mut content = Vec::new();
    for record in records {
        let mut rest = &record[..];
        let mut first = true;
        while first || !rest.is_empty() {
            let mut room = BLOCK - content.len() % BLOCK;
            if room < 7 {
                content.resize(content.len() + room, 0);
                room = BLOCK;
            }
            let (payload, later) = rest.split_at(rest.len().min(room - 7));
            let kind: u8 = match (first, later.is_empty()) {
                (true, true) => 1,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload);
            let masked = crc.rotate_right(15).wrapping_add(0xa282_ead8);
            content.extend_from_slice(&masked.to_le_bytes());
            let len = u16::try_from(payload.len()).expect("shorter than a block");
            content.extend_from_slice(&len.to_le_bytes());
            content.push(kind);
            content.extend_from_slice(payload);
            (rest, first) = (later, false);
        }
    }
    content
}

/// A log whose first ten entries are synced, and whose records are spread over several
/// write-ahead logs as `spread` says, as a power failure leaves it in the moment one gives way to
/// the next. The first record is the first ten entries.
fn spread_out(
    write: impl FnOnce(&dyn LogStore),
    spread: impl FnOnce(&[Vec<u8>]) -> Vec<Vec<u8>>,
) -> (tempfile::TempDir, Result<Stores, Error>) {
    let (live, crashed) =
        (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
    let stores = open(live.path()).expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    let mark = std::fs::read(live.path().join("log/synced")).expect("readable");
    write(&*stores.log);
    copy_dir(live.path(), crashed.path());
    std::fs::write(crashed.path().join("log/synced"), mark).expect("written");
    let wal = files(&crashed.path().join("log"), ".log").pop().expect("there is one");
    let number = wal.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok());
    let records = records(&std::fs::read(&wal).expect("readable"));
    for (later, content) in (0..).zip(spread(&records)) {
        let number = number.expect("it is called by its number") + 10 * later;
        std::fs::write(wal.with_file_name(format!("{number:06}.log")), content).expect("written");
    }
    let opened = open(crashed.path());
    (crashed, opened)
}

/// Entries 10 to 13, a record each.
fn four_more(log: &dyn LogStore) {
    (10..=13).for_each(|index| append(log, vec![entry(at(1, index), 20_000)]));
}

fn torn(records: &[Vec<u8>]) -> Vec<u8> {
    let whole = write_ahead_log(records);
    whole[..whole.len() - 100].to_vec()
}

#[test]
fn two_write_ahead_logs_are_one_log() {
    let (_dir, stores) = spread_out(four_more, |records| {
        assert_eq!(records.len(), 5, "one per append");
        vec![write_ahead_log(&records[..3]), write_ahead_log(&records[3..])]
    });
    assert_eq!(stores.expect("nothing is missing").log.bounds().last, Some(at(1, 13)));
}

/// The newer one had nothing in it yet, or nothing whole: the older one's end is the log's end.
#[test]
fn a_torn_write_ahead_log_before_an_empty_one_opens() {
    for cut in [false, true] {
        let (_dir, stores) = spread_out(four_more, |records| {
            let newer = if cut { torn(&records[4..]) } else { Vec::new() };
            vec![torn(&records[..4]), newer]
        });
        assert_eq!(stores.expect("it is a torn tail").log.bounds().last, Some(at(1, 11)));
    }
}

/// The end of the older one is gone, and the newer one goes on behind it.
#[test]
fn a_torn_write_ahead_log_before_another_one_is_told() {
    type Spread = fn(&[Vec<u8>]) -> Vec<Vec<u8>>;
    let zeros: Spread = |records| {
        let mut older = write_ahead_log(&records[..2]);
        older.extend([0; 5_000]);
        vec![older, write_ahead_log(&records[3..])]
    };
    let spreads: [Spread; 3] = [
        |records| vec![torn(&records[..3]), write_ahead_log(&records[3..])],
        |records| {
            let middle = torn(&records[3..4]);
            vec![write_ahead_log(&records[..3]), middle, write_ahead_log(&records[4..])]
        },
        zeros,
    ];
    for spread in spreads {
        let (dir, stores) = spread_out(four_more, spread);
        let text = stores.err().expect("it must not open").to_string();
        assert!(text.contains(".log: its end is torn off, and sequence numbers"), "{text}");
        assert!(text.contains("cluster replace"), "{text}");
        // Nothing was changed by looking.
        assert_eq!(open(dir.path()).err().expect("it must not open").to_string(), text);
    }
}

/// It ends between two records, so that nothing looks torn: the entries do not follow.
#[test]
fn a_write_ahead_log_that_ends_too_early_is_told() {
    let (_dir, stores) = spread_out(four_more, |records| {
        vec![write_ahead_log(&records[..2]), write_ahead_log(&records[3..])]
    });
    let text = stores.err().expect("it must not open").to_string();
    assert!(text.contains("entry 11 of group 1"), "{text}");
}

/// What is missing is a truncation, and what came behind it fits what should be gone: every entry
/// follows the one before it, and yet this log never was.
#[test]
fn a_truncation_that_is_torn_off_is_told() {
    let rewrite = |log: &dyn LogStore| {
        log.truncate_after(Some(at(1, 5))).expect("cut");
        append(log, entries(2, 6..=8));
        append(log, entries(2, 9..=12));
    };
    let (_dir, stores) = spread_out(rewrite, |records| {
        let [.., last] = records else { panic!("there are some") };
        let last = write_ahead_log(std::slice::from_ref(last));
        vec![torn(&records[..records.len() - 1]), last]
    });
    let text = stores.err().expect("it must not open").to_string();
    assert!(text.contains("its end is torn off"), "{text}");
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

/// An entry missing in the middle, or between what was purged and the rest.
#[test]
fn a_hole_in_the_log_is_told() {
    let dir = tempfile::tempdir().expect("a dir");
    let mut stores = open(dir.path()).expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    put(&mut *stores.state, &meta(1, 2), &[]);
    stores.snapshots.build().expect("the state is flushed");
    stores.log.purge(at(1, 2)).expect("purged");
    drop(stores);
    for missing in [4, 3] {
        remove_entries(dir.path(), missing..5);
        let text = open(dir.path()).err().expect("it must not open").to_string();
        assert!(text.contains(&format!("entry {missing} of group 1")), "{text}");
        assert!(text.contains("it is missing, though later ones exist"), "{text}");
        assert!(text.contains("cluster replace"), "{text}");
    }
}

/// No log ever has an entry of an older term behind one of a newer.
#[test]
fn a_term_that_goes_back_is_told() {
    let dir = tempfile::tempdir().expect("a dir");
    append(&*open(dir.path()).expect("it opens").log, entries(3, 0..=9));
    {
        // A blank entry of term 2 as entry 6, with a checksum that is right.
        let key = [&GROUP.0.to_be_bytes()[..], &[4], &6_u64.to_be_bytes()[..]].concat();
        let body = [&[0][..], &2_u64.to_be_bytes()[..]].concat();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), &body);
        let db = rocksdb::DB::open(&rocksdb::Options::default(), dir.path().join("log/db"));
        let value = [&[1][..], &crc.to_be_bytes()[..], &body[..]].concat();
        db.expect("it opens").put(key, value).expect("written");
    }
    let text = open(dir.path()).err().expect("it must not open").to_string();
    assert!(text.contains("entry 6 of group 1"), "{text}");
    assert!(text.contains("its term is 2, but it follows entry 3.5"), "{text}");
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
