//! What is sent, and what an answer becomes.

use super::*;

#[tokio::test(start_paused = true)]
async fn all_that_is_said_of_an_entry_is_sent_and_told() {
    let fake = Fake::start(1);
    let cache = fake.client().cache_in("ns");
    let set = cache.set("k", "v").ttl(Duration::from_micros(1_500)).stale_for(secs(2));
    let written = set.tag("b").tags(["a", "c"]).await.expect("set");
    assert_eq!(written.revision, 1_001);
    let policy = "CachePolicy { ttl_ms: Some(2), stale_for_ms: 2000, tags: [\"b\", \"a\", \"c\"] }";
    assert_eq!(calls(&fake, "set"), [format!("set ns/b\"k\" b\"v\" Some({policy})")]);

    fake.state.set_cache("k", "w", minute(&["t"]));
    let entry = cache.get("k").await.expect("answered").expect("it is there");
    assert_eq!((&entry.value[..], entry.mod_revision, entry.revision), (&b"w"[..], 1_002, 1_002));
    assert_eq!((entry.remaining_ttl, entry.stale), (Some(secs(60)), false));
    assert_eq!(entry.tags, ["t"]);
    tokio::time::advance(secs(61)).await;
    assert_eq!(cache.get("k").await.expect("answered"), None);
    let stale = cache.get("k").allow_stale().await.expect("answered").expect("it is shown");
    assert!(stale.stale);

    let touched = cache.touch("k").ttl(secs(1)).await.expect("touched");
    assert!(touched.found);
    assert!(!cache.touch("none").await.expect("touched").found);
    assert_eq!(calls(&fake, "touch"), ["touch b\"k\" Some(1000)", "touch b\"none\" None"]);
    assert!(cache.delete("k").await.expect("deleted").deleted);
    assert!(!cache.delete("k").await.expect("deleted").deleted);
    let written = cache.invalidate_tags(["a", "b"]).await.expect("invalidated");
    assert_eq!(written.revision, 1_005);
    assert_eq!(calls(&fake, "invalidate_tags"), ["invalidate_tags [\"a\", \"b\"]"]);
    assert_eq!(cache.resize(1 << 20).await.expect("resized").previous_bytes_max, 7);
    let stats = cache.stats().await.expect("answered");
    assert_eq!((stats.entries, stats.bytes, stats.bytes_max, stats.builds), (1, 2, 3, 4));
    assert_eq!((stats.hits, stats.stale_hits, stats.misses, stats.evicted), (5, 6, 7, 8));
    assert_eq!((stats.revision, stats.node_id), (9, 10));
    let found = CacheCounters::default();
    let counters = cache.counters();
    assert_ne!(counters, found);
    assert_eq!((counters.server_hits, counters.stale_hits, counters.misses), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pattern_is_deleted_step_by_step() {
    let fake = Fake::start(1);
    let done = fake.client().cache().delete_pattern("a*").step_keys(5).await.expect("deleted");
    assert_eq!((done.deleted, done.steps, done.revision), (3, 3, 1_003));
    let asked = calls(&fake, "delete_pattern");
    assert!(asked[0].contains("Pattern(b\"a*\")") && asked[0].ends_with("b\"\" 5"), "{asked:?}");
    assert!(asked[2].ends_with("b\"2\" 5"), "{asked:?}");
    fake.client().cache().delete_prefix("a").await.expect("deleted");
    assert!(calls(&fake, "delete_pattern")[3].contains("Prefix(b\"a\")"));
}

#[tokio::test(start_paused = true)]
async fn a_mutation_has_a_name_and_perhaps_a_guard() {
    let fake = Fake::start(3);
    let cache = fake.client().cache();
    fake.script("cache_set", [Act::DoThenCut]);
    let held = LockGuard { name: "l".to_owned(), fencing_token: 7 };
    cache.set("k", "v").guard(&held).await.expect("the second try");
    let seen = fake.seen("cache_set");
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| (seen.origin.session_id, seen.origin.sequence) == (1, 1)));
    assert!(seen.iter().all(|seen| seen.origin.guard.as_ref().is_some_and(|it| it.name == "l")));
    cache.invalidate_tags(["t"]).idempotency_key("once").await.expect("invalidated");
    assert_eq!(&fake.seen("cache_invalidate_tags")[0].origin.idempotency_key[..], b"once");

    // That it was full is what is remembered of that request: the next one is another.
    fake.script("cache_set", [fail(Code::ResourceExhausted, NOT_APPLIED, "CACHE_FULL")]);
    cache.set("k", "v").await.expect("there is room at last");
    let numbers = fake.seen("cache_set").into_iter().map(|seen| seen.origin.sequence);
    assert!(numbers.skip(2).is_sorted_by(|one, next| one < next));
    // Under a name that the caller chose it can't be another.
    fake.script("cache_set", [fail(Code::ResourceExhausted, NOT_APPLIED, "CACHE_FULL")]);
    let error = cache.set("k", "v").idempotency_key("mine").await.expect_err("it is full");
    assert!(matches!(error, Error::ResourceExhausted { .. }), "{error:?}");
    assert_eq!(error.reason(), "CACHE_FULL");
}

