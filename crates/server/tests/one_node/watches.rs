//! Watches of keys: where they begin, what they hand out, how they end.

use crate::fixture::{Fixture, get, seen, set};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::key_selector::Select;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::watch_event::Change;
use quorate_state::limits::HISTORY_BYTES_MAX;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn pattern(pattern: &str) -> v1::KeySelector {
    v1::KeySelector { select: Some(Select::Pattern(pattern.to_owned().into())) }
}

fn request(selectors: &[&str], from_revision: u64) -> v1::WatchRequest {
    let selectors = selectors.iter().map(|one| pattern(one)).collect();
    v1::WatchRequest { selectors, from_revision, ..Default::default() }
}

struct Watch(Streaming<v1::WatchResponse>);

impl Watch {
    /// Begins, and answers behind which revision.
    async fn begin(kv: &mut KvServiceClient<Channel>, request: v1::WatchRequest) -> (Self, u64) {
        let mut stream = kv.watch(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert!(first.events.is_empty(), "the first message says that it has begun");
        (Self(stream), first.revision)
    }

    async fn message(&mut self) -> Result<v1::WatchResponse, Status> {
        let message = tokio::time::timeout(PATIENCE, self.0.message()).await;
        Ok(message.expect("a message comes in time")?.expect("a watch ends with a reason"))
    }

    /// So many events, and how far the message of the last one is.
    async fn events(&mut self, count: usize) -> (Vec<v1::WatchEvent>, u64) {
        let (mut events, mut revision) = (Vec::new(), 0);
        while events.len() < count {
            let message = self.message().await.unwrap();
            assert!(message.revision >= revision, "it went back");
            revision = message.revision;
            events.extend(message.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        assert!(events.is_sorted_by_key(|event| event.revision));
        (events, revision)
    }

    async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.message().await {
                return status;
            }
        }
    }
}

fn text(event: &v1::WatchEvent) -> String {
    let key = String::from_utf8_lossy(&event.key);
    match event.change.as_ref().unwrap() {
        Change::Set(set) => {
            let value = String::from_utf8_lossy(&set.value);
            format!("{key}={value} v{}", set.version)
        }
        Change::Deleted(cause) => {
            format!("{key} {}", v1::DeleteCause::try_from(*cause).unwrap().as_str_name())
        }
    }
}

fn texts(events: &[v1::WatchEvent]) -> Vec<String> {
    events.iter().map(text).collect()
}

#[tokio::test]
async fn a_watch_from_now_on_sees_what_comes_and_nothing_else() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let before = kv.set(set(b"user.0", b"before")).await.unwrap().into_inner().revision;
    let (mut watch, begun) = Watch::begin(&mut kv, request(&["user.*", "job.?"], 0)).await;
    assert!(begun >= before);
    let first = kv.set(set(b"user.1", b"a")).await.unwrap().into_inner().revision;
    kv.set(set(b"other", b"b")).await.unwrap();
    kv.set(v1::SetRequest { namespace: "x".into(), ..set(b"user.1", b"c") }).await.unwrap();
    kv.set(v1::SetRequest { ttl_ms: Some(60_000), ..set(b"job.1", b"d") }).await.unwrap();
    kv.set(set(b"job.22", b"e")).await.unwrap();
    kv.increment(v1::IncrementRequest { key: "user.n".into(), by: 3, ..Default::default() })
        .await
        .unwrap();
    kv.delete(v1::DeleteRequest { key: "user.1".into(), ..Default::default() }).await.unwrap();
    let (events, _) = watch.events(4).await;
    let expected = ["user.1=a v1", "job.1=d v1", "user.n=3 v1", "user.1 DELETE_CAUSE_DELETED"];
    assert_eq!(texts(&events), expected);
    assert_eq!(events[0].revision, first);
    let Some(Change::Set(with_ttl)) = &events[1].change else { panic!("{events:?}") };
    assert_eq!(with_ttl.ttl_ms, Some(60_000));
    assert_eq!(with_ttl.create_revision, events[1].revision);

    // The rest is idle: it is told how far it is, at the latest after five seconds.
    let newest = kv.set(set(b"other", b"f")).await.unwrap().into_inner().revision;
    let since = Instant::now();
    let mark = watch.message().await.unwrap();
    assert!(mark.events.is_empty() && mark.revision >= newest, "{mark:?}");
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_key_that_expires_is_told_as_that() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let (mut watch, _) = Watch::begin(&mut kv, request(&[], 0)).await;
    kv.set(v1::SetRequest { ttl_ms: Some(200), ..set(b"k", b"v") }).await.unwrap();
    let (events, _) = watch.events(2).await;
    assert_eq!(texts(&events), ["k=v v1", "k DELETE_CAUSE_EXPIRED"]);
    assert_eq!(kv.get(get(b"k")).await.unwrap().into_inner().entry, None);
}

