//! Watches: whatever becomes of the nodes, each event is handed out once, in order, and those of one
//! revision together.

use crate::fake::{Fake, NOT_APPLIED, Sent, status};
use quorate_client::Error;
use quorate_client::kv::{Change, Changes, DeleteCause, StartWatch};
use quorate_proto::metadata::OLDEST_REVISION;
use quorate_proto::v1::key_selector::Select;
use quorate_proto::v1::{self, WatchEvent, WatchResponse, WatchSet, watch_event};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

/// A message: the revisions of its events, each of a key of the same number, and how far it is.
fn message(events: &[u64], revision: u64) -> Sent {
    let event = |at: &u64| WatchEvent {
        key: format!("k{at}").into(),
        revision: *at,
        change: Some(watch_event::Change::Set(WatchSet {
            value: at.to_string().into(),
            version: 1,
            create_revision: *at,
            ttl_ms: None,
        })),
    };
    let events = events.iter().map(event).collect();
    Sent::Message(WatchResponse { events, revision, group_id: 0 })
}

fn revisions(changes: &Changes) -> Vec<u64> {
    changes.events.iter().map(|event| event.revision).collect()
}

fn from(fake: &Fake, revision: u64) -> StartWatch {
    fake.client().kv().watch_prefix("k").from_revision(revision)
}

/// Where each watch began.
fn begun(fake: &Fake) -> Vec<u64> {
    fake.state.watches().into_iter().map(|(_, request)| request.from_revision).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_watched_is_asked_for_and_what_came_is_told() {
    let fake = Fake::start(1);
    let deleted = |key: &'static str, cause: i32| WatchEvent {
        key: key.into(),
        revision: 9,
        change: Some(watch_event::Change::Deleted(cause)),
    };
    let set = WatchEvent {
        key: "a".into(),
        revision: 8,
        change: Some(watch_event::Change::Set(WatchSet {
            value: "v".into(),
            version: 2,
            create_revision: 3,
            ttl_ms: Some(1_500),
        })),
    };
    let events = vec![set, deleted("b", 1), deleted("c", 2), deleted("d", 3), deleted("e", 77)];
    fake.state.script_watch(vec![
        message(&[], 7),
        Sent::Message(WatchResponse { events, revision: 9, group_id: 0 }),
    ]);
    let watch = fake.client().kv_in("ns").watch("a*").and_prefix("b").and_key("c").and("d?");
    let mut watch = watch.keys_only().start().await.unwrap();
    assert_eq!(watch.revision(), 7, "a watch from now on learns where that is");
    let changes = watch.next().await.unwrap().unwrap();
    assert_eq!((changes.revision, watch.revision()), (9, 9));
    let ttl = Some(Duration::from_millis(1_500));
    let Change::Set { value, version: 2, create_revision: 3, ttl: left, .. } =
        &changes.events[0].change
    else {
        panic!("{changes:?}")
    };
    assert_eq!((&value[..], *left), (&b"v"[..], ttl));
    let causes = changes.events[1..].iter().map(|event| match event.change {
        Change::Deleted { cause, .. } => cause,
        _ => panic!("{event:?}"),
    });
    let all =
        [DeleteCause::Deleted, DeleteCause::Expired, DeleteCause::SessionEnded, DeleteCause::Other];
    assert_eq!(causes.collect::<Vec<_>>(), all);

    let (_, request) = fake.state.watches().remove(0);
    let select = |select| v1::KeySelector { select: Some(select) };
    let selectors = vec![
        select(Select::Pattern("a*".into())),
        select(Select::Prefix("b".into())),
        select(Select::Key("c".into())),
        select(Select::Pattern("d?".into())),
    ];
    let namespace = "ns".to_owned();
    let expected = v1::WatchRequest { namespace, selectors, from_revision: 0, keys_only: true };
    assert_eq!(request, expected);
}

#[tokio::test(start_paused = true)]
async fn when_a_node_dies_another_one_goes_on_with_the_next_revision() {
    let fake = Fake::start(3);
    fake.state.script_watch(vec![message(&[], 9), message(&[10, 12], 12), Sent::Cut]);
    fake.state.script_watch(vec![message(&[], 12), message(&[], 15), Sent::Cut]);
    fake.state.script_watch(vec![message(&[], 15), message(&[17], 17)]);
    let mut watch = from(&fake, 10).start().await.unwrap();
    assert_eq!(revisions(&watch.next().await.unwrap().unwrap()), [10, 12]);
    // Without events it is not handed out, and yet it counts.
    assert_eq!(revisions(&watch.next().await.unwrap().unwrap()), [17]);
    assert_eq!(begun(&fake), [10, 13, 16]);
}

#[tokio::test(start_paused = true)]
async fn a_revision_in_pieces_is_handed_out_as_a_whole_and_read_again_as_a_whole() {
    let fake = Fake::start(2);
    // 11 is in three messages; the node dies after the second.
    fake.state.script_watch(vec![
        message(&[], 9),
        message(&[10, 11, 11], 10),
        message(&[11], 10),
        Sent::Cut,
    ]);
    fake.state.script_watch(vec![
        message(&[], 10),
        message(&[11, 11], 10),
        message(&[11, 11], 10),
        message(&[11, 12, 13], 12),
        message(&[13], 13),
    ]);
    let mut watch = from(&fake, 10).start().await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!((revisions(&first), first.revision), (vec![10], 10));
    let second = watch.next().await.unwrap().unwrap();
    assert_eq!((revisions(&second), second.revision), (vec![11, 11, 11, 11, 11, 12], 12));
    let third = watch.next().await.unwrap().unwrap();
    assert_eq!((revisions(&third), third.revision), (vec![13, 13], 13));
    assert_eq!(begun(&fake), [10, 11]);
}

