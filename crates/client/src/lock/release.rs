//! `lock release` and `lock force-release`.

use super::Locks;
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use quorate_proto::v1::{LockForceReleaseRequest, LockReleaseRequest};

/// A repetition would release nothing more, because no token is given twice; it is named all the
/// same, so that its answer is that of the first.
pub(super) async fn release(
    locks: &Locks,
    name: &str,
    token: u64,
    options: &CallOptions,
) -> Result<bool, Error> {
    let request = |origin| LockReleaseRequest {
        namespace: locks.namespace.to_string(),
        origin: Some(origin),
        name: name.to_owned(),
        fencing_token: token,
    };
    let answer = locks.inner.mutate("lock release", &locks.namespace, options, request).await?;
    Ok(answer.released)
}

/// As [`release`], for which there is nobody to tell. It needs no session: one would have to be opened
/// for it where the client was closed meanwhile. Repeating it does no harm, so it is as safe as a
/// read.
pub(super) async fn give_back(locks: &Locks, name: &str, token: u64) -> Result<(), Error> {
    let plan = locks.inner.plan("lock release", Effect::Read, &CallOptions::default());
    let request = || LockReleaseRequest {
        namespace: locks.namespace.to_string(),
        origin: None,
        name: name.to_owned(),
        fencing_token: token,
    };
    locks.inner.read(&plan, request).await.map(|_| ())
}

pub(super) async fn force_release(
    locks: &Locks,
    name: &str,
    options: &CallOptions,
) -> Result<u64, Error> {
    let request = |origin| LockForceReleaseRequest {
        namespace: locks.namespace.to_string(),
        origin: Some(origin),
        name: name.to_owned(),
    };
    let what = "lock force-release";
    let answer = locks.inner.mutate(what, &locks.namespace, options, request).await?;
    Ok(answer.released)
}
