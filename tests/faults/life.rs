//! Kills at random moments of what happens in a cluster's life: a snapshot is sent and installed, log
//! is purged (all the time), a backup is saved or restored, a node is repaired (`QUORATE_LIFE_KILLS`;
//! those of membership changes are in `membership.rs`). The node always opens again, nothing that was
//! acknowledged is lost, and what is not whole never looks as if it were.

use quorate_testkit::load::{Load, Plan, wait_healthy};
use quorate_testkit::process::{NodeId, PortLease, ProcessCluster};
use quorate_tests::processes::{
    Quorate, alone, number, purged_past, say, seed, status_of, wait_until,
};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Child;

/// Far more than a step takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a leader writes to its log when it begins to send a snapshot.
const SENDING: &str = "sending a snapshot";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_killed_in_installs_purges_backups_and_restores() {
    let _alone = alone().await;
    let seed = seed("faults", "life::nodes_are_killed_in_installs_purges_backups_and_restores");
    let mut random = SmallRng::seed_from_u64(seed);
    let options = ProcessCluster::options(3)
        // As little log as can be, so that it is purged all the time.
        .arg("--storage-snapshot-log-bytes=65536")
        .arg("--storage-log-keep-entries=10")
        // As slow as can be, so that there is time to be killed in.
        .arg("--storage-snapshot-send-bytes-per-second=1048576");
    let mut cluster = options.start().await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let quorate = Quorate::of(&cluster);
    // Something to send: some 2 MB that don't compress.
    for key in 0..40 {
        let value: String =
            (0..50_000).map(|_| char::from(random.random_range(b'!'..b'~'))).collect();
        let line = format!("kv|set|large-{key}|-");
        quorate.run_apart(&line, Some(value.as_bytes())).await.expect(0);
    }
    let good = cluster.directory().join("good.backup");
    quorate.run(&format!("backup save {}", good.display())).await.expect(0);
    let plan = Plan { writers: 4, value_bytes: 1_000, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
    // Of programs that may have ended before it came to that.
    let mut cut = 0;
    let rounds = number("QUORATE_LIFE_KILLS", 5_u64);
    for round in 0..rounds {
        match round % 5 {
            0 => {
                install(&mut cluster, &mut random).await;
            }
            1 => {
                let node = any(&cluster, &mut random);
                moment(&mut random, 400).await;
                cluster.kill(node).await.expect("it runs");
                cluster.restart(node).await.expect("it opens again");
            }
            2 => {
                cut += save(&mut cluster, &quorate, &mut random, round).await;
            }
            3 => {
                cut += repair(&mut cluster, &quorate, &mut random).await;
            }
            _ => {
                cut += restore(&cluster, &quorate, &mut random, &good, round).await;
            }
        }
        wait_healthy(&mut cluster).await.expect("all nodes are well");
        load.wait_for(20, PATIENCE).await.expect("writes go on");
    }
    let ledgers = load.stop().await.expect("no writer saw a broken promise");
    cluster.wait_same_state().await.expect("all nodes hold the same");
    let totals = ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
    let all = quorate.run("kv list --prefix large- --count").await.expect(0);
    assert_eq!(all.text().trim(), "40");
    cluster.logs().assert_no_panics();
    say(format!(
        "{rounds} rounds; {cut} commands were killed before their end; {} writes were acknowledged, and \
         are there",
        totals.acknowledged
    ));
}

fn any(cluster: &ProcessCluster, random: &mut SmallRng) -> NodeId {
    let ids = cluster.ids();
    ids[random.random_range(0..ids.len())]
}

/// Some moment, which is what the test is about.
async fn moment(random: &mut SmallRng, millis: u64) {
    tokio::time::sleep(Duration::from_millis(random.random_range(0..=millis))).await;
}

/// Whoever repairs a node dies; the next one does it.
async fn repair(cluster: &mut ProcessCluster, quorate: &Quorate, random: &mut SmallRng) -> usize {
    let mut cut = 0;
    let node = any(cluster, random);
    cluster.kill(node).await.expect("it runs");
    let dir = cluster.data_dir(node);
    let current = dir.join("groups/0/state/CURRENT");
    fs::write(&current, "nonsense").expect("it can be damaged");
    let arguments: Vec<OsString> =
        vec!["cluster".into(), "repair".into(), "--data-dir".into(), dir.clone().into()];
    for _ in 0..2 {
        let mut repairing = begin(quorate, &arguments);
        moment(random, 500).await;
        cut += usize::from(cut_off(&mut repairing).await);
    }
    quorate.run_with(&arguments, None).await.expect(0);
    cluster.restart(node).await.expect("it opens again");
    cut
}

/// A follower is away until it needs a snapshot, and it or the leader dies while that is sent.
async fn install(cluster: &mut ProcessCluster, random: &mut SmallRng) {
    let leader = cluster.leader().await.expect("one leads");
    let others: Vec<NodeId> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let follower = others[random.random_range(0..others.len())];
    cluster.kill(follower).await.expect("it runs");
    let had = status_of(cluster, leader, leader).await.last_log.expect("there were writes");
    purged_past(cluster, leader, had).await;
    // Whoever leads by then.
    let log = cluster.logs();
    let sent = || log.lines_with(SENDING).expect("the log can be read").len();
    let before = sent();
    cluster.spawn(follower).expect("it is started");
    wait_until("a snapshot is being sent", PATIENCE, || {
        let begun = sent() > before;
        async move { begun }
    })
    .await;
    moment(random, 3_000).await;
    let leader = cluster.leader().await.unwrap_or(leader);
    let victim = if random.random_bool(0.7) { follower } else { leader };
    cluster.kill(victim).await.expect("it runs");
    cluster.restart(victim).await.expect("it opens again");
}

/// A node, or whoever saves, dies while a backup is saved.
async fn save(
    cluster: &mut ProcessCluster,
    quorate: &Quorate,
    random: &mut SmallRng,
    round: u64,
) -> usize {
    let mut cut = false;
    let node = any(cluster, random);
    let file = cluster.directory().join(format!("round-{round}.backup"));
    let own = Quorate::at(&[cluster.client_addr(node).to_string()]);
    let mut saving = begin(&own, &["backup".into(), "save".into(), file.clone().into()]);
    moment(random, 150).await;
    if random.random_bool(0.5) {
        cluster.kill(node).await.expect("it runs");
        saving.wait().await.expect("it ends by itself");
        cluster.restart(node).await.expect("it opens again");
    } else {
        cut = cut_off(&mut saving).await;
    }
    if file.exists() {
        quorate.run(&format!("backup verify {}", file.display())).await.expect(0);
    }
    // What was begun does not stand in the way.
    let line = format!("backup save {} --force", file.display());
    quorate.run(&line).await.expect(0);
    fs::remove_file(&file).expect("it can be removed");
    usize::from(cut)
}

/// Whoever restores dies. The directory is a whole node's, or nobody's.
async fn restore(
    cluster: &ProcessCluster,
    quorate: &Quorate,
    random: &mut SmallRng,
    good: &Path,
    round: u64,
) -> usize {
    let dir: PathBuf = cluster.directory().join(format!("restored-{round}"));
    let arguments: Vec<OsString> = vec![
        "backup".into(),
        "restore".into(),
        good.into(),
        "--data-dir".into(),
        dir.clone().into(),
    ];
    let mut restoring = begin(quorate, &arguments);
    moment(random, 400).await;
    let cut = cut_off(&mut restoring).await;
    let again = quorate.run_with(&arguments, None).await;
    if dir.join("identity.json").exists() {
        if again.status == Some(1) {
            again.expect_stderr("is that of node 1 already");
        }
        serves(quorate, &dir).await;
    } else {
        again.expect(1).expect_stderr("no identity.json");
    }
    fs::remove_dir_all(&dir).expect("it can be removed");
    usize::from(cut)
}

/// Kills a command; whether it had not ended by itself.
async fn cut_off(command: &mut Child) -> bool {
    let ended = command.try_wait().expect("the system tells").is_some();
    command.kill().await.expect("it is ours");
    !ended
}

/// A node starts on a directory, and has what was restored.
async fn serves(quorate: &Quorate, dir: &Path) {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut arguments: Vec<OsString> = vec!["serve".into(), "--data-dir".into(), dir.into()];
    for flag in ["--client-listen=127.0.0.1:0", "--http-listen=127.0.0.1:0"] {
        arguments.push(flag.into());
    }
    let mut port = PortLease::take().expect("a port is free");
    arguments.push(format!("--peer-listen={}", port.addr()).into());
    arguments.extend(["-o".into(), "json".into()]);
    port.release_socket();
    let mut node = begin(quorate, &arguments);
    let mut line = String::new();
    let stdout = node.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).await.expect("it says where it listens");
    let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let client = said["client"].as_str().expect("an address").to_owned();
    let own = Quorate::at(&[client]);
    let count = own.run("kv list --prefix large- --count --timeout 30s").await.expect(0);
    assert_eq!(count.text().trim(), "40");
    node.kill().await.expect("it is ours");
}

fn begin(quorate: &Quorate, arguments: &[OsString]) -> Child {
    let mut command = quorate.command();
    command.args(arguments);
    command.spawn().expect("it can be started")
}
