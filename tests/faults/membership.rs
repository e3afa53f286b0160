//! Every node of a cluster is replaced, one after the other, while clients write: no call with a
//! deadline of ten seconds fails, and nothing that was acknowledged is lost.

use quorate_client::{Client, Routing};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, say, wait_until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: usize = 6;
/// What a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Far more than a step takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes its own key again and again; answers how often, and how long the slowest write took.
async fn write(client: Client, key: String, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut written, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let set = client.kv().set(&key, (written + 1).to_string()).timeout(DEADLINE).await;
        set.unwrap_or_else(|error| panic!("{key} could not be written: {error}"));
        slowest = slowest.max(begun.elapsed());
        written += 1;
    }
    (written, slowest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_replaced_one_after_the_other_while_clients_write() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let founders = cluster.ids();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|nth| {
            let client = Client::builder().endpoints(cluster.endpoints()).routing(Routing::AnyNode);
            let client = client.connect().expect("the options are right");
            tokio::spawn(write(client, format!("key {nth}"), Arc::clone(&stop)))
        })
        .collect();
    let client = Client::builder().endpoints(cluster.endpoints());
    let client = client.connect().expect("the options are right");
    for old in founders {
        let begun = Instant::now();
        let token = client.cluster().invite(Duration::from_secs(600), Some(old)).await;
        let token = token.expect("a token is made");
        let new = cluster.join(&["--join-token", &token]).expect("it is started");
        cluster.wait_listening(new).await.expect("it is admitted");
        wait_until("the place is taken", PATIENCE, || async {
            client.cluster().members().await.is_ok_and(|members| {
                let votes = members.members.iter().any(|one| one.node_id == new && one.voter);
                let left = members.members.iter().all(|one| one.node_id != old);
                votes && left && members.plans.is_empty()
            })
        })
        .await;
        let taken = begun.elapsed();
        let status = cluster.wait_exit(old).await.expect("who has left stops by itself");
        assert_eq!(status.code(), Some(1));
        // And stays so.
        cluster.spawn(old).expect("it is started");
        let status = cluster.wait_exit(old).await.expect("it does not stay");
        assert_eq!(status.code(), Some(1));
        let said = std::fs::read_to_string(cluster.log_path(old)).expect("its log can be read");
        assert!(said.contains("was removed"), "{said}");
        cluster.let_go(old).expect("it has ended");
        say(format!("node {new} has the place of node {old} after {taken:?}"));
    }
    stop.store(true, Ordering::Relaxed);
    let mut slowest = Duration::ZERO;
    let mut total = 0;
    for (nth, writer) in writers.into_iter().enumerate() {
        let (written, slow) = writer.await.expect("no write failed");
        let found = client.kv().get(format!("key {nth}")).await.expect("a read");
        assert_eq!(&found.expect("it was written").value[..], written.to_string().as_bytes());
        slowest = slowest.max(slow);
        total += written;
    }
    wait_healthy(&mut cluster).await.expect("all nodes are well");
    cluster.wait_same_state().await.expect("all nodes hold the same");
    say(format!("{total} writes meanwhile, none failed, the slowest took {slowest:?}"));
    assert!(total > 0);
}
