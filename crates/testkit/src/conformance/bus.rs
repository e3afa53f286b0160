//! The bus: order, patterns, who gets what.

use super::checks;
use super::stage::{Stage, eventually, failed, is_not_the_type, message, payloads, shown};
use anyhow::{Result, ensure};
use quorate_client::Error;
use quorate_client::broker::{Broker, Bus, BusEvent, Items};
use std::sync::Arc;

checks!("bus":
    messages_come_in_order,
    patterns_match,
    two_patterns_get_a_message_once,
    every_subscriber_gets_it,
    payloads_are_bytes,
    there_is_no_history,
    unsubscribing_ends_it,
    another_type_is_an_error,
);

const MESSAGES: u32 = 200;

async fn subscribe(broker: &Arc<dyn Broker>, patterns: &[&str]) -> Result<Items<BusEvent>> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    Ok(broker.subscribe(&patterns).await?)
}

async fn messages_come_in_order(stage: Stage) -> Result<()> {
    let mut events = subscribe(&stage.one, &["c"]).await?;
    for number in 0..MESSAGES {
        stage.other.publish("c", number.to_string().into()).await?;
    }
    // What it publishes itself comes as well. It is also the last one, so nothing comes twice.
    stage.one.publish("c", "last".into()).await?;
    let expected = (0..MESSAGES).map(|number| number.to_string()).chain(["last".to_owned()]);
    for expected in expected {
        let message = message(&mut events).await?;
        ensure!(message.payload == expected, "{message:?} came where {expected} was to come");
        ensure!(message.channel == "c", "{message:?} has another channel");
    }
    Ok(())
}

/// Patterns, and the channels that match them, in the order in which they are published.
const PATTERNS: &[(&str, &[&str])] = &[
    ("user.*", &["user.created", "user.profile.updated", "user.error", "user.", "user.end"]),
    ("*.error", &["user.error", "db.error", "end.error"]),
    ("user.created", &["user.created"]),
    ("job.[a-c]?", &["job.a1", "job.c2"]),
    ("job.[^a]?", &["job.c2", "job.d3"]),
    (r"lit.\*", &["lit.*"]),
    ("*", CHANNELS),
];

const CHANNELS: &[&str] = &[
    "user.created",
    "user.profile.updated",
    "user.error",
    "user.",
    "user",
    "db.error",
    "db.errors",
    "job.a1",
    "job.c2",
    "job.d3",
    "job.a",
    "lit.*",
    "lit.x",
    "user.end",
    "end.error",
];

async fn patterns_match(stage: Stage) -> Result<()> {
    for (pattern, expected) in PATTERNS {
        // The last one is for all, and behind everything that a pattern must not match.
        let mut events = subscribe(&stage.one, &[pattern, "the-end"]).await?;
        for channel in CHANNELS.iter().chain(&["the-end"]) {
            stage.other.publish(channel, (*channel).into()).await?;
        }
        let mut got = Vec::new();
        loop {
            let message = message(&mut events).await?;
            if message.channel == "the-end" {
                break;
            }
            got.push(message.channel);
        }
        ensure!(got == *expected, "{pattern} got {got:?}; it was to get {expected:?}");
    }
    Ok(())
}

async fn two_patterns_get_a_message_once(stage: Stage) -> Result<()> {
    let mut events = subscribe(&stage.one, &["user.*", "*.error", "user.error"]).await?;
    for channel in ["user.error", "db.error", "user.created", "user.error"] {
        stage.other.publish(channel, channel.into()).await?;
    }
    for expected in ["user.error", "db.error", "user.created", "user.error"] {
        let message = message(&mut events).await?;
        ensure!(message.channel == expected, "{message:?} came where {expected} was to come");
    }
    Ok(())
}

async fn every_subscriber_gets_it(stage: Stage) -> Result<()> {
    let mut subscribers = [
        subscribe(&stage.one, &["c"]).await?,
        subscribe(&stage.one, &["c"]).await?,
        subscribe(&stage.other, &["*"]).await?,
    ];
    stage.other.publish("c", "1".into()).await?;
    stage.one.publish("c", "2".into()).await?;
    for (number, events) in subscribers.iter_mut().enumerate() {
        for expected in ["1", "2"] {
            let message = message(events).await?;
            ensure!(message.payload == expected, "subscriber {number} got {message:?}");
        }
    }
    Ok(())
}

async fn payloads_are_bytes(stage: Stage) -> Result<()> {
    let mut events = subscribe(&stage.one, &["c"]).await?;
    for payload in payloads() {
        stage.other.publish("c", payload.clone().into()).await?;
        let got = message(&mut events).await?.payload;
        ensure!(got == payload, "{} came as {}", shown(&payload), shown(&got));
    }
    Ok(())
}

async fn there_is_no_history(stage: Stage) -> Result<()> {
    stage.other.publish("c", "before".into()).await?;
    let mut events = subscribe(&stage.one, &["c"]).await?;
    stage.other.publish("c", "after".into()).await?;
    let message = message(&mut events).await?;
    ensure!(message.payload == "after", "{message:?} was published before");
    Ok(())
}

async fn unsubscribing_ends_it(stage: Stage) -> Result<()> {
    let told = async |channel: &str| -> Result<u64> {
        let told = stage.other.publish(channel, "m".into()).await?;
        let what = "saying to how many subscriptions a message is sent";
        Ok(told.ok_or_else(|| Error::unsupported(stage.other.name(), what))?)
    };
    let events = subscribe(&stage.one, &["c"]).await?;
    let kept = subscribe(&stage.one, &["kept"]).await?;
    let count = told("c").await?;
    ensure!(count == 1, "one subscribes, and it was sent to {count}");
    drop(events);
    eventually("that nobody subscribes", || async { Ok(told("c").await? == 0) }).await?;
    let count = told("kept").await?;
    ensure!(count == 1, "ending one subscription left {count} of another one");
    drop(kept);
    Ok(())
}

async fn another_type_is_an_error(stage: Stage) -> Result<()> {
    let (sending, receiving) = (Bus::new(stage.other), Bus::new(stage.one));
    let mut events = receiving.subscribe(["c"]).await?;
    sending.publish("c", "text").await?;
    sending.publish_bytes("c", "no JSON").await?;
    sending.publish("c", &17).await?;
    for _ in 0..2 {
        let message = message(&mut events).await?;
        failed("reading it as a number", message.json::<u32>(), is_not_the_type)?;
    }
    let number: u32 = message(&mut events).await?.json()?;
    ensure!(number == 17, "17 came as {number}");
    Ok(())
}
