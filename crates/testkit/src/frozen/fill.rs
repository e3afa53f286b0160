//! Writes something of what users store.

use super::{
    COUNTER, EPHEMERAL, Handles, IDEMPOTENCY_KEY, LOCK, LONG_MS, QUEUE, TAG, in_session, once,
};
use anyhow::{Context as _, Result, bail};
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::v1::{
    CachePolicy, CacheSetRequest, DeleteRequest, IncrementRequest, JobHeader, LockAcquireRequest,
    LockInspectRequest, LockMode, NackRequest, NackVerdict, NewJob, OpenRequest, PullRequest,
    PushRequest, PutScheduleRequest, QueueOptions, Repeats, SetRequest, StatusRequest,
    UpdateQueueRequest, repeats,
};
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

/// The longest ttl that a session may have.
const SESSION_TTL_MS: u64 = 3_600_000;
/// The longest wait for a lock, and the longest lease of a job, that there may be.
const WAIT_MS: u64 = 86_400_000;
const VISIBILITY_MS: u64 = 43_200_000;
/// Ten years: a schedule that is not due in any test.
const EVERY_MS: u64 = 315_360_000_000;
/// Bytes of a value that makes the log grow.
const FILLER_BYTES: usize = 16 << 10;
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Fills a new node. The call that waits for the lock goes on in the background, until the node is
/// killed.
///
/// # Errors
/// When the node refuses something, or takes no snapshot.
pub async fn fill(channel: &Channel) -> Result<Handles> {
    let mut handles = Handles::default();
    sessions_and_locks(channel, &mut handles).await?;
    keys(channel, &mut handles).await?;
    jobs(channel, &mut handles).await?;
    cache(channel).await?;
    until_snapshot(channel).await?;
    // Only in the log, which is applied again.
    let mut kv = KvServiceClient::new(channel.clone());
    for number in 0..5 {
        kv.set(set(&format!("late/{number}"), "behind the snapshot", None)).await?;
    }
    push(channel, vec![job("late")]).await?;
    Ok(handles)
}

