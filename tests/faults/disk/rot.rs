//! Files that change by themselves while a node runs: what it reads of them later is never served, and
//! never sent.

use super::SMALL;
use quorate_client::{Client, Routing};
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::{Consistency, GetRequest};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::{LogScan, NodeId, ProcessCluster};
use quorate_tests::processes::{alone, files_below, purged_past, say, status_of};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Request, Status};

const KEYS: u64 = 400;
const VALUE_BYTES: u64 = 2_000;
const SOON: Duration = Duration::from_secs(30);

async fn start() -> ProcessCluster {
    let mut options = ProcessCluster::options(3).deadline(Duration::from_secs(60));
    for argument in SMALL {
        options = options.arg(argument);
    }
    let mut cluster = options.start().await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    cluster
}

/// What a key holds after so many rounds of writing.
fn value(key: u64, round: u64) -> Vec<u8> {
    let mut value = format!("{key} in round {round} ").into_bytes();
    let seed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round;
    // Compression would make a table of two blocks of it.
    value.extend((0..VALUE_BYTES).map(|at| seed.wrapping_mul(at * at + 7).to_be_bytes()[2]));
    value
}

async fn write(client: &Client, round: u64) {
    for key in 0..KEYS {
        client.kv().set(key.to_string(), value(key, round)).await.expect("a write");
    }
}

fn client(cluster: &ProcessCluster) -> Client {
    let client = Client::builder().endpoints(cluster.endpoints()).routing(Routing::AnyNode);
    client.request_timeout(SOON).connect().expect("the options are right")
}

/// One node alone, which answers from what it has. Our own client would ask another one.
struct One(KvServiceClient<Channel>);

impl One {
    async fn of(cluster: &ProcessCluster, id: NodeId) -> Self {
        let uri = format!("http://{}", cluster.client_addr(id));
        Self(KvServiceClient::connect(uri).await.expect("it listens"))
    }

    /// What it has of a key, if that is what was written in this round.
    async fn get(&mut self, key: u64, round: u64) -> Result<(), Status> {
        let mut request = Request::new(GetRequest {
            key: key.to_string().into_bytes().into(),
            consistency: Consistency::Stale.into(),
            ..GetRequest::default()
        });
        request.set_timeout(Duration::from_secs(10));
        let entry = self.0.get(request).await?.into_inner().entry;
        let entry = entry.unwrap_or_else(|| panic!("key {key} is said to be absent"));
        assert!(entry.value[..] == value(key, round)[..], "key {key} is served wrong");
        Ok(())
    }
}

fn tables(directory: &Path) -> Vec<PathBuf> {
    let mut tables = files_below(directory);
    tables.retain(|file| file.extension().is_some_and(|ending| ending == "sst"));
    tables
}

/// Flips a bit in each 2 KiB of a file, in place. False when it is gone: its node makes one table of
/// several when it likes.
fn rot(path: &Path) -> bool {
    let file = match fs::File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return false,
        opened => opened.expect("it opens"),
    };
    let length = file.metadata().expect("it is there").len();
    for at in (20..length).step_by(2 << 10) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it can be read");
        file.write_all_at(&[byte[0] ^ 8], at).expect("it can be written");
    }
    true
}

/// Damages a snapshot's own copy of a file: the state keeps its own. Nothing when it is gone: its node
/// removes a snapshot when it has a newer one, at any moment of this.
fn rot_copy(path: &Path) {
    let parted = fs::read(path).and_then(|content| {
        fs::remove_file(path)?;
        fs::write(path, content)
    });
    match parted {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        parted => {
            parted.expect("it can be read, removed and written");
            rot(path);
        }
    }
}

fn follower(cluster: &ProcessCluster, leader: NodeId) -> NodeId {
    *cluster.ids().iter().find(|id| **id != leader).expect("there are three")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_damaged_under_a_node_is_not_served() {
    let _alone = alone().await;
    let mut cluster = start().await;
    let all = client(&cluster);
    write(&all, 0).await;
    cluster.wait_same_state().await.expect("all nodes have it");
    let leader = cluster.leader().await.expect("there is one");
    let id = follower(&cluster, leader);
    // From here on nothing of it is in memory but what its memtable holds.
    cluster.restart(id).await.expect("it starts");
    wait_healthy(&mut cluster).await.expect("it is well");
    // Before the damage: the first to meet it may be a snapshot that the node takes, and then it ends.
    let mut one = One::of(&cluster, id).await;
    let tables = tables(&cluster.data_dir(id).join("groups/0/state"));
    let damaged = tables.iter().filter(|table| rot(table)).count();
    assert!(damaged > 0, "it has no table files");
    let mut served = 0;
    while served < KEYS {
        if let Err(error) = one.get(served, 0).await {
            say(format!("after {served} right answers, key {served}: {error}"));
            break;
        }
        served += 1;
    }
    assert!(served < KEYS, "nothing of what was damaged was read");
    let status = cluster.wait_exit(id).await.expect("it ends by itself");
    assert_eq!(status.code(), Some(1), "it ended with {status}");
    // All of the line: what to do stands at its end.
    let log = fs::read_to_string(cluster.log_path(id)).expect("it has a log");
    let last = log.lines().rfind(|line| line.starts_with("quorate: ")).expect("it says why");
    say(last);
    assert!(last.contains("corrupt data in") && last.contains("cluster repair"), "{last}");
    assert!(last.contains(".sst"), "it does not name the file: {last}");
    // The others go on.
    write(&all, 1).await;
    cluster.logs().assert_no_panics();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_damaged_on_its_senders_disk_is_taken_anew() {
    let _alone = alone().await;
    let mut cluster = start().await;
    let all = client(&cluster);
    write(&all, 0).await;
    let leader = cluster.leader().await.expect("there is one");
    let id = follower(&cluster, leader);
    let log = LogScan::new([cluster.log_path(leader)]);
    let mut noticed = Vec::new();
    for _ in 0..20 {
        cluster.kill(id).await.expect("it can be killed");
        let had = status_of(&cluster, leader, leader).await.last_log.expect("there were writes");
        write(&all, 1).await;
        write(&all, 2).await;
        purged_past(&cluster, leader, had).await;
        let damaged = status_of(&cluster, leader, leader).await.snapshot;
        for table in tables(&cluster.data_dir(leader).join("groups/0/snapshots")) {
            rot_copy(&table);
        }
        cluster.restart(id).await.expect("it starts");
        wait_healthy(&mut cluster).await.expect("it catches up");
        let state = cluster.wait_same_state().await.expect("all nodes have the same state");
        noticed = log.lines_with("the snapshot is damaged").expect("it has a log");
        say(format!("checksum {:016x}; {}", state.checksum, noticed.join("\n")));
        if !noticed.is_empty() {
            break;
        }
        // Only if another one, which was being taken by then, came in its place and was sent.
        let now = status_of(&cluster, leader, leader).await.snapshot;
        assert!(now > damaged, "its sender did not notice");
    }
    assert!(!noticed.is_empty(), "it was never sent");
    assert_eq!(cluster.leader().await.expect("there is one"), leader, "it went on");
    let mut one = One::of(&cluster, id).await;
    for key in 0..KEYS {
        one.get(key, 2).await.expect("a read");
    }
    cluster.logs().assert_no_panics();
}
