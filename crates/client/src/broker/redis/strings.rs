//! Key-value and the cache: plain strings of Redis.

use super::Inner;
use super::connection::Effect;
use super::names::{check_value, ttl_millis};
use crate::Error;
use bytes::Bytes;
use redis::cmd;
use std::time::Duration;

pub(super) async fn get(inner: &Inner, key: &[u8]) -> Result<Option<Bytes>, Error> {
    let get = cmd("GET").arg(key).to_owned();
    let value: Option<Vec<u8>> = inner
        .connection
        .call("get", Effect::Read, |mut connection| {
            let get = &get;
            async move { get.query_async(&mut connection).await }
        })
        .await?;
    Ok(value.map(Bytes::from))
}

pub(super) async fn set(
    inner: &Inner,
    key: &[u8],
    value: Bytes,
    ttl: Option<Duration>,
    if_absent: bool,
) -> Result<(), Error> {
    check_value(&value)?;
    let mut set = cmd("SET");
    set.arg(key).arg(&value[..]);
    if let Some(ttl) = ttl {
        set.arg("PX").arg(ttl_millis(ttl)?);
    }
    if if_absent {
        set.arg("NX");
    }
    let done: Option<String> = inner
        .connection
        .call("set", Effect::EachTime, |mut connection| {
            let set = &set;
            async move { set.query_async(&mut connection).await }
        })
        .await?;
    match done {
        Some(_) => Ok(()),
        None => Err(Error::ConditionFailed {
            // It is there, and there are no versions.
            version: None,
            reason: "CONDITION_FAILED".to_owned(),
            message: "the key exists".to_owned(),
        }),
    }
}

pub(super) async fn delete(inner: &Inner, key: &[u8]) -> Result<bool, Error> {
    let unlink = cmd("UNLINK").arg(key).to_owned();
    inner
        .connection
        .call("delete", Effect::EachTime, |mut connection| {
            let unlink = &unlink;
            async move { unlink.query_async(&mut connection).await }
        })
        .await
}

pub(super) async fn increment(inner: &Inner, key: &[u8], by: i64) -> Result<i64, Error> {
    let increment = cmd("INCRBY").arg(key).arg(by).to_owned();
    inner
        .connection
        .call("increment", Effect::EachTime, |mut connection| {
            let increment = &increment;
            async move { increment.query_async(&mut connection).await }
        })
        .await
}
