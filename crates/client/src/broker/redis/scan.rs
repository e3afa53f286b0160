//! Keys by a pattern: `SCAN`, which is not atomic and looks at all keys of the database.

use super::Inner;
use super::connection::Effect;
use super::names;
use crate::Error;
use crate::broker::{KvEntry, KvPage};
use bytes::Bytes;
use redis::cmd;

/// Keys that one step looks at, about. A page of a list has their values in it, too.
const LIST_STEP: u32 = 100;
const DELETE_STEP: u32 = 1_000;

/// One step; the answer's cursor is 0 when it was the last one.
async fn step(
    inner: &Inner,
    pattern: &[u8],
    cursor: u64,
    count: u32,
) -> Result<(u64, Vec<Vec<u8>>), Error> {
    let mut scan = cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(count);
    inner
        .connection
        .call("list", Effect::Read, |mut connection| {
            let scan = &scan;
            async move { scan.query_async(&mut connection).await }
        })
        .await
}

pub(super) async fn list(
    inner: &Inner,
    prefix: &[u8],
    pattern: &[u8],
    cursor: Option<Bytes>,
) -> Result<KvPage, Error> {
    let pattern = names::pattern(prefix, pattern)?;
    let cursor = match cursor {
        None => 0,
        Some(cursor) => std::str::from_utf8(&cursor)
            .ok()
            .and_then(|cursor| cursor.parse().ok())
            .ok_or_else(|| Error::bad_option("the cursor is none of this adapter".to_owned()))?,
    };
    let (next, keys) = step(inner, &pattern, cursor, LIST_STEP).await?;
    let mut page = KvPage::default();
    if !keys.is_empty() {
        let get = cmd("MGET").arg(&keys).to_owned();
        let values: Vec<Option<Vec<u8>>> = inner
            .connection
            .call("list", Effect::Read, |mut connection| {
                let get = &get;
                async move { get.query_async(&mut connection).await }
            })
            .await?;
        // What is gone meanwhile is not there.
        page.entries = keys
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| {
                let key = Bytes::from(key).slice(prefix.len()..);
                Some(KvEntry { key, value: value?.into(), version: None })
            })
            .collect();
    }
    page.cursor = (next != 0).then(|| next.to_string().into());
    Ok(page)
}

pub(super) async fn delete(inner: &Inner, prefix: &[u8], pattern: &[u8]) -> Result<u64, Error> {
    let pattern = names::pattern(prefix, pattern)?;
    let (mut deleted, mut cursor) = (0, 0);
    loop {
        let (next, keys) = step(inner, &pattern, cursor, DELETE_STEP).await?;
        if !keys.is_empty() {
            let unlink = cmd("UNLINK").arg(&keys).to_owned();
            let count: u64 = inner
                .connection
                .call("delete by pattern", Effect::EachTime, |mut connection| {
                    let unlink = &unlink;
                    async move { unlink.query_async(&mut connection).await }
                })
                .await?;
            deleted += count;
        }
        cursor = next;
        if cursor == 0 {
            return Ok(deleted);
        }
    }
}
