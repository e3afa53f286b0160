//! The cache of one node: entries, tags, builds, invalidations, and the bound.

use crate::fixture::{Fixture, seen};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::cache_invalidation::What;
use quorate_proto::v1::cache_service_client::CacheServiceClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

type Client = CacheServiceClient<Channel>;

async fn client(node: &Fixture) -> Client {
    CacheServiceClient::new(node.channel().await)
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn kept(ttl_ms: u64, stale_for_ms: u64, tags: &[&str]) -> Option<v1::CachePolicy> {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    Some(v1::CachePolicy { ttl_ms: (ttl_ms > 0).then_some(ttl_ms), stale_for_ms, tags })
}

fn set(name: &str, value: &str, policy: Option<v1::CachePolicy>) -> v1::CacheSetRequest {
    v1::CacheSetRequest { key: key(name), value: key(value), policy, ..Default::default() }
}

/// After everything that was acknowledged.
async fn get(cache: &mut Client, name: &str) -> Option<String> {
    let request = v1::CacheGetRequest {
        key: key(name),
        consistency: v1::Consistency::Linearizable.into(),
        ..Default::default()
    };
    let entry = cache.get(request).await.unwrap().into_inner().entry?;
    Some(String::from_utf8(entry.value.to_vec()).unwrap())
}

fn build(name: &str) -> v1::CacheGetOrBuildRequest {
    v1::CacheGetOrBuildRequest { key: key(name), ..Default::default() }
}

fn fill(name: &str, lease: u64, value: &str) -> v1::CacheFillRequest {
    v1::CacheFillRequest { key: key(name), lease, value: key(value), ..Default::default() }
}

async fn task(cache: &mut Client, name: &str) -> u64 {
    let answer = cache.get_or_build(build(name)).await.unwrap().into_inner();
    answer.task.unwrap_or_else(|| panic!("{answer:?}")).lease
}

fn value(answer: v1::CacheGetOrBuildResponse) -> String {
    assert_eq!(answer.task, None);
    String::from_utf8(answer.entry.unwrap().value.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_kept_until_they_expire_or_are_deleted() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let was_set = cache.set(set("a", "1", kept(60_000, 0, &["t"]))).await.unwrap().into_inner();
    let stale =
        v1::CacheGetRequest { key: key("a"), min_revision: was_set.revision, ..Default::default() };
    let got = cache.get(stale).await.unwrap().into_inner();
    let entry = got.entry.unwrap();
    assert_eq!((&entry.value[..], entry.mod_revision), (&b"1"[..], was_set.revision));
    assert!((1..=60_000).contains(&entry.remaining_ttl_ms.unwrap()));
    assert_eq!((entry.stale, entry.tags), (false, vec!["t".to_owned()]));
    assert!(got.revision >= was_set.revision);

    let touch = v1::CacheTouchRequest { key: key("a"), ttl_ms: Some(1), ..Default::default() };
    assert!(cache.touch(touch).await.unwrap().into_inner().found);
    let until = Instant::now() + PATIENCE;
    while get(&mut cache, "a").await.is_some() {
        assert!(Instant::now() < until, "it does not expire");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for name in ["b", "b:1", "b:2", "c"] {
        cache.set(set(name, name, None)).await.unwrap();
    }
    let delete = |name| v1::CacheDeleteRequest { key: key(name), ..Default::default() };
    assert!(cache.delete(delete("b")).await.unwrap().into_inner().deleted);
    assert!(!cache.delete(delete("b")).await.unwrap().into_inner().deleted);
    let pattern = v1::CacheDeletePatternRequest {
        selector: Some(v1::KeySelector {
            select: Some(v1::key_selector::Select::Pattern(key("b:*"))),
        }),
        ..Default::default()
    };
    let deleted = cache.delete_pattern(pattern).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.cursor.len()), (2, 0));
    assert_eq!(get(&mut cache, "b:1").await, None);
    assert_eq!(get(&mut cache, "c").await, Some("c".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_make_entries_vanish_at_once_and_stats_count() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    cache.set(set("a", "1", kept(0, 0, &["x", "y"]))).await.unwrap();
    cache.set(set("b", "2", kept(0, 0, &["y"]))).await.unwrap();
    cache.set(set("c", "3", kept(0, 0, &["z"]))).await.unwrap();
    let tags = |tags: &[&str]| v1::CacheInvalidateTagsRequest {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Default::default()
    };
    cache.invalidate_tags(tags(&["y", "nobody"])).await.unwrap();
    assert_eq!(get(&mut cache, "a").await, None);
    assert_eq!(get(&mut cache, "b").await, None);
    assert_eq!(get(&mut cache, "c").await, Some("3".to_owned()));
    cache.set(set("a", "4", kept(0, 0, &["y"]))).await.unwrap();
    assert_eq!(get(&mut cache, "a").await, Some("4".to_owned()), "it was set afterwards");
    // What vanished leaves by itself.
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = cache.stats(v1::CacheStatsRequest::default()).await.unwrap().into_inner();
        if stats.entries == 2 {
            assert_eq!((stats.hits, stats.misses), (2, 2));
            assert_eq!((stats.bytes_max, stats.builds, stats.node_id), (256 << 20, 0, 1));
            break;
        }
        assert!(Instant::now() < until, "{stats:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_builds_and_all_get_the_value() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let mut cache = cache.clone();
            tokio::spawn(async move {
                let answer = cache.get_or_build(build("k")).await.unwrap().into_inner();
                let Some(task) = answer.task else { return (0, value(answer)) };
                tokio::time::sleep(Duration::from_millis(50)).await;
                cache.fill(fill("k", task.lease, "built")).await.unwrap();
                (1, "built".to_owned())
            })
        })
        .collect();
    let mut builders = 0;
    for call in calls {
        let (built, value) = call.await.unwrap();
        builders += built;
        assert_eq!(value, "built");
    }
    assert_eq!(builders, 1);
    assert_eq!(value(cache.get_or_build(build("k")).await.unwrap().into_inner()), "built");
    let page = node.http("/metrics").await;
    assert!(page.contains("quorate_cache_waits 0\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_tells_those_who_wait_and_one_that_is_given_up_goes_on() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let lease = task(&mut cache, "k").await;
    let mut waiting = cache.clone();
    let waits = tokio::spawn(async move { waiting.get_or_build(build("k")).await });
    waits_for_a_build(&node, 1).await;
    let end = |lease, error: Option<&str>| v1::CacheEndBuildRequest {
        key: key("k"),
        lease,
        error: error.map(str::to_owned),
        ..Default::default()
    };
    let ended = cache.end_build(end(lease, Some("the database is down"))).await.unwrap();
    assert!(ended.into_inner().ended);
    let status = waits.await.unwrap().unwrap_err();
    assert_eq!(seen(&status), (Code::Aborted, "BUILD_FAILED", "not_applied"));
    assert!(status.message().ends_with("the database is down"), "{}", status.message());
    assert_eq!(get(&mut cache, "k").await, None, "an error is no value");

    let lease = task(&mut cache, "k").await;
    let mut waiting = cache.clone();
    let waits = tokio::spawn(async move { task(&mut waiting, "k").await });
    waits_for_a_build(&node, 1).await;
    assert!(cache.end_build(end(lease, None)).await.unwrap().into_inner().ended);
    let next = waits.await.unwrap();
    assert!(next > lease, "the task went to the next");
    assert!(!cache.end_build(end(lease, None)).await.unwrap().into_inner().ended);
    let late = cache.fill(fill("k", lease, "late")).await.unwrap_err();
    assert_eq!(seen(&late), (Code::FailedPrecondition, "BUILD_LEASE_LOST", "not_applied"));
    cache.fill(fill("k", next, "in time")).await.unwrap();
    assert_eq!(get(&mut cache, "k").await, Some("in time".to_owned()));
}

async fn waits_for_a_build(node: &Fixture, count: u64) {
    let until = Instant::now() + PATIENCE;
    while !node.http("/metrics").await.contains(&format!("quorate_cache_waits {count}\n")) {
        assert!(Instant::now() < until, "nobody waits");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It has looked, and waits for news: there is no other sign of it than that it takes time.
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_vanishes_is_followed_when_its_lease_is_over() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let short = v1::CacheGetOrBuildRequest { build_lease_ms: 300, ..build("k") };
    let first = cache.get_or_build(short).await.unwrap().into_inner().task.unwrap();
    assert!(first.remaining_ms <= 300);
    let began = Instant::now();
    let second = task(&mut cache, "k").await;
    assert!(second > first.lease && began.elapsed() >= Duration::from_millis(150));
    let late = cache.fill(fill("k", first.lease, "late")).await.unwrap_err();
    assert_eq!(seen(&late).1, "BUILD_LEASE_LOST");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_invalidated_meanwhile_is_not_stored() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let lost = |status: Status| assert_eq!(seen(&status).1, "BUILD_LEASE_LOST", "{status:?}");

    let lease = task(&mut cache, "a").await;
    let delete = v1::CacheDeleteRequest { key: key("a"), ..Default::default() };
    cache.delete(delete).await.unwrap();
    lost(cache.fill(fill("a", lease, "old")).await.unwrap_err());
    assert_eq!(get(&mut cache, "a").await, None);

    let lease = task(&mut cache, "b").await;
    let tags = vec!["t".to_owned()];
    let invalidate = v1::CacheInvalidateTagsRequest { tags, ..Default::default() };
    cache.invalidate_tags(invalidate).await.unwrap();
    let policy = kept(0, 0, &["t"]);
    lost(cache.fill(v1::CacheFillRequest { policy, ..fill("b", lease, "old") }).await.unwrap_err());
    assert_eq!(get(&mut cache, "b").await, None);

    let lease = task(&mut cache, "c").await;
    cache.set(set("c", "new", None)).await.unwrap();
    lost(cache.fill(fill("c", lease, "old")).await.unwrap_err());
    assert_eq!(get(&mut cache, "c").await, Some("new".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_value_is_shown_while_one_builds() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    cache.set(set("k", "old", kept(1, 60_000, &[]))).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while get(&mut cache, "k").await.is_some() {
        assert!(Instant::now() < until, "it does not expire");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let first = cache.get_or_build(build("k")).await.unwrap().into_inner();
    let entry = first.entry.unwrap();
    assert!(entry.stale && first.task.is_some(), "one builds, and may show it meanwhile");
    assert_eq!(entry.remaining_ttl_ms, Some(0));
    let second = cache.get_or_build(build("k")).await.unwrap().into_inner();
    assert!(second.task.is_none() && second.entry.unwrap().stale);
    let allowing = v1::CacheGetRequest { key: key("k"), allow_stale: true, ..Default::default() };
    assert!(cache.get(allowing).await.unwrap().into_inner().entry.unwrap().stale);
    let mut waiting = cache.clone();
    let fresh = v1::CacheGetOrBuildRequest { fresh_only: true, ..build("k") };
    let waits = tokio::spawn(async move { waiting.get_or_build(fresh).await });
    waits_for_a_build(&node, 1).await;
    cache.fill(fill("k", first.task.unwrap().lease, "new")).await.unwrap();
    assert_eq!(value(waits.await.unwrap().unwrap().into_inner()), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_is_told_in_order_with_how_far_it_is() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let before = cache.set(set("before", "1", None)).await.unwrap().into_inner().revision;
    let request = v1::CacheInvalidationsRequest::default();
    let mut stream = cache.invalidations(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.invalidations.is_empty() && first.revision >= before);
    cache.set(set("a", "1", None)).await.unwrap();
    let tags = vec!["t".to_owned()];
    let invalidate = v1::CacheInvalidateTagsRequest { tags, ..Default::default() };
    cache.invalidate_tags(invalidate).await.unwrap();
    let selector =
        Some(v1::KeySelector { select: Some(v1::key_selector::Select::Pattern(key("p:*x"))) });
    let pattern = v1::CacheDeletePatternRequest { selector, ..Default::default() };
    let last = cache.delete_pattern(pattern).await.unwrap().into_inner().revision;
    let (mut told, mut revision) = (Vec::new(), 0);
    while revision < last {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap();
        let message = message.unwrap().unwrap();
        assert!(message.revision >= revision, "it went back");
        revision = message.revision;
        told.extend(message.invalidations.into_iter().map(|one| one.what.unwrap()));
    }
    let expected = [What::Key(key("a")), What::Tag("t".to_owned()), What::Prefix(key("p:"))];
    assert_eq!(told, expected);

    // What this node can't tell of any more.
    node.server.resync();
    cache.set(set("b", "1", None)).await.unwrap();
    drop(stream);
    let until = Instant::now() + PATIENCE;
    while !node.http("/metrics").await.contains("quorate_cache_invalidation_streams 0\n") {
        assert!(Instant::now() < until, "the stream is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_is_full_keeps_what_is_read() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let resize = |bytes_max| v1::CacheResizeRequest { bytes_max, ..Default::default() };
    let resized = cache.resize(resize(4 << 20)).await.unwrap().into_inner();
    assert_eq!(resized.previous_bytes_max, 256 << 20);
    let value = "v".repeat(16 << 10);
    let hot: Vec<String> = (0..20).map(|number| format!("hot:{number}")).collect();
    // Beside them, and as old: only that nobody reads those is different.
    let unread: Vec<String> = (0..20).map(|number| format!("hot:{number}:unread")).collect();
    for name in hot.iter().chain(&unread) {
        cache.set(set(name, &value, None)).await.unwrap();
    }
    // Ten times what fits, while some are read.
    let mut full = 0;
    for number in 0..2_560 {
        while let Err(status) = cache.set(set(&format!("cold:{number}"), &value, None)).await {
            assert_eq!(seen(&status), (Code::ResourceExhausted, "CACHE_FULL", "not_applied"));
            full += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if number % 10 == 0 {
            for name in &hot {
                assert!(get(&mut cache, name).await.is_some(), "{name} was evicted at {number}");
            }
            // As long as nodes take to tell what was read.
            if number == 0 {
                tokio::time::sleep(Duration::from_millis(1_500)).await;
            }
        }
    }
    let stats = cache.stats(v1::CacheStatsRequest::default()).await.unwrap().into_inner();
    assert!(stats.bytes <= 4 << 20, "{stats:?}");
    assert!(stats.evicted > 2_000, "{stats:?}, {full} times full");
    assert!(stats.entries > 100, "{stats:?}");
    for name in &unread {
        assert!(get(&mut cache, name).await.is_none(), "{name} is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    let node = Fixture::start().await;
    let mut cache = client(&node).await;
    let invalid = |status: Status, reason: &str| {
        assert_eq!(seen(&status), (Code::InvalidArgument, reason, "not_applied"), "{status:?}");
    };
    invalid(cache.set(set("", "v", None)).await.unwrap_err(), "KEY_EMPTY");
    let large = "v".repeat((1 << 20) + 1);
    invalid(cache.set(set("k", &large, None)).await.unwrap_err(), "VALUE_TOO_LARGE");
    let endless = Some(v1::CachePolicy { ttl_ms: Some(u64::MAX), ..Default::default() });
    invalid(cache.set(set("k", "v", endless)).await.unwrap_err(), "INVALID_TTL");
    let none = Some(v1::CachePolicy { ttl_ms: Some(0), ..Default::default() });
    invalid(cache.set(set("k", "v", none)).await.unwrap_err(), "INVALID_TTL");
    invalid(cache.set(set("k", "v", kept(1, u64::MAX, &[]))).await.unwrap_err(), "INVALID_TTL");
    invalid(cache.set(set("k", "v", kept(1, 0, &["t"; 17]))).await.unwrap_err(), "INVALID_TAGS");
    invalid(cache.set(set("k", "v", kept(1, 0, &[""]))).await.unwrap_err(), "INVALID_TAGS");
    let tags = v1::CacheInvalidateTagsRequest::default();
    invalid(cache.invalidate_tags(tags).await.unwrap_err(), "INVALID_TAGS");
    let tags = vec!["t".to_owned(); 65];
    let tags = v1::CacheInvalidateTagsRequest { tags, ..Default::default() };
    invalid(cache.invalidate_tags(tags).await.unwrap_err(), "INVALID_TAGS");
    invalid(cache.fill(fill("k", 0, "v")).await.unwrap_err(), "INVALID_LEASE");
    let short = v1::CacheGetOrBuildRequest { build_lease_ms: 1, ..build("k") };
    invalid(cache.get_or_build(short).await.unwrap_err(), "INVALID_BUILD_LEASE");
    let resize = v1::CacheResizeRequest { bytes_max: 1, ..Default::default() };
    invalid(cache.resize(resize).await.unwrap_err(), "INVALID_CACHE_BYTES");
    let pattern = v1::CacheDeletePatternRequest::default();
    invalid(cache.delete_pattern(pattern).await.unwrap_err(), "NO_SELECTOR");
    let status = cache.fill(fill("k", 99, "v")).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "BUILD_LEASE_LOST", "not_applied"));
    // A revision of another cluster is not waited for for ever.
    let mut ahead = tonic::Request::new(v1::CacheGetRequest {
        key: key("k"),
        min_revision: 1 << 50,
        ..Default::default()
    });
    ahead.set_timeout(Duration::from_secs(2));
    assert_eq!(cache.get(ahead).await.unwrap_err().code(), Code::Unavailable);
}
