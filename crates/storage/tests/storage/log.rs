//! What every log does, on both.

use crate::support::{
    GROUP, Place, all, append, at, completion, entries, entry, membership, positions, shown,
    synced, tuning, vote,
};
use bytes::Bytes;
use quorate_state::{GroupId, LogIndex};
use quorate_storage::log::{LogBounds, LogEntry, LogStore, Payload};
use quorate_storage::{Error, Storage};
use std::sync::Arc;

fn read(log: &dyn LogStore, from: u64, to: u64, bytes: usize) -> Vec<u64> {
    let found = log.read(LogIndex(from), LogIndex(to), bytes).expect("readable");
    found.iter().map(|entry| entry.position.index.0).collect()
}

#[test]
fn entries_of_every_kind_come_back_before_and_after_a_restart() {
    for place in Place::both() {
        let stores = place.open();
        assert_eq!(stores.log.bounds(), LogBounds::default());
        assert_eq!(synced(&*stores.log), None);
        let mut written = vec![
            LogEntry { position: at(1, 0), payload: Payload::Membership(membership(0).membership) },
            LogEntry { position: at(1, 1), payload: Payload::Blank },
        ];
        append(&*stores.log, written.clone());
        // Far more than the tail cache holds, in pieces.
        for index in 2..40 {
            let next = entry(at(2, index), 20_000);
            append(&*stores.log, vec![next.clone()]);
            written.push(next);
        }
        let expected = LogBounds { purged: None, last: Some(at(2, 39)) };
        assert_eq!(stores.log.bounds(), expected);
        assert_eq!(shown(&all(&*stores.log)), shown(&written));
        assert_eq!(stores.log.counters().entries, 40);
        drop(stores);
        let stores = place.open();
        assert_eq!(stores.log.bounds(), expected);
        assert_eq!(synced(&*stores.log), Some(39));
        assert_eq!(shown(&all(&*stores.log)), shown(&written));
    }
}

#[test]
fn what_entries_take_is_known_after_a_restart() {
    for place in Place::both() {
        let stores = place.open();
        assert_eq!(stores.log.stored_bytes(LogIndex(0)), 0);
        let mut written = Vec::new();
        for index in 0..100 {
            append(&*stores.log, vec![entry(at(1, index), 20_000)]);
            written.push(stores.log.counters().bytes);
        }
        drop(stores);
        let stores = place.open();
        let stored = |from| stores.log.stored_bytes(LogIndex(from));
        let all = written[99];
        for (from, expected) in [(0, all), (50, all - written[49]), (90, all - written[89])] {
            let stored = stored(from);
            // To a block or two: a block holds one entry at least.
            assert!(stored.abs_diff(expected) < 50_000, "{from}: {stored} instead of {expected}");
        }
        assert!(stored(100) < 20_000, "{}", stored(100));
    }
}

#[test]
fn reads_are_bounded_but_never_empty() {
    for place in Place::both() {
        let stores = place.open();
        let log = &*stores.log;
        append(log, (0..200).map(|index| entry(at(1, index), 2_000)).collect());
        assert_eq!(read(log, 5, 8, usize::MAX), [5, 6, 7]);
        assert_eq!(read(log, 198, 900, usize::MAX), [198, 199]);
        assert_eq!(read(log, 5, 5, usize::MAX), [0; 0]);
        assert_eq!(read(log, 8, 5, usize::MAX), [0; 0]);
        assert_eq!(read(log, 200, 210, usize::MAX), [0; 0]);
        // From the disk and from the cache.
        for from in [0, 190] {
            assert_eq!(read(log, from, 200, 0), [from]);
            let some = read(log, from, 200, 6_000);
            assert!((2..100).contains(&some.len()), "{some:?}");
            assert!(some.iter().copied().eq(from..from + some.len() as u64), "{some:?}");
        }
    }
}

#[test]
fn gaps_are_refused_and_the_completion_is_not_called() {
    for place in Place::both() {
        let stores = place.open();
        append(&*stores.log, entries(1, 0..=3));
        for wrong in
            [entries(1, 5..=5), entries(1, 3..=3), [entries(1, 4..=4), entries(1, 6..=6)].concat()]
        {
            let (done, result) = completion();
            stores.log.append(wrong, done).expect_err("they do not follow");
            result.recv().expect_err("it was dropped");
        }
        assert_eq!(stores.log.bounds().last, Some(at(1, 3)));
        append(&*stores.log, entries(1, 4..=4));
    }
}

