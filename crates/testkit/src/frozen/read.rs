//! What clients read of a frozen directory. What goes by with time is left out: what is left of ttls,
//! ages, how long something is held.

use super::LOCK;
use anyhow::{Context as _, Result};
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::v1::{
    CacheGetRequest, Consistency, DeleteCause, Job, JobState, KeySelector, ListJobsRequest,
    ListQueuesRequest, ListRequest, ListSchedulesRequest, ListSessionsRequest, LockInspectRequest,
    MembersRequest, WatchEvent, WatchRequest, key_selector, repeats, watch_event,
};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::transport::Channel;

/// More than there is of anything.
const ALL: u32 = 1_000;
/// How long the history may take to be told.
const PATIENCE: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    // What only makes the log grow needs not be repeated here.
    if text.len() > 100 { format!("{} bytes", text.len()) } else { text.into_owned() }
}

fn everything() -> Option<KeySelector> {
    Some(KeySelector { select: Some(key_selector::Select::Prefix(Default::default())) })
}

/// Reads all of it.
///
/// # Errors
/// When the node refuses something.
pub async fn read(channel: &Channel) -> Result<Value> {
    let (keys, newest) = keys(channel).await?;
    let history = history(channel, newest).await?;
    let (queues, schedules) = queues(channel).await?;
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let members = cluster.members(MembersRequest::default()).await?.into_inner();
    let voters: Vec<_> = members
        .members
        .iter()
        .map(|member| json!({ "node_id": member.node_id, "uuid": member.uuid, "voter": member.voter }))
        .collect();
    Ok(json!({
        "cluster_id": members.cluster_id,
        "members": voters,
        "keys": keys,
        "history": history,
        "queues": queues,
        "schedules": schedules,
        "cache": cache(channel).await?,
        "lock": lock(channel).await?,
        "sessions": sessions(channel).await?,
    }))
}

/// All keys, and the revision of the newest change.
async fn keys(channel: &Channel) -> Result<(Vec<Value>, u64)> {
    let list = ListRequest { selector: everything(), limit: ALL, ..ListRequest::default() };
    let listed = KvServiceClient::new(channel.clone()).list(list).await?.into_inner();
    let newest = listed.entries.iter().map(|entry| entry.mod_revision).max().unwrap_or_default();
    let entries = listed.entries.iter().map(|entry| {
        json!({
            "key": text(&entry.key),
            "value": text(&entry.value),
            "version": entry.version,
            "create_revision": entry.create_revision,
            "mod_revision": entry.mod_revision,
            "has_ttl": entry.remaining_ttl_ms.is_some(),
        })
    });
    Ok((entries.collect(), newest))
}

/// All changes of keys from the first on, as far as the newest.
async fn history(channel: &Channel, newest: u64) -> Result<Vec<Value>> {
    let selectors = everything().into_iter().collect();
    let watch = WatchRequest { selectors, from_revision: 1, ..WatchRequest::default() };
    let mut told = KvServiceClient::new(channel.clone()).watch(watch).await?.into_inner();
    let mut events = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, told.message()).await;
        let message = message.context("the history was not told in time")??;
        let message = message.context("the watch ended before its end")?;
        let has_newest = message.events.iter().any(|event| event.revision >= newest);
        events.extend(message.events.iter().map(event));
        if has_newest {
            return Ok(events);
        }
    }
}

fn event(event: &WatchEvent) -> Value {
    let change = match &event.change {
        Some(watch_event::Change::Set(set)) => {
            json!({ "value": text(&set.value), "version": set.version, "ttl_ms": set.ttl_ms })
        }
        Some(watch_event::Change::Deleted(cause)) => {
            json!(DeleteCause::try_from(*cause).unwrap_or_default().as_str_name())
        }
        None => Value::Null,
    };
    json!({ "key": text(&event.key), "revision": event.revision, "change": change })
}