#[tokio::test(start_paused = true)]
async fn a_read_sees_all_that_its_client_knows_of() {
    let fake = Fake::start(3);
    let client = fake.client();
    let cache = client.cache();
    cache.get("k").await.expect("answered");
    assert_eq!(calls(&fake, "get"), ["get /k Stale min 0 stale false"]);
    assert_eq!(cache.seen_revision(), 1_000, "a read shows something, too");

    // Of another service, which is behind: it does not go back.
    client.kv().get("n").await.expect("answered");
    assert_eq!(cache.seen_revision(), 1_000);
    let revision = cache.set("k", "v").await.expect("set").revision;
    cache.get("k").await.expect("answered");
    // What only others know of is not seen, unless it is said.
    let others = fake.state.invalidate_tag("t");
    cache.get("k").min_revision(7).await.expect("answered");
    cache.get("k").min_revision(others + 5).await.expect("answered");
    cache.get("k").linearizable().await.expect("answered");
    client.cache_in("elsewhere").get("k").await.expect("answered");
    let asked = calls(&fake, "get");
    assert_eq!(
        asked[1..],
        [
            format!("get /k Stale min {revision} stale false"),
            format!("get /k Stale min {revision} stale false"),
            format!("get /k Stale min {} stale false", others + 5),
            "get /k Linearizable min 0 stale false".to_owned(),
            "get elsewhere/k Stale min 0 stale false".to_owned(),
        ]
    );

    // A repetition is the same request, or it could not be told from another one.
    fake.script("cache_get_or_build", [Act::DoThenCut]);
    let build = || async { Ok::<_, String>("built") };
    let built = cache.get_or_build("new", BuildOptions::new(), build).await.expect("built");
    let asked = calls(&fake, "get_or_build");
    assert_eq!(asked[0], format!("get_or_build b\"new\" lease 30000 min {others} fresh false"));
    assert_eq!(asked[0], asked[1]);
    assert_eq!(cache.seen_revision(), built.revision);
}

#[tokio::test(start_paused = true)]
async fn typed_values_are_json() {
    let fake = Fake::start(1);
    let cache = fake.client().cache();
    let typed = cache.typed::<Vec<u32>>();
    typed.set("k", &vec![1, 2]).expect("it is JSON").ttl(secs(60)).await.expect("set");
    assert_eq!(typed.get("k").await.expect("answered"), Some(vec![1, 2]));
    assert_eq!(typed.get("none").await.expect("answered"), None);
    let build = || async { Ok::<_, String>(vec![7]) };
    let options = || BuildOptions::new().ttl(secs(60));
    assert_eq!(typed.get_or_build("b", options(), build).await, Ok(vec![7]));
    assert_eq!(typed.get_or_build("b", options(), build).await, Ok(vec![7]));
    let raw = cache.get("b").await.expect("answered").expect("it is there");
    assert_eq!(&raw.value[..], b"[7]");
    cache.set("k", "no").await.expect("set");
    assert_eq!(typed.get("k").await.expect_err("no JSON").reason(), "NOT_THE_TYPE");
    let error = typed.get_or_build("k", options(), build).await.expect_err("no JSON");
    assert!(matches!(error, BuildError::Client(Error::InvalidArgument { .. })), "{error:?}");
}
