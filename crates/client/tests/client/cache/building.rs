//! Who builds a value, and what becomes of the others.

use super::*;
use tokio::sync::Notify;

/// A builder that counts, and takes this long.
fn counted(
    builds: &Arc<AtomicU32>,
    takes: Duration,
) -> impl FnMut() -> futures::future::BoxFuture<'static, Result<String, String>> + Send + 'static + use<>
{
    let builds = Arc::clone(builds);
    move || {
        let nth = builds.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            Ok(format!("build {nth}"))
        })
    }
}

fn options() -> BuildOptions {
    BuildOptions::new().ttl(secs(60)).stale_for(secs(60)).tags(["t"]).build_lease(secs(10))
}

#[tokio::test(start_paused = true)]
async fn of_many_at_once_one_builds_and_one_asks() {
    let fake = Fake::start(3);
    let client = fake.client();
    let builds = Arc::default();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            // Each its own handle: it is the client that counts.
            let (cache, build) = (client.cache(), counted(&builds, secs(1)));
            tokio::spawn(async move { cache.get_or_build("k", options(), build).await })
        })
        .collect();
    for asked in asking {
        let value = asked.await.expect("no panic").expect("built");
        assert_eq!((&value.value[..], value.stale), (&b"build 1"[..], false));
        assert_eq!((value.source, value.revision), (Source::Built, 1_001));
    }
    assert_eq!(builds.load(Ordering::Relaxed), 1);
    assert_eq!(calls(&fake, "get_or_build").len(), 1);
    let policy = "CachePolicy { ttl_ms: Some(60000), stale_for_ms: 60000, tags: [\"t\"] }";
    let fill = format!("fill b\"k\" lease 1 b\"build 1\" Some({policy})");
    assert_eq!(calls(&fake, "fill"), [fill]);
    let counters = client.cache().counters();
    assert_eq!((counters.builds, counters.waits, counters.misses), (1, 49, 1));

    // By now it is there.
    let build = counted(&builds, secs(1));
    let value = client.cache().get_or_build("k", options(), build).await.expect("found");
    assert_eq!(value.source, Source::Cluster);
    assert_eq!(builds.load(Ordering::Relaxed), 1);
    assert_eq!(calls(&fake, "end_build"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn another_client_waits_in_the_cluster() {
    let fake = Fake::start(3);
    let builds = Arc::default();
    let cache = fake.client().cache();
    let other = fake.options().seed(2).connect().expect("good options").cache();
    let (one, two) = tokio::join!(
        cache.get_or_build("k", options(), counted(&builds, secs(5))),
        other.get_or_build("k", options(), counted(&builds, secs(5))),
    );
    assert_eq!(one.expect("built").source, Source::Built);
    assert_eq!(two.expect("found").source, Source::Cluster);
    assert_eq!(builds.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_fails_tells_its_caller_and_those_who_wait() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let other = fake.options().seed(2).connect().expect("good options").cache();
    let build = || async {
        tokio::time::sleep(secs(1)).await;
        Err::<&str, _>(std::io::Error::other("no database"))
    };
    let (own, waits, elsewhere) = tokio::join!(
        cache.get_or_build("k", options(), build),
        cache.get_or_build("k", options(), build),
        other.get_or_build("k", options(), build),
    );
    let own = own.expect_err("it failed");
    assert!(matches!(&own, BuildError::Build(error) if error.to_string() == "no database"));
    for error in [waits, elsewhere] {
        let error = error.expect_err("it failed");
        assert!(matches!(&error, BuildError::BuildFailed(why) if why == "no database"), "{error}");
    }
    assert_eq!(calls(&fake, "end_build"), ["end_build b\"k\" lease 1 Some(\"no database\")"]);
    assert_eq!(cache.get("k").await.expect("answered"), None, "a failure is no value");
    // The next one tries.
    let value = cache.get_or_build("k", options(), counted(&Arc::default(), secs(0))).await;
    assert_eq!(&value.expect("built").value[..], b"build 1");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_hands_the_task_on() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let builds = Arc::default();
    let leads = {
        let (cache, build) = (cache.clone(), counted(&builds, secs(5)));
        tokio::spawn(async move { cache.get_or_build("k", options(), build).await })
    };
    tokio::time::sleep(secs(1)).await;
    let waits = {
        let (cache, build) = (cache.clone(), counted(&builds, secs(1)));
        tokio::spawn(async move { cache.get_or_build("k", options(), build).await })
    };
    tokio::time::sleep(secs(1)).await;
    let dropped_at = tokio::time::Instant::now();
    leads.abort();
    let value = waits.await.expect("no panic").expect("built");
    assert_eq!(&value.value[..], b"build 2");
    assert_eq!(dropped_at.elapsed(), secs(1), "nobody waits for the first lease to end");
    assert_eq!(calls(&fake, "end_build"), ["end_build b\"k\" lease 1 None"]);

    // Before it was given the task: it is given back when it comes.
    fake.script("cache_get_or_build", [Act::AnswerAfter(secs(1))]);
    let asks = {
        let (cache, build) = (cache.clone(), counted(&builds, secs(1)));
        tokio::spawn(async move { cache.get_or_build("l", options(), build).await })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    asks.abort();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(calls(&fake, "end_build").len(), 2);
    assert_eq!(builds.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_builder_that_panics_gives_the_task_back() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let task = {
        let cache = cache.clone();
        let build = || async {
            let nothing: Vec<&str> = Vec::new();
            Ok::<_, String>(*nothing.first().expect("planted"))
        };
        tokio::spawn(async move { cache.get_or_build("k", options(), build).await })
    };
    task.await.expect_err("it panicked");
    let value = cache.get_or_build("k", options(), counted(&Arc::default(), secs(0))).await;
    assert_eq!(&value.expect("built").value[..], b"build 1");
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_built_again() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let builds = Arc::<AtomicU32>::default();
    let build = {
        let (builds, state) = (Arc::clone(&builds), Arc::clone(&fake.state));
        move || {
            let nth = builds.fetch_add(1, Ordering::Relaxed) + 1;
            let state = Arc::clone(&state);
            async move {
                if nth == 1 {
                    // Somebody changes what was read.
                    state.invalidate_tag("t");
                }
                Ok::<_, String>(format!("build {nth}"))
            }
        }
    };
    let value = cache.get_or_build("k", options(), build).await.expect("built");
    assert_eq!(&value.value[..], b"build 2");
    assert_eq!(calls(&fake, "fill").len(), 2);
    assert_eq!(calls(&fake, "end_build"), [""; 0]);

    // One that never comes in time is not tried for ever, and never answered.
    let slow = counted(&builds, secs(11));
    let error = cache.get_or_build("slow", options(), slow).await.expect_err("too slow");
    assert!(matches!(error, BuildError::Client(Error::BuildLeaseLost { .. })), "{error:?}");
    assert_eq!(builds.load(Ordering::Relaxed), 2 + 3);
    assert_eq!(cache.get("slow").await.expect("answered"), None);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_stored_is_not_answered() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    fake.script("cache_fill", [fail(Code::ResourceExhausted, NOT_APPLIED, "LIMIT_EXCEEDED")]);
    let build = counted(&Arc::default(), secs(0));
    let error = cache.get_or_build("k", options(), build).await.expect_err("too large");
    assert!(matches!(error, BuildError::Client(Error::ResourceExhausted { .. })), "{error:?}");
    tokio::time::sleep(secs(1)).await;
    assert_eq!(calls(&fake, "end_build"), ["end_build b\"k\" lease 1 None"]);
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_is_asked_again_until_there_is_room() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let full = || fail(Code::ResourceExhausted, NOT_APPLIED, "CACHE_FULL");
    fake.script("cache_fill", [full(), full(), full()]);
    let builds = Arc::default();
    let value = cache.get_or_build("k", options(), counted(&builds, secs(0))).await;
    assert_eq!(&value.expect("there is room at last").value[..], b"build 1");
    fake.script("cache_set", [full(), full()]);
    cache.set("k", "v").await.expect("there is room at last");

    // There never is.
    fake.script("cache_set", std::iter::repeat_with(full).take(200));
    let begun = tokio::time::Instant::now();
    let error = cache.set("k", "v").timeout(secs(2)).await.expect_err("full");
    assert!(matches!(error, Error::ResourceExhausted { .. }), "{error:?}");
    assert!(begun.elapsed() <= secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_shown_while_one_rebuilds() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    fake.state.set_cache("k", "old", minute(&[]));
    tokio::time::advance(secs(61)).await;
    let builds = Arc::default();
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        let value = cache.get_or_build("k", options(), counted(&builds, secs(5))).await;
        let value = value.expect("shown");
        assert_eq!((&value.value[..], value.stale), (&b"old"[..], true));
    }
    assert_eq!(begun.elapsed(), secs(0), "nobody waits");
    // Who wants the new one waits for it.
    let fresh = options().fresh_only();
    let value = cache.get_or_build("k", fresh, counted(&builds, secs(5))).await.expect("built");
    assert_eq!((&value.value[..], value.source), (&b"build 1"[..], Source::Cluster));
    assert_eq!(begun.elapsed(), secs(5));
    assert_eq!(builds.load(Ordering::Relaxed), 1);
    assert_eq!(cache.counters().stale_hits, 3);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_are_rebuilt_at_once() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let builds = Arc::default();
    for key in 0..70 {
        fake.state.set_cache(&key.to_string(), "old", minute(&[]));
    }
    tokio::time::advance(secs(61)).await;
    for key in 0..70 {
        let build = counted(&builds, secs(5));
        let value = cache.get_or_build(key.to_string(), options(), build).await.expect("shown");
        assert!(value.stale);
    }
    tokio::time::sleep(secs(6)).await;
    assert_eq!(builds.load(Ordering::Relaxed), 64);
    assert_eq!(calls(&fake, "fill").len(), 64);
    assert_eq!(calls(&fake, "end_build").len(), 6, "somebody else may do it");
}

#[tokio::test(start_paused = true)]
async fn what_began_before_an_own_write_does_not_answer_who_came_after() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let builds = Arc::default();
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    // A flight that is under way, with a builder that waits for us.
    let first = {
        let (cache, begun, go_on) = (cache.clone(), Arc::clone(&begun), Arc::clone(&go_on));
        let build = move || {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            async move {
                begun.notify_one();
                go_on.notified().await;
                Ok::<_, String>("before")
            }
        };
        tokio::spawn(async move { cache.get_or_build("l", options(), build).await })
    };
    begun.notified().await;
    // Something else changes, and this client is told of it by somebody who is ahead.
    let revision = fake.state.set_cache("other", "1", minute(&[])) + 5;
    fake.state.script_cache_get("x", &[], revision);
    cache.get("x").await.expect("answered");
    assert_eq!(cache.seen_revision(), revision);
    let second = {
        let (cache, build) = (cache.clone(), counted(&builds, secs(0)));
        tokio::spawn(async move { cache.get_or_build("l", options(), build).await })
    };
    tokio::time::sleep(secs(1)).await;
    assert_eq!(cache.counters().waits, 1);
    go_on.notify_one();
    let before = first.await.expect("no panic").expect("built").revision;
    assert!(before < revision);
    // What it waited for is not new enough, so it asks for itself, for what it has seen.
    second.await.expect("no panic").expect("answered");
    let asked = calls(&fake, "get_or_build");
    assert_eq!(asked.len(), 2);
    assert!(asked[1].contains(&format!("min {revision}")), "{asked:?}");
}
