//! The rules between log and state that opening checks.

use crate::support::{GROUP, Place, append, at, entries, meta, put, tuning, vote};
use quorate_storage::Stores;
use quorate_storage::log::LogBounds;

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
