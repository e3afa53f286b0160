//! Holes between write-ahead logs: the older one lost its end, and the newer one is there. What was
//! never synced is dropped, and with it all that was written later; what was synced is missed.

use crate::support::{GROUP, all, append, at, copy_dir, entries, entry, positions, vote};
use bytes::Bytes;
use quorate_state::LogPosition;
use quorate_storage::{Error, Stores, Tuning};
use std::fs;
use std::path::{Path, PathBuf};

/// The entries that go into the older write-ahead log before anything else does.
const SYNCED: u64 = 4;

/// A memtable, and with it a write-ahead log, that is full soon.
fn tuning() -> Tuning {
    Tuning { log_memtable_bytes: 64 << 10, ..Tuning::default() }
}

fn open(dir: &Path) -> Result<Stores, Error> {
    Stores::open(dir, GROUP, &tuning())
}

/// The write-ahead logs of the log in `dir`, oldest first.
fn write_ahead_logs(dir: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(dir.join("log/db")).expect("readable");
    let paths = items.map(|item| item.expect("readable").path());
    let mut logs: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    logs.sort();
    logs
}

/// Two write-ahead logs of a node that has not yet written the memtable of the older one.
struct Two {
    dir: tempfile::TempDir,
    /// What is on disk at each moment: entries, the older log's length, and the mark beside it.
    moments: Vec<(u64, u64, Vec<u8>)>,
    older: PathBuf,
}

impl Two {
    /// Writes until there is a second one, and a few more entries, which it has; votes and commits
    /// meanwhile, too.
    fn written() -> Self {
        let live = tempfile::tempdir().expect("a dir");
        let stores = open(live.path()).expect("it opens");
        append(&*stores.log, entries(1, 0..=SYNCED - 1));
        vote(&*stores.log, b"before");
        let dir = tempfile::tempdir().expect("a dir");
        copy_dir(live.path(), dir.path());
        let [older] = &write_ahead_logs(live.path())[..] else { panic!("there is one") };
        // It has all that is written into the older one also when that is deleted.
        let held = older.with_extension("held");
        fs::hard_link(older, &held).expect("linked");
        let mark = || fs::read(live.path().join("log/synced")).expect("readable");
        let len = || held.metadata().expect("readable").len();
        let mut moments = vec![(SYNCED, len(), mark())];
        let mut behind = 0;
        for index in SYNCED.. {
            append(&*stores.log, vec![entry(at(1, index), 8_000)]);
            stores.log.save_committed(Some(at(1, index))).expect("saved");
            vote(&*stores.log, b"later");
            moments.push((index + 1, len(), mark()));
            let newest = write_ahead_logs(live.path()).pop().expect("there is one");
            if newest != *older {
                behind += 1;
            }
            if behind == 3 {
                let name = newest.file_name().expect("a file");
                fs::copy(&newest, dir.path().join("log/db").join(name)).expect("copied");
                break;
            }
        }
        let older = dir.path().join("log/db").join(older.file_name().expect("a file"));
        fs::copy(&held, &older).expect("copied");
        Self { dir, moments, older }
    }

    /// A copy in which the older log ends early, with a mark as of a moment.
    fn cut(&self, len: u64, mark: &[u8]) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a dir");
        copy_dir(self.dir.path(), copy.path());
        let older = copy.path().join("log/db").join(self.older.file_name().expect("a file"));
        let file = fs::OpenOptions::new().write(true).open(older).expect("it is there");
        file.set_len(len).expect("cut");
        fs::write(copy.path().join("log/synced"), mark).expect("written");
        copy
    }

    fn last_mark(&self) -> &[u8] {
        &self.moments.last().expect("there are some").2
    }
}

fn last(stores: &Stores) -> Option<LogPosition> {
    stores.log.bounds().last
}

/// The log goes on where it ends, and is the same when it is opened again.
fn goes_on(dir: &Path, stores: Stores, from: u64) {
    append(&*stores.log, entries(2, from..=from + 20));
    drop(stores);
    let stores = open(dir).expect("it opens again");
    assert_eq!(last(&stores), Some(at(2, from + 20)));
    assert_eq!(all(&*stores.log).len() as u64, from + 21);
}