#[test]
fn truncation_lowers_the_watermark_and_the_new_entries_raise_it() {
    for place in Place::both() {
        let stores = place.open();
        let log = &*stores.log;
        append(log, entries(1, 0..=9));
        assert_eq!(synced(log), Some(9));
        log.truncate_after(Some(at(1, 5))).expect("cut");
        assert!(synced(log) <= Some(5));
        assert_eq!(log.bounds().last, Some(at(1, 5)));
        assert_eq!(read(log, 0, 100, usize::MAX), [0, 1, 2, 3, 4, 5]);
        // Behind its end there is nothing to cut.
        log.truncate_after(Some(at(1, 7))).expect("nothing happens");
        append(log, entries(2, 6..=7));
        assert_eq!(synced(log), Some(7));
        let expected = [positions(&entries(1, 0..=5)), positions(&entries(2, 6..=7))].concat();
        assert_eq!(positions(&all(log)), expected);
        // What is kept must be what the caller thinks it is.
        log.truncate_after(Some(at(3, 4))).expect_err("index 4 has term 1");
        drop(stores);
        let stores = place.open();
        assert_eq!(positions(&all(&*stores.log)), expected);
        stores.log.truncate_after(None).expect("cut");
        assert_eq!(stores.log.bounds(), LogBounds::default());
        vote(&*stores.log, b"synced");
        drop(stores);
        assert_eq!(place.open().log.bounds(), LogBounds::default());
    }
}

/// More entries than are deleted one by one.
#[test]
fn a_long_truncation_leaves_nothing_behind() {
    for place in Place::both() {
        let stores = place.open();
        append(&*stores.log, entries(1, 0..=2_999));
        stores.log.truncate_after(Some(at(1, 9))).expect("cut");
        append(&*stores.log, entries(2, 10..=11));
        drop(stores);
        let stores = place.open();
        assert_eq!(read(&*stores.log, 0, 9_999, usize::MAX), (0..=11).collect::<Vec<_>>());
        assert_eq!(stores.log.bounds().last, Some(at(2, 11)));
    }
}

/// Purges by one entry, by more than a step, up to the last entry and past it.
#[test]
fn what_was_purged_stays_away() {
    for place in Place::both() {
        let mut stores = place.open();
        append(&*stores.log, entries(1, 0..=99));
        for through in [0, 1, 4, 30, 31, 98] {
            // The state must have come as far, or opening would refuse.
            crate::support::put(&mut *stores.state, &crate::support::meta(1, through), &[]);
            stores.log.purge(at(1, through)).expect("purged");
            // What is purged already is no error.
            stores.log.purge(at(1, through / 2)).expect("nothing happens");
            vote(&*stores.log, b"synced");
            stores.snapshots.build().expect("the state is flushed");
            drop(stores);
            stores = place.open();
            let expected = LogBounds { purged: Some(at(1, through)), last: Some(at(1, 99)) };
            assert_eq!(stores.log.bounds(), expected);
            let left: Vec<u64> = (through + 1..=99).collect();
            assert_eq!(read(&*stores.log, 0, 1_000, usize::MAX), left);
        }
        let log = &*stores.log;
        log.truncate_after(Some(at(1, 50))).expect_err("that is purged");
        log.purge(at(7, 200)).expect("past the end");
        assert_eq!(log.bounds(), LogBounds { purged: Some(at(7, 200)), last: Some(at(7, 200)) });
        assert_eq!(read(log, 0, 1_000, usize::MAX), [0; 0]);
        let (done, _) = completion();
        log.append(entries(7, 100..=100), done).expect_err("it follows 200 now");
        append(log, entries(7, 201..=202));
        assert_eq!(synced(log), Some(202));
        assert_eq!(read(log, 0, 1_000, usize::MAX), [201, 202]);
    }
}

#[test]
fn purging_an_emptied_log_raises_the_watermark() {
    for place in Place::both() {
        let stores = place.open();
        stores.log.purge(at(3, 41)).expect("purged");
        vote(&*stores.log, b"synced");
        assert_eq!(synced(&*stores.log), Some(41));
        append(&*stores.log, entries(3, 42..=42));
        assert_eq!(read(&*stores.log, 0, 100, usize::MAX), [42]);
    }
}

#[test]
fn the_vote_and_the_commit_mark_come_back() {
    for place in Place::both() {
        let stores = place.open();
        assert_eq!(stores.log.vote().expect("readable"), None);
        assert_eq!(stores.log.committed().expect("readable"), None);
        append(&*stores.log, entries(1, 0..=9));
        stores.log.save_committed(Some(at(1, 7))).expect("saved");
        vote(&*stores.log, b"first");
        vote(&*stores.log, b"second");
        let check = |log: &dyn LogStore| {
            assert_eq!(log.vote().expect("readable"), Some(Bytes::from_static(b"second")));
            assert_eq!(log.committed().expect("readable"), Some(at(1, 7)));
        };
        check(&*stores.log);
        drop(stores);
        let stores = place.open();
        check(&*stores.log);
        let error = stores.log.truncate_after(Some(at(1, 6))).expect_err("7 is committed");
        assert!(error.to_string().contains("committed"), "{error}");
        // A mark past the end is kept as it is, and only what the log held is insisted on.
        stores.log.save_committed(Some(at(1, 50))).expect("saved");
        vote(&*stores.log, b"synced");
        drop(stores);
        let stores = place.open();
        assert_eq!(stores.log.committed().expect("readable"), Some(at(1, 50)));
        stores.log.save_committed(None).expect("saved");
        assert_eq!(stores.log.committed().expect("readable"), None);
    }
}

