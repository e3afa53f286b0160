//! `quorate top`: what it shows of three nodes, also when the one that leads is killed under it.

use crate::running::{PATIENCE, Running, nodes};
use quorate_tests::processes::{Quorate, alone, say, wait_until};
use serde_json::Value;
use std::time::Instant;

/// A document a line.
async fn document(top: &mut Running) -> Value {
    serde_json::from_str(&top.line().await).expect("each line is a document")
}

fn node(document: &Value, id: u64) -> &Value {
    let nodes = document.pointer("/cluster/seen/nodes").and_then(Value::as_array);
    let mut nodes = nodes.expect("nodes are a list").iter();
    nodes.find(|node| node["node_id"] == id).expect("it is a member")
}

/// The words of the line of text that begins with this one.
fn line<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.find(|words| words.first() == Some(&first));
    found.unwrap_or_else(|| panic!("no line begins with {first} in\n{text}"))
}

async fn filled(quorate: &Quorate) {
    for command in [
        "queue push mail a",
        "queue push mail b",
        "queue push other c",
        "lock acquire report --ttl 1h",
        "cache set k v --ttl 1h",
        "cache get k",
    ] {
        quorate.run(command).await.expect(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_is_said_and_the_next_one_is_found() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    filled(&quorate).await;
    let leader = cluster.leader().await.expect("one leads");

    // As text, all pages in one.
    let mut subscribed = quorate.command();
    subscribed.args(["bus", "sub", "user.*", "--timeout", "5m"]);
    let mut subscriber = Running::start(subscribed);
    wait_until("it is subscribed", PATIENCE, || async {
        let ended = quorate.run("top --once --page bus --interval 100ms").await.expect(0);
        ended.text().lines().any(|line| line.starts_with("user.*"))
    })
    .await;
    let text = quorate.run("top --once --interval 500ms").await.expect(0).text();
    say(&text);
    assert!(text.contains(&format!("node {leader} leads in term")), "{text}");
    for id in cluster.ids() {
        let words = line(&text, &id.to_string());
        let role = if id == leader { "leader" } else { "follower" };
        assert_eq!(words[1..3], [role, "well"], "{text}");
        // Its counters were had, so it has a rate: behind the room on its disk, which is two words.
        assert!(words[8].parse::<f64>().is_ok(), "{text}");
    }
    assert_eq!(line(&text, "mail")[..5], ["mail", "2", "0", "0", "0"], "{text}");
    assert!(text.find("\nmail ") < text.find("\nother "), "the longest queue comes first: {text}");
    assert_eq!(line(&text, "report")[..3], ["report", "0", "1"], "{text}");
    assert!(text.contains("1 entries, "), "{text}");
    assert!(text.contains("100.0 % since the nodes started"), "{text}");
    assert!(text.contains("open: 1; locks that they hold or wait for: 1"), "{text}");
    subscriber.child.start_kill().expect("it runs");

    // Again and again, for programs.
    let mut command = quorate.command();
    command.args(["top", "-o", "json", "--interval", "200ms", "--timeout", "1s"]);
    let mut top = Running::start(command);
    let first = document(&mut top).await;
    assert_eq!(first["cluster"]["seen"]["leader_id"], leader, "{first:#}");
    assert_eq!(first.pointer("/queues/seen/items/0/ready"), Some(&2.into()), "{first:#}");
    assert!(first["cluster"]["per_second"]["requests_ok"].is_number(), "{first:#}");
    assert_eq!(node(&first, leader)["lag"], 0);
    cluster.kill(leader).await.expect("it can be killed");
    let killed = Instant::now();
    let (mut said, mut recovered) = (false, false);
    while !recovered {
        assert!(killed.elapsed() < PATIENCE, "nobody leads");
        let now = document(&mut top).await;
        if now["cluster"]["failed"].is_object() {
            continue;
        }
        let dead = node(&now, leader);
        said |= dead["healthy"] == false && dead["problem"] != "";
        let leads = now["cluster"]["seen"]["leader_id"].as_u64();
        let led = leads.is_some_and(|leads| leads != leader);
        let fresh = now["queues"]["failed"].is_null() && now["queues"]["seen"]["stale"] == false;
        recovered = said && led && fresh && now["locks"]["failed"].is_null();
    }
    say(format!("recovered {} ms after the kill", killed.elapsed().as_millis()));

    // Nobody is left: it says why, keeps what it knew, and goes on.
    for id in cluster.ids().into_iter().filter(|id| *id != leader) {
        cluster.kill(id).await.expect("it can be killed");
    }
    let lost = loop {
        let now = document(&mut top).await;
        if now["cluster"]["failed"].is_object() {
            break now;
        }
    };
    assert!(lost["cluster"]["age_ms"].is_u64() && lost["cluster"]["seen"].is_object(), "{lost:#}");
    top.child.start_kill().expect("it goes on");
    let ended = quorate.run("top --once --interval 100ms --timeout 500ms").await.expect(5);
    assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{ended:?}");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn without_a_terminal_it_says_what_to_ask_for() {
    let ended = Quorate::bare().run("top").await.expect(2);
    ended.expect_stderr("--once").expect_stderr("-o json");
}
