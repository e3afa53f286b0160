//! The adapters under the conformance suite: the cluster, also while its leader is killed, and Redis.

use quorate_client::broker::Broker;
use quorate_client::{Client, Error};
use quorate_testkit::conformance;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, say};
use std::sync::Arc;

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