#[tokio::test(start_paused = true)]
async fn next_may_be_dropped_at_any_moment() {
    let fake = Fake::start(2);
    fake.state.script_watch(vec![
        message(&[], 0),
        message(&[1, 2], 1),
        message(&[2], 2),
        Sent::Cut,
    ]);
    fake.state.script_watch(vec![message(&[], 2), message(&[3, 3], 2), Sent::End]);
    fake.state.script_watch(vec![message(&[], 2), message(&[3, 3, 3], 3)]);
    let mut watch = from(&fake, 1).start().await.unwrap();
    let mut seen = Vec::new();
    // Polled once and dropped, again and again.
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            next = watch.next() => seen.extend(revisions(&next.unwrap().unwrap())),
            () = tokio::task::yield_now() => {}
        }
        if seen.len() >= 6 {
            break;
        }
        // Time passes only outside, so that waits within never end by themselves.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen, [1, 2, 2, 3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_nothing_or_stops_or_cuts_a_slow_reader_is_left() {
    let fake = Fake::start(3);
    let stops = status(Code::Unavailable, NOT_APPLIED, "SHUTTING_DOWN");
    let slow = status(Code::ResourceExhausted, NOT_APPLIED, "SLOW_READER");
    fake.state.script_watch(vec![message(&[], 0), message(&[1], 1)]);
    fake.state.script_watch(vec![message(&[], 1), message(&[2], 2), Sent::Fail(stops)]);
    fake.state.script_watch(vec![message(&[], 2), message(&[3], 3), Sent::Fail(slow)]);
    fake.state.script_watch(vec![message(&[], 3), message(&[4], 4)]);
    let mut watch = from(&fake, 1).start().await.unwrap();
    let started = Instant::now();
    for revision in 1..=4 {
        assert_eq!(revisions(&watch.next().await.unwrap().unwrap()), [revision]);
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(20) && took < Duration::from_secs(22), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_kept_is_told_and_the_watch_is_over() {
    let fake = Fake::start(2);
    let mut compacted = status(Code::OutOfRange, NOT_APPLIED, "COMPACTED");
    compacted.metadata_mut().insert(OLDEST_REVISION, "4097".parse().unwrap());
    fake.state.script_watch(vec![Sent::Fail(compacted.clone())]);
    let refused = from(&fake, 1).start().await.unwrap_err();
    assert!(matches!(refused, Error::Compacted { oldest: 4_097, .. }), "{refused:?}");
    assert_eq!(refused.reason(), "COMPACTED");

    fake.state.script_watch(vec![message(&[], 0), message(&[1], 1), Sent::Fail(compacted)]);
    let mut watch = from(&fake, 1).start().await.unwrap();
    assert_eq!(revisions(&watch.next().await.unwrap().unwrap()), [1]);
    let over = watch.next().await.unwrap().unwrap_err();
    assert!(matches!(over, Error::Compacted { oldest: 4_097, .. }), "{over:?}");
    assert!(watch.next().await.is_none());
    assert_eq!(watch.revision(), 1, "how far it came is known");
}

#[tokio::test(start_paused = true)]
async fn without_any_node_it_gives_up_in_time() {
    let fake = Fake::start(2);
    fake.state.script_watch(vec![message(&[], 0), message(&[1], 1)]);
    let watch = from(&fake, 1).resume_timeout(Duration::from_secs(7));
    let mut watch = watch.start().await.unwrap();
    assert_eq!(revisions(&watch.next().await.unwrap().unwrap()), [1]);
    fake.net.kill("n1:1");
    fake.net.kill("n2:1");
    let since = Instant::now();
    let error = watch.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let took = since.elapsed();
    assert!(took > Duration::from_secs(6) && took < Duration::from_secs(8), "{took:?}");
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn progress_is_handed_out_to_who_asks_for_it() {
    let fake = Fake::start(1);
    fake.state.script_watch(vec![message(&[], 4), message(&[], 6), message(&[7, 8], 7)]);
    let mut watch = from(&fake, 5).progress().start().await.unwrap();
    let progress = watch.next().await.unwrap().unwrap();
    assert_eq!((progress.events.len(), progress.revision), (0, 6));
    assert_eq!(revisions(&watch.next().await.unwrap().unwrap()), [7]);
}

#[tokio::test(start_paused = true)]
async fn nonsense_ends_the_watch() {
    for nonsense in [message(&[3], 9), message(&[], 4), message(&[8, 7], 9)] {
        let fake = Fake::start(1);
        fake.state.script_watch(vec![message(&[], 5), nonsense]);
        let mut watch = from(&fake, 6).start().await.unwrap();
        let error = watch.next().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), "BAD_ANSWER");
        assert!(watch.next().await.is_none());
    }
    let fake = Fake::start(1);
    fake.state.script_watch(vec![message(&[], 9)]);
    let error = from(&fake, 6).start().await.unwrap_err();
    assert_eq!(error.reason(), "BAD_ANSWER", "it would leave events out");
}

/// A node that ends each watch at once is not asked without a pause.
#[tokio::test(start_paused = true)]
async fn a_node_that_ends_every_watch_is_not_hammered() {
    let fake = Fake::start(1);
    for _ in 0..1_000 {
        fake.state.script_watch(vec![message(&[], 0), Sent::End]);
    }
    let mut watch = from(&fake, 1).start().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    assert!(waited.is_err());
    let begun = begun(&fake).len();
    assert!((20..100).contains(&begun), "{begun} times in ten seconds");
}
