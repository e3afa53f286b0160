//! Nodes join, are replaced, leave and are restarted while clients write: no call with a deadline of
//! ten seconds fails, and nothing that was acknowledged is lost. With nodes killed at random moments of
//! that as well (`QUORATE_MEMBER_KILLS`), nothing is lost, and what was planned comes about.

use crate::writers::Writers;
use quorate_client::{Client, Members};
use quorate_testkit::load::{Load, Plan, wait_healthy};
use quorate_testkit::process::{NodeId, ProcessCluster};
use quorate_tests::processes::{alone, number, say, seed, wait_until};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::time::{Duration, Instant};

/// Far more than a step takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn client_of(cluster: &ProcessCluster) -> Client {
    let client = Client::builder().endpoints(cluster.endpoints());
    client.connect().expect("the options are right")
}

fn votes(members: &Members, node: NodeId) -> bool {
    members.members.iter().any(|member| member.node_id == node && member.voter)
}

fn is_member(members: &Members, node: NodeId) -> bool {
    members.members.iter().any(|member| member.node_id == node)
}

/// Waits until nothing is planned any more, and the members are as they were to be.
async fn planned_is_done(client: &Client, so: impl Fn(&Members) -> bool) {
    wait_until("what was planned is done", PATIENCE, || async {
        let members = client.cluster().members().await;
        members.is_ok_and(|members| members.plans.is_empty() && so(&members))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_replaced_one_after_the_other_while_clients_write() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let founders = cluster.ids();
    let writers = Writers::start(&cluster);
    let client = client_of(&cluster);
    for old in founders {
        let begun = Instant::now();
        let token = client.cluster().invite(Duration::from_secs(600), Some(old)).await;
        let token = token.expect("a token is made");
        let new = cluster.join(&["--join-token", &token]).expect("it is started");
        cluster.wait_listening(new).await.expect("it is admitted");
        planned_is_done(&client, |members| votes(members, new) && !is_member(members, old)).await;
        let taken = begun.elapsed();
        let status = cluster.wait_exit(old).await.expect("who has left stops by itself");
        assert_eq!(status.code(), Some(2));
        // And stays so.
        cluster.spawn(old).expect("it is started");
        let status = cluster.wait_exit(old).await.expect("it does not stay");
        assert_eq!(status.code(), Some(2));
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
    let client = client_of(&cluster);
    let (total, slowest) = writers.end(&client).await;
    cluster.wait_same_state().await.expect("all nodes hold the same");
    say(format!("{total} writes meanwhile, none failed, the slowest took {slowest:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_three_becomes_one_of_five_and_of_three_again_while_clients_write() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let writers = Writers::start(&cluster);
    let client = client_of(&cluster);
    for _ in 0..2 {
        let new = cluster.join(&[]).expect("it is started");
        cluster.wait_listening(new).await.expect("it is admitted");
        planned_is_done(&client, |members| votes(members, new)).await;
    }
    wait_healthy(&mut cluster).await.expect("all five are well");
    cluster.wait_ready().await.expect("all five know who leads");
    // The leader, and one that does not lead.
    for leads in [true, false] {
        let leader = cluster.leader().await.expect("one leads");
        let other = cluster.ids().into_iter().find(|id| *id != leader).expect("there are more");
        let old = if leads { leader } else { other };
        client.cluster().remove(old).await.expect("it is planned");
        planned_is_done(&client, |members| !is_member(members, old)).await;
        cluster.wait_exit(old).await.expect("who has left stops by itself");
        cluster.let_go(old).expect("it has ended");
    }
    let (total, slowest) = writers.end(&client).await;
    wait_healthy(&mut cluster).await.expect("all nodes are well");
    cluster.wait_same_state().await.expect("all nodes hold the same");
    assert_eq!(cluster.ids().len(), 3);
    say(format!("{total} writes meanwhile, none failed, the slowest took {slowest:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_change_while_nodes_are_killed() {
    let _alone = alone().await;
    let mut rng = SmallRng::seed_from_u64(seed(
        "faults",
        "membership::members_change_while_nodes_are_killed",
    ));
    let kills = number("QUORATE_MEMBER_KILLS", 6_usize);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("one leads");
    let plan = Plan { writers: 8, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await.expect("writes are acknowledged");
    let mut killed = 0;
    while killed < kills {
        let client = client_of(&cluster);
        let old = cluster.ids()[rng.random_range(0..3)];
        let token = client.cluster().invite(Duration::from_secs(600), Some(old)).await;
        let new = cluster.join(&["--join-token", &token.expect("a token is made")]);
        let new = new.expect("it is started");
        // One after the other, at any moment of it: who joins, who stays, not who leaves, which ends
        // by itself.
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1_500))).await;
            let all: Vec<_> = cluster.ids().into_iter().filter(|id| *id != old).collect();
            let victim = all[rng.random_range(0..all.len())];
            cluster.kill(victim).await.expect("it runs");
            cluster.spawn(victim).expect("it starts again");
            killed += 1;
        }
        planned_is_done(&client, |members| votes(members, new) && !is_member(members, old)).await;
        cluster.wait_exit(old).await.expect("who has left stops by itself");
        cluster.let_go(old).expect("it has ended");
        wait_healthy(&mut cluster).await.expect("all nodes are well");
    }
    let ledgers = load.stop().await.expect("no writer saw a broken promise");
    let totals = ledgers.verify(&cluster.endpoints()).await.expect("nothing is lost");
    cluster.wait_same_state().await.expect("all nodes hold the same");
    cluster.logs().assert_no_panics();
    say(format!(
        "{} writes acknowledged and there over {killed} kills; nodes are {:?}",
        totals.acknowledged,
        cluster.ids()
    ));
}
