//! `queue extend`: makes a lease of a job last longer.

use super::Queue;
use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::CallOptions;
use crate::failure::Failure;
use crate::kv::millis;
use quorate_proto::v1::ExtendRequest;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn extend(
    queue: &Queue,
    name: &str,
    job_id: u64,
    lease: u64,
    for_: Duration,
    options: &CallOptions,
) -> Result<Duration, Error> {
    let plan = queue.inner.plan("queue extend", Effect::Read, options);
    Ok(send(queue, &plan, (name, job_id, lease), for_).await?)
}

/// Extending twice is extending once, so it is as safe as a read.
pub(super) fn plan(queue: &Queue, deadline: Instant) -> Plan {
    let attempt_timeout = queue.inner.engine.attempt_timeout;
    Plan { what: "queue extend", effect: Effect::Read, deadline, attempt_timeout, only: None }
}

/// Answers what it has now, counted from before the call.
pub(super) async fn send(
    queue: &Queue,
    plan: &Plan,
    (name, job_id, lease): (&str, u64, u64),
    for_: Duration,
) -> Result<Duration, Failure> {
    let request = || ExtendRequest {
        namespace: queue.namespace.to_string(),
        origin: None,
        queue: name.to_owned(),
        job_id,
        lease,
        extend_ms: millis(for_),
    };
    let extended = queue.inner.engine.call(plan, request).await?;
    Ok(Duration::from_millis(extended.lease_ms))
}
