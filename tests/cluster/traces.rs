//! Traces: what nodes send to a collector, and that one that takes nothing holds nobody up.

use quorate_client::{BusEvent, Client, Routing, TraceContext};
use quorate_testkit::collector::{Collector, Span, Speaks};
use quorate_testkit::process::{Options, ProcessCluster};
use quorate_tests::processes::{alone, http_get, say, wait_until};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
/// What a node says of the way of a command, in the order in which it begins and ends.
const STEPS: [&str; 4] = ["propose", "fsync", "commit", "apply"];

fn parent() -> TraceContext {
    TraceContext::new(format!("00-{TRACE}-{CALLER}-01")).with_state("vendor=1")
}

/// Nodes that send their traces there, each as soon as it is known.
fn traced(nodes: u64, collector: &Collector, protocol: &str) -> Options {
    ProcessCluster::options(nodes)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_SERVICE_NAME", "broker")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// A client whose calls are made in a span.
fn client(endpoints: impl IntoIterator<Item = String>) -> Client {
    let options = Client::builder().endpoints(endpoints).trace_context(|| Some(parent()));
    options.connect().expect("the options are fine")
}

/// Waits for the request of this method, and what is below it, in the order of their beginnings.
async fn request(collector: &Collector, method: &str) -> (Span, Vec<Span>) {
    let found = || {
        let spans = collector.spans();
        let of = |span: &&Span| {
            span.name == "request"
                && span.attributes.get("rpc.method").is_some_and(|name| name == method)
        };
        let request = spans.iter().find(of)?.clone();
        let mut below: Vec<_> =
            spans.into_iter().filter(|span| span.parent == request.id).collect();
        below.sort_by_key(|span| (span.start_ns, span.end_ns));
        Some((request, below))
    };
    wait_until(&format!("a span of {method}"), PATIENCE, async || found().is_some()).await;
    found().expect("it was there a moment ago")
}

/// Passes when it is a whole account of a write that was made in the span of the caller.
fn check(request: &Span, below: &[Span]) {
    assert_eq!((&*request.trace_id, &*request.parent), (TRACE, CALLER), "{request:?}");
    assert_eq!(request.state, "vendor=1");
    assert_eq!(request.attributes["quorate.outcome"], "ok");
    assert_eq!(request.resource["service.name"], "broker");
    assert!(request.start_ns > 0 && request.start_ns < request.end_ns, "{request:?}");
    let step = |name: &str| {
        let mut named = below.iter().filter(|span| span.name == name);
        let one = named.next().unwrap_or_else(|| panic!("there is no {name}: {below:?}"));
        assert!(named.next().is_none(), "{name} is there twice: {below:?}");
        one
    };
    let steps = STEPS.map(step);
    for span in below {
        assert_eq!(span.trace_id, TRACE, "{span:?}");
        assert!(span.start_ns <= span.end_ns, "{span:?}");
        let inside = request.start_ns <= span.start_ns && span.end_ns <= request.end_ns;
        assert!(inside, "{span:?} is not inside {request:?}");
    }
    let [propose, fsync, commit, apply] = steps;
    assert!(propose.end_ns <= fsync.start_ns && propose.end_ns <= commit.start_ns, "{below:?}");
    assert!(fsync.end_ns <= apply.start_ns && commit.end_ns <= apply.start_ns, "{below:?}");
    assert!(fsync.start_ns < fsync.end_ns, "a sync takes time: {below:?}");
}

/// The keys, values and tokens of a test must be in no span.
fn check_secrets(spans: &[Span]) {
    let all = format!("{spans:?}");
    for secret in ["the-key", "the-value"] {
        assert!(!all.contains(secret), "{secret} is in a span");
    }
}

#[tokio::test]
async fn a_write_is_a_span_of_its_callers_trace_with_what_it_waited_for() {
    let _alone = alone().await;
    for (speaks, protocol) in [(Speaks::Grpc, "grpc"), (Speaks::Http, "http/protobuf")] {
        let collector = Collector::start(speaks).await.expect("there is a free port");
        let cluster = traced(1, &collector, protocol).start().await.expect("it starts");
        let client = client(cluster.endpoints());
        client.kv().set("the-key", "the-value").await.expect("it is written");
        let (set, below) = request(&collector, "Set").await;
        check(&set, &below);
        assert_eq!(set.attributes["rpc.service"], "quorate.v1.KvService");
        client.kv().get("the-key").await.expect("it is read");
        let (_, below) = request(&collector, "Get").await;
        assert!(below.is_empty(), "a read is in no entry: {below:?}");
        check_secrets(&collector.spans());
        let (_, page) = http_get(cluster.http_addr(1), "/metrics").await;
        let has = |start: &str| page.lines().any(|line| line.starts_with(start));
        assert!(has("quorate_trace_spans_total{fate=\"exported\"} "), "{page}");
        assert!(
            has("quorate_request_duration_seconds_count{method=\"KvService/Set\"} 1"),
            "{page}"
        );
        assert!(!has("quorate_request_duration_seconds_count{method=\"KvService/Delete\"}"));
    }
}

#[tokio::test]
async fn a_write_through_a_follower_has_the_leaders_part_as_well() {
    let _alone = alone().await;
    let collector = Collector::start(Speaks::Grpc).await.expect("there is a free port");
    let cluster = traced(3, &collector, "grpc").start().await.expect("it starts");
    let client = client(cluster.endpoints());
    client.kv().set("first", "of all").await.expect("there is a leader");
    let leader = cluster.status(1).await.expect("it answers").leader_id;
    let leader = leader.expect("a write was acknowledged a moment ago");
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    // Once in a pipeline, and once as a call of its own.
    for (unary, method) in [(false, "Increment"), (true, "Delete")] {
        let options = Client::builder()
            .endpoints([cluster.client_addr(follower).to_string()])
            .routing(Routing::Endpoints)
            .unary(unary)
            .trace_context(|| Some(parent()));
        let client = options.connect().expect("the options are fine");
        let kv = client.kv();
        match method {
            "Increment" => drop(kv.increment("n", 1).await.expect("it is counted")),
            _ => drop(kv.delete("the-key").await.expect("it is gone")),
        }
        let (request, below) = request(&collector, method).await;
        check(&request, &below);
        assert_eq!(request.resource["service.instance.id"], follower.to_string());
        let forward = below.iter().find(|span| span.name == "forward").expect("it was forwarded");
        for span in &below {
            let inside = forward.start_ns <= span.start_ns && span.end_ns <= forward.end_ns;
            assert!(inside, "{span:?} is not inside {forward:?}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_takes_nothing_holds_up_nobody() {
    let _alone = alone().await;
    let collector = Collector::start(Speaks::Nothing).await.expect("there is a free port");
    let cluster = traced(1, &collector, "grpc")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "50")
        .start()
        .await
        .expect("it starts");
    let client = client(cluster.endpoints());
    let kv = client.kv();
    let mut slowest = Duration::ZERO;
    for expected in 1..=500 {
        let begun = Instant::now();
        assert_eq!(kv.increment("n", 1).await.expect("it is answered").value, expected);
        slowest = slowest.max(begun.elapsed());
    }
    say(format!("the slowest took {} ms", slowest.as_millis()));
    assert!(slowest < Duration::from_secs(5), "one took {slowest:?}");
    assert!(collector.connections() > 0, "nothing was sent: no proof");
    let (_, page) = http_get(cluster.http_addr(1), "/metrics").await;
    let dropped = page.lines().find(|line| line.contains("trace_spans_total{fate=\"dropped\"}"));
    say(dropped.unwrap_or("nothing was dropped"));
    assert!(dropped.is_some_and(|line| !line.ends_with(" 0")), "nothing was dropped: no proof");
    let mut cluster = cluster;
    let begun = Instant::now();
    let status = cluster.terminate(1).await.expect("it ends");
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_consumer_goes_on_in_the_trace_of_the_producer() {
    let _alone = alone().await;
    let collector = Collector::start(Speaks::Grpc).await.expect("there is a free port");
    let cluster = traced(1, &collector, "grpc").start().await.expect("it starts");
    let queue = client(cluster.endpoints()).queue();
    queue.push("work", "by itself").await.expect("it is pushed");
    let own = "00-11111111111111111111111111111111-2222222222222222-01";
    let push = queue.push("work", "with its own").header("traceparent", own);
    push.await.expect("it is pushed");
    let (push, below) = request(&collector, "Push").await;
    check(&push, &below);

    // The consumer's own calls are made in no span, so that what it finds is what came with the job.
    let consumer = Client::builder().endpoints(cluster.endpoints()).connect().expect("it connects");
    let jobs = consumer.queue().pull("work").count(2).await.expect("there are two");
    let mut jobs = jobs.into_iter();
    let mut context = || jobs.next().expect("there is one").trace_context();
    assert_eq!(context(), Some(parent()));
    assert_eq!(context(), Some(TraceContext::new(own)));

    let bus = consumer.bus();
    let mut messages = bus.subscribe(["news"]).start().await.expect("it is subscribed");
    let publisher = client(cluster.endpoints());
    publisher.bus().publish("news", "something").await.expect("it is published");
    let message = match messages.next().await.expect("it lives").expect("there is one") {
        BusEvent::Message(message) => message,
        other => panic!("{other:?} is no message"),
    };
    assert_eq!(message.trace_context(), Some(parent()));
}
