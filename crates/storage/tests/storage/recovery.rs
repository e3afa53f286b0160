//! The rules between log and state that opening checks.

use crate::snapshot::{fill, pairs, send};
use crate::support::{
    GROUP, Place, all, append, at, entries, meta, positions, put, synced, tuning, vote,
};
use quorate_state::LogPosition;
use quorate_storage::log::{LogBounds, LogEntry};
use quorate_storage::{Error, Stores};

/// The state forgets what was not flushed, and the log still has it.
#[test]
fn a_state_behind_its_log_opens() {
    for place in Place::both() {
        let mut stores = place.open();
        append(&*stores.log, entries(1, 0..=9));
        put(&mut *stores.state, &meta(1, 3), &[]);
        drop(stores);
        let stores = place.open();
        assert_eq!(stores.state.applied(), meta(1, 3));
        assert_eq!(stores.log.bounds().last, Some(at(1, 9)));
    }
}

#[test]
fn a_state_ahead_of_its_log_is_refused() {
    for place in Place::both() {
        let mut stores = place.open();
        append(&*stores.log, entries(1, 0..=9));
        put(&mut *stores.state, &meta(1, 12), &[]);
        stores.snapshots.build().expect("the state is flushed");
        drop(stores);
        let error = place.try_open().err().expect("12 was never in the log").to_string();
        assert!(error.contains("the state ends at 1.12, but the log ends at 9"), "{error}");
    }
}

#[test]
fn a_state_that_applied_another_entry_is_refused() {
    for place in Place::both() {
        let mut stores = place.open();
        append(&*stores.log, entries(1, 0..=9));
        put(&mut *stores.state, &meta(2, 9), &[]);
        drop(stores);
        let error = place.try_open().err().expect("9 has term 1 in the log").to_string();
        assert!(error.contains("the state ends at 2.9, but the log has"), "{error}");
    }
}

#[test]
fn a_log_that_begins_behind_the_state_is_refused() {
    for place in Place::both() {
        let mut stores = place.open();
        append(&*stores.log, entries(1, 0..=9));
        put(&mut *stores.state, &meta(1, 3), &[]);
        stores.log.purge(at(1, 4)).expect("purged");
        vote(&*stores.log, b"synced");
        drop(stores);
        let error = place.try_open().err().expect("entry 4 is gone").to_string();
        assert!(error.contains("the state ends at 3, but the log begins behind 4"), "{error}");
    }
}

/// The rows of another group, or of none, are not mistaken for this one's.
#[test]
fn an_empty_directory_is_an_empty_log_and_state() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for _ in 0..2 {
        let stores = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens");
        assert_eq!(stores.log.bounds(), LogBounds::default());
        assert_eq!(stores.state.applied().applied, None);
        assert!(stores.snapshots.current().is_none());
    }
}

/// How far installing a snapshot came before the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It is complete on the disk.
    ToArrive,
    /// And it is what the state is.
    ToInstall,
}

/// A node with this log, whose state has applied 1.3, and to which the snapshot that ends at 2.7
/// came so far; opened again.
fn interrupted(
    here: &Place,
    there: &Place,
    log: &[LogEntry],
    committed: Option<LogPosition>,
    came: Came,
) -> Result<Stores, Error> {
    let mut source = here.open();
    fill(&mut source, 5);
    put(&mut *source.state, &meta(2, 7), &[]);
    let snapshot = source.snapshots.build().expect("built");

    let mut target = there.open();
    append(&*target.log, log.to_vec());
    put(&mut *target.state, &meta(1, 3), &[]);
    target.log.save_committed(committed).expect("saved");
    let received = send(&*snapshot, &*target.snapshots);
    if came == Came::ToInstall {
        target.state.install(received).expect("installed");
    }
    vote(&*target.log, b"synced");
    drop((target, source));
    there.try_open()
}

