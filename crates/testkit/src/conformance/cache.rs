//! The cache: values, ttls, deletions, one builder for all.

use super::checks;
use super::stage::{
    Stage, eventually, failed, is_not_the_type, not_before, payloads, shown, within,
};
use anyhow::{Result, ensure};
use futures::future::{try_join, try_join_all};
use quorate_client::Error;
use quorate_client::broker::{Cache, SetOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

checks!("cache":
    what_is_set_is_read,
    ttl_ends,
    setting_again_ends_the_old_ttl,
    deleting_by_a_pattern,
    values_are_bytes,
    keys_are_not_those_of_key_value,
    one_builds_for_all,
    a_failed_build_is_not_stored,
    another_type_is_an_error,
);

const TTL: Duration = Duration::from_millis(400);

async fn what_is_set_is_read(stage: Stage) -> Result<()> {
    let (one, other) = (&stage.one, &stage.other);
    ensure!(one.cache_get(b"k").await?.is_none(), "a key that nobody set has a value");
    one.cache_set(b"k", "v".into(), None).await?;
    let read = one.cache_get(b"k").await?;
    ensure!(read.as_deref() == Some(b"v"), "it reads {read:?} of what it set");
    // What others read may lag behind.
    let reads = async |expected: Option<&[u8]>| -> Result<bool> {
        Ok(other.cache_get(b"k").await?.as_deref() == expected)
    };
    eventually("that another one reads it", || reads(Some(b"v"))).await?;
    ensure!(one.cache_delete(b"k").await?, "deleting it says that it was not there");
    ensure!(one.cache_get(b"k").await?.is_none(), "it was deleted, and is there");
    eventually("that another one reads that it is gone", || reads(None)).await?;
    ensure!(!one.cache_delete(b"k").await?, "deleting it again says that it was there");
    Ok(())
}

async fn ttl_ends(stage: Stage) -> Result<()> {
    let begun = Instant::now();
    stage.one.cache_set(b"k", "v".into(), Some(TTL)).await?;
    stage.one.cache_set(b"for-ever", "v".into(), None).await?;
    let gone = || async { Ok(stage.one.cache_get(b"k").await?.is_none()) };
    eventually("that its ttl is over", gone).await?;
    not_before("it was gone", begun, TTL)?;
    ensure!(stage.one.cache_get(b"for-ever").await?.is_some(), "one without a ttl is gone");
    Ok(())
}

async fn setting_again_ends_the_old_ttl(stage: Stage) -> Result<()> {
    stage.one.cache_set(b"k", "1".into(), Some(TTL)).await?;
    stage.one.cache_set(b"k", "2".into(), None).await?;
    stage.one.cache_set(b"later", "v".into(), Some(2 * TTL)).await?;
    let gone = || async { Ok(stage.one.cache_get(b"later").await?.is_none()) };
    eventually("that a longer ttl is over", gone).await?;
    let value = stage.one.cache_get(b"k").await?;
    ensure!(value.as_deref() == Some(b"2"), "the ttl of an old value ended the new one: {value:?}");
    Ok(())
}

async fn deleting_by_a_pattern(stage: Stage) -> Result<()> {
    for number in 0..250 {
        stage.one.cache_set(format!("products:{number}").as_bytes(), "p".into(), None).await?;
    }
    let others = ["users:1", "product", "xproducts:1", "products[1]", "a*b"];
    for key in others {
        stage.one.cache_set(key.as_bytes(), "v".into(), None).await?;
    }
    let deleted = stage.one.cache_delete_pattern(b"products:*").await?;
    ensure!(deleted == 250, "it deleted {deleted} of 250");
    for number in [0, 99, 249] {
        let key = format!("products:{number}");
        ensure!(stage.one.cache_get(key.as_bytes()).await?.is_none(), "{key} is still there");
    }
    for key in others {
        let found = stage.one.cache_get(key.as_bytes()).await?;
        ensure!(found.is_some(), "{key} does not match, and is gone");
    }
    let deleted = stage.one.cache_delete_pattern(br"products\[*").await?;
    ensure!(deleted == 1, "an escaped bracket matched {deleted} keys and not 1");
    ensure!(stage.one.cache_delete_pattern(b"none*").await? == 0, "it deleted what is not there");
    Ok(())
}

async fn values_are_bytes(stage: Stage) -> Result<()> {
    for payload in payloads() {
        stage.one.cache_set(b"\0\xff", payload.clone().into(), None).await?;
        let got = stage.one.cache_get(b"\0\xff").await?.unwrap_or_default();
        ensure!(got == payload, "{} came as {}", shown(&payload), shown(&got));
    }
    Ok(())
}

async fn keys_are_not_those_of_key_value(stage: Stage) -> Result<()> {
    stage.one.kv_set(b"k", "kv".into(), SetOptions::new()).await?;
    stage.one.cache_set(b"k", "cache".into(), None).await?;
    let entry = stage.one.kv_get(b"k").await?;
    ensure!(entry.is_some_and(|entry| entry.value == "kv"), "the cache wrote a key of key-value");
    stage.one.cache_delete_pattern(b"*").await?;
    ensure!(stage.one.kv_get(b"k").await?.is_some(), "the cache deleted a key of key-value");
    Ok(())
}

async fn one_builds_for_all(stage: Stage) -> Result<()> {
    let builds = Arc::new(AtomicU32::new(0));
    let go = Arc::new(tokio::sync::Notify::new());
    let caches = [Cache::new(stage.one), Cache::new(stage.other)];
    let callers = (0..6).map(|number| {
        let (cache, builds, go) = (&caches[number % 2], Arc::clone(&builds), Arc::clone(&go));
        cache.get_or_build("k", Duration::from_secs(60), move || {
            let (number, go) = (builds.fetch_add(1, Ordering::Relaxed), Arc::clone(&go));
            async move {
                // Not before the others have asked as well.
                go.notified().await;
                Ok(number)
            }
        })
    });
    let building = async { Ok::<_, anyhow::Error>(try_join_all(callers).await?) };
    let letting_go = async {
        let begun = || async { Ok(builds.load(Ordering::Relaxed) > 0) };
        eventually("that somebody builds", begun).await?;
        go.notify_waiters();
        go.notify_one();
        Ok(())
    };
    // Where nobody builds for all, the first of them says so.
    let (values, ()) = within("what is built", try_join(building, letting_go)).await??;
    ensure!(values == [0; 6], "they got {values:?} and not all the first one");
    let builds = builds.load(Ordering::Relaxed);
    ensure!(builds == 1, "it was built {builds} times");
    Ok(())
}

async fn a_failed_build_is_not_stored(stage: Stage) -> Result<()> {
    let cache = Cache::new(stage.one);
    let ttl = Duration::from_secs(60);
    let fails = || async {
        Err::<u32, _>(Error::NotFound { reason: "NO_ROW".to_owned(), message: "no row".to_owned() })
    };
    let is_no_row = |error: &Error| error.reason() == "NO_ROW";
    failed("a build that fails", cache.get_or_build("k", ttl, fails).await, is_no_row)?;
    ensure!(cache.get_bytes("k").await?.is_none(), "something is stored for it");
    let built = cache.get_or_build("k", ttl, || async { Ok(7) }).await?;
    ensure!(built == 7, "the next one got {built}");
    Ok(())
}

async fn another_type_is_an_error(stage: Stage) -> Result<()> {
    let cache = Cache::new(stage.one);
    let ttl = Duration::from_secs(60);
    cache.set("k", &vec!["a", "b"], ttl).await?;
    failed("reading a list as a number", cache.get::<u32>("k").await, is_not_the_type)?;
    let list: Option<Vec<String>> = cache.get("k").await?;
    ensure!(list == Some(vec!["a".to_owned(), "b".to_owned()]), "the list came as {list:?}");
    cache.set_bytes("k", "no JSON", None).await?;
    failed("reading what is no JSON", cache.get::<String>("k").await, is_not_the_type)?;
    Ok(())
}