#[test]
fn an_empty_append_completes_after_what_was_before_it() {
    for place in Place::both() {
        let stores = place.open();
        stores.log.save_committed(None).expect("saved");
        append(&*stores.log, Vec::new());
        assert_eq!(stores.log.bounds(), LogBounds::default());
    }
}

#[test]
fn groups_share_a_database_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = Storage::open(dir.path(), &tuning()).expect("it opens");
    let first = storage.stores(GroupId(1)).expect("it opens").log;
    let second = storage.stores(GroupId(2)).expect("it opens").log;
    append(&*first, entries(1, 0..=20));
    append(&*second, entries(5, 0..=3));
    vote(&*first, b"one");
    second.truncate_after(Some(at(5, 1))).expect("cut");
    first.purge(at(1, 15)).expect("purged");
    append(&*second, entries(6, 2..=2));
    assert_eq!(read(&*first, 0, 99, usize::MAX), [16, 17, 18, 19, 20]);
    assert_eq!(read(&*second, 0, 99, usize::MAX), [0, 1, 2]);
    assert_eq!(second.vote().expect("readable"), None);
    assert_eq!((synced(&*first), synced(&*second)), (Some(20), Some(2)));
}

/// The promise of the group commit: many writes, few syncs. While one sync is under way the
/// others queue up, so with 32 writers there are at most a few syncs per round.
#[test]
fn many_appends_share_a_sync() {
    const WRITERS: u32 = 32;
    const APPENDS: u64 = 200;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = Storage::open(dir.path(), &tuning()).expect("it opens");
    let logs: Vec<Arc<dyn LogStore>> =
        (0..WRITERS).map(|group| storage.stores(GroupId(group)).expect("it opens").log).collect();
    let before = logs[0].counters().syncs;
    std::thread::scope(|scope| {
        for log in &logs {
            scope.spawn(|| {
                // Eight under way at a time, as replication does it.
                for first in (0..APPENDS).step_by(8) {
                    let waiting: Vec<_> = (first..first + 8)
                        .map(|index| {
                            let (done, result) = completion();
                            log.append(entries(1, index..=index), done).expect("accepted");
                            result
                        })
                        .collect();
                    for result in waiting {
                        result.recv().expect("completed").expect("on disk");
                    }
                }
            });
        }
    });
    let counters = logs[0].counters();
    let appends = u64::from(WRITERS) * APPENDS;
    assert_eq!(counters.entries, appends);
    let syncs = counters.syncs - before;
    assert!(syncs * 4 < appends, "{syncs} syncs for {appends} appends");
    for log in &logs {
        assert_eq!(synced(&**log), Some(APPENDS - 1));
    }
}

/// A lone write is not held up: each is complete before the next is made.
#[test]
fn a_lone_append_gets_a_sync_of_its_own() {
    let place = Place::rocks();
    let stores = place.open();
    let before = stores.log.counters().syncs;
    for index in 0..10 {
        append(&*stores.log, entries(1, index..=index));
        assert_eq!(synced(&*stores.log), Some(index));
    }
    assert_eq!(stores.log.counters().syncs - before, 10);
}

/// A completion never comes before a sync has returned that was not counted when the write was
/// made. Of one write at a time that says the sync was its own; that a sync begun before a write
/// does not count for it is shown where the sync is the test's (`log::flusher`), and that the
/// bytes are in the file by the tests that kill and copy.
#[test]
fn no_write_is_acknowledged_without_a_sync() {
    for place in Place::both() {
        let stores = place.open();
        for round in 0..100 {
            let log = Arc::clone(&stores.log);
            let (told, syncs) = std::sync::mpsc::channel();
            let before = stores.log.counters().syncs;
            let done = Box::new(move |result: Result<(), Error>| {
                result.expect("it is on disk");
                let syncs = log.counters().syncs;
                // Or the database may be closed by this thread, while the process ends.
                drop(log);
                told.send(syncs).expect("the test listens");
            });
            match round % 3 {
                0 => stores.log.save_vote(Bytes::from_static(b"vote"), done),
                1 => stores.log.append(entries(1, round / 3..=round / 3), done),
                _ => stores.log.append(Vec::new(), done),
            }
            .expect("accepted");
            let after = syncs.recv().expect("it is completed");
            assert!(after > before, "round {round}: {before} syncs before it, {after} behind it");
        }
        let counters = stores.log.counters();
        assert_eq!(counters.entries, 33);
        assert!(counters.bytes > 33 * 20, "{counters:?}");
    }
}

/// The group is part of the key: its number need not be small.
#[test]
fn the_last_group_has_an_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let storage = Storage::open(dir.path(), &tuning()).expect("it opens");
    let last = storage.stores(GroupId(u32::MAX)).expect("it opens").log;
    append(&*last, entries(1, 0..=2));
    assert_eq!(read(&*last, 0, u64::MAX, usize::MAX), [0, 1, 2]);
    drop((last, storage));
    let storage = Storage::open(dir.path(), &tuning()).expect("it opens");
    let last = storage.stores(GroupId(u32::MAX)).expect("it opens").log;
    assert_eq!(last.bounds().last, Some(at(1, 2)));
    assert_eq!(storage.stores(GROUP).expect("it opens").log.bounds(), LogBounds::default());
}
