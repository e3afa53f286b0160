//! Who belongs to a cluster, on the command line: nodes join, get a vote, and leave.

use crate::running::{PATIENCE, nodes};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Quorate, alone, wait_until};
use serde_json::{Value, json};

async fn members(quorate: &Quorate) -> Value {
    quorate.run("cluster members -o json").await.expect(0).json()
}

/// Whether a node is a member: with a vote or not.
fn standing(members: &Value, node: u64) -> Option<bool> {
    let all = members["members"].as_array().expect("a list");
    let member = all.iter().find(|member| member["node_id"] == node)?;
    member["voter"].as_bool()
}

async fn settles(quorate: &Quorate, node: u64, vote: Option<bool>) {
    wait_until("what was planned is done", PATIENCE, || async {
        let members = members(quorate).await;
        standing(&members, node) == vote && members["plans"] == json!([])
    })
    .await;
}

async fn ends_saying(cluster: &mut ProcessCluster, node: u64, why: &str) {
    let status = cluster.wait_exit(node).await.expect("it ends by itself");
    assert!(matches!(status.code(), Some(1 | 2)), "{status}");
    let said = std::fs::read_to_string(cluster.log_path(node)).expect("its log can be read");
    assert!(said.contains(why), "{said}");
    cluster.let_go(node).expect("it has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(1).await;
    quorate.run("kv set k v").await.expect(0);
    for node in [2, 3] {
        assert_eq!(cluster.join(&[]).expect("it is started"), node);
        cluster.wait_listening(node).await.expect("it is admitted");
        settles(&quorate, node, Some(true)).await;
    }
    // Without a vote, until it is given one.
    let learner = cluster.join(&["--learner"]).expect("it is started");
    cluster.wait_listening(learner).await.expect("it is admitted");
    settles(&quorate, learner, Some(false)).await;
    let own = Quorate::at(&[cluster.client_addr(learner).to_string()]);
    assert_eq!(own.run("kv get k").await.expect(0).text(), "v");
    let line = format!("cluster replace 3 {learner} -o json");
    let replaced = quorate.run(&line).await.expect(0).json();
    assert_eq!(replaced, json!({"removed": 3, "promoted": learner}));
    settles(&quorate, 3, None).await;
    ends_saying(&mut cluster, 3, "node 3 was removed").await;

    // Whoever leads leaves, too; the last one that votes does not.
    let leader = cluster.leader().await.expect("one leads");
    let other = Quorate::of(&cluster);
    other.run(&format!("cluster remove {leader}")).await.expect(0);
    ends_saying(&mut cluster, leader, "was removed").await;
    let rest = Quorate::of(&cluster);
    let follower = cluster.ids().into_iter().next().expect("two are left");
    rest.run(&format!("cluster remove {follower}")).await.expect(0);
    ends_saying(&mut cluster, follower, "was removed").await;
    let last = Quorate::of(&cluster);
    let id = cluster.ids()[0];
    let refused = last.run(&format!("cluster remove {id}")).await.expect(1);
    refused.expect_stderr("the only one that votes");
    assert_eq!(last.run("kv get k").await.expect(0).text(), "v");
    assert_eq!(members(&last).await["members"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joined_is_there_again_after_a_restart_and_under_its_id() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(1).await;
    let token = quorate.run("cluster add --ttl 10m -o json").await.expect(0).json();
    let token = token["token"].as_str().expect("a token").to_owned();
    let node = cluster.join(&["--join-token", &token]).expect("it is started");
    cluster.wait_listening(node).await.expect("it is admitted");
    settles(&quorate, node, Some(true)).await;
    let before = members(&quorate).await;
    cluster.restart_all().await.expect("both start again");
    cluster.wait_ready().await.expect("one leads");
    let after = members(&quorate).await;
    assert_eq!(before["members"], after["members"]);
    // A token lets one node join.
    let late = cluster.join(&["--join-token", &token]).expect("it is started");
    ends_saying(&mut cluster, late, "the join token is not valid").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dead_gets_no_vote_until_it_is_back() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(1).await;
    // Once this one votes, the leader has led for so long that it can tell who has caught up; so the
    // next one could be given a vote at once.
    let voter = cluster.join(&[]).expect("it is started");
    cluster.wait_listening(voter).await.expect("it is admitted");
    settles(&quorate, voter, Some(true)).await;
    let learner = cluster.join(&["--learner"]).expect("it is started");
    cluster.wait_listening(learner).await.expect("it is admitted");
    settles(&quorate, learner, Some(false)).await;
    // It has all that there is, and was heard a moment ago.
    cluster.kill(learner).await.expect("it runs");
    let line = format!("cluster promote {learner} --wait 2s -o json");
    let planned = quorate.run(&line).await.expect(5);
    assert_eq!(planned.error_json()["reason"], "STILL_PLANNED");
    assert_eq!(standing(&members(&quorate).await, learner), Some(false));
    quorate.run("kv set k v").await.expect(0);
    cluster.restart(learner).await.expect("it starts again");
    settles(&quorate, learner, Some(true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_is_refused_and_changes_nothing() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    let before = members(&quorate).await;
    for (line, why) in [
        ("cluster remove 9", "node 9 is no member"),
        ("cluster promote 9", "node 9 is no member"),
        ("cluster promote 2", "node 2 votes already"),
        ("cluster replace 2 2", "its own place"),
        ("cluster replace 2 3", "node 3 votes already"),
        ("cluster replace 9", "node 9 is no member"),
        ("cluster add --ttl 500ms", "the least is 1000 ms"),
    ] {
        quorate.run(line).await.expect(1).expect_stderr(why);
    }
    let stranger = cluster.join(&["--join-token", "0123"]).expect("it is started");
    ends_saying(&mut cluster, stranger, "the join token is not valid").await;
    // The peer address of another one.
    let taken = cluster.peer_addr(1).to_string();
    let twin = cluster.join(&["--peer-advertise", &taken]).expect("it is started");
    ends_saying(&mut cluster, twin, "node 1 is reached at").await;
    assert_eq!(before, members(&quorate).await);
    cluster.wait_same_state().await.expect("all nodes hold the same");
}
