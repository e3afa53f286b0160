//! A state made anew beside what there is, and a directory that becomes a node's at the end.

use crate::support::{GROUP, append, at, entries, membership, meta, put, rows, tuning, vote};
use quorate_state::NodeId;
use quorate_storage::Stores;
use quorate_storage::identity::{Directory, Empty, Opener};
use quorate_storage::state::rebuild::Rebuild;
use std::fs;
use std::path::Path;
use uuid::Uuid;

/// A log of ten entries, of which the state has five and a snapshot.
fn fill(dir: &Path) {
    let mut stores = Stores::open(dir, GROUP, &tuning()).expect("it opens");
    append(&*stores.log, entries(1, 0..=9));
    put(&mut *stores.state, &meta(1, 4), &[(b"a", b"old"), (b"b", b"old")]);
    stores.snapshots.build().expect("it is taken");
    vote(&*stores.log, b"my vote");
}

fn rebuild(dir: &Path, term: u64, index: u64) {
    let mut rebuild = Rebuild::begin(dir, GROUP, &tuning()).expect("it begins");
    rebuild.put(b"a", b"new").expect("it is taken");
    rebuild.put(b"c", &vec![7; 3 << 20]).expect("more than a batch");
    rebuild.finish(&meta(term, index)).expect("it is finished");
}

#[test]
fn a_damaged_state_is_replaced_and_the_log_stays() {
    // As far as the log has it, behind its end, and at an entry of which the log has another one.
    for (term, index, last, log_from) in [(1, 7, 9, 0), (1, 12, 12, 13), (2, 8, 8, 9)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fill(dir.path());
        let state = dir.path().join(format!("groups/{GROUP}/state"));
        fs::write(state.join("CURRENT"), b"nonsense").expect("it can be damaged");
        Stores::open(dir.path(), GROUP, &tuning()).err().expect("it is damaged");
        rebuild(dir.path(), term, index);
        for _ in 0..2 {
            let stores = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens again");
            assert_eq!(stores.state.applied(), meta(term, index));
            let view = stores.state.reader().view();
            let found = rows(&*view.tables);
            assert_eq!(found.len(), 2, "nothing of the old one is left");
            assert_eq!(found[0], (b"a".to_vec(), b"new".to_vec()));
            assert_eq!(view.tables.membership().expect("readable"), membership(3));
            assert_eq!(stores.log.vote().expect("readable").as_deref(), Some(&b"my vote"[..]));
            assert_eq!(stores.log.bounds().last.map(|last| last.index.0), Some(last));
            let first = stores.log.bounds().purged.map_or(0, |purged| purged.index.0 + 1);
            assert_eq!(first, log_from);
            assert!(stores.snapshots.current().is_none(), "the old one may be damaged as well");
        }
    }
}

/// Until it is finished nothing has changed, also when it begins again and again.
#[test]
fn one_that_is_not_finished_leaves_what_was_there() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fill(dir.path());
    for _ in 0..3 {
        let mut rebuild = Rebuild::begin(dir.path(), GROUP, &tuning()).expect("it begins");
        rebuild.put(b"a", &vec![7; 3 << 20]).expect("more than a batch");
        drop(rebuild);
    }
    let stores = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens");
    assert_eq!(stores.state.applied(), meta(1, 4));
    assert_eq!(rows(&*stores.state.reader().view().tables).len(), 2);
    assert!(stores.snapshots.current().is_some());
    let state = dir.path().join(format!("groups/{GROUP}/state"));
    let left = fs::read_dir(state).expect("readable").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("gen-"))
    });
    assert_eq!(left.count(), 1, "what was begun is swept away");
}

/// One that ends before the log begins would leave a hole: the node does not open.
#[test]
fn a_state_older_than_the_log_is_noticed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fill(dir.path());
    let stores = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens");
    stores.log.purge(at(1, 4)).expect("purged");
    vote(&*stores.log, b"synced");
    drop(stores);
    rebuild(dir.path(), 1, 3);
    let error = Stores::open(dir.path(), GROUP, &tuning()).err().expect("there is a hole");
    assert!(error.to_string().contains("the log begins behind 4"), "{error}");
}

#[test]
fn an_empty_directory_becomes_a_nodes_at_the_very_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("new");
    let empty = Empty::take(&path).expect("it is empty");
    let error = Empty::take(&path).expect_err("it is in use").to_string();
    assert!(error.contains("in use by process"), "{error}");
    let mut rebuild = Rebuild::begin(empty.path(), GROUP, &tuning()).expect("it begins");
    rebuild.put(b"a", b"1").expect("it is taken");
    rebuild.finish(&meta(1, 7)).expect("it is finished");
    drop(empty);
    // As after a crash: it is nobody's, and nobody takes it.
    let opened = Directory::open(&path, Opener::Node(NodeId(1)));
    let error = opened.expect_err("it is nobody's").to_string();
    assert!(error.contains("no identity.json"), "{error}");
    assert!(Empty::take(&path).is_err(), "it is not empty");
    assert!(Directory::open_existing(&path).is_err(), "it is no node's");

    fs::remove_dir_all(&path).expect("it can be removed");
    let uuid = Uuid::from_u128(9);
    let empty = Empty::take(&path).expect("it is empty");
    let directory = empty.become_node(NodeId(3), uuid, "c-9").expect("it is written");
    assert_eq!(directory.identity().cluster_id.as_deref(), Some("c-9"));
    drop(directory);
    let directory = Directory::open(&path, Opener::Node(NodeId(3))).expect("it is node 3's");
    assert_eq!((directory.identity().uuid, directory.is_new()), (uuid, false));
    drop(directory);
    let error = Empty::take(&path).expect_err("it is node 3's").to_string();
    assert!(error.contains("is that of node 3 already"), "{error}");
}
