//! Nodes inside this program.

use quorate_client::Client;
use quorate_server::{Node, NodeBuilder, Stopped};
use quorate_testkit::process::PortLease;
use std::path::Path;
use std::time::Duration;

const STOP: Duration = Duration::from_secs(10);

fn client(nodes: &[&Node]) -> Client {
    let endpoints = nodes.iter().flat_map(|node| node.endpoints());
    Client::builder().endpoints(endpoints).connect().expect("the endpoints are good")
}

async fn refused(builder: NodeBuilder) -> String {
    builder.start().await.err().expect("it was refused").to_string()
}

#[tokio::test]
async fn what_was_written_is_there_when_it_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = || Node::builder().data_dir(directory.path()).start();
    for round in 1..=3 {
        let node = node().await.unwrap();
        assert_eq!(node.node_id(), 1);
        assert_ne!(node.client_addr().port(), 0);
        let counted = client(&[&node]).kv().increment("starts", 1).await.unwrap();
        assert_eq!(counted.value, round);
        node.shutdown(STOP).await.unwrap();
    }
}

#[tokio::test]
async fn two_nodes_can_not_have_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = Node::builder().data_dir(directory.path()).start().await.unwrap();
    let why = refused(Node::builder().data_dir(directory.path())).await;
    assert!(why.contains(&directory.path().display().to_string()), "{why}");
    // That harmed nobody.
    client(&[&first]).kv().set("a", "1").await.unwrap();
    first.shutdown(STOP).await.unwrap();
}

#[tokio::test]
async fn a_node_in_memory_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().join("data");
    let start = async || {
        let builder = Node::builder().data_dir(&there).in_memory();
        builder.start().await.unwrap()
    };
    let node = start().await;
    client(&[&node]).kv().set("a", "1").await.unwrap();
    node.shutdown(STOP).await.unwrap();
    assert!(!Path::new(&there).exists());
    let node = start().await;
    assert!(client(&[&node]).kv().get("a").await.unwrap().is_none());
    let mut peer = PortLease::take().unwrap();
    peer.release_socket();
    let joins = Node::builder().in_memory().peer_listen(peer.addr()).setting("join", "127.0.0.1:1");
    let why = refused(joins).await;
    assert!(why.contains("memory"), "{why}");
}

#[tokio::test]
async fn one_that_is_dropped_ends_and_lets_its_directory_go() {
    let directory = tempfile::tempdir().unwrap();
    let node = Node::builder().data_dir(directory.path()).start().await.unwrap();
    let kv = client(&[&node]).kv();
    kv.set("a", "1").await.unwrap();
    drop(node);
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let node = loop {
        match Node::builder().data_dir(directory.path()).start().await {
            Ok(node) => break node,
            Err(error) => assert!(tokio::time::Instant::now() < until, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(client(&[&node]).kv().get("a").await.unwrap().unwrap().value, "1");
    node.shutdown(STOP).await.unwrap();
}

#[tokio::test]
async fn wrong_settings_are_told() {
    let why = refused(Node::builder().in_memory().setting("colour", "red")).await;
    assert!(why.contains("colour"), "{why}");
    let why = refused(Node::builder().in_memory().client_listen("nowhere")).await;
    assert!(why.contains("nowhere"), "{why}");
    let why = refused(Node::builder().in_memory().client_listen("0.0.0.0:0")).await;
    assert!(why.contains("client_listen") || why.contains("insecure"), "{why}");
    let one = Node::builder().in_memory().start().await.unwrap();
    let why = refused(Node::builder().in_memory().client_listen(one.client_addr())).await;
    assert!(why.contains(&one.client_addr().to_string()), "{why}");
}

#[tokio::test]
async fn three_of_them_are_a_cluster_and_one_that_is_removed_says_so() {
    let mut leases: Vec<_> = (0..3).map(|_| PortLease::take().unwrap()).collect();
    leases.iter_mut().for_each(PortLease::release_socket);
    let founders: Vec<_> = (1..).zip(leases.iter().map(PortLease::addr)).collect();
    let starting = founders.iter().map(|(id, addr)| {
        let builder = Node::builder().in_memory().node_id(*id).peer_listen(addr);
        builder.initial_cluster(founders.iter().copied()).start()
    });
    let nodes = futures::future::join_all(starting).await;
    let nodes: Vec<_> = nodes.into_iter().map(Result::unwrap).collect();
    let client = client(&nodes.iter().collect::<Vec<_>>());
    client.kv().set("a", "1").await.unwrap();
    let leader = loop {
        if let Some(leader) = client.cluster().status().await.unwrap().leader_id {
            break leader;
        }
    };
    let (leads, mut follow): (Vec<_>, Vec<_>) =
        nodes.into_iter().partition(|node| node.node_id() == leader);
    let removed = follow.pop().unwrap();
    client.cluster().remove(removed.node_id()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), removed.ended()).await.unwrap();
    assert!(matches!(ended, Stopped::Left(_)), "{ended:?}");
    assert!(removed.shutdown(STOP).await.is_err());
    // The two others go on; the first of them to stop hands over.
    client.kv().set("a", "2").await.unwrap();
    for node in leads {
        node.shutdown(STOP).await.unwrap();
    }
    drop(follow);
}
