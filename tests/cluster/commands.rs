//! The commands of DESIGN's list, with their exit statuses and JSON.

use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Ended, Quorate, alone};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[tokio::test]
async fn kv_watch_writes_a_line_for_each_change() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(1).await.expect("a node starts");
    cluster.wait_ready().await.expect("it leads");
    let quorate = Quorate::of(&cluster);
    let run = async |line: &str| -> Ended { quorate.run(line).await };
    let set = async |line: &str| -> u64 {
        run(&format!("{line} -o json")).await.expect(0).json()["revision"].as_u64().expect("when")
    };

    let first = set("kv set user.1 a --ttl 60s").await;
    set("kv set other x").await;
    let second = set("kv set user.2 b").await;
    let third = set("kv del user.1").await;
    let watched =
        run(&format!("kv watch user.* --from-revision {first} --count 3")).await.expect(0);
    assert_eq!(
        watched.text(),
        format!("{first}\tset\tuser.1\ta\n{second}\tset\tuser.2\tb\n{third}\tdeleted\tuser.1\n")
    );
    let before = first - 1;
    assert!(watched.stderr.contains(&format!("behind revision {before}")), "{watched:?}");

    let line = format!("kv watch --key user.1 --from-revision {first} --count 2 -o json");
    assert_eq!(
        run(&line).await.expect(0).json_lines(),
        [
            json!({ "revision": first, "change": "set", "key": "user.1", "value": "a", "version": 1,
                "create_revision": first, "ttl_ms": 60_000 }),
            json!({ "revision": third, "change": "deleted", "key": "user.1" }),
        ]
    );
    let line = format!("kv watch --prefix user.2 --keys-only --from-revision {first} --count 1");
    assert_eq!(run(&line).await.expect(0).text(), format!("{second}\tset\tuser.2\n"));

    // Fewer than asked for, in the time that was allowed.
    let line = format!("kv watch user.* --from-revision {second} --count 3 --timeout 1s");
    let few = run(&line).await.expect(1).expect_stderr("fewer than 3 changes");
    assert_eq!(few.text().lines().count(), 2, "what there was is written");

    // From now on, in another process: what is written after it says that it has begun is seen.
    let mut watch = quorate.command();
    watch.args(["kv", "watch", "live.*", "--count", "1", "--timeout", "60s"]);
    let mut watch = watch.spawn().expect("it starts");
    let mut said = String::new();
    let mut stderr = BufReader::new(watch.stderr.take().expect("piped"));
    stderr.read_line(&mut said).await.expect("it says when it has begun");
    assert!(said.starts_with("watching behind revision "), "{said}");
    let live = set("kv set live.1 now").await;
    let ended = watch.wait_with_output().await.expect("it ends");
    assert!(ended.status.success());
    assert_eq!(String::from_utf8_lossy(&ended.stdout), format!("{live}\tset\tlive.1\tnow\n"));
}

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> =
        value.as_object().expect("it is an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn key_value_commands_have_their_output_and_exit_status() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let quorate = Quorate::of(&cluster);
    let run = async |line: &str| -> Ended { quorate.run(line).await };

    // Set and get, on conditions too.
    assert_eq!(run("kv set k one").await.expect(0).text(), "version 1\n");
    assert_eq!(run("kv get k").await.expect(0).stdout, b"one");
    assert_eq!(run("kv set k two --if-version 1").await.expect(0).text(), "version 2\n");
    let refused = run("kv set k three --if-version 1").await.expect(4);
    assert!(
        refused.stdout.is_empty() && refused.stderr.contains("CONDITION_FAILED"),
        "{refused:?}"
    );
    run("kv set k three --if-absent").await.expect(4);
    run("kv set new v --if-absent").await.expect(0);
    assert_eq!(run("kv get k --stale").await.expect(0).stdout.len(), 3);

    // What is not there.
    let missing = run("kv get none").await.expect(3);
    assert!(missing.stdout.is_empty() && missing.stderr.contains("none"), "{missing:?}");
    assert_eq!(run("kv del k").await.expect(0).text(), "deleted\n");
    assert_eq!(run("kv del k").await.expect(0).text(), "there was none\n");

    // Numbers.
    assert_eq!(run("kv incr n").await.expect(0).text(), "1\n");
    assert_eq!(run("kv incr n --by 41").await.expect(0).text(), "42\n");
    assert_eq!(run("kv incr n --by -50").await.expect(0).text(), "-8\n");
    run("kv incr new").await.expect(1).expect_stderr("NOT_A_NUMBER");
    run("kv set max 9223372036854775807").await.expect(0);
    run("kv incr max").await.expect(1).expect_stderr("OVERFLOW");

    // Exact bytes, from stdin and back, in both outputs.
    let every_byte: Vec<u8> = (0..=255).collect();
    let set: Vec<OsString> = ["kv", "set", "bytes", "-"].map(OsString::from).to_vec();
    quorate.run_with(&set, Some(&every_byte)).await.expect(0);
    assert_eq!(run("kv get bytes").await.expect(0).stdout, every_byte);
    let answer = run("kv get bytes -o json").await.expect(0).json();
    assert!(answer["value_base64"].as_str().is_some_and(|text| text.starts_with("AAECAwQF")));
    assert_eq!(answer["value"], Value::Null);
    quorate.run_with(&set, Some(b"")).await.expect(0);
    assert_eq!(run("kv get bytes").await.expect(0).stdout, b"");
    let strange =
        OsString::from_vec(vec![0xff, 0x00, 0x20].into_iter().filter(|b| *b != 0).collect());
    let set: Vec<OsString> = vec!["kv".into(), "set".into(), strange.clone(), "v".into()];
    quorate.run_with(&set, None).await.expect(0);
    let get: Vec<OsString> = vec!["kv".into(), "get".into(), strange];
    assert_eq!(quorate.run_with(&get, None).await.expect(0).stdout, b"v");

    // A ttl shows and passes.
    run("kv set brief v --ttl 30s").await.expect(0);
    let brief = run("kv get brief -o json").await.expect(0).json();
    let left = brief["remaining_ttl_ms"].as_u64().expect("it has a ttl");
    assert!((1..=30_000).contains(&left), "{brief}");

    // Used in a way it can't be.
    for line in
        ["kv set k", "kv frobnicate", "kv set k v --ttl 30", "kv get k --timeout 5", "nonsense"]
    {
        let refused = run(line).await.expect(2);
        assert!(!refused.stderr.is_empty(), "{line} is refused without a word");
    }
    run("kv set k v --ttl 30").await.expect_stderr("30s");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn json_has_the_promised_shapes() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let quorate = Quorate::of(&cluster);

    let set = quorate.run("kv set k v -o json").await.expect(0).json();
    assert_eq!(keys(&set), ["key", "revision", "version"]);
    assert_eq!((&set["key"], &set["version"]), (&json!("k"), &json!(1)));
    assert!(set["revision"].as_u64().is_some_and(|revision| revision < 1 << 53));
    let get = quorate.run("kv get k -o json").await.expect(0).json();
    assert_eq!(keys(&get), ["create_revision", "key", "mod_revision", "value", "version"]);
    assert_eq!(get["mod_revision"], set["revision"]);
    let incr = quorate.run("kv incr n -o json").await.expect(0).json();
    assert_eq!(keys(&incr), ["key", "revision", "value", "version"]);
    assert_eq!(incr["value"], 1);
    let del = quorate.run("kv del k -o json").await.expect(0).json();
    assert_eq!(keys(&del), ["deleted", "key", "revision"]);
    assert_eq!(del["deleted"], true);

    // Failures too: one object on stderr, nothing on stdout.
    let missing = quorate.run("kv get k -o json").await.expect(3);
    assert!(missing.stdout.is_empty());
    let error = missing.error_json();
    assert_eq!((&error["exit"], &error["reason"]), (&json!(3), &json!("NOT_FOUND")));
    quorate.run("kv set k v").await.expect(0);
    let refused = quorate.run("kv set k v --if-version 7 -o json").await.expect(4).error_json();
    assert_eq!((&refused["exit"], &refused["version"]), (&json!(4), &json!(1)));

    let status = quorate.run("cluster status -o json").await.expect(0).json();
    assert!(status["cluster_id"].as_str().is_some_and(|id| !id.is_empty()));
    assert!(status["term"].as_u64().is_some_and(|term| term > 0));
    assert_eq!(status["leader_id"], json!(leader));
    let nodes = status["nodes"].as_array().expect("nodes are a list");
    assert_eq!(
        nodes.iter().map(|node| node["node_id"].as_u64()).collect::<Vec<_>>(),
        [1, 2, 3].map(Some)
    );
    for node in nodes {
        for field in ["role", "applied", "committed", "last_log", "healthy"] {
            assert!(node.get(field).is_some(), "{field} is missing in {node}");
        }
        let leads = node["node_id"] == json!(leader);
        assert_eq!(node["role"], if leads { "leader" } else { "follower" }, "{node}");
        assert_eq!(node["healthy"], true, "{node}");
        assert!(node["applied"].is_u64() && node["last_log"].is_u64(), "{node}");
    }
    let members = quorate.run("cluster members -o json").await.expect(0).json();
    assert_eq!(keys(&members), ["cluster_id", "leader_id", "members", "plans"]);
    assert_eq!(members["plans"], json!([]));
    let members = members["members"].as_array().expect("members are a list");
    assert_eq!(members.len(), 3);
    for (member, id) in members.iter().zip(1..) {
        assert_eq!(member["node_id"], json!(id));
        assert_eq!(member["client_addr"], json!(cluster.client_addr(id).to_string()));
        assert_eq!(member["peer_addr"], json!(cluster.peer_addr(id).to_string()));
        assert_eq!(member["voter"], true);
    }

    // Every node answers for the whole cluster, and leadership can be handed over.
    for id in cluster.ids() {
        let one = Quorate::at(&[cluster.client_addr(id).to_string()]);
        let answer = one.run("cluster status -o json").await.expect(0).json();
        assert_eq!(answer["cluster_id"], status["cluster_id"]);
        assert_eq!(answer["answered_by"], json!(id));
    }
    let other = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    let at_leader = Quorate::at(&[cluster.client_addr(leader).to_string()]);
    let moved = at_leader.run(&format!("cluster transfer-leader {other} -o json")).await.expect(0);
    assert_eq!(moved.json(), json!({ "leader_id": other }));
    assert_eq!(cluster.wait_ready().await.expect("somebody leads"), other);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn no_node_and_no_answer_are_told_apart() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(1).await.expect("a node starts");
    cluster.wait_ready().await.expect("it leads itself");
    let quorate = Quorate::of(&cluster);

    // It takes the request and never answers: nobody knows what became of it.
    cluster.pause(1).await.expect("it can be paused");
    let lost = quorate.run("kv set k v --timeout 800ms -o json").await.expect(6);
    let error = lost.error_json();
    assert_eq!((&error["exit"], &error["reason"]), (&json!(6), &json!("NO_ANSWER")));
    // A read has no effect that could be unknown.
    quorate.run("kv get k --timeout 800ms").await.expect(5);
    cluster.resume(1).expect("it can be resumed");

    // Nobody is there: the write certainly did not happen.
    cluster.kill(1).await.expect("it can be killed");
    let refused = quorate.run("kv set k v --timeout 800ms").await.expect(5);
    assert!(refused.stderr.contains(&cluster.client_addr(1).to_string()), "{refused:?}");
    quorate.run("cluster status --timeout 800ms").await.expect(5);
    quorate.run("kv get k --endpoints nonsense").await.expect(2).expect_stderr("host:port");
}
