//! Queues: order, competing consumers, leases, dead letters.

use super::checks;
use super::stage::{
    Stage, eventually, failed, is_not_the_type, job, job_of_either, job_with, not_before, payloads,
    shown,
};
use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use quorate_client::Error;
use quorate_client::broker::{NewJob, Queue, QueueCounts, QueueSettings};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

checks!("queue":
    what_was_pushed_before_is_consumed,
    jobs_come_in_order,
    a_higher_priority_comes_first,
    delayed_jobs_wait,
    each_job_goes_to_one_consumer,
    no_more_than_max_parallel,
    a_failed_job_comes_again,
    a_lease_that_ends_redelivers,
    extending_keeps_the_lease,
    what_is_done_stays_done,
    dead_letters,
    jobs_whose_leases_end_die_too,
    duplicates_are_not_pushed,
    unsubscribing_hands_back,
    payloads_are_bytes,
    another_type_is_an_error,
);

/// As short as a lease may be.
const VISIBILITY: Duration = Duration::from_secs(1);

fn settings() -> QueueSettings {
    QueueSettings {
        visibility: Some(VISIBILITY),
        attempts_max: Some(10),
        retry_delay: Some(Duration::ZERO),
    }
}

async fn what_was_pushed_before_is_consumed(stage: Stage) -> Result<()> {
    let counts = stage.one.queue_counts("q").await?;
    ensure!(counts == QueueCounts::default(), "a queue that nobody made has {counts:?}");
    stage.one.queue_push("q", NewJob::new("a")).await?;
    stage.one.queue_push("q", NewJob::new("later").delay(Duration::from_secs(3_600))).await?;
    let counts = stage.other.queue_counts("q").await?;
    ensure!((counts.ready, counts.delayed) == (1, 1), "one is ready, one delayed: {counts:?}");
    let mut jobs = stage.other.queue_consume("q", 4).await?;
    let delivered = job_with(&mut jobs, "a").await?;
    ensure!(delivered.attempt() == 1, "the first delivery is attempt {}", delivered.attempt());
    let counts = stage.one.queue_counts("q").await?;
    ensure!((counts.ready, counts.leased) == (0, 1), "one is worked on: {counts:?}");
    delivered.ack().await?;
    let counts = stage.one.queue_counts("q").await?;
    ensure!(counts.leased == 0, "it is done: {counts:?}");
    // And what is pushed while somebody waits.
    stage.one.queue_push("q", NewJob::new("b")).await?;
    job_with(&mut jobs, "b").await?.ack().await?;
    Ok(())
}

async fn jobs_come_in_order(stage: Stage) -> Result<()> {
    for number in 0..30 {
        let broker = if number % 2 == 0 { &stage.one } else { &stage.other };
        broker.queue_push("q", NewJob::new(number.to_string())).await?;
    }
    let mut jobs = stage.one.queue_consume("q", 1).await?;
    for number in 0..30 {
        job_with(&mut jobs, &number.to_string()).await?.ack().await?;
    }
    Ok(())
}

async fn a_higher_priority_comes_first(stage: Stage) -> Result<()> {
    let pushes = [("low", 0), ("high", 9), ("middle", 5), ("high too", 9), ("highest", 255)];
    for (payload, priority) in pushes {
        stage.one.queue_push("q", NewJob::new(payload).priority(priority)).await?;
    }
    let mut jobs = stage.other.queue_consume("q", 1).await?;
    for expected in ["highest", "high", "high too", "middle", "low"] {
        job_with(&mut jobs, expected).await?.ack().await?;
    }
    Ok(())
}

async fn delayed_jobs_wait(stage: Stage) -> Result<()> {
    let (sooner, later) = (Duration::from_millis(500), Duration::from_millis(1_000));
    let begun = Instant::now();
    stage.one.queue_push("q", NewJob::new("later").delay(later)).await?;
    stage.one.queue_push("q", NewJob::new("sooner").delay(sooner)).await?;
    stage.one.queue_push("q", NewJob::new("now")).await?;
    let mut jobs = stage.other.queue_consume("q", 3).await?;
    job_with(&mut jobs, "now").await?.ack().await?;
    let delivered = job_with(&mut jobs, "sooner").await?;
    not_before("it came", begun, sooner)?;
    delivered.ack().await?;
    let delivered = job_with(&mut jobs, "later").await?;
    not_before("it came", begun, later)?;
    delivered.ack().await?;
    Ok(())
}

async fn each_job_goes_to_one_consumer(stage: Stage) -> Result<()> {
    const JOBS: usize = 60;
    for number in 0..JOBS {
        stage.one.queue_push("q", NewJob::new(number.to_string())).await?;
    }
    let done = Mutex::new(BTreeMap::new());
    let (over, _) = tokio::sync::watch::channel(false);
    let consume = async |broker: &std::sync::Arc<dyn quorate_client::broker::Broker>| {
        let mut jobs = broker.queue_consume("q", 5).await?;
        let mut told = over.subscribe();
        loop {
            let delivered = tokio::select! {
                delivered = job(&mut jobs) => delivered?,
                _ = told.wait_for(|over| *over) => return Ok::<_, anyhow::Error>(()),
            };
            let payload = String::from_utf8_lossy(delivered.payload()).into_owned();
            delivered.ack().await?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done.entry(payload).or_insert(0) += 1;
            if done.len() == JOBS {
                over.send_replace(true);
            }
        }
    };
    futures::try_join!(consume(&stage.one), consume(&stage.other), consume(&stage.one))?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let twice: Vec<_> = done.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(twice.is_empty(), "not done once: {twice:?}");
    let counts = stage.one.queue_counts("q").await?;
    ensure!(counts == QueueCounts::default(), "all are done, and there are {counts:?}");
    Ok(())
}

