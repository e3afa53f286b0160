//! What one caller may have of a node, and how long a request may take to arrive.

use crate::fixture::{Fixture, get, seen, set};
use crate::pipeline::{call, error};
use bytes::Bytes;
use http_body::Frame;
use quorate_proto::v1;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::pipeline_service_client::PipelineServiceClient;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_server::{Auth, AuthFiles, CallerLimits};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service as _, ServiceExt as _};

const LIMITED: (Code, &str, &str) = (Code::ResourceExhausted, "CALLER_LIMIT", "not_applied");
const NONE: CallerLimits = CallerLimits {
    connections_max: 0,
    in_flight_max: 0,
    streams_max: 0,
    requests_per_second: 0,
    request_bytes_per_second: 0,
};
const WAIT: Duration = Duration::from_secs(20);

async fn limited(per_caller: CallerLimits) -> Fixture {
    Fixture::start_with(|options| options.per_caller = per_caller).await
}

fn long_pull() -> v1::PullRequest {
    v1::PullRequest { queue: "none".to_owned(), count: 1, wait_ms: 60_000, ..Default::default() }
}

/// Asks until it is answered.
async fn until_served(mut kv: KvServiceClient<Channel>) {
    let served = async {
        while kv.get(get(b"k")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, served).await.expect("a place comes free");
}

#[tokio::test]
async fn requests_under_way_are_bounded_by_caller_over_all_his_connections_and_pipelines() {
    let fixture = limited(CallerLimits { in_flight_max: 3, ..NONE }).await;
    let mut kv = KvServiceClient::new(fixture.channel_from("10.0.0.1").await);
    kv.set(set(b"k", b"v")).await.unwrap();

    let mut pulls = Vec::new();
    for _ in 0..2 {
        let mut queue = QueueServiceClient::new(fixture.channel_from("10.0.0.1").await);
        pulls.push(tokio::spawn(async move { queue.pull(long_pull()).await }));
    }
    let mut pipelines = PipelineServiceClient::new(fixture.channel_from("10.0.0.1").await);
    let calls = vec![call(1, Call::QueuePull(long_pull()))];
    let first = v1::PipelineRequest { calls, cancelled: Vec::new() };
    let (requests, receive) = tokio::sync::mpsc::channel(8);
    requests.send(first).await.unwrap();
    let receive = tokio_stream::wrappers::ReceiverStream::new(receive);
    let mut answers = pipelines.open(receive).await.unwrap().into_inner();
    // Once all three wait, there is no place for a fourth.
    let refused = async {
        loop {
            match kv.get(get(b"k")).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(status) => return status,
            }
        }
    };
    let status = tokio::time::timeout(WAIT, refused).await.expect("the bound is met");
    assert_eq!(seen(&status), LIMITED);
    assert!(status.message().contains("address 10.0.0.1 may have 3 requests"), "{status:?}");
    let calls = vec![call(2, Call::KvGet(get(b"k")))];
    requests.send(v1::PipelineRequest { calls, cancelled: Vec::new() }).await.unwrap();
    let answer = loop {
        let message = answers.message().await.unwrap().unwrap();
        if let Some(answer) = message.answers.into_iter().find(|answer| answer.id == 2) {
            break answer.answer.unwrap();
        }
    };
    assert_eq!(error(&answer).reason, "CALLER_LIMIT", "{answer:?}");

    // Others have places of their own, and probes need none.
    let mut other = KvServiceClient::new(fixture.channel_from("10.0.0.2").await);
    other.get(get(b"k")).await.unwrap();
    let mut health = HealthClient::new(fixture.channel_from("10.0.0.1").await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    let page = fixture.http("/metrics").await;
    assert!(page.contains("quorate_caller_limited_total{limit=\"in_flight\"} 2"), "{page}");

    // What is over gives its place back: a call that is cancelled, and a pipeline with its stream.
    pulls[0].abort();
    until_served(kv.clone()).await;
    requests.send(v1::PipelineRequest { calls: Vec::new(), cancelled: vec![1] }).await.unwrap();
    let ids = answers.message().await.unwrap().unwrap().answers;
    assert!(ids.iter().any(|answer| matches!(answer.answer, Some(Answer::Error(_)))), "{ids:?}");
    drop((requests, answers));
    let mut more = QueueServiceClient::new(fixture.channel_from("10.0.0.1").await);
    let _more = tokio::spawn(async move { more.pull(long_pull()).await });
    until_served(kv).await;
}

#[tokio::test]
async fn rates_streams_and_connections_are_bounded_by_caller() {
    let limits = CallerLimits { requests_per_second: 20, streams_max: 1, ..NONE };
    let fixture = limited(CallerLimits { connections_max: 2, ..limits }).await;
    let channel = fixture.channel_from("10.0.0.1").await;
    let mut kv = KvServiceClient::new(channel.clone());
    // Of all keys.
    let watch = v1::WatchRequest::default();
    let first = kv.watch(watch.clone()).await.unwrap();
    assert_eq!(seen(&kv.watch(watch.clone()).await.unwrap_err()), LIMITED);
    drop(first);
    let began = Instant::now();
    let (mut served, mut refused) = (0, 0);
    for _ in 0..200 {
        match kv.get(get(b"k")).await {
            Ok(_) => served += 1,
            Err(status) => {
                assert_eq!(seen(&status), LIMITED);
                assert!(status.message().contains("20 requests a second"), "{status:?}");
                assert!(status.message().contains("the next is taken in"), "{status:?}");
                refused += 1;
            }
        }
    }
    let most = 20.0 + 20.0 * began.elapsed().as_secs_f64();
    assert!(f64::from(served) <= most && served >= 10, "{served} of {most}, {refused} refused");

    let second = fixture.raw_from("10.0.0.1").await;
    let mut third = fixture.raw_from("10.0.0.1").await;
    let read = tokio::time::timeout(WAIT, third.read(&mut [0; 1])).await;
    assert_eq!(read.expect("it is closed at once").unwrap(), 0);
    let page = fixture.http("/metrics").await;
    for line in [
        format!("quorate_caller_limited_total{{limit=\"requests\"}} {refused}"),
        "quorate_caller_limited_total{limit=\"streams\"} 1".to_owned(),
        "quorate_caller_limited_total{limit=\"connections\"} 1".to_owned(),
    ] {
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    drop(second);
}

#[tokio::test]
async fn a_token_is_one_caller_wherever_it_is_shown() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let auth = Auth::read(AuthFiles { admin_token: Some(file) }).unwrap();
    let fixture = Fixture::start_with(|options| {
        options.auth = Some(auth);
        options.per_caller = CallerLimits { connections_max: 1, ..NONE };
    })
    .await;
    let asked = || {
        let mut request = tonic::Request::new(get(b"k"));
        let shown = format!("Bearer {TOKEN}").parse().unwrap();
        request.metadata_mut().insert("authorization", shown);
        request
    };
    let mut one = KvServiceClient::new(fixture.channel_from("10.0.0.1").await);
    let mut two = KvServiceClient::new(fixture.channel_from("10.0.0.2").await);
    for _ in 0..3 {
        one.get(asked()).await.unwrap();
    }
    let status = two.get(asked()).await.unwrap_err();
    assert_eq!(seen(&status), LIMITED);
    let message = status.message();
    assert!(message.contains("admin token of this node may have 1 connections"), "{message}");
    assert!(!message.contains(TOKEN), "it tells a secret: {message}");
    drop(one);
    let served = async {
        while two.get(asked()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, served).await.expect("a closed connection gives its place back");
}

/// A body of which a byte comes now and then, and never the last.
struct Trickle {
    bytes: &'static [u8],
    next: Pin<Box<tokio::time::Sleep>>,
}

const TRICKLE_EVERY: Duration = Duration::from_millis(50);

impl http_body::Body for Trickle {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.next.as_mut().poll(cx));
        let Some((byte, rest)) = self.bytes.split_first() else { return Poll::Pending };
        let byte = Bytes::copy_from_slice(&[*byte]);
        self.bytes = rest;
        self.next.as_mut().reset(Instant::now() + TRICKLE_EVERY);
        Poll::Ready(Some(Ok(Frame::data(byte))))
    }
}

