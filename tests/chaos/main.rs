//! All workloads of the chaos runs on real nodes for a few seconds, by a plan that needs no hosts of
//! their own. That they find what is wrong is shown by their own tests, on histories made by hand; long
//! runs under everything are `scripts/chaos`.
//!
//! `QUORATE_CHAOS_SECONDS=600` draws a plan of that length instead.

use quorate_testkit::chaos::plan::Plan;
use quorate_testkit::chaos::{Settings, run, table};
use quorate_tests::processes::{alone, number, say, seed};
use std::path::Path;
use std::time::Duration;

/// Each kind that a cluster on loopback can bear, once.
const PLAN: &str = r#"
{"at_ms": 1000, "lasts_ms": 800, "fault": {"kill": "leader"}}
{"at_ms": 3000, "lasts_ms": 1500, "fault": {"pause": "leader"}}
{"at_ms": 5500, "lasts_ms": 0, "fault": {"replace": "leader"}}
{"at_ms": 6500, "lasts_ms": 300, "fault": {"kill": "all"}}
{"at_ms": 8000, "lasts_ms": 0, "fault": "rolling_restart"}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_workloads_hold_while_nodes_are_killed_paused_and_replaced() {
    let _alone = alone().await;
    let seed = seed("chaos", "all_workloads_hold_while_nodes_are_killed_paused_and_replaced");
    let plan = match number("QUORATE_CHAOS_SECONDS", 0) {
        0 => Plan::parse(PLAN).expect("it is a plan"),
        seconds => Plan::draw(seed, Duration::from_secs(seconds), false),
    };
    let planned = plan.events.len();
    let settings = Settings {
        nodes: 3,
        seed,
        plan,
        workloads: Vec::new(),
        directory: Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos"),
        binary: None,
        environment: Vec::new(),
    };
    let outcome = run(&settings, None).await.expect("it can be run");
    say(table(&settings, &outcome));
    let kept = settings.directory.display();
    assert!(outcome.problems.is_empty(), "{}; see {kept}", outcome.problems.join("\n"));
    assert_eq!(outcome.happened.len(), planned, "not all of the plan came about");
}