#[test]
fn write_ahead_logs_that_are_whole_are_one_log() {
    let two = Two::written();
    let (count, len, mark) = two.moments.last().expect("there are some");
    assert_eq!(write_ahead_logs(two.dir.path()).len(), 2);
    let copy = two.cut(*len, mark);
    let stores = open(copy.path()).expect("nothing is missing");
    assert_eq!(last(&stores), Some(at(1, count - 1)));
    assert_eq!(stores.log.vote().expect("readable"), Some(Bytes::from_static(b"later")));
    goes_on(copy.path(), stores, *count);
}

/// A sync failed while the node started, and took the end of a write-ahead log that had given way
/// to the next: the node refused to start for good, although nobody had been told of what was gone.
#[test]
fn a_hole_in_what_was_never_synced_does_not_keep_a_node_from_starting() {
    let two = Two::written();
    let (_, whole, _) = two.moments.last().expect("there are some");
    let (_, synced, mark) = &two.moments[0];
    let mut holes = 0;
    for (count, len, _) in two.moments.iter().filter(|(_, len, _)| len < whole) {
        // Between two records, where nothing looks torn, and in the middle of one.
        for torn in [0, 3, 20] {
            let copy = two.cut(len + torn, mark);
            let stores = open(copy.path()).expect("nothing acknowledged is missing");
            assert_eq!(last(&stores), Some(at(1, count - 1)), "cut at {len} and {torn}");
            let found = positions(&all(&*stores.log));
            assert_eq!(found.len() as u64, *count, "cut at {len} and {torn}");
            // What came with the newer one is gone, too: it is all of one moment.
            let vote = if len == synced { &b"before"[..] } else { b"later" };
            assert_eq!(stores.log.vote().expect("readable").as_deref(), Some(vote));
            let committed = stores.log.committed().expect("readable");
            assert!(committed <= last(&stores), "{committed:?}");
            goes_on(copy.path(), stores, *count);
            holes += 1;
        }
    }
    assert!(holes >= 6, "only {holes}: is this test still of use?");
}

/// The same holes, but something behind them was synced: that is damage. Nothing is changed by
/// looking, so that it is told each time, and there is something left to look at.
#[test]
fn a_hole_in_what_was_synced_is_told() {
    let two = Two::written();
    let (_, whole, _) = two.moments.last().expect("there are some");
    let early = two.moments.iter().filter(|(_, len, _)| len < whole);
    for ((_, len, _), (_, _, next)) in early.zip(&two.moments[1..]) {
        for (mark, torn) in [(&next[..], 3), (two.last_mark(), 0)] {
            let copy = two.cut(len + torn, mark);
            let before: Vec<_> = write_ahead_logs(copy.path())
                .into_iter()
                .map(|path| (fs::read(&path).expect("readable"), path))
                .collect();
            for _ in 0..2 {
                let error = open(copy.path()).err().expect("it must not open");
                assert!(matches!(error, Error::Corrupt { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains("was synced") && text.contains("cluster replace"), "{text}");
            }
            for (content, path) in before {
                assert!(fs::read(&path).expect("it is still there") == content);
            }
        }
    }
}

/// The older one is gone as a whole.
#[test]
fn a_write_ahead_log_that_is_missing_is_a_hole() {
    let two = Two::written();
    let remove = |copy: &Path| {
        let name = two.older.file_name().expect("a file");
        fs::remove_file(copy.join("log/db").join(name)).expect("removed");
    };
    let copy = two.cut(0, two.last_mark());
    remove(copy.path());
    let text = open(copy.path()).err().expect("it must not open").to_string();
    assert!(text.contains("was synced"), "{text}");
    // With the mark of a database that is new: none of this one was synced.
    let new = tempfile::tempdir().expect("a dir");
    drop(open(new.path()).expect("it opens"));
    let copy = two.cut(0, &fs::read(new.path().join("log/synced")).expect("readable"));
    remove(copy.path());
    assert_eq!(last(&open(copy.path()).expect("nothing acknowledged is missing")), None);
}

/// As a first start leaves it that ends before the first one is made; holes are told from then on.
#[test]
fn a_database_without_a_write_ahead_log_opens() {
    let dir = tempfile::tempdir().expect("a dir");
    drop(open(dir.path()).expect("it opens"));
    for log in write_ahead_logs(dir.path()) {
        fs::remove_file(log).expect("removed");
    }
    let stores = open(dir.path()).expect("it opens");
    assert_eq!(last(&stores), None);
    goes_on(dir.path(), stores, 0);
}
