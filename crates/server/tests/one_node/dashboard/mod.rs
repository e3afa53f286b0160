//! The dashboard's API: what its pages ask, and what they may not.

mod changes;
mod contract;
mod events;
mod reads;

use crate::fixture::Fixture;
use quorate_proto::v1;
use quorate_proto::v1::bus_service_client::BusServiceClient;
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tonic::Streaming;
use tonic::transport::Channel;

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|wrong| panic!("{wrong}: {self:?}"))
    }

    /// Status and reason.
    fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["reason"].as_str().unwrap().to_owned())
    }
}

/// Sends a request with these headers, and a body if it is one that changes something.
async fn send(
    fixture: &Fixture,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request += "host: 127.0.0.1:8813\r\n";
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        request += &format!("content-length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body.unwrap_or_default();
    let mut far = fixture.http_sent(&request).await;
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

async fn get(fixture: &Fixture, path: &str, token: Option<&str>) -> Answer {
    let shown = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> =
        shown.iter().map(|shown| ("authorization", shown.as_str())).collect();
    send(fixture, "GET", &format!("/api/v1/{path}"), &headers, None).await
}

/// Changes something of this name, as a page does.
async fn press(
    fixture: &Fixture,
    path: &str,
    name: &str,
    key: &str,
    token: Option<&str>,
    body: &str,
) -> Answer {
    let shown = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![
        ("content-type", "application/json"),
        ("x-quorate-confirm", name),
        ("idempotency-key", key),
        ("sec-fetch-site", "same-origin"),
    ];
    headers.extend(shown.iter().map(|shown| ("authorization", shown.as_str())));
    send(fixture, "POST", &format!("/api/v1/{path}"), &headers, Some(body)).await
}

/// An idempotency key.
fn key(number: u8) -> String {
    format!("{number:032x}")
}

/// A session that holds a lock.
struct Holder {
    locks: LockServiceClient<Channel>,
    session_id: u64,
}

impl Holder {
    async fn open(fixture: &Fixture) -> Self {
        let channel = fixture.channel().await;
        let open = v1::OpenRequest { ttl_ms: 60_000, ..Default::default() };
        let opened = SessionServiceClient::new(channel.clone()).open(open).await.unwrap();
        let session_id = opened.into_inner().session_id;
        Self { locks: LockServiceClient::new(channel), session_id }
    }

    async fn acquire(&mut self, name: &str, mode: v1::LockMode) -> u64 {
        let session_id = self.session_id;
        let origin = v1::Origin { session_id, sequence: 1, floor: 1, ..Default::default() };
        let asked = v1::LockAcquireRequest {
            origin: Some(origin),
            name: name.to_owned(),
            ttl_ms: 60_000,
            mode: mode.into(),
            ..Default::default()
        };
        self.locks.acquire(asked).await.unwrap().into_inner().fencing_token
    }
}

async fn pushed(fixture: &Fixture, queue: &str, payloads: &[&[u8]]) {
    let header = v1::JobHeader { name: "trace".to_owned(), value: b"\xff".to_vec().into() };
    let job = |payload: &&[u8]| v1::NewJob {
        payload: payload.to_vec().into(),
        content_type: "application/json".to_owned(),
        headers: vec![header.clone()],
        group: b"g".to_vec().into(),
        ..Default::default()
    };
    let jobs = payloads.iter().map(job).collect();
    let asked = v1::PushRequest { queue: queue.to_owned(), jobs, ..Default::default() };
    QueueServiceClient::new(fixture.channel().await).push(asked).await.unwrap();
}

/// Takes the next job of a queue and gives it up for good.
async fn killed(fixture: &Fixture, queue: &str) {
    let mut queues = QueueServiceClient::new(fixture.channel().await);
    let pull = v1::PullRequest { queue: queue.to_owned(), count: 1, ..Default::default() };
    let job = queues.pull(pull).await.unwrap().into_inner().jobs.remove(0);
    let (job_id, lease) = (job.job_id, job.lease);
    let note = "half".to_owned();
    let progress = v1::ProgressRequest {
        queue: queue.to_owned(),
        job_id,
        lease,
        permille: 500,
        note,
        ..Default::default()
    };
    queues.progress(progress).await.unwrap();
    let nack = v1::NackRequest {
        queue: queue.to_owned(),
        job_id,
        lease,
        verdict: v1::NackVerdict::Dead.into(),
        error: "no such address".to_owned(),
        ..Default::default()
    };
    queues.nack(nack).await.unwrap();
}

/// Something of everything that the pages show. What is answered has to be kept.
async fn filled(fixture: &Fixture) -> (Holder, Streaming<v1::BusSubscribeResponse>) {
    pushed(fixture, "emails", &[b"{}", b"\xff\xfe"]).await;
    killed(fixture, "emails").await;
    fixture.kv().await.set(crate::fixture::set(b"a/b", b"hello")).await.unwrap();
    let cached = v1::CacheSetRequest {
        key: b"c".to_vec().into(),
        value: b"v".to_vec().into(),
        ..Default::default()
    };
    CacheServiceClient::new(fixture.channel().await).set(cached).await.unwrap();
    let mut holder = Holder::open(fixture).await;
    holder.acquire("report", v1::LockMode::Exclusive).await;
    let patterns = vec!["user.*".to_owned()];
    let asked = v1::BusSubscribeRequest { patterns, ..Default::default() };
    let mut bus = BusServiceClient::new(fixture.channel().await);
    let mut subscription = bus.subscribe(asked).await.unwrap().into_inner();
    subscription.message().await.unwrap().expect("it is confirmed");
    (holder, subscription)
}