async fn no_more_than_max_parallel(stage: Stage) -> Result<()> {
    for number in 0..5 {
        stage.one.queue_push("q", NewJob::new(number.to_string())).await?;
    }
    let mut narrow = stage.one.queue_consume("q", 2).await?;
    let held = [job(&mut narrow).await?, job(&mut narrow).await?];
    let mut wide = stage.other.queue_consume("q", 10).await?;
    let mut others = Vec::new();
    while others.len() < 3 {
        tokio::select! {
            more = narrow.next() => bail!("a third one came to where two are not settled: {more:?}"),
            other = job(&mut wide) => others.push(other?),
        }
    }
    drop(wide);
    for delivered in held.into_iter().chain(others) {
        delivered.ack().await?;
    }
    // There is room again.
    stage.other.queue_push("q", NewJob::new("5")).await?;
    job_with(&mut narrow, "5").await?.ack().await?;
    Ok(())
}

async fn a_failed_job_comes_again(stage: Stage) -> Result<()> {
    stage.one.queue_update("q", settings()).await?;
    let pushed = stage.one.queue_push("q", NewJob::new("j")).await?;
    let mut jobs = stage.other.queue_consume("q", 1).await?;
    job_with(&mut jobs, "j").await?.nack(Some(Duration::ZERO)).await?;
    let again = job_with(&mut jobs, "j").await?;
    ensure!(again.attempt() == 2, "the second delivery is attempt {}", again.attempt());
    ensure!(again.id() == pushed.id, "it is {} by now, and was {}", again.id(), pushed.id);
    let (begun, delay) = (Instant::now(), Duration::from_millis(700));
    again.nack(Some(delay)).await?;
    // Meanwhile others go on.
    stage.one.queue_push("q", NewJob::new("other")).await?;
    job_with(&mut jobs, "other").await?.ack().await?;
    let again = job_with(&mut jobs, "j").await?;
    not_before("it came again", begun, delay)?;
    ensure!(again.attempt() == 3, "the third delivery is attempt {}", again.attempt());
    // As its queue says.
    again.nack(None).await?;
    job_with(&mut jobs, "j").await?.ack().await?;
    Ok(())
}

async fn a_lease_that_ends_redelivers(stage: Stage) -> Result<()> {
    stage.one.queue_update("q", settings()).await?;
    stage.one.queue_push("q", NewJob::new("j")).await?;
    let begun = Instant::now();
    let mut one = stage.one.queue_consume("q", 1).await?;
    let late = job_with(&mut one, "j").await?;
    let mut other = stage.other.queue_consume("q", 1).await?;
    let again = job_of_either(&mut one, &mut other).await?;
    not_before("it came again", begun, VISIBILITY)?;
    ensure!(again.payload() == "j", "another one came: {again:?}");
    ensure!(again.attempt() == 2, "the second delivery is attempt {}", again.attempt());
    let is_lost = |error: &Error| matches!(error, Error::JobLost { .. });
    failed("extending what is another's", late.extend(VISIBILITY).await, is_lost)?;
    failed("settling what is another's", late.ack().await, is_lost)?;
    again.ack().await.context("by who has it now")?;
    Ok(())
}

async fn extending_keeps_the_lease(stage: Stage) -> Result<()> {
    stage.one.queue_update("q", settings()).await?;
    stage.one.queue_push("q", NewJob::new("long")).await?;
    let mut one = stage.one.queue_consume("q", 1).await?;
    let long = job_with(&mut one, "long").await?;
    long.extend(Duration::from_secs(60)).await?;
    stage.one.queue_push("q", NewJob::new("later").delay(2 * VISIBILITY)).await?;
    let mut other = stage.other.queue_consume("q", 2).await?;
    let next = job_of_either(&mut one, &mut other).await?;
    ensure!(next.payload() == "later", "what was extended came again: {next:?}");
    next.ack().await?;
    long.ack().await.context("after its lease was extended")?;
    Ok(())
}

async fn what_is_done_stays_done(stage: Stage) -> Result<()> {
    stage.one.queue_update("q", settings()).await?;
    stage.one.queue_push("q", NewJob::new("j")).await?;
    let mut jobs = stage.one.queue_consume("q", 2).await?;
    job_with(&mut jobs, "j").await?.ack().await?;
    stage.one.queue_push("q", NewJob::new("later").delay(2 * VISIBILITY)).await?;
    job_with(&mut jobs, "later").await?.ack().await?;
    Ok(())
}

