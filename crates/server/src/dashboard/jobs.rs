//! The jobs of a queue, with the beginning of what is in them.

use super::answer::{Answer, Refusal, Told, b64, some, some_text, text};
use super::ask::Ask;
use super::queues;
use axum::extract::Path;
use axum::http::StatusCode;
use quorate_proto::v1;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use serde_json::{Value, json};

/// Jobs of a page: by default, and at most.
const PAGE: (u32, u32) = (50, 100);
/// What of the next ones is shown.
const NEXT: u32 = 16;
/// Bytes of a payload that are shown.
const PAYLOAD_BYTES: usize = 4096;
/// Bytes of an answer of one of the node's own services, which has bounds of its own.
const ANSWER_BYTES_MAX: usize = usize::MAX;

pub(super) async fn list(ask: Ask, Path(queue): Path<String>) -> Answer {
    let state = match ask.asked.state.as_deref() {
        None | Some("next") => return next(&ask, queue).await,
        Some("ready") => v1::JobState::Ready,
        Some("delayed") => v1::JobState::Delayed,
        Some("leased") => v1::JobState::Leased,
        Some("done") => v1::JobState::Done,
        Some("dead") => return dead(&ask, queue).await,
        Some(other) => {
            let why =
                format!("{other:?} is no state; they are next, ready, delayed, leased, done, dead");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "INVALID", why));
        }
    };
    let page = page(&ask, queue, state).await?;
    Ok(answer(page.jobs, some(page.cursor), page.revision))
}

async fn next(ask: &Ask, queue: String) -> Answer {
    let request = ask.request(v1::PeekRequest {
        namespace: ask.namespace(),
        queue,
        limit: NEXT,
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let mut queues =
        QueueServiceClient::new(ask.services()).max_decoding_message_size(ANSWER_BYTES_MAX);
    let peeked = queues.peek(request).await?.into_inner();
    Ok(answer(peeked.jobs, None, peeked.revision))
}

/// Dead letters are the ready ones of another queue, together with those of others.
async fn dead(ask: &Ask, queue: String) -> Answer {
    let (of, revision) = queues::stats(ask, queue.clone()).await?;
    let Some(letters) = queues::dead_letters(&of) else {
        return Ok(answer(Vec::new(), None, revision));
    };
    let mut page = match page(ask, letters, v1::JobState::Unspecified).await {
        Err(refusal) if refusal.is("QUEUE_UNKNOWN") => {
            return Ok(answer(Vec::new(), None, revision));
        }
        page => page?,
    };
    page.jobs.retain(|job| job.from_queue == queue);
    Ok(answer(page.jobs, some(page.cursor), page.revision))
}

async fn page(
    ask: &Ask,
    queue: String,
    state: v1::JobState,
) -> Result<v1::ListJobsResponse, Refusal> {
    let cursor = ask.asked.cursor.as_deref().filter(|cursor| !cursor.is_empty());
    let cursor = cursor.map(str::parse).transpose().map_err(|_| {
        let why = "the cursor is none that was answered before";
        Refusal::new(StatusCode::BAD_REQUEST, "INVALID_CURSOR", why)
    })?;
    let request = ask.request(v1::ListJobsRequest {
        namespace: ask.namespace(),
        queue,
        state: state.into(),
        cursor: cursor.unwrap_or_default(),
        limit: ask.asked.limit(PAGE.0, PAGE.1),
        payloads: true,
        consistency: ask.consistency(),
        min_revision: 0,
    });
    let mut queues =
        QueueServiceClient::new(ask.services()).max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok(queues.list_jobs(request).await?.into_inner())
}

fn answer(jobs: Vec<v1::Job>, cursor: Option<u64>, revision: u64) -> Told {
    let jobs: Vec<Value> = jobs.into_iter().map(told).collect();
    let cursor = cursor.map(|cursor| cursor.to_string());
    Told(json!({"jobs": jobs, "cursor": cursor, "revision": revision.to_string()}))
}

fn told(job: v1::Job) -> Value {
    let state = match job.state() {
        v1::JobState::Delayed => "delayed",
        v1::JobState::Leased => "leased",
        v1::JobState::Done => "done",
        v1::JobState::Ready | v1::JobState::Dead | v1::JobState::Unspecified => "ready",
    };
    let death_cause = match job.death_cause() {
        v1::DeathCause::Unspecified => None,
        v1::DeathCause::Attempts => Some("attempts"),
        v1::DeathCause::Rejected => Some("rejected"),
        v1::DeathCause::Expired => Some("expired"),
    };
    let failures: Vec<Value> = job
        .failures
        .iter()
        .map(|one| json!({"attempt": one.attempt, "unix_ms": one.unix_ms, "error": one.error}))
        .collect();
    let progress = job.progress.as_ref().map(|progress| {
        json!({"permille": progress.permille, "note": progress.note, "unix_ms": progress.unix_ms})
    });
    let headers: Vec<Value> = job
        .headers
        .iter()
        .map(|header| {
            json!({"name": header.name, "value": text(&header.value), "value_b64": b64(&header.value)})
        })
        .collect();
    let group = (!job.group.is_empty()).then_some(&job.group);
    let shown = &job.payload[..job.payload.len().min(PAYLOAD_BYTES)];
    json!({
        "job_id": job.job_id.to_string(),
        "state": state,
        "state_ms": job.state_ms,
        "not_before_unix_ms": some(job.not_before_ms),
        "attempts": job.attempts,
        "priority": job.priority,
        "pushed_unix_ms": job.pushed_unix_ms,
        "remaining_ttl_ms": job.remaining_ttl_ms,
        "group": group.and_then(|group| text(group)),
        "group_b64": group.map(|group| b64(group)),
        "from_queue": some_text(job.from_queue.clone()),
        "death_cause": death_cause,
        "failures": failures,
        "progress": progress,
        "content_type": job.content_type,
        "headers": headers,
        "payload_b64": b64(shown),
        "payload_bytes": job.payload.len(),
    })
}
