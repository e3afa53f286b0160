//! The message bus on the command line.

use crate::running::{PATIENCE, Running, nodes};
use quorate_client::bus::BusEvent;
use quorate_client::{Client, Routing};
use quorate_tests::processes::{Quorate, alone};
use serde_json::json;
use std::time::{Duration, Instant};

/// A subscription that has begun.
async fn subscribed(quorate: &Quorate, options: &str) -> Running {
    let mut command = quorate.command();
    command.args(["bus", "sub"]).args(options.split_whitespace()).args(["-o", "json"]);
    let mut running = Running::start(command);
    let patterns: Vec<_> =
        options.split_whitespace().take_while(|word| !word.starts_with('-')).collect();
    running.says(&format!("subscribed: {}", patterns.join(" "))).await;
    running
}

#[tokio::test]
async fn messages_go_to_subscribers_on_any_node() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(3).await;
    let mut running = Vec::new();
    for id in cluster.ids() {
        let node = Quorate::at(&[cluster.client_addr(id).to_string()]);
        running.push(subscribed(&node, "user.* *.error --count 3 --timeout 60s").await);
    }
    for (number, line) in
        ["user.created one", "db.error two", "user.profile.updated three"].into_iter().enumerate()
    {
        let from = cluster.ids()[number];
        let node = Quorate::at(&[cluster.client_addr(from).to_string()]);
        let sent = node.run(&format!("bus pub {line} --header a=b -o json")).await.expect(0).json();
        assert_eq!((&sent["nodes"], &sent["subscribers"]), (&json!(3), &json!(3)), "{sent}");
    }
    let other = quorate.run("bus pub order.paid four -o json").await.expect(0).json();
    assert_eq!((&other["nodes"], &other["subscribers"]), (&json!(0), &json!(0)));
    for subscriber in running {
        let (status, out, said) = subscriber.ended().await;
        assert_eq!(status, 0, "{said}");
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
        let payloads: Vec<_> = lines.iter().map(|line| line["payload"].as_str()).collect();
        assert_eq!(payloads, [Some("one"), Some("two"), Some("three")]);
        assert_eq!(lines[0]["channel"], "user.created");
        assert_eq!(lines[0]["sequence"], 1);
        assert!(lines.iter().all(|line| line["epoch"].is_u64()), "{lines:?}");
    }
}

/// Nodes that start apply the end of their log again, in which that is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_transactions_published_is_not_published_again_by_nodes_that_start() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    let client = Client::builder().endpoints(cluster.endpoints()).routing(Routing::AnyNode);
    let client = client.connect().expect("the options are right");
    let starting = client.bus().subscribe(["c"]).resume_timeout(PATIENCE).start();
    let mut subscription = starting.await.expect("it begins");
    let publish = async |payload: &str| {
        let publish = json!({"op": "publish", "channel": "c", "payload": payload});
        let arguments = ["txn", "-"].map(Into::into);
        let document = json!({"then": [publish]}).to_string();
        quorate.run_with(&arguments, Some(document.as_bytes())).await.expect(0);
    };
    for payload in ["1", "2"] {
        publish(payload).await;
        let event = subscription.next().await.expect("it goes on").expect("it is connected");
        let BusEvent::Message(message) = event else { panic!("{event:?}") };
        assert_eq!(&message.payload[..], payload.as_bytes());
    }
    cluster.kill_all().await.expect("all nodes can be killed");
    cluster.restart_all().await.expect("all nodes start again");
    cluster.wait_ready().await.expect("one leads");
    // Again and again, because what is published before it is back it does not get.
    let waiting = Instant::now();
    let after = loop {
        assert!(waiting.elapsed() < PATIENCE, "the subscription does not go on");
        publish("3").await;
        match tokio::time::timeout(Duration::from_millis(200), subscription.next()).await {
            Ok(Some(Ok(BusEvent::Message(message)))) => break message,
            Ok(Some(Ok(BusEvent::Gap { missed, .. }))) => assert_eq!(missed, None),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    assert_eq!(&after.payload[..], b"3");
}

#[tokio::test]
async fn requests_are_answered_by_a_command_or_fail_at_once() {
    let _alone = alone().await;
    let (_cluster, quorate) = nodes(1).await;
    let nobody = quorate.run("bus request sum 1+2 --timeout 20s -o json").await;
    assert_eq!(nobody.expect(3).error_json()["reason"], "NO_SUBSCRIBERS");
    let mut command = quorate.command();
    command.args(["bus", "reply", "sum", "--queue-group", "g", "--count", "2", "--"]);
    command.args(["sh", "-c", "tr a-z A-Z"]);
    let mut answering = Running::start(command);
    answering.says("replying: sum").await;
    let listed = quorate.run("bus channels -o json").await.expect(0).json_lines();
    assert_eq!((&listed[0]["pattern"], &listed[0]["queue_groups"]), (&json!("sum"), &json!(1)));
    for text in ["hello", "again"] {
        let answer = quorate.run(&format!("bus request sum {text} --timeout 20s")).await.expect(0);
        assert_eq!(answer.text(), text.to_uppercase());
    }
    let (status, _, said) = answering.ended().await;
    assert_eq!(status, 0, "{said}");
    // Who subscribes and does not answer.
    let silent = subscribed(&quorate, "sum").await;
    let late = quorate.run("bus request sum x --timeout 500ms -o json").await;
    assert_eq!(late.expect(6).error_json()["reason"], "NO_REPLY");
    drop(silent);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let _alone = alone().await;
    let (_cluster, quorate) = nodes(1).await;
    quorate.run("bus sub [").await.expect(1).expect_stderr("INVALID_PATTERN");
    let none = quorate.run("bus sub c --count 1 --timeout 300ms -o json").await;
    assert_eq!(none.expect(1).text(), "");
    let json = r#"{"then": [{"op": "set", "key": "k", "value": "v"},
                            {"op": "publish", "channel": "c", "payload": "said"}]}"#;
    let subscriber = subscribed(&quorate, "c --count 1 --timeout 60s").await;
    let arguments = ["txn", "-"].map(Into::into);
    quorate.run_with(&arguments, Some(json.as_bytes())).await.expect(0);
    let (status, out, said) = subscriber.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(out.contains(r#""payload":"said""#), "{out}");
}
