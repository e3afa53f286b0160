//! The near cache: what it may answer, and when it has to ask.

use super::*;

/// A cache with copies, whose stream has begun.
async fn near(fake: &Fake, options: NearOptions) -> Cache {
    let begun = fake.state.invalidation_streams();
    let cache = fake.client().cache().near(options);
    while fake.state.invalidation_streams() == begun {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    settle().await;
    cache
}

/// Lets what was sent arrive.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

async fn value(cache: &Cache, key: &str) -> Option<String> {
    let entry = cache.get(key).await.expect("answered")?;
    Some(String::from_utf8(entry.value.to_vec()).expect("text"))
}

/// Reads that went to the cluster.
fn asked(fake: &Fake) -> usize {
    calls(fake, "get").len()
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_used_until_it_is_invalidated() {
    let fake = Fake::start(1);
    let cache = near(&fake, NearOptions::new()).await;
    fake.state.set_cache("k", "1", minute(&["t"]));
    fake.state.set_cache("l", "1", minute(&[]));
    settle().await;
    for _ in 0..3 {
        assert_eq!(value(&cache, "k").await.as_deref(), Some("1"));
        assert_eq!(value(&cache, "l").await.as_deref(), Some("1"));
    }
    assert_eq!(asked(&fake), 2);
    let counters = cache.counters();
    assert_eq!((counters.near_hits, counters.near_misses, counters.server_hits), (4, 2, 2));

    fake.state.set_cache("k", "2", minute(&["t"]));
    settle().await;
    assert_eq!(value(&cache, "k").await.as_deref(), Some("2"));
    assert_eq!(value(&cache, "l").await.as_deref(), Some("1"));
    assert_eq!(asked(&fake), 3);

    fake.state.invalidate_tag("t");
    settle().await;
    assert_eq!(value(&cache, "k").await, None);
    assert_eq!(value(&cache, "k").await, None);
    assert_eq!(asked(&fake), 5, "a miss is not kept");
    assert_eq!(value(&cache, "l").await.as_deref(), Some("1"));
    // Not from a copy.
    cache.get("l").linearizable().await.expect("answered");
    assert_eq!(asked(&fake), 6);
    let build = || async { Ok::<_, String>("built") };
    let found = cache.get_or_build("l", BuildOptions::new(), build).await.expect("found");
    assert_eq!(found.source, Source::Near);
}

#[tokio::test(start_paused = true)]
async fn own_changes_are_seen_at_once() {
    let fake = Fake::start(1);
    let cache = near(&fake, NearOptions::new()).await;
    fake.state.set_cache("k", "1", minute(&["t"]));
    settle().await;
    value(&cache, "k").await;
    // The stream tells of nothing: what was seen is enough.
    fake.state.hold_invalidations();
    cache.set("k", "2").ttl(secs(60)).tag("t").await.expect("set");
    for _ in 0..2 {
        assert_eq!(value(&cache, "k").await.as_deref(), Some("2"));
    }
    assert_eq!(asked(&fake), 3, "behind what was seen no copy is used");
    cache.invalidate_tags(["t"]).await.expect("invalidated");
    assert_eq!(value(&cache, "k").await, None);
    fake.state.release_invalidations();
    settle().await;
    fake.state.set_cache("k", "3", minute(&[]));
    settle().await;
    for _ in 0..2 {
        assert_eq!(value(&cache, "k").await.as_deref(), Some("3"));
    }
    cache.delete_pattern("k*").await.expect("deleted");
    settle().await;
    let before = asked(&fake);
    value(&cache, "k").await;
    assert_eq!(asked(&fake), before + 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_stream_is_behind_no_copy_is_used() {
    let fake = Fake::start(1);
    let client = fake.client();
    let cache = client.cache().near(NearOptions::new());
    settle().await;
    fake.state.set_cache("k", "1", minute(&[]));
    settle().await;
    value(&cache, "k").await;
    value(&cache, "k").await;
    assert_eq!(asked(&fake), 1);
    fake.state.hold_invalidations();
    fake.state.set_cache("k", "2", minute(&[]));
    assert_eq!(value(&cache, "k").await.as_deref(), Some("1"), "nobody here knows of it yet");
    // Another handle of the same client learns of something newer.
    client.cache().get("other").await.expect("answered");
    assert_eq!(value(&cache, "k").await.as_deref(), Some("2"));
    fake.state.release_invalidations();
    settle().await;
    let before = asked(&fake);
    assert_eq!(value(&cache, "k").await.as_deref(), Some("2"));
    assert_eq!(asked(&fake), before, "what was read at its revision is kept");
}

#[tokio::test(start_paused = true)]
async fn a_value_that_comes_late_is_not_kept() {
    let fake = Fake::start(1);
    let cache = near(&fake, NearOptions::new()).await;
    for late in ["key", "tag"] {
        let now = fake.state.set_cache("k", "old", minute(&["t"]));
        settle().await;
        // It is read, and on its way while it is invalidated.
        fake.state.script_cache_get("old", &["t"], now);
        fake.script("cache_get", [Act::AnswerAfter(Duration::from_millis(500))]);
        let reads = {
            let cache = cache.clone();
            tokio::spawn(async move { value(&cache, "k").await })
        };
        settle().await;
        match late {
            "key" => fake.state.set_cache("k", "new", minute(&["t"])),
            _ => fake.state.invalidate_tag("t"),
        };
        assert_eq!(reads.await.expect("no panic").as_deref(), Some("old"), "it was asked before");
        let expected = (late == "key").then_some("new");
        assert_eq!(value(&cache, "k").await.as_deref(), expected, "late by {late}");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_stream_is_lost_all_is_dropped() {
    let fake = Fake::start(2);
    let cache = near(&fake, NearOptions::new()).await;
    fake.state.set_cache("k", "1", minute(&[]));
    settle().await;
    value(&cache, "k").await;
    value(&cache, "k").await;
    assert_eq!(asked(&fake), 1);
    let stopping = status(Code::Unavailable, NOT_APPLIED, "SHUTTING_DOWN");
    for why in [Some(stopping), None] {
        let begun = fake.state.invalidation_streams();
        let before = asked(&fake);
        fake.state.end_invalidations(why);
        while fake.state.invalidation_streams() == begun {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        settle().await;
        value(&cache, "k").await;
        assert_eq!(asked(&fake), before + 1, "another stream has begun, with nothing");
        value(&cache, "k").await;
        assert_eq!(asked(&fake), before + 1);
    }
    // One that says nothing is given up.
    let begun = fake.state.invalidation_streams();
    tokio::time::sleep(secs(22)).await;
    assert_eq!(fake.state.invalidation_streams(), begun + 1);
    // Nor is there one without a handle.
    drop(cache);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(fake.state.invalidation_streams(), begun + 1);
}

#[tokio::test(start_paused = true)]
async fn a_copy_lives_no_longer_than_its_ttl_or_the_longest() {
    let fake = Fake::start(1);
    let cache = near(&fake, NearOptions::new().ttl_max(secs(15))).await;
    let short = v1::CachePolicy { ttl_ms: Some(5_000), stale_for_ms: 60_000, tags: Vec::new() };
    fake.state.set_cache("short", "1", short);
    fake.state.set_cache("long", "1", minute(&[]));
    settle().await;
    // Counted from when it was sent.
    fake.script("cache_get", [Act::AnswerAfter(Duration::from_millis(900))]);
    value(&cache, "short").await;
    value(&cache, "long").await;
    tokio::time::advance(secs(3)).await;
    let left = cache.get("short").await.expect("answered").expect("a copy").remaining_ttl;
    assert!(left.is_some_and(|left| left <= secs(1)), "{left:?}");
    assert_eq!(asked(&fake), 2);
    // What was left when it was answered counts from when it was asked for.
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(value(&cache, "short").await.as_deref(), Some("1"));
    assert_eq!(asked(&fake), 3);
    tokio::time::advance(secs(1)).await;
    assert_eq!(value(&cache, "short").await, None);
    let shown = cache.get("short").allow_stale().await.expect("answered");
    assert!(shown.expect("it is shown").stale);
    cache.get("short").allow_stale().await.expect("answered");
    assert_eq!(asked(&fake), 6, "a stale value is not kept");
    value(&cache, "long").await;
    assert_eq!(asked(&fake), 6);
    tokio::time::advance(secs(11)).await;
    value(&cache, "long").await;
    assert_eq!(asked(&fake), 7);
}

#[tokio::test(start_paused = true)]
async fn only_so_much_is_kept() {
    let fake = Fake::start(1);
    let cache = near(&fake, NearOptions::new().bytes_max(10_000)).await;
    let large = "x".repeat(1_000);
    for key in 0..50 {
        fake.state.set_cache(&key.to_string(), &large, minute(&["t"]));
    }
    settle().await;
    for key in 0..50 {
        value(&cache, &key.to_string()).await;
    }
    let before = cache.counters().near_hits;
    for key in 0..50 {
        value(&cache, &key.to_string()).await;
    }
    let hits = cache.counters().near_hits - before;
    assert!(hits <= 10, "{hits} of 1 kB fit into 10 kB");
    // What does not fit at all is read all the same.
    fake.state.set_cache("huge", &"x".repeat(20_000), minute(&[]));
    settle().await;
    assert!(value(&cache, "huge").await.is_some());
    assert!(value(&cache, "huge").await.is_some());
}