#[tokio::test]
async fn a_watch_from_a_revision_begins_with_it_and_goes_on() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let mut revisions = Vec::new();
    for number in 0..200 {
        let key = format!("k{}", number % 10);
        let written = kv.set(set(key.as_bytes(), number.to_string().as_bytes())).await.unwrap();
        revisions.push(written.into_inner().revision);
    }
    let from = revisions[100];
    let (mut watch, begun) = Watch::begin(&mut kv, request(&["k3", "k4"], from)).await;
    assert_eq!(begun, from - 1);
    let (events, _) = watch.events(20).await;
    let seen: Vec<_> = events.iter().map(|event| event.revision).collect();
    let expected: Vec<_> =
        (100..200).filter(|n| matches!(n % 10, 3 | 4)).map(|n| revisions[n]).collect();
    assert_eq!(seen, expected);
    kv.set(set(b"k3", b"live")).await.unwrap();
    let (events, through) = watch.events(1).await;
    assert_eq!(texts(&events), ["k3=live v21"]);

    // One goes on where another one ended; values can be left out.
    let next = v1::WatchRequest { keys_only: true, ..request(&["k3"], through + 1) };
    let (mut next, _) = Watch::begin(&mut kv, next).await;
    kv.set(set(b"k3", b"later")).await.unwrap();
    assert_eq!(texts(&next.events(1).await.0), ["k3= v22"]);

    // A revision that is far away is waited for.
    let (mut later, begun) = Watch::begin(&mut kv, request(&[], (1 << 53) - 1)).await;
    assert_eq!(begun, (1 << 53) - 2);
    kv.set(set(b"k3", b"too early")).await.unwrap();
    let mark = later.message().await.unwrap();
    assert_eq!((mark.events.len(), mark.revision), (0, begun));
}

#[tokio::test]
async fn a_watch_that_finds_nothing_says_how_far_it_came() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let newest = kv.set(set(b"k", b"v")).await.unwrap().into_inner().revision;
    let since = Instant::now();
    let (mut watch, _) = Watch::begin(&mut kv, request(&["absent"], 1)).await;
    let mark = watch.message().await.unwrap();
    assert!(mark.events.is_empty() && mark.revision >= newest, "{mark:?}");
    assert!(since.elapsed() < Duration::from_secs(4), "it came with the catching up");
}

#[tokio::test]
async fn a_large_revision_comes_in_pieces_and_is_marked_when_it_is_whole() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    for number in 0..3_000 {
        kv.set(set(format!("k{number:0100}").as_bytes(), b"")).await.unwrap();
    }
    let (mut live, _) = Watch::begin(&mut kv, request(&[], 0)).await;
    let delete = v1::DeletePatternRequest {
        selector: Some(pattern("k*")),
        keys_max: 3_000,
        ..Default::default()
    };
    let step = kv.delete_pattern(delete).await.unwrap().into_inner();
    assert_eq!(step.deleted, 3_000);
    kv.set(set(b"after", b"")).await.unwrap();
    let (mut behind, _) = Watch::begin(&mut kv, request(&[], step.revision)).await;
    for watch in [&mut live, &mut behind] {
        let (mut count, mut messages) = (0, 0);
        loop {
            let message = watch.message().await.unwrap();
            count += message.events.iter().filter(|e| e.revision == step.revision).count();
            messages += 1;
            if message.revision >= step.revision {
                break;
            }
            assert_eq!(message.revision, step.revision - 1, "not complete yet");
        }
        assert_eq!(count, 3_000, "complete when it says so");
        assert!(messages > 5, "{messages} messages");
    }
}