async fn dead_letters(stage: Stage) -> Result<()> {
    stage.one.queue_update("q", QueueSettings { attempts_max: Some(2), ..settings() }).await?;
    stage.one.queue_push("q", NewJob::new("poison")).await?;
    let mut jobs = stage.one.queue_consume("q", 1).await?;
    for attempt in 1..=2 {
        let delivered = job_with(&mut jobs, "poison").await?;
        ensure!(delivered.attempt() == attempt, "{} is not {attempt}", delivered.attempt());
        delivered.nack(Some(Duration::ZERO)).await?;
    }
    // It does not come a third time.
    stage.one.queue_push("q", NewJob::new("next")).await?;
    job_with(&mut jobs, "next").await?.ack().await?;
    let counts = stage.other.queue_counts("q").await?;
    ensure!(counts.dead == 1, "one is dead: {counts:?}");
    let mut dead = stage.other.queue_consume("q.dead", 1).await?;
    job_with(&mut dead, "poison").await?.ack().await?;
    let counts = stage.one.queue_counts("q").await?;
    ensure!(counts == QueueCounts::default(), "all are done, and there are {counts:?}");
    Ok(())
}

async fn jobs_whose_leases_end_die_too(stage: Stage) -> Result<()> {
    stage.one.queue_update("q", QueueSettings { attempts_max: Some(1), ..settings() }).await?;
    stage.one.queue_push("q", NewJob::new("poison")).await?;
    let mut jobs = stage.one.queue_consume("q", 2).await?;
    let silent = job_with(&mut jobs, "poison").await?;
    let mut dead = stage.other.queue_consume("q.dead", 1).await?;
    let mut both = async || {
        tokio::select! {
            again = jobs.next() => bail!("it came again: {again:?}"),
            dead = job_with(&mut dead, "poison") => dead,
        }
    };
    both().await?.ack().await?;
    let is_lost = |error: &Error| matches!(error, Error::JobLost { .. });
    failed("settling what is dead", silent.ack().await, is_lost)?;
    Ok(())
}

async fn duplicates_are_not_pushed(stage: Stage) -> Result<()> {
    let push = async |payload: &'static str, key: &str| {
        stage.one.queue_push("q", NewJob::new(payload).dedupe_key(key)).await
    };
    let first = push("first", "k").await?;
    ensure!(!first.duplicate, "the first one is a duplicate, they say");
    let second = push("second", "k").await?;
    ensure!(second.duplicate, "the second one is no duplicate, they say");
    ensure!(second.id == first.id, "a duplicate is {}, the first one {}", second.id, first.id);
    let mut jobs = stage.other.queue_consume("q", 1).await?;
    job_with(&mut jobs, "first").await?.ack().await?;
    // Also after it is done.
    ensure!(push("third", "k").await?.duplicate, "a done one is forgotten at once");
    ensure!(!push("other", "other").await?.duplicate, "another key is the same, they say");
    job_with(&mut jobs, "other").await?.ack().await?;
    Ok(())
}

async fn unsubscribing_hands_back(stage: Stage) -> Result<()> {
    for number in 0..3 {
        stage.one.queue_push("q", NewJob::new(number.to_string())).await?;
    }
    let mut gone = stage.one.queue_consume("q", 10).await?;
    job_with(&mut gone, "0").await?.ack().await?;
    drop(gone);
    let mut jobs = stage.other.queue_consume("q", 10).await?;
    let mut found = Vec::new();
    for _ in 1..3 {
        let delivered = job(&mut jobs).await?;
        found.push(String::from_utf8_lossy(delivered.payload()).into_owned());
        delivered.ack().await?;
    }
    found.sort();
    ensure!(found == ["1", "2"], "the others are {found:?}");
    Ok(())
}

async fn payloads_are_bytes(stage: Stage) -> Result<()> {
    let mut jobs = stage.one.queue_consume("q", 1).await?;
    for payload in payloads() {
        stage.other.queue_push("q", NewJob::new(payload.clone())).await?;
        let delivered = job(&mut jobs).await?;
        let got = delivered.payload();
        ensure!(got == &payload, "{} came as {}", shown(&payload), shown(got));
        delivered.ack().await?;
    }
    Ok(())
}

async fn another_type_is_an_error(stage: Stage) -> Result<()> {
    let (pushing, taking) = (Queue::new(stage.other), Queue::new(stage.one));
    pushing.add("q", &vec![1, 2]).await?;
    pushing.push("q", NewJob::new("no JSON")).await?;
    let mut jobs = taking.subscribe("q", 1).await?;
    let list = job(&mut jobs).await?;
    failed("reading a list as a text", list.json::<String>(), is_not_the_type)?;
    let numbers: Vec<u32> = list.json()?;
    ensure!(numbers == [1, 2], "the list came as {numbers:?}");
    list.ack().await?;
    let text = job(&mut jobs).await?;
    failed("reading what is no JSON", text.json::<String>(), is_not_the_type)?;
    text.ack().await?;
    let empty = || async { Ok(taking.counts("q").await? == QueueCounts::default()) };
    eventually("that the queue is empty", empty).await
}