/// What is answered to a request whose body trickles.
async fn trickled(fixture: &Fixture, path: &str, bytes: &'static [u8]) -> Status {
    let next = Box::pin(tokio::time::sleep(Duration::ZERO));
    let request = http::Request::post(format!("http://node-1/quorate.v1.{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Trickle { bytes, next }))
        .unwrap();
    let mut channel = fixture.channel().await;
    let channel = channel.ready().await.unwrap();
    let answer = tokio::time::timeout(WAIT, channel.call(request)).await;
    let answer = answer.expect("it is answered").unwrap();
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let mut body = std::pin::pin!(answer.into_body());
    loop {
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx));
        let frame = tokio::time::timeout(WAIT, frame).await.expect("the stream ends");
        if let Ok(trailers) = frame.unwrap().unwrap().into_trailers() {
            return Status::from_header_map(&trailers).unwrap();
        }
    }
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_refused_while_others_are_served() {
    const PATIENCE: Duration = Duration::from_millis(400);
    let fixture = Fixture::start_with(|options| options.message_timeout = PATIENCE).await;
    let mut kv = fixture.kv().await;
    kv.set(set(b"k", b"v")).await.unwrap();
    // Nothing at all; a byte at a time; a whole message whose end never comes.
    for bytes in [&[][..], &[0, 0, 0, 0, 200, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], &[0; 5]] {
        for path in ["KvService/Set", "KvService/Watch"] {
            let began = Instant::now();
            let status = trickled(&fixture, path, bytes).await;
            let expected = (Code::DeadlineExceeded, "REQUEST_INCOMPLETE", "not_applied");
            assert_eq!(seen(&status), expected, "{path} {bytes:?} {status:?}");
            assert!(began.elapsed() >= PATIENCE, "{path} {bytes:?}");
        }
        kv.set(set(b"k", b"v")).await.unwrap();
    }
    // A pipeline may be silent, but not in the middle of a message.
    let status = trickled(&fixture, "PipelineService/Open", &[0, 0, 0, 0, 9, 1]).await;
    assert!(status.message().contains("was not complete 400ms"), "{status:?}");
    let page = fixture.http("/metrics").await;
    assert!(page.contains("quorate_requests_incomplete_total 7"), "{page}");
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let fixture = Fixture::start().await;
    let mut channel = fixture.channel().await;
    let request = http::Request::post("http://node-1/quorate.v1.KvService/Set")
        .header("content-type", "application/grpc")
        .header("x", "a".repeat(20 << 10))
        .body(Body::empty())
        .unwrap();
    let answer = channel.ready().await.unwrap().call(request).await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
    fixture.kv().await.set(set(b"k", b"v")).await.unwrap();
}

/// A connection with half a frame answers no pings, and so it is closed; a byte now and then is no answer.
#[tokio::test(start_paused = true)]
async fn half_a_frame_is_not_waited_for() {
    let fixture = Fixture::start().await;
    for every in [Duration::from_secs(3_600), Duration::from_secs(4)] {
        let mut raw = fixture.raw().await;
        raw.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        // Settings, and of headers of 200 bytes none.
        raw.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        raw.write_all(&[0, 0, 200, 1, 4, 0, 0, 0, 1]).await.unwrap();
        let began = Instant::now();
        let (mut read, mut write) = tokio::io::split(raw);
        let trickling = async {
            loop {
                tokio::time::sleep(every).await;
                let _ = write.write_all(&[0x82]).await;
            }
        };
        let closed = async {
            let mut bytes = [0; 256];
            while read.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
        };
        let closed = async {
            tokio::select! {
                () = closed => {}
                () = trickling => {}
            }
        };
        tokio::time::timeout(Duration::from_secs(120), closed).await.expect("it is closed");
        let took = began.elapsed();
        assert!(took <= Duration::from_secs(40), "half a frame was waited for {took:?}");
    }
    fixture.kv().await.set(set(b"k", b"v")).await.unwrap();
}
