//! Locks and sessions on the command line.

use crate::running::{PATIENCE, Running, nodes};
use nix::sys::signal::Signal;
use quorate_client::{Client, Error, TxnResult};
use quorate_tests::processes::{Quorate, alone, send, wait_until};
use serde_json::{Value, json};
use std::future::IntoFuture as _;
use std::time::Duration;

/// Takes a lock; answers the token and the session.
async fn acquire(quorate: &Quorate, arguments: &str) -> (u64, u64) {
    let got = quorate.run(&format!("lock acquire {arguments} -o json")).await.expect(0).json();
    let number = |name: &str| got[name].as_u64().expect("it is a number below 2^53");
    (number("token"), number("session"))
}

async fn inspect(quorate: &Quorate, name: &str) -> Value {
    quorate.run(&format!("lock inspect {name} -o json")).await.expect(0).json()
}

/// Waits until a lock looks like this.
async fn wait_for_lock(quorate: &Quorate, name: &str, so: impl Fn(&Value) -> bool) {
    wait_until(&format!("lock {name}"), PATIENCE, || async { so(&inspect(quorate, name).await) })
        .await;
}

fn run_script(quorate: &Quorate, options: &str, script: &str) -> Running {
    Running::script(quorate, "lock run", options, script)
}

#[tokio::test]
async fn a_lock_is_acquired_shown_renewed_and_released() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let got = quorate.run("lock acquire l --ttl 20s -o json").await.expect(0).json();
    let token = got["token"].as_u64().expect("it is a number");
    let session = got["session"].as_u64().expect("it is a number");
    let left = got["remaining_ms"].as_u64().expect("it is a number");
    assert!((1..=20_000).contains(&left), "{got}");
    assert_eq!((&got["name"], &got["ttl_ms"]), (&json!("l"), &json!(20_000)));

    // It outlives the command, and so does its session.
    let shown = inspect(&quorate, "l").await;
    let holder = &shown["holders"][0];
    assert_eq!((&shown["held"], &shown["waiters"]), (&json!(true), &json!(0)), "{shown}");
    assert_eq!((&holder["token"], &holder["session"]), (&got["token"], &got["session"]));
    assert_eq!((&holder["mode"], &holder["ttl_ms"]), (&json!("exclusive"), &json!(20_000)));
    let sessions = quorate.run("session list -o json").await.expect(0).json();
    let expected = json!({ "session": session, "ttl_ms": 20_000, "locks": 1, "keys": 0 });
    assert_eq!(sessions, expected);
    let renewed = quorate.run(&format!("lock renew l --token {token} -o json")).await.expect(0);
    let left = renewed.json()["remaining_ms"].as_u64().expect("it is a number");
    assert!((10_000..=20_000).contains(&left), "{left}");

    // Busy: at once, and after a wait that runs out. Nothing is left of those who did not get it.
    let busy = quorate.run("lock acquire l -o json").await.expect(4).error_json();
    assert_eq!((&busy["reason"], &busy["exit"]), (&json!("LOCK_HELD"), &json!(4)));
    let late = quorate.run("lock acquire l --wait 300ms").await.expect(4);
    assert!(late.took >= Duration::from_millis(300), "{late:?}");
    late.expect_stderr("timeout").expect_stderr("LOCK_WAIT_TIMEOUT");
    assert_eq!(inspect(&quorate, "l").await["waiters"], 0);
    let sessions = quorate.run("session list -o json").await.expect(0).json();
    assert_eq!(sessions["session"], session, "only one is left");

    // A stranger's token, and that of another lock, release nothing.
    let (other, _) = acquire(&quorate, "other --shared").await;
    for wrong in [other, token + 1_000] {
        let refused =
            quorate.run(&format!("lock release l --token {wrong} -o json")).await.expect(3);
        assert_eq!(refused.json()["released"], false);
        assert_eq!(refused.error_json()["exit"], 3);
        let lost = quorate.run(&format!("lock renew l --token {wrong} -o json")).await.expect(4);
        assert_eq!(lost.error_json()["reason"], "LOCK_LOST");
    }
    let listed = quorate.run("lock list -o json").await.expect(0).json_lines();
    let names: Vec<_> = listed.iter().map(|lock| &lock["name"]).collect();
    assert_eq!(names, ["l", "other"]);
    let table = quorate.run("lock list o*").await.expect(0).text();
    assert!(table.contains("other") && table.contains("shared"), "{table}");
    assert_eq!(table.lines().count(), 2, "{table}");

    let released = quorate.run(&format!("lock release l --token {token} -o json")).await.expect(0);
    assert_eq!(released.json(), json!({ "name": "l", "token": token, "released": true }));
    let free = inspect(&quorate, "l").await;
    assert_eq!(free, json!({ "name": "l", "held": false, "holders": [], "waiters": 0 }));
    quorate.run("lock force-release l").await.expect(3);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn what_comes_after_a_lock_was_lost_is_refused() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let (token, session) = acquire(&quorate, "l").await;
    let guard = format!("--guard l:{token}");
    quorate.run(&format!("kv set k 1 {guard}")).await.expect(0);
    let forced = quorate.run("lock force-release l -o json").await.expect(0).json();
    assert_eq!(forced["released"], 1);
    let (newer, _) = acquire(&quorate, "l").await;
    assert!(newer > token);

    let then = quorate.run(&format!("txn - {guard}")).await;
    assert_eq!(then.status, Some(2), "an empty document is none: {then:?}");
    for line in
        ["kv set k 2", "kv del k", "kv incr k", "kv incr k --by-float 1", "kv del-pattern *"]
    {
        let refused = quorate.run(&format!("{line} {guard} -o json")).await.expect(4).error_json();
        assert_eq!(refused["reason"], "LOCK_LOST", "{line}");
    }
    let document = br#"{"then": [{"op": "set", "key": "k", "value": "2"}]}"#;
    let txn = format!("txn|-|--guard|{}", &guard[8..]);
    quorate.run_apart(&txn, Some(document)).await.expect(4).expect_stderr("LOCK_LOST");
    assert_eq!(quorate.run("kv get k").await.expect(0).stdout, b"1");
    quorate.run_apart(&format!("txn|-|--guard|l:{newer}"), Some(document)).await.expect(0);
    assert_eq!(quorate.run("kv get k").await.expect(0).stdout, b"2");

    // One that nobody renews is over after its ttl.
    let (brief, _) = acquire(&quorate, "brief --ttl 200ms").await;
    wait_for_lock(&quorate, "brief", |lock| lock["held"] == false).await;
    let lost = quorate.run(&format!("lock renew brief --token {brief} -o json")).await.expect(4);
    assert_eq!(lost.error_json()["reason"], "LOCK_LOST");

    // A session that is closed takes its locks along, and is closed once.
    let (_, holder) = acquire(&quorate, "closed").await;
    assert_ne!(holder, session);
    let closed = quorate.run(&format!("session close {holder} -o json")).await.expect(0).json();
    assert_eq!(closed, json!({ "session": holder, "closed": true }));
    assert_eq!(inspect(&quorate, "closed").await["held"], false);
    quorate.run(&format!("session close {holder}")).await.expect(3);

    // Out of bounds, and malformed: words, and nothing is done.
    for (line, says) in [
        ("lock acquire l --ttl 0s", "no time"),
        ("lock acquire l --ttl 2h", "at most 1h"),
        ("lock acquire l --ttl 30", "30s"),
        ("lock release l", "--token"),
        ("lock release l --token x", "x"),
        ("lock run l", "CMD"),
        ("kv set k v --guard l", "report:17"),
        ("session close x", "x"),
    ] {
        quorate.run(line).await.expect(2).expect_stderr(says);
    }
    let long = "n".repeat(1_025);
    quorate
        .run(&format!("lock inspect {long}"))
        .await
        .expect(1)
        .expect_stderr("LOCK_NAME_TOO_LONG");
    quorate
        .run(&format!("lock acquire {long}"))
        .await
        .expect(1)
        .expect_stderr("LOCK_NAME_TOO_LONG");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn what_a_transaction_took_is_adopted_and_released_like_any_other() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let client = Client::builder().endpoints(cluster.endpoints()).connect();
    let client = client.expect("the options are right");
    let locks = client.locks();
    let ttl = Duration::from_secs(1);
    let taken =
        client.txn().acquire_lock("l", ttl).set("k", "1").acquire_permit("p", ttl, 3).commit();
    let taken = taken.await.expect("both are free");
    let tokens = (taken.fencing_token(0), taken.fencing_token(1), taken.fencing_token(2));
    let (Some(l), None, Some(p)) = tokens else { panic!("{taken:?}") };

    let lock = locks.adopt("l", l).await.expect("it is held");
    assert_eq!((lock.name(), lock.fencing_token()), ("l", l));
    assert_eq!((lock.revision(), Some(lock.session_id())), (taken.revision, taken.session_id));
    assert!(lock.remaining() <= ttl && !lock.is_lost(), "{lock:?}");
    // What was not adopted ends with its ttl; by then the other one had to be renewed.
    wait_for_lock(&quorate, "p", |lock| lock["held"] == false).await;
    client.kv().set("k", "2").guard(&lock.guard()).await.expect("it is renewed");
    assert!(!lock.is_lost());
    for (name, token) in [("p", p), ("l", p), ("none", l)] {
        let error = locks.adopt(name, token).await.expect_err("it is not held under that token");
        assert!(matches!(error, Error::LockLost { .. }), "{name} {error:?}");
        assert_eq!(error.reason(), "LOCK_LOST");
        assert!(error.message().contains(&format!("{name:?} is not held under token {token}")));
    }

    // A write and the release, in one step, for the one who waits.
    let waits = tokio::spawn(locks.acquire("l").wait(PATIENCE).into_future());
    wait_for_lock(&quorate, "l", |lock| lock["waiters"] == 1).await;
    let refused = client.txn().acquire_lock("m", ttl).acquire_lock("l", ttl).commit().await;
    let refused = refused.expect_err("it is held");
    assert!(matches!(refused, Error::NotAcquired { .. }), "{refused:?}");
    let guard = lock.guard();
    let done = client.txn().when_lock_held(&guard).set("k", "3").release_lock(&guard).commit();
    let done = done.await.expect("it is answered");
    assert_eq!(done.results[1], TxnResult::LockReleased { released: true });
    let next = waits.await.expect("it does not panic").expect("it is its turn");
    assert!(next.fencing_token() > l);
    let _token = lock.leave();
    let free = client.txn().when_lock_free("m").when_lock_held(&guard).or_get("k").commit().await;
    let free = free.expect("it is answered");
    assert_eq!(free.failed_condition, Some(1));
    assert_eq!(free.entry(0).map(|entry| &entry.value[..]), Some(&b"3"[..]));

    // An idempotency key is no session.
    let error = client.txn().acquire_lock("m", ttl).idempotency_key("key").commit().await;
    assert_eq!(error.expect_err("nobody would hold it").reason(), "NO_SESSION");
    client.close().await.expect("it is closed");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_lock_that_is_dropped_is_given_back_without_another_session() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let client = Client::builder().endpoints(cluster.endpoints()).connect();
    let client = client.expect("the options are right");
    let lock = client.locks().acquire("l").no_wait().await.expect("it is free");
    drop(lock);
    wait_for_lock(&quorate, "l", |lock| lock["held"] == false).await;
    // What is dropped as the client is closed must not open a session that nobody closes.
    let lock = client.locks().acquire("l").no_wait().await.expect("it was given back");
    drop(lock);
    client.close().await.expect("the node is there");
    assert_eq!(inspect(&quorate, "l").await["held"], false);
    assert_eq!(quorate.run("session list -o json").await.expect(0).text(), "");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_watch_has_a_line_for_each_change() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let mut command = quorate.command();
    command.args(["lock", "watch", "l", "--count", "3", "-o", "json"]);
    let mut running = Running::start(command);
    let shown = |line: String| serde_json::from_str::<Value>(&line).expect("it is JSON");
    assert_eq!(shown(running.line().await)["held"], false);
    let (token, _) = acquire(&quorate, "l").await;
    assert_eq!(shown(running.line().await)["holders"][0]["token"], token);
    quorate.run(&format!("lock release l --token {token}")).await.expect(0);
    assert_eq!(shown(running.line().await)["held"], false);
    let (status, rest, said) = running.ended().await;
    assert_eq!((status, &rest[..]), (0, ""), "{said}");

    let late = quorate.run("lock watch l --count 2 --timeout 300ms").await.expect(1);
    assert_eq!(late.text(), "free\n");
    late.expect_stderr("timeout");
    // Without a count it just ends.
    assert_eq!(quorate.run("lock watch l --timeout 300ms").await.expect(0).text(), "free\n");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_command_runs_under_a_lock_that_is_kept_for_it() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    // Longer than its ttl, so that it has to be renewed.
    let script =
        "echo $QUORATE_LOCK_NAME $QUORATE_FENCING_TOKEN $QUORATE_ENDPOINTS; read x; exit 7";
    let mut command = quorate.command();
    command.args(["lock", "run", "l", "--ttl", "300ms", "--", "sh", "-c", script]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::start(command);
    let said = running.line().await;
    let words: Vec<&str> = said.split(' ').collect();
    let holder = inspect(&quorate, "l").await["holders"][0].clone();
    let token = holder["token"].to_string();
    assert_eq!(words, ["l", &token[..], &cluster.endpoints().join(",")[..]]);
    wait_for_lock(&quorate, "l", |lock| {
        lock["holders"][0]["held_ms"].as_u64().is_some_and(|held_ms| held_ms > 900)
    })
    .await;
    assert_eq!(inspect(&quorate, "l").await["holders"][0]["token"], holder["token"]);
    // Another one does not run meanwhile.
    let busy = quorate.run("lock run l -- echo ran").await.expect(4);
    assert_eq!(busy.text(), "");
    drop(running.child.stdin.take());
    let (status, _, stderr) = running.ended().await;
    assert_eq!((status, &stderr[..]), (7, ""));
    // Given back, and its session with it.
    assert_eq!(inspect(&quorate, "l").await["held"], false);
    assert_eq!(quorate.run("session list -o json").await.expect(0).text(), "");

    quorate.run("lock run l -- true").await.expect(0);
    quorate.run("lock run l -- no-such-command").await.expect(127);
    let denied = quorate.run("lock run l -o json -- /etc/passwd").await.expect(126);
    assert_eq!(denied.error_json()["reason"], "COMMAND_NOT_EXECUTABLE");
    assert_eq!(inspect(&quorate, "l").await["held"], false);

    // Signals are passed on; a command that dies of one has the status a shell gives it.
    let trap = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    for (script, status, says) in [(trap, 3, "got it\n"), ("echo ready; exec sleep 600", 143, "")] {
        let mut running = run_script(&quorate, "l", script);
        assert_eq!(running.line().await, "ready");
        send(&running.child, Signal::SIGTERM);
        let (got, rest, said) = running.ended().await;
        assert_eq!((got, &rest[..]), (status, says), "{said}");
        assert_eq!(inspect(&quorate, "l").await["held"], false);
    }

    // One that still waits for the lock is gone at once, and from the queue too.
    let (token, _) = acquire(&quorate, "l").await;
    let running = run_script(&quorate, "l --wait 1m", "echo ran");
    wait_for_lock(&quorate, "l", |lock| lock["waiters"] == 1).await;
    send(&running.child, Signal::SIGINT);
    let (status, rest, _) = running.ended().await;
    assert_eq!((status, &rest[..]), (130, ""));
    assert_eq!(inspect(&quorate, "l").await["waiters"], 0);

    // And one that waits runs as soon as it may.
    let mut running = run_script(&quorate, "l --wait 1m", "echo ran");
    wait_for_lock(&quorate, "l", |lock| lock["waiters"] == 1).await;
    quorate.run(&format!("lock release l --token {token}")).await.expect(0);
    assert_eq!(running.line().await, "ran");
    assert_eq!(running.ended().await.0, 0);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_command_whose_lock_is_lost_is_ended() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    // What it has started is ended as well, also where it does not heed the first signal.
    let deaf = "trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done";
    let parent = "echo ready; sleep 600; echo done";
    for (script, says) in [(parent, ""), (deaf, "told\n")] {
        let mut running = run_script(&quorate, "l --ttl 600ms", script);
        assert_eq!(running.line().await, "ready");
        quorate.run("lock force-release l").await.expect(0);
        let (status, rest, said) = running.ended().await;
        assert_eq!((status, &rest[..]), (125, says), "{said}");
        // The shell may have said something about its child before.
        let last = said.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).expect("it is one JSON object");
        assert_eq!((&error["reason"], &error["exit"]), (&json!("LOCK_LOST"), &json!(125)));
    }

    // One that was done before it could be told: that it had no lock at the end is said as well.
    let mut command = quorate.command();
    command.args(["lock", "run", "l", "--ttl", "1h", "--", "sh", "-c", "echo ready; read x"]);
    command.stdin(std::process::Stdio::piped());
    let mut running = Running::start(command);
    assert_eq!(running.line().await, "ready");
    quorate.run("lock force-release l").await.expect(0);
    drop(running.child.stdin.take());
    let (status, _, said) = running.ended().await;
    assert_eq!(status, 125);
    assert!(said.contains("was lost"), "{said}");
    cluster.logs().assert_no_panics();
}
