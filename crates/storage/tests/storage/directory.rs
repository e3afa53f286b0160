//! Whose data directory it is.

use crate::support::{GROUP, tuning};
use quorate_state::NodeId;
use quorate_storage::Stores;
use quorate_storage::identity::{Directory, Opener};
use quorate_storage::memory::{DiskModel, MemoryDisk};
use std::fs;
use std::path::Path;

fn refused(path: &Path, node: u64) -> String {
    Directory::open(path, Opener::Node(NodeId(node))).expect_err("it must not open").to_string()
}

#[test]
fn a_new_directory_gets_an_identity_that_stays() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("deep/below");
    let mut directory = Directory::open(&path, Opener::Node(NodeId(1))).expect("it is created");
    assert!(directory.is_new());
    let uuid = directory.identity().uuid;
    directory.set_cluster("c-1").expect("stored");
    directory.set_cluster("c-1").expect("nothing changes");
    let error = directory.set_cluster("c-2").expect_err("it is part of c-1").to_string();
    assert!(error.contains("belongs to cluster c-1, not to cluster c-2"), "{error}");
    drop(directory);
    let directory = Directory::open(&path, Opener::Node(NodeId(1))).expect("it opens");
    assert!(!directory.is_new());
    assert_eq!(directory.identity().uuid, uuid);
    assert_eq!(directory.identity().cluster_id.as_deref(), Some("c-1"));
    let other =
        Directory::open(&dir.path().join("other"), Opener::Node(NodeId(1))).expect("it is created");
    assert_ne!(other.identity().uuid, uuid);
}

#[test]
fn another_nodes_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut directory =
        Directory::open(dir.path(), Opener::Node(NodeId(2))).expect("it is created");
    directory.set_cluster("abc").expect("stored");
    drop(directory);
    let error = refused(dir.path(), 1);
    assert!(error.contains("belongs to node 2 of cluster abc, not to node 1"), "{error}");
    assert!(error.contains("--node-id 2"), "{error}");
    Directory::open(dir.path(), Opener::Node(NodeId(2))).expect("it is still usable");
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = Directory::open(dir.path(), Opener::Node(NodeId(1))).expect("it is created");
    let error = refused(dir.path(), 1);
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(first);
    Directory::open(dir.path(), Opener::Node(NodeId(1))).expect("the lock is free");
}

#[test]
fn what_is_not_a_data_directory_is_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("thesis.txt"), b"years of work").expect("written");
    let error = refused(dir.path(), 1);
    assert!(error.contains("thesis.txt") && error.contains("choose an empty directory"), "{error}");
    assert!(!dir.path().join("identity.json").exists());
    let file = dir.path().join("thesis.txt");
    assert!(refused(&file, 1).contains("thesis.txt"));
}

#[test]
fn a_first_start_that_was_cut_short_is_repeated() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("LOCK"), b"4711").expect("written");
    fs::write(dir.path().join("identity.json.tmp"), b"{").expect("written");
    fs::create_dir(dir.path().join("lost+found")).expect("created");
    assert!(Directory::open(dir.path(), Opener::Node(NodeId(1))).expect("it is created").is_new());
}

#[test]
fn other_formats_and_damage_are_told() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    drop(Directory::open(dir.path(), Opener::Node(NodeId(1))).expect("it is created"));
    let path = dir.path().join("identity.json");
    let content = fs::read_to_string(&path).expect("readable");
    fs::write(&path, content.replace("\"format\": 1", "\"format\": 2")).expect("written");
    assert!(refused(dir.path(), 1).contains("has format 2, this version reads format 1"));
    for damaged in ["", "{", "{\"format\": 1}", "[]", &"x".repeat(10_000)] {
        fs::write(&path, damaged).expect("written");
        assert!(refused(dir.path(), 1).contains("identity.json"), "{}", refused(dir.path(), 1));
    }
    fs::write(&path, content).expect("written");
    Directory::open(dir.path(), Opener::Node(NodeId(1))).expect("it is whole again");
}

#[test]
fn free_space_is_known() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let log = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens").log;
    let free = log.free_bytes().expect("known");
    assert!(free > 0 && free < u64::MAX, "{free}");
    fs::remove_dir_all(dir.path()).expect("removed");
    let error = log.free_bytes().expect_err("its directory is gone");
    assert!(error.to_string().contains("free space"), "{error}");

    let disk = MemoryDisk::new(DiskModel::immediate());
    let free = || Stores::memory(&disk, GROUP).expect("it opens").log.free_bytes().expect("known");
    assert_eq!(free(), u64::MAX);
    disk.set_free_bytes(7);
    assert_eq!(free(), 7);
    disk.crash();
    assert_eq!(free(), 7);
}

#[test]
fn a_node_that_joins_takes_the_id_it_is_given_and_one_that_left_stays_away() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut directory = Directory::open(dir.path(), Opener::Joiner).expect("it is created");
    let uuid = directory.identity().uuid;
    assert_eq!((directory.identity().node_id, directory.identity().joins), (NodeId(0), true));
    drop(directory);
    // It has not been given one yet: the uuid by which it asks is the same.
    assert!(refused(dir.path(), 4).contains("made to join a cluster"));
    directory = Directory::open(dir.path(), Opener::Joiner).expect("it opens");
    assert_eq!(directory.identity().uuid, uuid);
    assert!(refused(dir.path(), 4).contains("in use"));
    directory.set_node(NodeId(4), "c").expect("it has none");
    directory.set_node(NodeId(4), "c").expect("it is the same");
    assert_eq!(directory.identity().joining.as_deref(), Some("c"));
    let error = directory.set_node(NodeId(5), "c").expect_err("it has one").to_string();
    assert!(error.contains("belongs to node 4"), "{error}");
    directory.set_cluster("c").expect("it has none");
    drop(directory);
    assert!(refused(dir.path(), 1).contains("belongs to node 4"));
    for opener in [Opener::Joiner, Opener::Whoever(NodeId(1)), Opener::Node(NodeId(4))] {
        let directory = Directory::open(dir.path(), opener).expect("it opens");
        assert_eq!(directory.identity().node_id, NodeId(4));
    }
    let mut directory = Directory::open(dir.path(), Opener::Joiner).expect("it opens");
    directory.set_left().expect("it is written");
    drop(directory);
    for opener in [Opener::Joiner, Opener::Whoever(NodeId(1)), Opener::Node(NodeId(4))] {
        let error = Directory::open(dir.path(), opener).expect_err("it has left").to_string();
        assert!(error.contains("node 4 of cluster c, which was removed"), "{error}");
    }
}
