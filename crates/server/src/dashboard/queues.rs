//! Queues, and what an administrator does to them.

use super::answer::{Answer, Refusal, Told, some_text};
use super::ask::{Ask, may_administer, within_deadline};
use super::press::Press;
use crate::access::Grant;
use axum::extract::Path;
use axum::http::StatusCode;
use quorate_proto::v1;
use quorate_proto::v1::queue_dead_letters::To;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_state::AccessService;
use serde_json::{Value, json};

/// Queues of a page: by default, and at most.
const PAGE: (u32, u32) = (100, 200);

pub(super) async fn list(ask: Ask) -> Answer {
    let request = ask.request(v1::ListQueuesRequest {
        namespace: ask.namespace(),
        selector: ask.asked.by_prefix(),
        cursor: ask.asked.cursor.clone().unwrap_or_default(),
        limit: ask.asked.limit(PAGE.0, PAGE.1),
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let page = QueueServiceClient::new(ask.services()).list_queues(request).await?.into_inner();
    let grant = ask.grant().await?;
    let queues: Vec<Value> =
        page.queues.iter().map(|queue| told(queue, grant.as_deref(), &ask)).collect();
    let cursor = some_text(page.cursor);
    Ok(Told(json!({"queues": queues, "cursor": cursor, "revision": page.revision.to_string()})))
}

pub(super) async fn get(ask: Ask, Path(name): Path<String>) -> Answer {
    let (queue, revision) = stats(&ask, name).await?;
    let grant = ask.grant().await?;
    let mut shown = told(&queue, grant.as_deref(), &ask);
    shown["options"] = options(&queue);
    Ok(Told(json!({"queue": shown, "revision": revision.to_string()})))
}

/// All that is counted of one queue.
pub(super) async fn stats(ask: &Ask, queue: String) -> Result<(v1::QueueInfo, u64), Refusal> {
    let request = ask.request(v1::StatsRequest {
        namespace: ask.namespace(),
        queue,
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let stats = QueueServiceClient::new(ask.services()).stats(request).await?.into_inner();
    Ok((stats.info.ok_or_else(unknown)?, stats.revision))
}

fn unknown() -> Refusal {
    let why = "there is no such queue, or not any more";
    Refusal::new(StatusCode::NOT_FOUND, "QUEUE_UNKNOWN", why)
}

/// Where the dead letters of a queue go; none: nowhere.
pub(super) fn dead_letters(queue: &v1::QueueInfo) -> Option<String> {
    let options = queue.options.as_ref();
    let to = options.and_then(|options| options.dead_letters.as_ref()?.to.clone());
    match to {
        Some(To::Queue(name)) => Some(name),
        Some(To::Discard(true)) => None,
        _ => Some(format!("{}.dead", queue.queue)),
    }
}

fn told(queue: &v1::QueueInfo, grant: Option<&Grant>, ask: &Ask) -> Value {
    let may_admin = may_administer(grant, AccessService::Queue, &ask.asked.namespace, &queue.queue);
    let totals = queue.totals.unwrap_or_default();
    json!({
        "queue": queue.queue,
        "paused": queue.paused,
        "ready": queue.ready,
        "delayed": queue.delayed,
        "leased": queue.leased,
        "done": queue.done,
        "dead": queue.dead,
        "body_bytes": queue.body_bytes,
        "oldest_ready_ms": queue.oldest_ready_ms,
        "consumers": null,
        "may_admin": may_admin,
        "totals": {
            "pushed": totals.pushed,
            "duplicates": totals.duplicates,
            "delivered": totals.delivered,
            "acked": totals.acked,
            "nacked": totals.nacked,
            "lapsed": totals.lapsed,
            "died": totals.died,
            "dropped": totals.dropped,
            "cancelled": totals.cancelled,
        },
    })
}

fn options(queue: &v1::QueueInfo) -> Value {
    let options = queue.options.clone().unwrap_or_default();
    let backoff = options.backoff.unwrap_or_default();
    let letters = dead_letters(queue);
    let when_full = match options.when_full() {
        v1::QueueWhenFull::DropOldest => "drop_oldest",
        v1::QueueWhenFull::Reject | v1::QueueWhenFull::Unspecified => "reject",
    };
    let rate = options.rate.unwrap_or_default();
    json!({
        "visibility_ms": options.visibility_ms,
        "attempts_max": options.attempts_max,
        "backoff": {
            "exponential": backoff.exponential,
            "base_ms": backoff.base_ms,
            "cap_ms": backoff.cap_ms,
            "jitter_permille": backoff.jitter_permille,
        },
        "dead_letters": {
            "to": if letters.is_some() { "queue" } else { "discard" },
            "queue": letters,
        },
        "keep_done_ms": options.keep_done_ms,
        "jobs_max": options.jobs_max,
        "when_full": when_full,
        "parallel_max": options.parallel_max,
        "rate": {"jobs": rate.jobs, "per_ms": rate.per_ms},
        "dedupe_window_ms": options.dedupe_window_ms,
    })
}

/// Refuses to change a queue that there is not: some of the calls would make it. Whoever may administer it
/// may know that.
async fn there(press: &Press) -> Result<(), Refusal> {
    let Press { ask, name, .. } = press;
    let grant = ask.grant().await?;
    if !may_administer(grant.as_deref(), AccessService::Queue, &ask.asked.namespace, name) {
        // Its service says so, and notes it.
        return Ok(());
    }
    let request = within_deadline(v1::StatsRequest {
        namespace: ask.namespace(),
        queue: name.clone(),
        ..v1::StatsRequest::default()
    });
    let asked = QueueServiceClient::new(ask.dashboard.routes.clone()).stats(request).await;
    match asked {
        Ok(stats) if stats.get_ref().info.is_some() => Ok(()),
        Ok(_) => {
            let why = "there is no such queue, or not any more";
            Err(Refusal::not_applied(StatusCode::NOT_FOUND, "QUEUE_UNKNOWN", why))
        }
        Err(status) => Err(Refusal::of_change(&status)),
    }
}

/// Makes a call of a queue's administrator with no more in it than the queue's name.
macro_rules! press {
    ($press:ident, $method:ident, $request:ident) => {{
        there(&$press).await?;
        let request = $press.ask.request(v1::$request {
            namespace: $press.ask.namespace(),
            origin: $press.origin(),
            queue: $press.name.clone(),
        });
        let mut queues = QueueServiceClient::new($press.ask.services());
        let answer = queues.$method(request).await;
        answer.map_err(|status| Refusal::of_change(&status))?.into_inner()
    }};
}

pub(super) async fn pause(press: Press) -> Answer {
    let paused = press!(press, pause, PauseRequest);
    Ok(Told(json!({"revision": paused.revision.to_string()})))
}

pub(super) async fn resume(press: Press) -> Answer {
    let resumed = press!(press, resume, ResumeRequest);
    Ok(Told(json!({"revision": resumed.revision.to_string()})))
}

pub(super) async fn purge(press: Press) -> Answer {
    let purged = press!(press, purge, PurgeRequest);
    Ok(Told(json!({"purged": purged.purged, "revision": purged.revision.to_string()})))
}

/// Which dead letters go back.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Redriven {
    #[serde(default)]
    job_ids: Vec<String>,
    #[serde(default)]
    cursor: Option<String>,
}

pub(super) async fn redrive(press: Press) -> Answer {
    let Redriven { job_ids, cursor } = press.body()?;
    let number = |text: String| {
        text.parse::<u64>().map_err(|_| {
            let why = format!("{text:?} is no number");
            Refusal::not_applied(StatusCode::BAD_REQUEST, "INVALID", why)
        })
    };
    let job_ids = job_ids.into_iter().map(number).collect::<Result<Vec<u64>, Refusal>>()?;
    let cursor = cursor.map(number).transpose()?.unwrap_or_default();
    there(&press).await?;
    let request = press.ask.request(v1::RedriveRequest {
        namespace: press.ask.namespace(),
        origin: press.origin(),
        queue: press.name.clone(),
        job_ids,
        cursor,
        limit: 0,
    });
    let answer = QueueServiceClient::new(press.ask.services()).redrive(request).await;
    let redriven = answer.map_err(|status| Refusal::of_change(&status))?.into_inner();
    Ok(Told(json!({
        "moved": redriven.moved,
        "cursor": super::answer::some(redriven.cursor).map(|cursor| cursor.to_string()),
        "revision": redriven.revision.to_string(),
    })))
}
