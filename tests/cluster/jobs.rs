//! Jobs and queues on the command line, as the tests ask about them.

use crate::running::PATIENCE;
use quorate_tests::processes::{Quorate, wait_until};
use serde_json::Value;

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
    quorate.run(&format!("queue pull {arguments} -o json")).await.expect(0).json_lines()
}

pub(crate) fn text<'a>(job: &'a Value, name: &str) -> &'a str {
    job[name].as_str().unwrap_or_else(|| panic!("{name} is no string: {job}"))
}