fn set(key: &str, value: &str, ttl_ms: Option<u64>) -> SetRequest {
    let (key, value) = (key.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
    SetRequest { key, value, ttl_ms, ..SetRequest::default() }
}

async fn open(channel: &Channel) -> Result<u64> {
    let open = OpenRequest { ttl_ms: SESSION_TTL_MS, ..OpenRequest::default() };
    let opened = SessionServiceClient::new(channel.clone()).open(open).await?;
    Ok(opened.into_inner().session_id)
}

async fn sessions_and_locks(channel: &Channel, handles: &mut Handles) -> Result<()> {
    handles.owner = open(channel).await?;
    handles.waiter = open(channel).await?;
    let acquire = |session: u64, wait_ms| LockAcquireRequest {
        origin: in_session(session, 1),
        name: LOCK.to_owned(),
        ttl_ms: SESSION_TTL_MS,
        wait_ms,
        mode: LockMode::Exclusive.into(),
        ..LockAcquireRequest::default()
    };
    let mut locks = LockServiceClient::new(channel.clone());
    handles.token = locks.acquire(acquire(handles.owner, 0)).await?.into_inner().fencing_token;
    let (mut waiting, wait) = (locks.clone(), acquire(handles.waiter, WAIT_MS));
    tokio::spawn(async move { waiting.acquire(wait).await });
    let end = Instant::now() + PATIENCE;
    loop {
        let inspect = LockInspectRequest { name: LOCK.to_owned(), ..Default::default() };
        let lock = locks.inspect(inspect).await?.into_inner().lock;
        if lock.is_some_and(|lock| lock.waiters == 1) {
            break;
        }
        if Instant::now() > end {
            bail!("nobody waits for the lock");
        }
        tokio::time::sleep(POLL).await;
    }
    let ephemeral = SetRequest {
        origin: in_session(handles.owner, 2),
        ephemeral: true,
        ..set(EPHEMERAL, "mine", None)
    };
    KvServiceClient::new(channel.clone()).set(ephemeral).await?;
    Ok(())
}

async fn keys(channel: &Channel, handles: &mut Handles) -> Result<()> {
    let mut kv = KvServiceClient::new(channel.clone());
    for number in 0..40 {
        kv.set(set(&format!("plain/{number:02}"), &format!("value {number}"), None)).await?;
        kv.set(set(&format!("ttl/{number:02}"), "long-lived", Some(LONG_MS))).await?;
    }
    for version in 2..=4 {
        kv.set(set("plain/00", &format!("version {version}"), None)).await?;
    }
    let key = b"plain/01".to_vec().into();
    kv.delete(DeleteRequest { key, ..DeleteRequest::default() }).await?;
    let add = IncrementRequest {
        origin: once(IDEMPOTENCY_KEY),
        key: COUNTER.as_bytes().to_vec().into(),
        by: 41,
        ..IncrementRequest::default()
    };
    handles.counted = kv.increment(add).await?.into_inner().value;
    Ok(())
}

fn job(payload: &str) -> NewJob {
    let headers = vec![JobHeader { name: "origin".to_owned(), value: b"frozen".to_vec().into() }];
    NewJob { payload: payload.as_bytes().to_vec().into(), headers, ..NewJob::default() }
}

async fn push(channel: &Channel, jobs: Vec<NewJob>) -> Result<()> {
    let push = PushRequest { queue: QUEUE.to_owned(), jobs, ..PushRequest::default() };
    QueueServiceClient::new(channel.clone()).push(push).await?;
    Ok(())
}

async fn jobs(channel: &Channel, handles: &mut Handles) -> Result<()> {
    let mut queues = QueueServiceClient::new(channel.clone());
    let queue = || QUEUE.to_owned();
    let options = QueueOptions {
        visibility_ms: Some(VISIBILITY_MS),
        attempts_max: Some(3),
        ..QueueOptions::default()
    };
    let update =
        UpdateQueueRequest { queue: queue(), options: Some(options), ..Default::default() };
    queues.update_queue(update).await?;
    for payload in ["leased", "dead"] {
        push(channel, vec![job(payload)]).await?;
        let pull = PullRequest { queue: queue(), count: 1, ..PullRequest::default() };
        let pulled = queues.pull(pull).await?.into_inner().jobs;
        let pulled = pulled.first().context("a job was pushed, and none could be pulled")?;
        if payload == "leased" {
            (handles.job, handles.lease) = (pulled.job_id, pulled.lease);
            continue;
        }
        let nack = NackRequest {
            queue: queue(),
            job_id: pulled.job_id,
            lease: pulled.lease,
            verdict: NackVerdict::Dead.into(),
            error: "it can't be done".to_owned(),
            ..NackRequest::default()
        };
        queues.nack(nack).await?;
    }
    let urgent = NewJob { priority: 9, ..job("urgent") };
    let delayed = NewJob { delay_ms: LONG_MS, ..job("delayed") };
    let deduped = NewJob { dedupe_key: b"dedupe".to_vec().into(), ..job("ready") };
    push(channel, vec![deduped, urgent, delayed]).await?;
    let put = PutScheduleRequest {
        schedule: "rarely".to_owned(),
        queue: "scheduled".to_owned(),
        job: Some(job("rare")),
        repeats: Some(Repeats { repeats: Some(repeats::Repeats::EveryMs(EVERY_MS)) }),
        ..PutScheduleRequest::default()
    };
    queues.put_schedule(put).await?;
    Ok(())
}

async fn cache(channel: &Channel) -> Result<()> {
    let mut cache = CacheServiceClient::new(channel.clone());
    for (key, tags) in [("cached/a", vec![TAG, "a"]), ("cached/b", vec![TAG])] {
        let policy = CachePolicy {
            ttl_ms: Some(LONG_MS),
            tags: tags.into_iter().map(str::to_owned).collect(),
            ..CachePolicy::default()
        };
        let set = CacheSetRequest {
            key: key.as_bytes().to_vec().into(),
            value: b"built".to_vec().into(),
            policy: Some(policy),
            ..CacheSetRequest::default()
        };
        cache.set(set).await?;
    }
    Ok(())
}

/// Writes one key again and again until the log has grown enough.
async fn until_snapshot(channel: &Channel) -> Result<()> {
    let mut cluster = ClusterServiceClient::new(channel.clone());
    let mut kv = KvServiceClient::new(channel.clone());
    let end = Instant::now() + PATIENCE;
    loop {
        let status = cluster.status(StatusRequest::default()).await?.into_inner();
        if status.nodes.iter().any(|node| node.snapshot.is_some() && node.purged.is_some()) {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("the node took no snapshot");
        }
        kv.set(set("filler", &"x".repeat(FILLER_BYTES), None)).await?;
    }
}
