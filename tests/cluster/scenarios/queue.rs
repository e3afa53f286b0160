//! The calls of scenarios on queues.

use super::calls::{Came, Failure, Scenario, With, bytes, is, millis, text};
use super::kept::{Kept, KeptJob};
use quorate_client::Client;
use quorate_client::queue::{Backoff, Job};
use serde_json::{Value, json};

pub(super) async fn call(
    scenario: &Scenario,
    client: &Client,
    call: &str,
    with: &With,
    name: Option<&str>,
) -> Came {
    let queues = client.queue();
    let queue = text(with, "queue");
    Ok(match call {
        "push" => {
            let mut push =
                queues.push(queue, bytes(&with["data"])).content_type("application/json");
            if let Some(delay) = millis(with, "delay_ms") {
                push = push.delay(delay);
            }
            if let Some(priority) = with.get("priority").and_then(Value::as_u64) {
                push = push.priority(u8::try_from(priority).unwrap_or(u8::MAX));
            }
            if let Some(key) = with.get("dedupe_key").and_then(Value::as_str) {
                push = push.dedupe_key(key);
            }
            if let Some(group) = with.get("group").and_then(Value::as_str) {
                push = push.group(group);
            }
            if let Some(guard) = scenario.guard(with).await? {
                push = push.guard(&guard);
            }
            json!({ "duplicate": push.await?.duplicate })
        }
        "pull" => {
            let count = with.get("count").and_then(Value::as_u64).unwrap_or(1);
            let mut pull = queues.pull(queue).count(u32::try_from(count).unwrap_or(1));
            if let Some(wait) = millis(with, "wait_ms") {
                pull = pull.wait(wait);
            }
            let jobs = pull.await?;
            let shown = jobs.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
            if let Some(first) = jobs.into_iter().next() {
                keep(scenario, name, first);
            }
            shown.into()
        }
        "ack" | "nack" | "extend" => return settle(scenario, client, call, with).await,
        "declare" => {
            let mut update = queues.update(queue);
            if let Some(attempts) = with.get("attempts_max").and_then(Value::as_u64) {
                update = update.attempts_max(u32::try_from(attempts).unwrap_or(u32::MAX));
            }
            if let Some(visibility) = millis(with, "visibility_ms") {
                update = update.visibility(visibility);
            }
            if let Some(backoff) = millis(with, "backoff_ms") {
                update = update.backoff(Backoff::fixed(backoff));
            }
            update.await?;
            Value::Null
        }
        "stats" => {
            let info = queues.stats(queue).await?;
            json!({ "ready": info.ready, "delayed": info.delayed, "leased": info.leased, "dead": info.dead })
        }
        "consume" => {
            let window = with.get("window").and_then(Value::as_u64).unwrap_or(1);
            let consume = queues.consume(queue, u32::try_from(window).unwrap_or(1));
            scenario.shelf.put(name, Kept::Consumer(Some(consume.start().await?)));
            Value::Null
        }
        "redrive" => queues.redrive(queue).await?.moved.into(),
        "purge" => queues.purge(queue).await?.purged.into(),
        _ => return Err(Failure::Scenario(format!("there is no call queue.{call}"))),
    })
}

pub(super) async fn consumer(
    scenario: &Scenario,
    _: &Client,
    call: &str,
    with: &With,
    name: Option<&str>,
) -> Came {
    let kept = scenario.shelf.get(text(with, "consumer"))?;
    let mut kept = kept.lock().await;
    let over = || Failure::Scenario("the consumer is over".to_owned());
    let Kept::Consumer(consumer) = &mut *kept else {
        return Err(Failure::Scenario("it is no consumer".to_owned()));
    };
    match call {
        "next" => {
            let next = consumer.as_mut().ok_or_else(over)?.next();
            let job = next.await.ok_or_else(over)??;
            let shown = shown(&job)?;
            keep(scenario, name, job);
            Ok(shown)
        }
        "close" => {
            consumer.take().ok_or_else(over)?.close().await;
            Ok(Value::Null)
        }
        _ => Err(Failure::Scenario(format!("there is no call consumer.{call}"))),
    }
}

/// Says what became of a job; once more by its lease, if that was said before.
async fn settle(scenario: &Scenario, client: &Client, call: &str, with: &With) -> Came {
    let kept = scenario.shelf.get(text(with, "job"))?;
    let mut kept = kept.lock().await;
    let Kept::Job(kept) = &mut *kept else {
        return Err(Failure::Scenario("it is no job".to_owned()));
    };
    if call == "extend" {
        let job = kept.job.as_ref();
        let job = job.ok_or_else(|| Failure::Scenario("the job is settled".to_owned()))?;
        job.extend(std::time::Duration::from_secs(30)).await?;
        return Ok(Value::Null);
    }
    let queues = client.queue();
    let error = text(with, "error");
    match (call, kept.job.take()) {
        ("ack", Some(job)) => job.ack().await?,
        ("ack", None) => queues.ack(&kept.queue, kept.id, kept.lease).await?,
        (_, Some(job)) if is(with, "dead") => drop(job.kill(error).await?),
        (_, Some(job)) if is(with, "hand_back") => drop(job.hand_back().await?),
        (_, Some(job)) => match millis(with, "delay_ms") {
            Some(delay) => drop(job.nack_after(delay, error).await?),
            None => drop(job.nack(error).await?),
        },
        (_, None) => drop(queues.nack(&*kept.queue, kept.id, kept.lease).await?),
    }
    Ok(Value::Null)
}

fn keep(scenario: &Scenario, name: Option<&str>, job: Job) {
    let (queue, id, lease) = (job.queue().to_owned(), job.id(), job.lease());
    scenario.shelf.put(name, Kept::Job(KeptJob { job: Some(job), queue, id, lease }));
}

fn shown(job: &Job) -> Came {
    let data: Value = serde_json::from_slice(job.payload())?;
    Ok(json!({ "data": data, "attempt": job.attempt() }))
}
