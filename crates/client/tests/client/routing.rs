//! Which nodes are asked: the leader, learnt members, or only the given ones.

use crate::fake::{Fake, NOT_APPLIED, Reach, fail};
use quorate_client::{Client, Routing};
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

async fn increments(client: &Client, count: usize) {
    for _ in 0..count {
        client.kv().increment("k", 1).await.expect("answered");
    }
}

#[tokio::test(start_paused = true)]
async fn the_named_leader_is_asked_directly_and_connections_are_shared() {
    for seed in 0..6 {
        let fake = Fake::start(3);
        let client = fake.options().seed(seed).connect().expect("good options");
        for node in &fake.nodes {
            node.names_leader("n2:1");
        }
        increments(&client, 1).await;
        assert_eq!(client.leader().as_deref(), Some("n2:1"));
        increments(&client.clone(), 20).await;
        let direct = fake.seen("increment")[1..].iter().all(|seen| seen.node == "n2:1");
        assert!(direct, "{:?}", fake.seen("increment"));
        assert_eq!(fake.net.dials("n2:1"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_may_name_the_leader_even_one_that_was_unknown() {
    let fake = Fake::start(2);
    let client = fake.options().endpoints(["n1:1"]).connect().expect("good options");
    fake.nodes[0].always("get", fail(Code::Unavailable, NOT_APPLIED, "NOT_LEADER"));
    fake.nodes[0].names_leader("n2:1");
    client.kv().get("k").await.expect("n2 answers");
    assert_eq!(fake.seen("get").last().expect("seen").node, "n2:1");
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_dies_the_others_are_asked_and_the_new_one_is_learnt() {
    let fake = Fake::start(3);
    let client = fake.client();
    for node in &fake.nodes {
        node.names_leader("n1:1");
    }
    increments(&client, 2).await;
    fake.net.kill("n1:1");
    // They have not heard of it yet, then they have.
    increments(&client, 3).await;
    for node in &fake.nodes[1..] {
        node.names_leader("n3:1");
    }
    increments(&client, 3).await;
    assert_eq!(client.leader().as_deref(), Some("n3:1"));
    assert_eq!(fake.seen("increment").last().expect("seen").node, "n3:1");
    assert_eq!(fake.state.number("k"), 8);
}

#[tokio::test(start_paused = true)]
async fn members_are_learnt_from_one_seed_and_outlive_it() {
    let fake = Fake::start(3);
    fake.state.set_members(["n1:1", "n2:1", "n3:1"]);
    let client = fake.options().endpoints(["n1:1"]).connect().expect("good options");
    increments(&client, 1).await;
    // The members are asked for beside the calls.
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.nodes(), ["n1:1", "n2:1", "n3:1"]);
    fake.net.kill("n1:1");
    increments(&client, 1).await;

    // A fourth joins; who is there is asked for again in a while.
    fake.state.set_members(["n2:1", "n3:1", "n4:1"]);
    tokio::time::sleep(Duration::from_secs(31)).await;
    increments(&client, 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.nodes(), ["n1:1", "n2:1", "n3:1", "n4:1"], "the seed stays");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_makes_no_calls_still_learns_where_its_cluster_went() {
    let fake = Fake::start(3);
    fake.state.set_members(["n1:1", "n2:1"]);
    let client = fake.options().endpoints(["n1:1"]).connect().expect("good options");
    // A read: it needs no session, whose keep-alives would be calls.
    client.cache().get("k").await.expect("it is answered");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(client.nodes(), ["n1:1", "n2:1"]);
    // One after the other is replaced, and then the last one it knew of is gone.
    fake.state.set_members(["n2:1", "n3:1"]);
    tokio::time::sleep(Duration::from_secs(61)).await;
    fake.net.kill("n1:1");
    fake.net.kill("n2:1");
    client.cache().get("k").await.expect("the third one answers");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_are_gone_do_not_keep_a_client_from_learning_who_is_there() {
    for seed in 0..8 {
        let fake = Fake::start(5);
        for gone in ["n1:1", "n2:1", "n3:1"] {
            fake.net.reach(gone, Reach::BlackHole);
        }
        fake.state.set_members(["n4:1"]);
        let options = fake.options().seed(seed).endpoints(["n1:1", "n2:1", "n3:1", "n4:1"]);
        let client = options.routing(Routing::AnyNode).connect().expect("good options");
        client.cache().get("k").timeout(Duration::from_secs(30)).await.expect("it is answered");
        // The only one it knew of is replaced, and in a while it is gone as well.
        fake.state.set_members(["n4:1", "n5:1"]);
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert!(client.nodes().contains(&"n5:1".to_owned()), "seed {seed}: {:?}", client.nodes());
    }
}

#[tokio::test(start_paused = true)]
async fn with_only_endpoints_no_hint_is_followed_and_nobody_is_asked_for_members() {
    let fake = Fake::start(3);
    fake.state.set_members(["n1:1", "n2:1", "n3:1"]);
    let options = fake.options().endpoints(["n3:1"]).routing(Routing::Endpoints);
    let client = options.connect().expect("good options");
    for node in &fake.nodes {
        node.names_leader("n1:1");
    }
    increments(&client, 10).await;
    assert!(fake.seen("increment").iter().all(|seen| seen.node == "n3:1"));
    assert_eq!(fake.seen("members").len(), 0);
    assert_eq!(client.nodes(), ["n3:1"]);
}

#[tokio::test(start_paused = true)]
async fn with_any_node_all_take_their_turn() {
    let fake = Fake::start(3);
    let client = fake.options().routing(Routing::AnyNode).connect().expect("good options");
    for _ in 0..30 {
        client.kv().get("k").await.expect("answered");
    }
    for node in &fake.nodes {
        let count = node.seen("get").len();
        assert!((9..=11).contains(&count), "{}: {count} of 30", node.addr);
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_dialled_again() {
    let fake = Fake::start(1);
    let client = fake.client();
    increments(&client, 1).await;
    fake.net.cut("n1:1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    increments(&client, 1).await;
    assert_eq!(fake.net.dials("n1:1"), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_that_need_the_same_connection_share_one_dial() {
    let fake = Fake::start(1);
    let client = Arc::new(fake.client());
    let calls = (0..100).map(|_| async { client.kv().get("k").await.expect("answered") });
    futures::future::join_all(calls).await;
    assert_eq!(fake.net.dials("n1:1"), 1);
}
