//! The cache: what is asked for, who builds, and what a near cache may answer.

use crate::fake::{Act, Fake, NOT_APPLIED, fail, status};
use quorate_client::cache::{BuildError, BuildOptions, CacheCounters, NearOptions, Source};
use quorate_client::{Cache, Error, LockGuard};
use quorate_proto::v1;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tonic::Code;

mod building;
mod calls;
mod near;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Kept for a minute, and shown for another one.
fn minute(tags: &[&str]) -> v1::CachePolicy {
    v1::CachePolicy {
        ttl_ms: Some(60_000),
        stale_for_ms: 60_000,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    }
}

/// What was asked for that begins with this.
fn calls(fake: &Fake, of: &str) -> Vec<String> {
    let mut calls = fake.state.cache_calls();
    calls.retain(|call| call.split(' ').next() == Some(of));
    calls
}
