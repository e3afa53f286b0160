//! Adapters that do something wrong are seen by the conformance suite, each by the checks that look at it.

mod broken;

use broken::{Broken, Fault};
use futures::StreamExt as _;
use quorate_client::broker::Broker;
use quorate_client::{Client, Error};
use quorate_testkit::conformance::{self, Report};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{alone, say};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What is wrong, and the checks that have to fail by it.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::LosesMessages, &["bus/messages_come_in_order"]),
    (Fault::DoublesMessages, &["bus/messages_come_in_order"]),
    (Fault::SwapsMessages, &["bus/messages_come_in_order"]),
    (Fault::IgnoresPatterns, &["bus/patterns_match"]),
    (Fault::StaysSubscribed, &["bus/unsubscribing_ends_it"]),
    (
        Fault::TakesBytesForText,
        &[
            "bus/payloads_are_bytes",
            "cache/values_are_bytes",
            "kv/keys_and_values_are_bytes",
            "queue/payloads_are_bytes",
        ],
    ),
    (Fault::SharesNamespaces, &["adapter/namespaces_are_apart"]),
    (Fault::ForgetsTtls, &["cache/ttl_ends", "kv/ttl_ends", "kv/increments_keep_the_ttl"]),
    (
        Fault::KeepsOldTtls,
        &["cache/setting_again_ends_the_old_ttl", "kv/setting_again_ends_the_old_ttl"],
    ),
    (Fault::DeletesAll, &["cache/deleting_by_a_pattern"]),
    (Fault::BuildsForEach, &["cache/one_builds_for_all"]),
    (Fault::IgnoresConditions, &["kv/set_if_absent", "kv/set_if_version"]),
    (Fault::AddsInTwoSteps, &["kv/increments_are_atomic"]),
    (Fault::ReadsWhatItRemembers, &["kv/reads_see_what_others_wrote"]),
    (Fault::ListsOnePage, &["kv/lists_page_by_page"]),
    (Fault::WatchesHalf, &["kv/watches_see_every_change"]),
    (Fault::LosesJobs, &["queue/jobs_come_in_order", "queue/each_job_goes_to_one_consumer"]),
    (Fault::DoublesJobs, &["queue/jobs_come_in_order", "queue/each_job_goes_to_one_consumer"]),
    (Fault::IgnoresPriorities, &["queue/a_higher_priority_comes_first"]),
    (Fault::IgnoresDelays, &["queue/delayed_jobs_wait", "queue/a_failed_job_comes_again"]),
    (Fault::AcksNothing, &["queue/what_is_done_stays_done"]),
    (Fault::AcksWhatFailed, &["queue/a_failed_job_comes_again", "queue/dead_letters"]),
    (Fault::ForgetsDedupeKeys, &["queue/duplicates_are_not_pushed"]),
    (Fault::IgnoresMaxParallel, &["queue/no_more_than_max_parallel"]),
    (Fault::ExtendsNothing, &["queue/extending_keeps_the_lease"]),
    (Fault::TakesLateAcks, &["queue/a_lease_that_ends_redelivers"]),
    (Fault::NeverGivesUp, &["queue/dead_letters", "queue/jobs_whose_leases_end_die_too"]),
    (Fault::LocksForEverybody, &["lock/one_holds_it", "lock/who_waits_gets_it"]),
    (Fault::RenewsNothing, &["lock/it_is_renewed_by_itself"]),
    (Fault::RenewsForEver, &["lock/what_is_left_ends_with_its_ttl", "lock/dropping_gives_it_back"]),
    (Fault::HidesLosses, &["lock/losing_it_is_told"]),
    (Fault::PassesOnAtRandom, &["lock/it_goes_by_the_order_of_the_requests"]),
    (Fault::WaitsWithoutAWord, &["lock/waiting_ends"]),
    (Fault::GivesOutOldTokens, &["lock/tokens_grow"]),
    (Fault::IgnoresGuards, &["lock/guarded_writes_of_old_holders_are_refused"]),
];

async fn run(endpoints: &[String], fault: Fault, checks: &'static [&'static str]) -> Report {
    let (endpoints, waiting) = (endpoints.to_vec(), Arc::new(AtomicU64::new(0)));
    let factory = move |namespace: String| {
        let namespace = if fault == Fault::SharesNamespaces { "shared".into() } else { namespace };
        let client = Client::builder().endpoints(endpoints.clone()).namespace(namespace);
        let waiting = Arc::clone(&waiting);
        async move {
            let inner: Arc<dyn Broker> = Arc::new(client.connect()?);
            Ok::<Arc<dyn Broker>, Error>(Arc::new(Broken::new(inner, fault, waiting)))
        }
    };
    conformance::run_some(factory, |name| checks.is_empty() || checks.contains(&name)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_fails_the_checks_that_look_at_it() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(1).await.expect("a node starts");
    cluster.wait_ready().await.expect("it leads");
    let endpoints = cluster.endpoints();
    // With nothing wrong nothing fails, so what fails below fails by the fault.
    let none = run(&endpoints, Fault::None, &[]).await;
    none.expect_unsupported(&[]).expect("without a fault it conforms");
    let faults = FAULTS.iter().map(|(fault, checks)| {
        let endpoints = &endpoints;
        async move { (*fault, *checks, run(endpoints, *fault, checks).await) }
    });
    // Several at a time: some wait in vain for as long as a check may wait.
    let mut faults = futures::stream::iter(faults).buffer_unordered(4);
    let mut unseen = Vec::new();
    while let Some((fault, checks, report)) = faults.next().await {
        say(format!("{fault:?}\n{report}"));
        let seen = report.failed();
        unseen.extend(
            checks.iter().filter(|check| !seen.contains(*check)).map(|check| (fault, *check)),
        );
        assert_eq!(report.verdicts().len(), checks.len(), "{fault:?} names a check there is not");
    }
    assert!(unseen.is_empty(), "these passed in spite of the fault: {unseen:?}");
}
