//! The adapter as a whole: namespaces are apart, closing does no harm.

use super::checks;
use super::stage::{Stage, message};
use anyhow::{Result, ensure};
use quorate_client::Error;
use quorate_client::broker::{NewJob, QueueCounts, SetOptions};
use std::time::Duration;

checks!("adapter": namespaces_are_apart, closed_twice, has_a_name);

/// Goes on when an adapter has no such service: the others are apart all the same.
fn supported<T>(answer: Result<T, Error>) -> Result<Option<T>> {
    match answer {
        Err(Error::Unsupported { .. }) => Ok(None),
        answer => Ok(Some(answer?)),
    }
}

async fn namespaces_are_apart(stage: Stage) -> Result<()> {
    let elsewhere = stage.elsewhere().await?;
    let here = &stage.one;
    if supported(elsewhere.kv_set(b"k", "there".into(), SetOptions::new()).await)?.is_some() {
        ensure!(here.kv_get(b"k").await?.is_none(), "a key of another namespace is to be seen");
        let page = here.kv_list(b"*", None).await?;
        ensure!(page.entries.is_empty(), "a list shows {:?} of another namespace", page.entries);
    }
    if supported(elsewhere.cache_set(b"k", "there".into(), None).await)?.is_some() {
        ensure!(here.cache_get(b"k").await?.is_none(), "a cached value of another namespace");
        here.cache_delete_pattern(b"*").await?;
        ensure!(
            elsewhere.cache_get(b"k").await?.is_some(),
            "deleting by a pattern reached another namespace"
        );
    }
    if supported(elsewhere.queue_push("q", NewJob::new("there")).await)?.is_some() {
        let counts = here.queue_counts("q").await?;
        ensure!(counts == QueueCounts::default(), "jobs of another namespace: {counts:?}");
    }
    let second = Duration::from_secs(1);
    if let Some(held) = supported(elsewhere.lock_acquire("l", second, Duration::ZERO).await)? {
        let here = here.lock_acquire("l", second, Duration::ZERO).await?;
        here.release().await?;
        held.release().await?;
    }
    if let Some(mut events) = supported(here.subscribe(&["*".to_owned()]).await)? {
        elsewhere.publish("c", "there".into()).await?;
        here.publish("c", "here".into()).await?;
        let message = message(&mut events).await?;
        ensure!(message.payload == "here", "{message:?} of another namespace");
    }
    elsewhere.close().await?;
    Ok(())
}

async fn closed_twice(stage: Stage) -> Result<()> {
    stage.one.close().await?;
    stage.one.close().await?;
    Ok(())
}

async fn has_a_name(stage: Stage) -> Result<()> {
    ensure!(!stage.one.name().is_empty(), "its name is empty");
    ensure!(stage.one.name() == stage.other.name(), "two of the same kind have two names");
    Ok(())
}
