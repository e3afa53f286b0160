//! The adapters under the conformance suite: the cluster, also while its leader is killed, and the broker in
//! memory that users test with.

use quorate_client::broker::Broker;
use quorate_client::{Client, Error};
use quorate_testkit::process::ProcessCluster;
use quorate_testkit::{TestBroker, conformance};
use quorate_tests::processes::{alone, say};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What says of itself that it may be otherwise while the leader dies: messages are missing behind a gap,
/// and a lock whose lease is shorter than the outage is lost. All else holds.
fn holds_through_a_failover(check: &str) -> bool {
    !check.starts_with("bus/")
        && !check.starts_with("adapter/")
        && check != "lock/it_is_renewed_by_itself"
}

/// An adapter for a namespace of a cluster.
async fn client(endpoints: Vec<String>, namespace: String) -> Result<Arc<dyn Broker>, Error> {
    let client = Client::builder().endpoints(endpoints).namespace(namespace);
    Ok(Arc::new(client.connect()?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_does_all_of_it() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let endpoints = cluster.endpoints();
    let report = conformance::run(move |namespace| client(endpoints.clone(), namespace)).await;
    say(&report);
    report.expect_unsupported(&[]).expect("it conforms");
    cluster.logs().assert_no_panics();
}

/// Who tests with it meets the same behaviour as in a cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_in_memory_does_all_of_it() {
    let _alone = alone().await;
    let broker = TestBroker::start().await;
    let options = broker.options();
    let report = conformance::run(move |namespace| {
        let client = options.clone().namespace(namespace).connect();
        async move { Ok(Arc::new(client?) as Arc<dyn Broker>) }
    })
    .await;
    say(&report);
    report.expect_unsupported(&[]).expect("it conforms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_promises_holds_while_leaders_are_killed() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let endpoints = cluster.endpoints();
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let factory = move |namespace| {
        counted.fetch_add(1, Ordering::Relaxed);
        client(endpoints.clone(), namespace)
    };
    let running = conformance::run_some(factory, holds_through_a_failover);
    let all = conformance::names().iter().filter(|name| holds_through_a_failover(name)).count();
    let killing = async {
        let mut killed = Vec::new();
        // Each check makes two: one leader is killed when some checks have begun, one when most have.
        for checks in [5, all - 15] {
            let waiting = Instant::now();
            while made.load(Ordering::Relaxed) < 2 * checks {
                assert!(waiting.elapsed() < Duration::from_secs(120), "the checks do not go on");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let leader = cluster.leader().await.expect("one leads");
            assert!(made.load(Ordering::Relaxed) < 2 * all, "no check is left for it");
            cluster.kill(leader).await.expect("it can be killed");
            killed.push(leader);
            cluster.wait_ready().await.expect("another one leads");
            cluster.restart(leader).await.expect("it starts again");
            cluster.wait_ready().await.expect("it follows");
        }
        killed
    };
    let (report, killed) = futures::future::join(running, killing).await;
    say(format!("{report}\nleaders killed: {killed:?}"));
    report.expect_unsupported(&[]).expect("it conforms");
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
