//! `lock inspect`: who holds a lock, and how many wait for it.

use super::Locks;
use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::CallOptions;
use quorate_proto::v1::{self, LockEntry, LockInspectRequest};
use std::time::Duration;

/// A lock as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockState {
    /// Its name.
    pub name: String,
    /// Who holds it, in the order of the grants; nobody when it is free.
    pub holders: Vec<Holder>,
    /// How many wait for it.
    pub waiters: u64,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What it is held under.
    pub fencing_token: u64,
    /// The session it is lost with.
    pub session_id: u64,
    /// With whom it is shared.
    pub mode: Mode,
    /// It is lost when it is not renewed for this long.
    pub ttl: Duration,
    /// Since the grant, by the cluster's lease clock.
    pub held: Duration,
    /// When it was granted.
    pub revision: u64,
}

/// With whom a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// With nobody.
    Exclusive,
    /// With others that asked for it shared.
    Shared,
    /// With others that asked for the same number of permits.
    Permit {
        /// How many may hold it.
        of: u32,
    },
    /// In a way that this version of the client does not know.
    Other,
}

impl From<LockEntry> for LockState {
    fn from(entry: LockEntry) -> Self {
        let holders = entry.holders.into_iter().map(|holder| Holder {
            fencing_token: holder.fencing_token,
            session_id: holder.session_id,
            mode: match v1::LockMode::try_from(holder.mode) {
                Ok(v1::LockMode::Exclusive) => Mode::Exclusive,
                Ok(v1::LockMode::Shared) => Mode::Shared,
                Ok(v1::LockMode::Permit) => Mode::Permit { of: holder.permits },
                Ok(v1::LockMode::Unspecified) | Err(_) => Mode::Other,
            },
            ttl: Duration::from_millis(holder.ttl_ms),
            held: Duration::from_millis(holder.held_ms),
            revision: holder.revision,
        });
        Self { name: entry.name, holders: holders.collect(), waiters: entry.waiters }
    }
}

pub(super) async fn inspect(
    locks: &Locks,
    name: &str,
    options: &CallOptions,
) -> Result<LockState, Error> {
    let plan = locks.inner.plan("lock inspect", Effect::Read, options);
    send(locks, &plan, name).await
}

pub(super) async fn send(locks: &Locks, plan: &Plan, name: &str) -> Result<LockState, Error> {
    let request = || LockInspectRequest {
        namespace: locks.namespace.to_string(),
        name: name.to_owned(),
        ..Default::default()
    };
    let answer = locks.inner.read(plan, request).await?;
    answer
        .lock
        .map(LockState::from)
        .ok_or_else(|| Error::bad_answer("lock inspect was answered without a lock".to_owned()))
}
