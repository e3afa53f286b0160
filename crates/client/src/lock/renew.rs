//! `lock renew`: keeps a lock, and its session, for another ttl.

use super::Locks;
use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::{CallOptions, Inner};
use crate::failure::Failure;
use quorate_proto::v1::LockRenewRequest;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn renew(
    locks: &Locks,
    name: &str,
    token: u64,
    options: &CallOptions,
) -> Result<Duration, Error> {
    let plan = locks.inner.plan("lock renew", Effect::Read, options);
    Ok(send(locks, &plan, name, token).await?)
}

/// Renewing twice is renewing once, so it is as safe as a read.
pub(super) fn plan(inner: &Inner, deadline: Instant) -> Plan {
    let attempt_timeout = inner.engine.attempt_timeout;
    Plan { what: "lock renew", effect: Effect::Read, deadline, attempt_timeout, only: None }
}

/// Answers what it has now, counted from before the call.
pub(super) async fn send(
    locks: &Locks,
    plan: &Plan,
    name: &str,
    token: u64,
) -> Result<Duration, Failure> {
    let request = || LockRenewRequest {
        namespace: locks.namespace.to_string(),
        name: name.to_owned(),
        fencing_token: token,
    };
    let renewed = locks.inner.engine.call(plan, request).await?;
    Ok(Duration::from_millis(renewed.ttl_ms))
}
