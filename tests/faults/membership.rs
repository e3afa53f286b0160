//! Every node of a cluster is replaced, one after the other, while clients write: no call with a
//! deadline of ten seconds fails, and nothing that was acknowledged is lost.

use crate::writers::Writers;
use quorate_client::Client;
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, say, wait_until};
use std::time::{Duration, Instant};

/// Far more than a step takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_replaced_one_after_the_other_while_clients_write() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let founders = cluster.ids();
    let writers = Writers::start(&cluster);
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
        assert_eq!(status.code(), Some(2));
        // And stays so.
        cluster.spawn(old).expect("it is started");
        let status = cluster.wait_exit(old).await.expect("it does not stay");
        assert_eq!(status.code(), Some(1));
        let said = std::fs::read_to_string(cluster.log_path(old)).expect("its log can be read");
        assert!(said.contains("was removed"), "{said}");
        cluster.let_go(old).expect("it has ended");
        say(format!("node {new} has the place of node {old} after {taken:?}"));
    }
    let (total, slowest) = writers.end(&client).await;
    wait_healthy(&mut cluster).await.expect("all nodes are well");
    cluster.wait_same_state().await.expect("all nodes hold the same");
    say(format!("{total} writes meanwhile, none failed, the slowest took {slowest:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_restarted_one_after_the_other_while_clients_write() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let writers = Writers::start(&cluster);
    // Twice each, so that whoever leads is among them at least once.
    for id in cluster.ids().into_iter().chain(cluster.ids()) {
        let status = cluster.terminate(id).await.expect("it ends");
        assert_eq!(status.code(), Some(0), "node {id}");
        cluster.restart(id).await.expect("it starts again");
        wait_healthy(&mut cluster).await.expect("all nodes are well");
    }
    let client = Client::builder().endpoints(cluster.endpoints());
    let client = client.connect().expect("the options are right");
    let (total, slowest) = writers.end(&client).await;
    cluster.wait_same_state().await.expect("all nodes hold the same");
    say(format!("{total} writes meanwhile, none failed, the slowest took {slowest:?}"));
}
