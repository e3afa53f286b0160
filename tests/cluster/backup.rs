//! Backups on the command line: made, checked, and become a cluster again; and a node that is
//! repaired.

use crate::running::{PATIENCE, nodes};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Quorate, alone, files_below, say, wait_until};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// The node's directory is emptied, and filled from a backup.
async fn restore(cluster: &ProcessCluster, quorate: &Quorate, file: &Path) -> Value {
    let node = cluster.ids()[0];
    let dir = cluster.data_dir(node);
    fs::remove_dir_all(&dir).expect("the directory can be removed");
    let line = restore_line(cluster, file);
    quorate.run_with(&line, None).await.expect(0).json()
}

fn restore_line(cluster: &ProcessCluster, file: &Path) -> Vec<OsString> {
    let node = cluster.ids()[0];
    let mut line: Vec<OsString> = vec!["backup".into(), "restore".into(), file.into()];
    for (flag, value) in [
        ("--node-id", node.to_string()),
        ("--client-listen", cluster.client_addr(node).to_string()),
        ("--peer-listen", cluster.peer_addr(node).to_string()),
        ("--http-listen", cluster.http_addr(node).to_string()),
    ] {
        line.extend([flag.into(), value.into()]);
    }
    line.extend(["--data-dir".into(), cluster.data_dir(node).into()]);
    line.extend(["-o".into(), "json".into()]);
    line
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_becomes_a_new_cluster_with_all_that_was_in_the_old_one() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    let run = async |line: &str| quorate.run(line).await.expect(0);
    run("kv set greeting hello").await;
    run("kv set shop:1 x --ttl 10m --namespace shop").await;
    run("cache set page cached --ttl 10m --tag t").await;
    run("queue push mail first --priority 9").await;
    run("queue push mail later --delay 1h").await;
    let pulled = run("queue pull mail -o json").await.json();
    assert_eq!(pulled["payload"], "first");
    let held = run("lock acquire leader --ttl 10m -o json").await.json();
    let token = held["token"].as_u64().expect("a token");
    let seen = run("kv set last one -o json").await.json()["revision"].as_u64().expect("when");

    // From any node; a follower has all that was acknowledged, too.
    let leader = cluster.leader().await.expect("one leads");
    let follower = *cluster.ids().iter().find(|id| **id != leader).expect("there are three");
    let from = Quorate::at(&[cluster.client_addr(follower).to_string()]);
    let file = cluster.directory().join("all.backup");
    let name = file.display().to_string();
    let saved = from.run(&format!("backup save {name} -o json")).await.expect(0).json();
    assert_eq!(saved["node_id"], follower);
    assert!(saved["revision"].as_u64() >= Some(seen), "{saved}");
    assert_eq!(saved["linearizable"], true);
    from.run(&format!("backup save {name}")).await.expect(2).expect_stderr("--force");
    let verified = quorate.run(&format!("backup verify {name} -o json")).await.expect(0).json();
    assert_eq!((&verified["ok"], &verified["checksum"]), (&json!(true), &saved["checksum"]));
    let info = quorate.run(&format!("backup info {name} -o json")).await.expect(0).json();
    assert_eq!(info["members"], json!([1, 2, 3]));
    let lines = cluster.directory().join("all.jsonl");
    let line = format!("backup save {} --format jsonl", lines.display());
    quorate.run(&line).await.expect(0);
    let lines = fs::read_to_string(&lines).expect("it is text");
    let kinds: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| line["type"].as_str().expect("a type").to_owned())
        .collect();
    let expected =
        ["header", "key", "key", "key", "lock", "queue", "job", "job", "cache_entry", "end"];
    assert_eq!(kinds, expected, "{lines}");

    // What happens after the backup is not in it; tokens and revisions must not come again.
    run("kv set late value").await;
    for _ in 0..3 {
        run("lock acquire other --ttl 10m").await;
        run("lock force-release other").await;
    }
    let old_id = info["cluster_id"].clone();
    cluster.terminate_all().await.expect("all stop");
    for id in [2, 3] {
        cluster.let_go(id).expect("it has ended");
    }
    let restored = restore(&cluster, &quorate, &file).await;
    assert_ne!(restored["cluster_id"], old_id);
    let again = quorate.run_with(&restore_line(&cluster, &file), None).await;
    again.expect(1).expect_stderr("already; choose an empty one");
    cluster.restart(1).await.expect("it starts");
    cluster.wait_ready().await.expect("it leads");

    let one = Quorate::of(&cluster);
    let run = async |line: &str| one.run(line).await.expect(0);
    assert_eq!(run("kv get greeting").await.text(), "hello");
    assert_eq!(run("kv get shop:1 --namespace shop").await.text(), "x");
    assert_eq!(run("cache get page").await.text(), "cached");
    one.run("kv get late").await.expect(3);
    let status = run("cluster status -o json").await.json();
    assert_eq!(status["cluster_id"], restored["cluster_id"]);
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(1));
    let revision = run("kv set new 1 -o json").await.json()["revision"].as_u64();
    assert!(revision > Some(seen + (1 << 43)), "{revision:?} after {seen}");
    // The session that held the lock stayed behind.
    let taken = run("lock acquire leader --ttl 1m -o json").await.json()["token"].as_u64();
    assert!(taken > Some(token + (1 << 39)), "{taken:?} after {token}");
    let watch = one.run("kv watch greeting --from-revision 4096 --timeout 5s").await.expect(1);
    watch.expect_stderr("COMPACTED");
    let stats = run("queue stats mail -o json").await.json();
    assert_eq!((&stats["leased"], &stats["delayed"]), (&json!(1), &json!(1)), "{stats}");
    // Its lease is as good as it was.
    let (job, lease) = (&pulled["id"], &pulled["lease"]);
    let (job, lease) = (job.as_str().expect("an id"), lease.as_str().expect("a lease"));
    run(&format!("queue ack mail {job} --lease {lease}")).await;
    let pushed = run("queue push mail fresh -o json").await.json();
    let fresh: u64 = pushed["id"].as_str().expect("an id").parse().expect("a number");
    assert!(fresh > job.parse::<u64>().expect("a number") + (1 << 39), "{fresh} after {job}");

    // Others join it.
    for _ in 0..2 {
        let node = cluster.join(&[]).expect("it is started");
        cluster.wait_listening(node).await.expect("it is admitted");
    }
    wait_until("both vote", PATIENCE, || async {
        let members = one.run("cluster members -o json").await.expect(0).json();
        let all = members["members"].as_array().expect("a list").clone();
        all.len() == 3 && all.iter().all(|member| member["voter"] == true)
    })
    .await;
    cluster.wait_same_state().await.expect("all hold the same");
    cluster.kill(1).await.expect("the restored one can go");
    let rest = Quorate::of(&cluster);
    assert_eq!(rest.run("kv get greeting --timeout 30s").await.expect(0).text(), "hello");
    rest.run("kv set greeting again --timeout 30s").await.expect(0);
    cluster.logs().assert_no_panics();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_cluster_without_a_quorum_can_be_saved() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    quorate.run("kv set k v").await.expect(0);
    cluster.wait_same_state().await.expect("all hold the same");
    for id in [2, 3] {
        cluster.kill(id).await.expect("it runs");
    }
    let file = cluster.directory().join("left.backup");
    let last = Quorate::at(&[cluster.client_addr(1).to_string()]);
    let line = format!("backup save {} --timeout 2s", file.display());
    last.run(&line).await.expect(5);
    assert!(!file.exists(), "what is not whole has no name");
    let saved = last.run(&format!("{line} --stale -o json")).await.expect(0).json();
    assert_eq!(saved["linearizable"], false);
    cluster.terminate_all().await.expect("it stops");
    for id in [2, 3] {
        cluster.let_go(id).expect("it has ended");
    }
    restore(&cluster, &quorate, &file).await;
    cluster.restart(1).await.expect("it starts");
    cluster.wait_ready().await.expect("it leads");
    assert_eq!(Quorate::of(&cluster).run("kv get k").await.expect(0).text(), "v");
    let partial = fs::read_dir(cluster.directory()).expect("it can be listed");
    let names = partial.map(|entry| entry.expect("readable").file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_good_backup_or_no_empty_directory_is_refused() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    quorate.run("kv set k v").await.expect(0);
    let file = cluster.directory().join("good.backup");
    quorate.run(&format!("backup save {}", file.display())).await.expect(0);
    let whole = fs::read(&file).expect("it can be read");
    let bad = cluster.directory().join("bad.backup");
    let target = cluster.directory().join("target");
    let refused = async |content: &[u8], why: &str| {
        fs::write(&bad, content).expect("it can be written");
        let line = format!("backup verify {}", bad.display());
        let said = quorate.run(&line).await.expect(1).expect_stderr(why);
        assert!(said.stderr.contains("bad.backup"), "{said:?}");
        let line = format!("backup restore {} --data-dir {}", bad.display(), target.display());
        quorate.run(&line).await.expect(1).expect_stderr(why);
        // Nothing would start on what there may be of it.
        if target.exists() {
            let line = format!("serve --data-dir {} --client-listen 127.0.0.1:0", target.display());
            quorate.run(&line).await.expect(1).expect_stderr("no identity.json");
            fs::remove_dir_all(&target).expect("it can be removed");
        }
    };
    refused(b"", "cut off").await;
    refused(b"{\"type\":\"header\"}\n", "does not begin as a backup does").await;
    refused(&whole[..whole.len() / 2], "cut off").await;
    refused(&[&whole[..], b"x"].concat(), "follows its end").await;
    let mut flipped = whole.clone();
    flipped[whole.len() * 2 / 3] ^= 4;
    refused(&flipped, "checksum").await;
    let mut newer = whole.clone();
    newer[15] = 9;
    refused(&newer, "newer version of quorate").await;

    // A good one, where it must not go.
    let into = async |dir: &Path, status: i32, why: &str| {
        let line = format!("backup restore {} --data-dir {}", file.display(), dir.display());
        quorate.run(&line).await.expect(status).expect_stderr(why);
    };
    let of_node = cluster.data_dir(1);
    into(&of_node, 1, "in use by process").await;
    fs::create_dir(&target).expect("it can be made");
    fs::write(target.join("mine.txt"), "mine").expect("it can be written");
    into(&target, 1, "holds \"mine.txt\"").await;
    assert_eq!(fs::read(target.join("mine.txt")).expect("it is there"), b"mine");
    assert_eq!(fs::read_dir(&target).expect("it can be listed").count(), 2, "and LOCK");
    quorate.run("kv get k").await.expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_damaged_state_is_repaired() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    for number in 0..50 {
        quorate.run(&format!("kv set key-{number} {}", "x".repeat(500))).await.expect(0);
    }
    let leader = cluster.leader().await.expect("one leads");
    let node = *cluster.ids().iter().find(|id| **id != leader).expect("there are three");
    // What is in memory only has no file to be damaged.
    cluster.terminate(node).await.expect("it stops");
    cluster.restart(node).await.expect("it starts");
    cluster.wait_same_state().await.expect("all hold the same");
    cluster.terminate(node).await.expect("it stops");
    let dir = cluster.data_dir(node);
    let state = files_below(&dir.join("groups/0/state"));
    let manifest = state.iter().find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
    });
    let manifest = manifest.expect("a database has a manifest");
    let mut bytes = fs::read(manifest).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(manifest, &bytes).expect("it can be written");
    cluster.spawn(node).expect("it can be started");
    let status = cluster.wait_exit(node).await.expect("it ends by itself");
    assert!(!status.success(), "{status}");
    say(cluster.logs().tails());

    quorate.run("kv set while away").await.expect(0);
    let line = format!("cluster repair --data-dir {}", dir.display());
    let repaired = quorate.run(&format!("{line} -o json")).await.expect(0).json();
    assert_eq!(repaired["node_id"], node);
    cluster.restart(node).await.expect("it starts");
    cluster.wait_same_state().await.expect("all hold the same");
    let own = Quorate::at(&[cluster.client_addr(node).to_string()]);
    assert_eq!(own.run("kv get while --stale").await.expect(0).text(), "away");
    // Not one that runs, nor one that is none, nor by another cluster.
    quorate.run(&line).await.expect(1).expect_stderr("in use by process");
    let nowhere = cluster.directory().join("nowhere");
    let line = format!("cluster repair --data-dir {}", nowhere.display());
    quorate.run(&line).await.expect(2).expect_stderr("there is no directory");
    fs::create_dir(&nowhere).expect("it can be made");
    quorate.run(&line).await.expect(1).expect_stderr("is no node's");
    cluster.terminate(node).await.expect("it stops");
    let (other, elsewhere) = nodes(1).await;
    let line = format!("cluster repair --data-dir {}", dir.display());
    elsewhere.run(&line).await.expect(2).expect_stderr("belongs to another cluster");
    drop(other);
    let log = files_below(&dir.join("log/db"));
    let manifest = log.iter().find(|path| path.to_string_lossy().contains("MANIFEST"));
    fs::write(manifest.expect("a database has a manifest"), "x").expect("it can be written");
    quorate.run(&line).await.expect(2).expect_stderr("cluster replace");
    fs::remove_dir_all(dir.join("log")).expect("it can be removed");
    quorate.run(&line).await.expect(2).expect_stderr("is gone");
    assert!(!dir.join("log").exists(), "nothing is made where something was lost");
    cluster.logs().assert_no_panics();
}