async fn queues(channel: &Channel) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut client = QueueServiceClient::new(channel.clone());
    let list = ListQueuesRequest { selector: everything(), limit: ALL, ..Default::default() };
    let mut queues = Vec::new();
    for info in client.list_queues(list).await?.into_inner().queues {
        let list = ListJobsRequest {
            queue: info.queue.clone(),
            limit: ALL,
            payloads: true,
            ..ListJobsRequest::default()
        };
        let jobs = client.list_jobs(list).await?.into_inner().jobs;
        let totals = info.totals.unwrap_or_default();
        let options = info.options.unwrap_or_default();
        queues.push(json!({
            "queue": info.queue,
            "ready": info.ready,
            "delayed": info.delayed,
            "leased": info.leased,
            "dead": info.dead,
            "pushed": totals.pushed,
            "delivered": totals.delivered,
            "visibility_ms": options.visibility_ms,
            "attempts_max": options.attempts_max,
            "jobs": jobs.iter().map(job).collect::<Vec<_>>(),
        }));
    }
    let list = ListSchedulesRequest { selector: everything(), limit: ALL, ..Default::default() };
    let schedules = client.list_schedules(list).await?.into_inner().schedules;
    let schedules = schedules.iter().map(|schedule| {
        let every_ms = match schedule.repeats.as_ref().and_then(|repeats| repeats.repeats.as_ref())
        {
            Some(repeats::Repeats::EveryMs(every_ms)) => Some(*every_ms),
            _ => None,
        };
        let payload = schedule.job.as_ref().map(|job| text(&job.payload));
        json!({
            "schedule": schedule.schedule,
            "queue": schedule.queue,
            "payload": payload,
            "every_ms": every_ms,
            "next_unix_ms": schedule.next_unix_ms,
        })
    });
    Ok((queues, schedules.collect()))
}

fn job(job: &Job) -> Value {
    let headers: Vec<_> =
        job.headers.iter().map(|header| (header.name.clone(), text(&header.value))).collect();
    let failures: Vec<_> = job.failures.iter().map(|failure| failure.error.clone()).collect();
    json!({
        "job_id": job.job_id,
        "state": JobState::try_from(job.state).unwrap_or_default().as_str_name(),
        "lease": job.lease,
        "attempts": job.attempts,
        "priority": job.priority,
        "pushed_unix_ms": job.pushed_unix_ms,
        "from_queue": job.from_queue,
        "failures": failures,
        "payload": text(&job.payload),
        "headers": headers,
    })
}

async fn cache(channel: &Channel) -> Result<Vec<Value>> {
    let mut entries = Vec::new();
    for key in ["cached/a", "cached/b", "cached/c"] {
        let get = CacheGetRequest {
            key: key.as_bytes().to_vec().into(),
            consistency: Consistency::Linearizable.into(),
            ..CacheGetRequest::default()
        };
        let found = CacheServiceClient::new(channel.clone()).get(get).await?.into_inner().entry;
        let entry = found.map(|entry| {
            json!({
                "value": text(&entry.value),
                "mod_revision": entry.mod_revision,
                "tags": entry.tags,
                "has_ttl": entry.remaining_ttl_ms.is_some(),
            })
        });
        entries.push(json!({ "key": key, "entry": entry }));
    }
    Ok(entries)
}

async fn lock(channel: &Channel) -> Result<Value> {
    let inspect = LockInspectRequest { name: LOCK.to_owned(), ..Default::default() };
    let lock = LockServiceClient::new(channel.clone()).inspect(inspect).await?.into_inner().lock;
    let lock = lock.unwrap_or_default();
    let holders: Vec<_> = lock
        .holders
        .iter()
        .map(|holder| {
            json!({
                "fencing_token": holder.fencing_token,
                "session_id": holder.session_id,
                "mode": holder.mode().as_str_name(),
                "revision": holder.revision,
            })
        })
        .collect();
    Ok(json!({ "name": lock.name, "holders": holders, "waiters": lock.waiters }))
}

async fn sessions(channel: &Channel) -> Result<Vec<Value>> {
    let list = ListSessionsRequest { limit: ALL, ..ListSessionsRequest::default() };
    let listed = SessionServiceClient::new(channel.clone()).list_sessions(list).await?;
    let sessions = listed.into_inner().sessions;
    let sessions = sessions.iter().map(|session| {
        json!({
            "session_id": session.session_id,
            "ttl_ms": session.ttl_ms,
            "locks": session.locks,
            "keys": session.keys,
        })
    });
    Ok(sessions.collect())
}
