//! Clients that ask for more than the cluster can do, beside one that asks for little.
//!
//! Flooding connections, to the leader and to another node, each keep many writes of the largest value
//! unanswered, and try again a moment after each refusal. Meanwhile a polite client writes small values
//! one after the other, a session and a lock of two seconds are kept, and all nodes are asked for their
//! status.

use nix::unistd::Pid;
use quorate_client::Client;
use quorate_proto::metadata::{OUTCOME, REASON};
use quorate_proto::v1::SetRequest;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, http_get, number, say};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};

/// Connections that flood each of two nodes, and what each of them has unanswered. Together they ask
/// for 256 MiB at once, of a node that takes 32.
const FLOODING: usize = 16;
const UNANSWERED: usize = 8;
const LARGEST: usize = 1 << 20;
/// What a call may take. The largest ones of all connections have to be received first.
const CALL_MAX: Duration = Duration::from_secs(30);
/// What a flooding call waits after a refusal, as any client should.
const AGAIN: Duration = Duration::from_millis(20);
/// The shortest ttl that matters to anybody: it is renewed every 0.7 s.
const TTL: Duration = Duration::from_secs(2);
/// A status is asked of all nodes, which have half a second for it.
const STATUS_MAX: Duration = Duration::from_secs(1);
/// What one node holds at once. In line behind all of it a write would wait until it is written; by turns
/// it waits for what is on its way when it comes (four entries of a megabyte, on three nodes with one
/// disk) and for its own turn, so for less, however fast the machine is.
const HELD_MIB: f64 = 32.0;
/// Below this the time of a write says nothing on a machine that is so busy.
const POLITE_P90_FLOOR: Duration = Duration::from_millis(400);
/// What a node may grow by: 32 MiB at the door, as many with the proposer and on the way to the leader,
/// as many encoded; memtables and caches that fill up (200 MiB); and of each flooding connection the
/// requests that are being received (8 MiB, twice while they are decoded).
const GROWTH_MAX_MIB: u64 = 4 * 32 + 200 + (FLOODING * UNANSWERED * 2) as u64;

type Kv = KvServiceClient<Channel>;

async fn connect(addr: SocketAddr) -> Kv {
    KvServiceClient::connect(format!("http://{addr}")).await.expect("it listens")
}

fn set(key: String, value_bytes: usize) -> Request<SetRequest> {
    let (key, value) = (key.into_bytes().into(), vec![b'v'; value_bytes].into());
    let mut request = Request::new(SetRequest { key, value, ..SetRequest::default() });
    request.set_timeout(CALL_MAX);
    request
}

/// Writes small values for a while, one after the other; how long each took.
async fn polite(mut kv: Kv, time: Duration) -> Vec<Duration> {
    let (end, mut took) = (Instant::now() + time, Vec::new());
    while Instant::now() < end {
        let begun = Instant::now();
        let key = format!("polite-{}", took.len() % 100);
        kv.set(set(key, 256)).await.expect("who asks for little is never refused");
        took.push(begun.elapsed());
    }
    took
}

fn p90(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 9 / 10]
}

#[derive(Default)]
struct Flood {
    stop: AtomicBool,
    written: AtomicU64,
    refused: AtomicU64,
}

