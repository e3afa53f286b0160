//! What was seen as a document, for programs.

use super::picture::{Part, Picture};
use super::seen::Queue;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Counters of which it is told how much they grew in a second.
const RATES: [&str; 13] = [
    "requests_ok",
    "requests_not_applied",
    "requests_unknown",
    "commands_proposed",
    "entries_proposed",
    "log_bytes",
    "log_syncs",
    "bus_published",
    "bus_delivered",
    "bus_gaps",
    "cache_hits",
    "cache_misses",
    "cache_evicted",
];

/// Something that is counted of a queue.
type Count = fn(&Queue) -> u64;

/// What a queue has counted, of which the same is told.
const QUEUE_RATES: [(&str, Count); 5] = [
    ("pushed", |queue| queue.pushed),
    ("delivered", |queue| queue.delivered),
    ("acked", |queue| queue.acked),
    ("nacked", |queue| queue.nacked),
    ("lapsed", |queue| queue.lapsed),
];

/// The picture as it is now; rates are null until something has been seen twice.
pub(super) fn document(picture: &Picture, now: Instant) -> Value {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut cluster = part(&picture.cluster, now);
    let rates = RATES.map(|counter| (counter.to_owned(), rate(picture.rate(counter))));
    cluster["per_second"] = Map::from_iter(rates).into();
    let mut queues = part(&picture.queues, now);
    if let Some(items) = queues.pointer_mut("/seen/items").and_then(Value::as_array_mut) {
        for item in items {
            let Some(name) = item["queue"].as_str().map(str::to_owned) else { continue };
            let rates = QUEUE_RATES
                .map(|(word, of)| (word.to_owned(), rate(picture.queue_rate(&name, of))));
            item["per_second"] = Map::from_iter(rates).into();
        }
    }
    let mut bus = part(&picture.bus, now);
    if let Some(items) = bus.pointer_mut("/seen/items").and_then(Value::as_array_mut) {
        for item in items {
            let Some(name) = item["pattern"].as_str().map(str::to_owned) else { continue };
            item["messages_per_second"] = rate(picture.channel_rate(&name));
        }
    }
    json!({
        "at_unix_ms": u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        "cluster": cluster,
        "queues": queues,
        "locks": part(&picture.locks, now),
        "cache": part(&picture.cache, now),
        "bus": bus,
        "sessions": part(&picture.sessions, now),
    })
}

/// What was seen, and why the newest look failed, if it did: then `seen` is `age_ms` old.
fn part<T: Serialize>(part: &Part<T>, now: Instant) -> Value {
    let failed = part.failed(now);
    let age = failed.as_ref().and_then(|(_, age)| *age);
    json!({
        "seen": part.value(),
        "failed": failed.map(|(error, _)| {
            json!({ "error": error.message(), "reason": error.reason() })
        }),
        "age_ms": age.map(crate::duration::millis),
    })
}

/// To the tenth.
fn rate(rate: Option<f64>) -> Value {
    rate.map_or(Value::Null, |rate| ((rate * 10.0).round() / 10.0).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::top::seen::{Holder, Listed, Lock};
    use quorate_client::Error;
    use std::time::Duration;

    #[test]
    fn a_document_has_what_was_seen_and_what_failed() {
        let begun = Instant::now();
        let later = begun + Duration::from_secs(2);
        let mut picture = Picture::default();
        let queue = |pushed| Queue { queue: "q".to_owned(), pushed, ..Queue::default() };
        let queues = |pushed| Listed { items: vec![queue(pushed)], more: false, stale: true };
        picture.queues.take(begun, Ok(queues(1)));
        assert_eq!(
            document(&picture, begun).pointer("/queues/seen/items/0/per_second/pushed"),
            Some(&Value::Null)
        );
        picture.queues.take(later, Ok(queues(4)));
        let holder = Holder { token: u64::MAX, ..Holder::default() };
        let lock = Lock { holders: vec![holder], ..Lock::default() };
        picture.locks.take(begun, Ok(Listed { items: vec![lock], ..Listed::default() }));
        let error = Error::Unavailable { reason: "WHY".to_owned(), message: "what".to_owned() };
        picture.locks.take(later, Err(error));
        let document = document(&picture, later);
        let at = |pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/queues/seen/items/0/per_second/pushed"), json!(1.5));
        assert_eq!((at("/queues/seen/stale"), at("/queues/failed")), (json!(true), Value::Null));
        // Too large for a number.
        assert_eq!(at("/locks/seen/items/0/holders/0/token"), json!(u64::MAX.to_string()));
        assert_eq!(at("/locks/failed"), json!({ "error": "what", "reason": "WHY" }));
        assert_eq!((at("/locks/age_ms"), at("/cluster/seen")), (json!(2_000), Value::Null));
    }
}
