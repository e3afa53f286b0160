//! An acknowledged write was synced by a majority: asked at the door to the kernel.
//!
//! `kill -9` can't show it, because the kernel keeps what a dead process wrote. So each node runs
//! with a library of a few lines between it and the kernel, which notes when a sync of the Raft
//! log begins and ends. What the kernel and the device make of a sync is not shown here.

use quorate_client::{Client, Routing};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, preload, say};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

const WRITES: usize = 100;

/// What the witness of a node noted up to now.
fn noted(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Syncs of the log that began and succeeded in a part of what a witness noted.
fn whole_syncs(noted: &str) -> usize {
    let mut begun = HashSet::new();
    let mut whole = 0;
    for line in noted.lines() {
        match line.split_once(' ').expect("a word and a number") {
            ("begin", call) => drop(begun.insert(call)),
            ("end", call) => whole += usize::from(begun.contains(call)),
            (other, call) => panic!("sync {call} ended with {other:?}"),
        }
    }
    whole
}

#[tokio::test]
async fn an_acknowledged_write_was_synced_by_a_majority() {
    let _alone = alone().await;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = |id: u64| directory.path().join(format!("syncs-of-node-{id}"));
    let witness = preload("faults/sync_witness.cpp", directory.path());
    let mut options = ProcessCluster::options(3).env("LD_PRELOAD", witness);
    for id in 1..=3 {
        options = options.node_env(id, "SYNC_WITNESS", file(id));
    }
    let mut cluster = options.start().await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let client = Client::builder().endpoints(cluster.endpoints()).routing(Routing::AnyNode);
    let client = client.connect().expect("the options are right");
    // Opens the session.
    client.kv().set("k", "first").await.expect("all is well");
    for id in cluster.ids() {
        let any = whole_syncs(&noted(&file(id))) > 0;
        assert!(any, "no sync of node {id} was seen: is its binary linked statically?");
    }

    let mut syncs = 0;
    for number in 0..WRITES {
        let before = cluster.ids().into_iter().map(|id| (id, noted(&file(id)).len()));
        let before: Vec<_> = before.collect();
        client.kv().set("k", number.to_string()).await.expect("all is well");
        // Both between the request and its answer, so the sync is one for this write.
        let synced = before.iter().map(|(id, seen)| whole_syncs(&noted(&file(*id))[*seen..]));
        let synced: Vec<_> = synced.collect();
        let nodes = synced.iter().filter(|count| **count > 0).count();
        assert!(nodes >= 2, "write {number} was acknowledged after syncs of {nodes} nodes only");
        syncs += synced.iter().sum::<usize>();
    }
    say(format!("{WRITES} writes, one after the other: {syncs} syncs of three nodes meanwhile"));
    // If they synced all the time, the syncs would say nothing of the writes.
    assert!(syncs < WRITES * 6, "{syncs} syncs in {WRITES} writes");
    cluster.logs().assert_no_panics();
}
