//! Jobs and queues on the command line, as the tests ask about them.

use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Ended, Quorate, wait_until};
use serde_json::Value;
use std::ffi::OsString;
use std::time::Duration;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn nodes(count: u64) -> (ProcessCluster, Quorate) {
    let mut cluster = ProcessCluster::start(count).await.expect("the nodes start");
    cluster.wait_ready().await.expect("one leads");
    let quorate = Quorate::of(&cluster);
    (cluster, quorate)
}

pub(crate) async fn stats(quorate: &Quorate, queue: &str) -> Value {
    quorate.run(&format!("queue stats {queue} -o json")).await.expect(0).json()
}

/// Waits until the figures of a queue look like this.
pub(crate) async fn wait_for_stats(quorate: &Quorate, queue: &str, so: impl Fn(&Value) -> bool) {
    wait_until(&format!("queue {queue}"), PATIENCE, || async { so(&stats(quorate, queue).await) })
        .await;
}

pub(crate) async fn push(quorate: &Quorate, arguments: &str) -> String {
    let pushed = quorate.run(&format!("queue push {arguments}")).await.expect(0);
    let id = pushed.text().trim_end().to_owned();
    assert!(id.parse::<u64>().is_ok_and(|id| id > 0), "{pushed:?}");
    id
}

/// Takes jobs: a line of JSON each.
pub(crate) async fn pull(quorate: &Quorate, arguments: &str) -> Vec<Value> {
    let pulled = quorate.run(&format!("queue pull {arguments} -o json")).await.expect(0).text();
    pulled.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
}

pub(crate) fn text<'a>(job: &'a Value, name: &str) -> &'a str {
    job[name].as_str().unwrap_or_else(|| panic!("{name} is no string: {job}"))
}

/// Runs a command whose arguments have spaces in them, as they stand between bars.
pub(crate) async fn run_apart(quorate: &Quorate, arguments: &str, stdin: Option<&[u8]>) -> Ended {
    let arguments: Vec<OsString> = arguments.split('|').map(OsString::from).collect();
    quorate.run_with(&arguments, stdin).await
}
