//! Every build opens what every earlier one has left: data directories that were frozen at each
//! release, by `scripts/freeze-data`, of nodes that were killed.

use anyhow::{Context as _, Result, ensure};
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::v1::{
    AckRequest, CacheGetRequest, CacheInvalidateTagsRequest, CloseRequest, Consistency, GetRequest,
    IncrementRequest, KeepAliveRequest, LockAcquireRequest, LockMode, LockReleaseRequest,
    PullRequest, SetRequest,
};
use quorate_testkit::frozen::{
    COUNTER, EPHEMERAL, Expected, FrozenNode, Handles, IDEMPOTENCY_KEY, LOCK, QUEUE, TAG,
    in_session, once, read,
};
use quorate_testkit::process::find_binary;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tonic::transport::Channel;

fn archives() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/data");
    let entries = fs::read_dir(directory).expect("there are frozen directories");
    let paths = entries.map(|entry| entry.expect("a directory can be listed").path());
    let mut archives: Vec<_> =
        paths.filter(|path| path.to_string_lossy().ends_with(".tar.gz")).collect();
    archives.sort();
    archives
}

#[tokio::test]
async fn every_build_opens_what_earlier_ones_left() {
    let archives = archives();
    assert!(!archives.is_empty(), "nothing is frozen");
    for archive in archives {
        let opened = open(&archive).await;
        opened.unwrap_or_else(|error| panic!("{}: {error:#}", archive.display()));
    }
}

async fn open(archive: &Path) -> Result<()> {
    let json = archive.to_string_lossy().replace(".tar.gz", ".json");
    let expected: Expected = serde_json::from_str(&fs::read_to_string(json)?)?;
    let directory = tempfile::tempdir()?;
    let unpacked =
        Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(directory.path()).status();
    ensure!(unpacked.context("could not run tar")?.success(), "tar could not unpack it");

    let (binary, data) = (find_binary()?, directory.path().join("data"));
    let node = FrozenNode::start(&binary, &data).await?;
    let channel = node.connect().await?;
    same("", &expected.contents, &read(&channel).await?)?;
    go_on(&channel, &expected.handles).await?;
    let left = read(&channel).await?;
    node.stop().await?;

    let node = FrozenNode::start(&binary, &data).await?;
    let channel = node.connect().await?;
    ensure!(get(&channel, "new").await?.as_deref() == Some(&b"written"[..]), "a write is lost");
    same("", &left, &read(&channel).await?)?;
    node.stop().await
}

/// Says where two values differ first.
fn same(at: &str, expected: &Value, found: &Value) -> Result<()> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            // What a later version reads besides is not in what an earlier one wrote.
            for (name, value) in expected {
                let found = found.get(name).unwrap_or(&Value::Null);
                same(&format!("{at}/{name}"), value, found)?;
            }
            Ok(())
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
                same(&format!("{at}/{number}"), expected, found)?;
            }
            Ok(())
        }
        _ => {
            ensure!(expected == found, "{at} was {expected}, and is {found}");
            Ok(())
        }
    }
}

async fn get(channel: &Channel, key: &str) -> Result<Option<Vec<u8>>> {
    let get = GetRequest { key: key.as_bytes().to_vec().into(), ..GetRequest::default() };
    let found = KvServiceClient::new(channel.clone()).get(get).await?.into_inner().entry;
    Ok(found.map(|entry| entry.value.to_vec()))
}

/// Goes on where the clients of the frozen node were.
async fn go_on(channel: &Channel, handles: &Handles) -> Result<()> {
    let mut kv = KvServiceClient::new(channel.clone());
    let (key, value) = (b"new".to_vec().into(), b"written".to_vec().into());
    kv.set(SetRequest { key, value, ..SetRequest::default() }).await?;

    // What was answered before is answered alike, and not done again.
    let add = |origin, by| IncrementRequest {
        origin,
        key: COUNTER.as_bytes().to_vec().into(),
        by,
        ..IncrementRequest::default()
    };
    for _ in 0..2 {
        let again = kv.increment(add(once(IDEMPOTENCY_KEY), 41)).await?.into_inner().value;
        ensure!(again == handles.counted, "an increment was done again: {again}");
    }
    let next = kv.increment(add(None, 1)).await?.into_inner().value;
    ensure!(next == handles.counted + 1, "the counter is {next}");

    // Who waited for the lock waits still, and is granted it when it is given back.
    let mut sessions = SessionServiceClient::new(channel.clone());
    let keep = KeepAliveRequest { session_id: handles.waiter, ..KeepAliveRequest::default() };
    sessions.keep_alive(keep).await?;
    let mut locks = LockServiceClient::new(channel.clone());
    let release = LockReleaseRequest {
        origin: in_session(handles.owner, 3),
        name: LOCK.to_owned(),
        fencing_token: handles.token,
        ..LockReleaseRequest::default()
    };
    ensure!(locks.release(release).await?.into_inner().released, "the lock was not held");
    let acquire = LockAcquireRequest {
        origin: in_session(handles.waiter, 1),
        name: LOCK.to_owned(),
        ttl_ms: 3_600_000,
        wait_ms: 86_400_000,
        mode: LockMode::Exclusive.into(),
        ..LockAcquireRequest::default()
    };
    let granted = locks.acquire(acquire).await?.into_inner();
    ensure!(granted.fencing_token > handles.token, "tokens must grow: {granted:?}");

    // What its session owned goes with it.
    let close = CloseRequest { session_id: handles.owner, ..CloseRequest::default() };
    ensure!(sessions.close(close).await?.into_inner().closed, "the session was not open");
    ensure!(get(channel, EPHEMERAL).await?.is_none(), "a key outlived its session");

    let mut queues = QueueServiceClient::new(channel.clone());
    let ack = AckRequest {
        queue: QUEUE.to_owned(),
        job_id: handles.job,
        lease: handles.lease,
        ..AckRequest::default()
    };
    queues.ack(ack).await?;
    let pull = PullRequest { queue: QUEUE.to_owned(), count: 3, ..PullRequest::default() };
    let pulled = queues.pull(pull).await?.into_inner().jobs;
    let payloads: Vec<_> = pulled.iter().map(|job| &job.payload[..]).collect();
    ensure!(payloads == [&b"urgent"[..], b"ready", b"late"], "other jobs came: {pulled:?}");

    let mut cache = CacheServiceClient::new(channel.clone());
    let tags = vec![TAG.to_owned()];
    cache.invalidate_tags(CacheInvalidateTagsRequest { tags, ..Default::default() }).await?;
    let cached = CacheGetRequest {
        key: b"cached/a".to_vec().into(),
        consistency: Consistency::Linearizable.into(),
        ..CacheGetRequest::default()
    };
    ensure!(cache.get(cached).await?.into_inner().entry.is_none(), "an entry outlived its tag");
    Ok(())
}

#[test]
fn planted_differences_are_found() {
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
    let expected = json(r#"{"a": [{"b": 1}, {"b": 2}]}"#);
    same("", &expected, &json(r#"{"a": [{"b": 1}, {"b": 2, "new": 3}]}"#)).unwrap();
    for (found, says) in [
        (r#"{"a": [{"b": 1}, {"b": 3}]}"#, "/a/1/b was 2, and is 3"),
        (r#"{"a": [{"b": 1}]}"#, "/a was"),
        (r#"{}"#, "is null"),
    ] {
        let differs = same("", &expected, &json(found)).unwrap_err().to_string();
        assert!(differs.contains(says), "{differs}");
    }
}
