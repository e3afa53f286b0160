//! What a test sees of a cluster in memory that things are done to.

use super::{TestCluster, Time as _};
use quorate_client::{Error, Routing};

#[tokio::test]
async fn what_was_acknowledged_outlives_the_leader() {
    let mut cluster = TestCluster::start(3).await.unwrap();
    let kv = cluster.client().kv();
    for n in 0..20 {
        kv.set(format!("k{n}"), "x").await.unwrap();
        if n % 10 == 5 {
            let killed = cluster.kill_leader().await.unwrap();
            assert!(!cluster.live_ids().contains(&killed));
            kv.set(format!("after{n}"), "x").await.unwrap();
            cluster.restart(killed).await.unwrap();
        }
    }
    for n in 0..20 {
        assert!(kv.get(format!("k{n}")).await.unwrap().is_some(), "k{n}");
    }
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_followed_by_another() {
    let mut cluster = TestCluster::start(3).await.unwrap();
    let client = cluster.client();
    client.kv().set("a", "1").await.unwrap();
    let old = cluster.leader().await.unwrap();
    cluster.partition(&[old]).unwrap();
    let new = cluster.leader().await.unwrap();
    assert_ne!(old, new);
    client.kv().set("a", "2").await.unwrap();

    // Nothing is acknowledged on the other side.
    let alone = cluster
        .options()
        .endpoints([format!("node-{old}:8811")])
        .routing(Routing::Endpoints)
        .request_timeout(1.s())
        .connect()
        .unwrap();
    let refused = alone.kv().set("a", "3").await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. } | Error::Indeterminate { .. }));
    assert!(alone.kv().get("a").await.is_err());

    cluster.heal();
    let healed = loop {
        if let Ok(read) = alone.kv().get("a").await {
            break read.unwrap();
        }
    };
    assert_ne!(healed.value, "1");
}

#[tokio::test]
async fn time_passes_with_a_quorum_alone() {
    let mut cluster = TestCluster::start(3).await.unwrap();
    let client = cluster.client();
    let held = client.locks().acquire("l").ttl(5.minutes()).await.unwrap();
    cluster.kill_leader().await.unwrap();
    cluster.advance(10.minutes()).await.unwrap();
    assert!(client.locks().inspect("l").await.unwrap().holders.is_empty());
    drop(held);
    let leader = cluster.kill_leader().await.unwrap();
    let waits = tokio::time::timeout(1.s(), cluster.advance(1.minutes())).await;
    assert!(waits.is_err(), "one of three let time pass");
    cluster.restart(leader).await.unwrap();
    cluster.advance(1.minutes()).await.unwrap();
}

#[tokio::test]
async fn all_of_it_comes_back_from_its_disks() {
    let mut cluster = TestCluster::start(3).await.unwrap();
    let kv = cluster.client().kv();
    kv.set("a", "1").await.unwrap();
    for id in cluster.ids() {
        cluster.kill(id).unwrap();
    }
    assert!(cluster.live_ids().is_empty());
    for id in cluster.ids() {
        cluster.restart(id).await.unwrap();
    }
    cluster.leader().await.unwrap();
    assert_eq!(kv.get("a").await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn mistakes_are_told() {
    let mut cluster = TestCluster::start(1).await.unwrap();
    let told = |result: anyhow::Result<()>| result.unwrap_err().to_string();
    assert_eq!(told(cluster.kill(2)), "there are nodes 1 to 1, and no 2");
    assert_eq!(told(cluster.partition(&[7])), "there are nodes 1 to 1, and no 7");
    cluster.kill(1).unwrap();
    assert_eq!(told(cluster.kill(1)), "node 1 does not run");
    let none = TestCluster::start(0).await.err().unwrap().to_string();
    assert!(none.contains("1 to 9"), "{none}");
}