/// Writes as much as the history keeps, and more.
async fn fill_history(kv: &mut KvServiceClient<Channel>) {
    let value = vec![7; 1 << 20];
    for number in 0..=HISTORY_BYTES_MAX >> 20 {
        kv.set(set(format!("large.{}", number % 4).as_bytes(), &value)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_longer_kept_is_refused_with_the_oldest_revision() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let first = kv.set(set(b"k", b"v")).await.unwrap().into_inner().revision;
    fill_history(&mut kv).await;
    let status = match kv.watch(request(&["k"], first)).await {
        Err(status) => status,
        Ok(_) => panic!("it began"),
    };
    assert_eq!(seen(&status), (Code::OutOfRange, "COMPACTED", "not_applied"));
    let oldest = status.metadata().get("quorate-oldest-revision").unwrap().to_str().unwrap();
    let oldest: u64 = oldest.parse().unwrap();
    assert!(oldest > first);
    // From there on it can be had.
    let (mut watch, _) = Watch::begin(&mut kv, request(&["large.*"], oldest)).await;
    let (events, _) = watch.events(1).await;
    assert!(events[0].revision >= oldest);
    let metrics = fixture.http("/metrics").await;
    assert!(metrics.contains("quorate_watches_cut_total{reason=\"compacted\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_told_and_cut_and_others_go_on() {
    let fixture =
        Fixture::start_with(|options| options.slow_reader_max = Duration::from_millis(500)).await;
    let mut kv = fixture.kv().await;
    let (mut slow, _) = Watch::begin(&mut fixture.kv().await, request(&[], 0)).await;
    let (mut other, _) = Watch::begin(&mut kv, request(&["small"], 0)).await;
    // More than any window on the way to the client takes.
    for _ in 0..12 {
        kv.set(set(b"large", &vec![7; 1 << 20])).await.unwrap();
    }
    let cut = async {
        let cut = "quorate_watches_cut_total{reason=\"slow_reader\"} 1";
        while !fixture.http("/metrics").await.contains(cut) {
            kv.set(set(b"small", b"v")).await.unwrap();
            other.events(1).await;
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("it is cut");
    assert!(fixture.http("/metrics").await.contains("quorate_watches 1\n"), "its place is free");
    let status = slow.ended().await;
    assert_eq!(seen(&status), (Code::ResourceExhausted, "SLOW_READER", "not_applied"));
    kv.set(set(b"small", b"v")).await.unwrap();
    other.events(1).await;
}

/// One that falls behind what all share reads the history itself, at its own pace, and misses
/// nothing.
#[tokio::test]
async fn a_reader_that_lags_gets_everything_all_the_same() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let (mut watch, _) = Watch::begin(&mut fixture.kv().await, request(&[], 0)).await;
    for number in 0..40_u32 {
        let mut value = vec![7; 512 << 10];
        value[..4].copy_from_slice(&number.to_be_bytes());
        kv.set(set(b"k", &value)).await.unwrap();
    }
    let (events, _) = watch.events(40).await;
    for (number, event) in (0..40_u32).zip(&events) {
        let Some(Change::Set(set)) = &event.change else { panic!("{}", text(event)) };
        assert_eq!(set.value[..4], number.to_be_bytes());
    }
    let metrics = fixture.http("/metrics").await;
    let misses =
        metrics.lines().find_map(|line| line.strip_prefix("quorate_watch_ring_misses_total "));
    assert_ne!(misses, Some("0"), "it never fell behind: the test has lost its point");
}

#[tokio::test]
async fn a_connection_has_so_many_watches_and_places_come_free() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(Watch::begin(&mut kv, request(&["k"], 0)).await.0);
    }
    let Err(refused) = kv.watch(request(&["k"], 0)).await else { panic!("one too many") };
    assert_eq!(seen(&refused), (Code::ResourceExhausted, "TOO_MANY_WATCHES", "not_applied"));
    // Another connection has its own.
    let mut other = fixture.kv().await;
    let (mut watch, _) = Watch::begin(&mut other, request(&["k"], 0)).await;
    kv.set(set(b"k", b"v")).await.unwrap();
    watch.events(1).await;
    for watch in &mut open {
        watch.events(1).await;
    }
    assert!(fixture.http("/metrics").await.contains("quorate_watches 257\n"));
    drop(open);
    let again = async {
        while kv.watch(request(&["k"], 0)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("places come free");
    drop(watch);

    let many = vec!["k"; 65];
    let Err(refused) = kv.watch(request(&many, 0)).await else { panic!("too many selectors") };
    assert_eq!(seen(&refused), (Code::InvalidArgument, "INVALID_PATTERN", "not_applied"));
    let selectors = vec![v1::KeySelector { select: None }];
    let Err(refused) = kv.watch(v1::WatchRequest { selectors, ..Default::default() }).await else {
        panic!("a selector of nothing")
    };
    assert_eq!(seen(&refused), (Code::InvalidArgument, "NO_SELECTOR", "not_applied"));
    // When the last one is gone everything is as before, also for the next one.
    let none = async {
        while !fixture.http("/metrics").await.contains("quorate_watches 0\n") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, none).await.expect("no watch is left");
    let (mut watch, _) = Watch::begin(&mut kv, request(&["k"], 0)).await;
    kv.set(set(b"k", b"w")).await.unwrap();
    assert_eq!(texts(&watch.events(1).await.0), ["k=w v2"]);
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let (mut watch, _) = Watch::begin(&mut kv, request(&[], 0)).await;
    let (mut unread, _) = Watch::begin(&mut kv, request(&[], 0)).await;
    kv.set(set(b"k", Bytes::new().as_ref())).await.unwrap();
    let begun = Instant::now();
    fixture.server.shutdown(Duration::from_secs(20)).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it waited for its watches");
    for watch in [&mut watch, &mut unread] {
        let status = watch.ended().await;
        assert_eq!(seen(&status), (Code::Unavailable, "SHUTTING_DOWN", "not_applied"));
    }
}