/// What the log holds where the snapshot ends is another entry, or nothing: it begins behind the
/// snapshot, whose state is there.
#[test]
fn an_interrupted_install_is_finished_where_the_log_disagrees() {
    let logs = [
        // Past the snapshot's end, up to it, right before it, and far from it.
        entries(1, 0..=20),
        entries(1, 0..=7),
        entries(1, 0..=6),
        entries(1, 0..=4),
        // Of a later term, which was never committed.
        [entries(1, 0..=3), entries(5, 4..=5)].concat(),
        [entries(1, 0..=3), entries(5, 4..=9)].concat(),
    ];
    for came in [Came::ToArrive, Came::ToInstall] {
        for log in &logs {
            for (here, there) in pairs() {
                let committed = Some(at(1, 3));
                let stores = interrupted(&here, &there, log, committed, came);
                let mut stores =
                    stores.unwrap_or_else(|error| panic!("{came:?}, {:?}: {error}", log.last()));
                let check = |stores: &Stores| {
                    assert_eq!(stores.state.applied(), meta(2, 7));
                    let bounds = LogBounds { purged: Some(at(2, 7)), last: Some(at(2, 7)) };
                    assert_eq!(stores.log.bounds(), bounds);
                    assert_eq!(positions(&all(&*stores.log)), []);
                };
                check(&stores);
                for _ in 0..2 {
                    drop(stores);
                    stores = there.open();
                    check(&stores);
                }
                append(&*stores.log, entries(6, 8..=9));
                assert_eq!(synced(&*stores.log), Some(9));
                put(&mut *stores.state, &meta(6, 9), &[]);
                drop(stores);
                let stores = there.open();
                assert_eq!(stores.state.applied(), meta(6, 9));
                assert_eq!(positions(&all(&*stores.log)), positions(&entries(6, 8..=9)));
            }
        }
    }
}

/// A log that begins behind the state's own snapshot is cut like any other.
#[test]
fn an_interrupted_install_is_finished_in_a_purged_log() {
    for through in [1, 3] {
        for (here, there) in pairs() {
            let mut target = there.open();
            append(&*target.log, entries(1, 0..=3));
            put(&mut *target.state, &meta(1, 3), &[]);
            target.snapshots.build().expect("the state is flushed");
            target.log.purge(at(1, through)).expect("purged");
            drop(target);
            let stores = interrupted(&here, &there, &entries(1, 4..=9), None, Came::ToInstall);
            let stores = stores.expect("it opens");
            let bounds = LogBounds { purged: Some(at(2, 7)), last: Some(at(2, 7)) };
            assert_eq!(stores.log.bounds(), bounds);
        }
    }
}

/// A log that has the snapshot's last entry keeps what it has.
#[test]
fn an_interrupted_install_leaves_a_log_alone_that_agrees() {
    let log = [entries(1, 0..=3), entries(2, 4..=9)].concat();
    for (came, applied) in [(Came::ToArrive, meta(1, 3)), (Came::ToInstall, meta(2, 7))] {
        for (here, there) in pairs() {
            let stores = interrupted(&here, &there, &log, Some(at(1, 3)), came).expect("it opens");
            assert_eq!(stores.state.applied(), applied);
            assert_eq!(*stores.snapshots.current().expect("kept").meta(), meta(2, 7));
            assert_eq!(positions(&all(&*stores.log)), positions(&log));
        }
    }
}

/// A log that was lost stays empty, so that whoever opens it sees that.
#[test]
fn an_interrupted_install_does_not_hide_that_the_log_is_gone() {
    for came in [Came::ToArrive, Came::ToInstall] {
        let (here, there) = (Place::rocks(), Place::rocks());
        let Place::Rocks(dir) = &there else { panic!("it is a directory") };
        drop(interrupted(&here, &there, &entries(1, 0..=7), None, came).expect("it opens"));
        std::fs::remove_dir_all(dir.path().join("log")).expect("removed");
        let stores = there.open();
        assert_eq!(stores.log.bounds(), LogBounds::default());
        assert_eq!(stores.log.vote().expect("readable"), None);
    }
}

/// Two committed entries at one index: no crash does that.
#[test]
fn a_snapshot_that_contradicts_what_is_committed_is_refused() {
    for came in [Came::ToArrive, Came::ToInstall] {
        for (here, there) in pairs() {
            let committed = Some(at(1, 8));
            let stores = interrupted(&here, &there, &entries(1, 0..=9), committed, came);
            let error = stores.err().expect("7 can't be both").to_string();
            assert!(error.contains("the snapshot ends at 2.7, but the log has 1.7"), "{error}");
            assert!(error.contains("has committed it"), "{error}");
        }
    }
}