impl Flood {
    fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>, connection: usize, kv: &Kv) {
        for call in 0..UNANSWERED {
            let (flood, mut kv) = (Arc::clone(self), kv.clone());
            tasks.spawn(async move {
                let key = format!("flood-{connection}-{call}");
                while !flood.stop.load(Ordering::Relaxed) {
                    let Err(refused) = kv.set(set(key.clone(), LARGEST)).await else {
                        flood.written.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    let word = |name| refused.metadata().get(name)?.to_str().ok();
                    // Told by the node, or found by the client itself, whose clock began earlier.
                    let late = matches!(word(REASON), Some("DEADLINE") | None)
                        && matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled);
                    if !late {
                        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
                        assert_eq!(word(REASON), Some("OVERLOADED"), "{refused:?}");
                        assert_eq!(word(OUTCOME), Some("not_applied"), "{refused:?}");
                    }
                    flood.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
    }
}

/// Resident memory of a process, in MiB: now, or at its highest.
fn resident_mib(pid: u32, what: &str) -> u64 {
    let pid = Pid::from_raw(pid.try_into().expect("process ids are positive"));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(what)).expect("the kernel says it");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("it is a number") / 1024
}

/// A counter or gauge of a node.
async fn metric(addr: SocketAddr, name: &str) -> u64 {
    let (_, page) = http_get(addr, "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)).expect("it is shown");
    line.trim().parse().expect("it is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_delays_others_little_and_ends_nothing_that_is_kept_alive() {
    let _alone = alone().await;
    let time = Duration::from_secs(number("QUORATE_OVERLOAD_SECONDS", 10));
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    let term = cluster.status(leader).await.expect("it answers").term;

    let client = Client::builder().endpoints(cluster.endpoints()).session_ttl(TTL);
    let client = client.connect().expect("the options are right");
    let lock = client.locks().acquire("kept").ttl(TTL).await.expect("the lock is free");
    let (token, session) = (lock.fencing_token(), lock.session_id());

    let mut unloaded = Vec::new();
    let mut kvs = Vec::new();
    for id in [leader, follower] {
        let kv = connect(cluster.client_addr(id)).await;
        unloaded.push(p90(polite(kv.clone(), Duration::from_secs(3)).await));
        kvs.push(kv);
    }
    let memory = |what| {
        let pids = cluster.ids().into_iter().map(|id| cluster.pid(id).expect("it runs"));
        pids.map(|pid| resident_mib(pid, what)).collect::<Vec<_>>()
    };
    let before = memory("VmRSS");

    let flood = Arc::<Flood>::default();
    let mut tasks = JoinSet::new();
    for connection in 0..FLOODING {
        for (number, id) in [leader, follower].into_iter().enumerate() {
            let kv = connect(cluster.client_addr(id)).await;
            flood.start(&mut tasks, 2 * connection + number, &kv);
        }
    }
    let asked = async {
        let (end, mut longest) = (Instant::now() + time, Duration::ZERO);
        while Instant::now() < end {
            for id in cluster.ids() {
                let begun = Instant::now();
                let status = cluster.status(id).await.expect("a flooded node answers");
                longest = longest.max(begun.elapsed());
                assert_eq!(status.term, term, "node {id} has seen an election");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        longest
    };
    let (at_leader, at_follower, status) =
        tokio::join!(polite(kvs[0].clone(), time), polite(kvs[1].clone(), time), asked);
    flood.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("every refusal says so");
    }

    let (written, refused) =
        (flood.written.load(Ordering::Relaxed), flood.refused.load(Ordering::Relaxed));
    let after = memory("VmHWM");
    let counts = (at_leader.len(), at_follower.len());
    let loaded = [p90(at_leader), p90(at_follower)];
    say(format!(
        "{written} MiB written and {refused} writes refused in {time:?}; polite p90 {unloaded:?} \
         before, {loaded:?} meanwhile ({counts:?} writes); longest status {status:?}; memory \
         {before:?} MiB before, at most {after:?}"
    ));
    assert!(refused > 0, "the nodes were not asked for more than they take");
    let all_in_line = time.mul_f64(HELD_MIB / written.max(1) as f64);
    for meanwhile in loaded {
        let bound = all_in_line.max(POLITE_P90_FLOOR);
        assert!(meanwhile <= bound, "{meanwhile:?} is more than {bound:?}");
    }
    assert!(status <= STATUS_MAX, "a status took {status:?}");
    assert!(!lock.is_lost(), "the lock was lost");
    assert_eq!((lock.fencing_token(), lock.session_id()), (token, session));
    for (before, after) in before.into_iter().zip(after) {
        assert!(after <= before + GROWTH_MAX_MIB, "{before} MiB grew to {after}");
    }
    for id in cluster.ids() {
        let status = cluster.status(id).await.expect("each node answers");
        assert_eq!((status.term, status.leader_id), (term, Some(leader)), "node {id}");
        let held = metric(cluster.http_addr(id), "quorate_commands_held_bytes{at=\"door\"} ").await;
        assert!(held < LARGEST as u64, "{held} bytes are still held");
    }
    lock.release().await.expect("it is held");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
