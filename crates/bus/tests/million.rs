//! A million channels and a million patterns fit into memory, and are found without a scan.
//!
//! A test program of its own, because it counts what the whole process allocates. It prints what it
//! measures: `cargo test --release -p quorate-bus --test million -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a refusal here fails the test")]

use quorate_bus::{
    Content, Epoch, Hub, HubLimits, Interest, InterestChange, LinkId, OutboxOptions, Position,
    Router, RouterLimits, Selector, SlowPolicy,
};
use quorate_state::NodeId;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Passes on to the system, and keeps how many bytes are in use.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "only an allocator sees how much memory a table takes")]
// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(taken(size), Ordering::Relaxed);
        BYTES.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What an allocation takes with the word that the usual allocator keeps beside it.
fn taken(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

fn in_use() -> usize {
    BYTES.load(Ordering::Relaxed)
}

#[allow(clippy::print_stderr, reason = "the figures are for whoever runs it")]
fn tell(what: &str) {
    eprintln!("{what}");
}

const MILLION: usize = 1_000_000;
/// Matches that are timed, spread over the whole table.
const MATCHES: usize = 200_000;

/// Bytes that whoever runs the test may have taken meanwhile.
const OTHERS_BYTES: usize = 16 << 10;

/// The numbers below a million, far from each other one after the other.
fn scattered(number: usize) -> usize {
    number * 387_420_489 % MILLION
}

/// Fills a table, measures it, empties it.
fn table(what: &str, text: impl Fn(usize) -> String, bytes_max: usize) {
    let before = in_use();
    let mut table: Interest<u64> = Interest::default();
    for number in 0..MILLION {
        let selector = Selector::parse(&text(scattered(number))).unwrap();
        assert_eq!(table.insert("", &selector, number as u64), None);
    }
    assert_eq!(table.len(), MILLION);
    let bytes = (in_use() - before) / MILLION;
    let channels: Vec<String> =
        (0..MATCHES).map(|number| format!("user.{}.created", scattered(number))).collect();
    let begin = Instant::now();
    let mut found = 0;
    for channel in &channels {
        table.matches("", channel, |value| found += 1 + black_box(*value) / u64::MAX);
    }
    let match_ns = begin.elapsed().as_nanos() / MATCHES as u128;
    drop(channels);
    assert_eq!(found, MATCHES as u64, "each found one");
    tell(&format!("a million {what}: {bytes} bytes each, {match_ns} ns a match"));
    assert!(bytes <= bytes_max, "{bytes} bytes each");
    // Far above what it takes on a machine that is busy, and far below a scan.
    assert!(match_ns < 50_000, "{match_ns} ns");
    for number in 0..MILLION {
        let selector = Selector::parse(&text(number)).unwrap();
        assert!(table.remove("", &selector).is_some());
    }
    assert!(table.is_empty());
    let left = in_use().saturating_sub(before);
    assert!(left < OTHERS_BYTES, "an empty table holds {left} bytes");
}

/// A hub and a router with as many subscriptions, each to a channel of its own.
fn subscriptions(count: usize) {
    let before = in_use();
    let mut hub = Hub::new(Epoch(1), HubLimits::default());
    let (node, link) = (NodeId(1), LinkId(1));
    drop(hub.link(node, link, None).unwrap());
    let mut router = Router::new(RouterLimits::default());
    router.new_epoch(Epoch(1), Position(0));
    let options =
        OutboxOptions { messages_max: 10, bytes_max: 1 << 20, policy: SlowPolicy::DropOldest };
    let mut subscribed = Vec::new();
    for number in 0..count {
        let selector = Selector::parse(&format!("user.{}.created", scattered(number))).unwrap();
        let one = router.subscribe("", &[selector], None, options).unwrap();
        subscribed.push((one.id, one.outbox, one.changes));
    }
    let router_bytes = (in_use() - before) / count;
    let changes: Vec<InterestChange> =
        subscribed.iter_mut().flat_map(|(.., changes)| std::mem::take(changes)).collect();
    let before_hub = in_use();
    let place = hub.set_interest(node, link, &changes).unwrap();
    let hub_bytes = (in_use() - before_hub) / count;
    drop(changes);
    for (id, ..) in &subscribed {
        assert!(router.confirm(*id, place));
    }
    let begin = Instant::now();
    for number in 0..MATCHES {
        let channel = format!("user.{}.created", scattered(number));
        let published = hub.publish("", &channel, Content::default()).unwrap();
        assert_eq!(published.subscribers, 1);
        let taken = hub.take(node, link, 1 << 20, 1_000).unwrap();
        assert_eq!(router.deliver(&taken.deliveries[0]).subscribers, 1);
    }
    let ns = begin.elapsed().as_nanos() / MATCHES as u128;
    tell(&format!(
        "{count} subscriptions: {router_bytes} bytes each at the node (with what it says of it), \
         {hub_bytes} at the leader; {ns} ns from publish to queue"
    ));
    assert!(hub_bytes <= 200 && router_bytes <= 1_000);
    let begin = Instant::now();
    let interest = router.interest();
    assert_eq!(interest.len(), count);
    tell(&format!("all interest is listed in {} ms", begin.elapsed().as_millis()));
    let begin = Instant::now();
    let page = hub.channels("", &Selector::parse("*").unwrap(), None, 100);
    assert_eq!(page.len(), 100);
    tell(&format!("a page of channels takes {} ms", begin.elapsed().as_millis()));
    let begin = Instant::now();
    let discarded = hub.forget(node);
    tell(&format!("a node is forgotten in {} ms", begin.elapsed().as_millis()));
    drop((discarded, interest));
    for (id, ..) in subscribed {
        router.unsubscribe(id);
    }
    assert_eq!(router.subscriptions(), 0);
}

/// One after the other, because all of them count the same bytes.
#[test]
fn a_million_rows_are_small_and_fast() {
    table("channels", |number| format!("user.{number}.created"), 150);
    table("patterns user.N.*", |number| format!("user.{number}.*"), 150);
    table("patterns *.N.created", |number| format!("*.{number}.created"), 150);
    table("patterns with a wildcard inside", |number| format!("user.{number}.c*d"), 1_000);
    subscriptions(MILLION / 4);
}
