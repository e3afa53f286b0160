//! How fast messages go through a hub and three routers. It prints what it measures:
//! `cargo test --release -p quorate-bus --test speed -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a refusal here fails the test")]

use quorate_bus::{
    Content, Epoch, Hub, HubLimits, LinkId, Outbox, OutboxOptions, Position, Router, RouterLimits,
    Selector, SlowPolicy,
};
use quorate_state::NodeId;
use std::sync::Arc;
use std::time::Instant;

const NODES: u64 = 3;
const MESSAGES: usize = 200_000;
/// Messages between two takes, as a busy link has them.
const BATCH: usize = 100;
const LINK: LinkId = LinkId(1);

/// Publishes on many channels to so many subscribers of each on each node; returns deliveries.
#[allow(clippy::print_stderr, reason = "the figures are for whoever runs it")]
fn run(what: &str, subscribers: usize, pattern: impl Fn(usize) -> String, group: Option<&str>) {
    let mut hub = Hub::new(Epoch(1), HubLimits::default());
    let mut routers = Vec::new();
    let mut outboxes: Vec<Arc<Outbox>> = Vec::new();
    let options =
        OutboxOptions { messages_max: 2_000, bytes_max: 1 << 24, policy: SlowPolicy::DropOldest };
    for node in 1..=NODES {
        drop(hub.link(NodeId(node), LINK, None).unwrap());
        let mut router = Router::new(RouterLimits::default());
        router.new_epoch(Epoch(1), Position(0));
        for number in 0..subscribers {
            let selector = Selector::parse(&pattern(number)).unwrap();
            let one = router.subscribe("", &[selector], group, options).unwrap();
            let place = hub.set_interest(NodeId(node), LINK, &one.changes).unwrap();
            assert!(router.confirm(one.id, place));
            outboxes.push(one.outbox);
        }
        routers.push((NodeId(node), router));
    }
    let content = Content { payload: vec![7; 256].into(), ..Content::default() };
    let channels: Vec<String> = (0..100).map(|number| format!("user.{number}.created")).collect();
    let mut delivered = 0;
    let begin = Instant::now();
    for batch in 0..MESSAGES / BATCH {
        for number in 0..BATCH {
            let channel = &channels[(batch + number) % channels.len()];
            hub.publish("", channel, content.clone()).unwrap();
        }
        for (node, router) in &mut routers {
            let taken = hub.take(*node, LINK, 1 << 20, 2 * BATCH).unwrap();
            assert!(taken.lost.is_empty() && !taken.more);
            for delivery in &taken.deliveries {
                delivered += router.deliver(delivery).subscribers;
            }
            router.advance(taken.through);
        }
        for outbox in &outboxes {
            outbox.take(usize::MAX, usize::MAX);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!(
        "{what}: {:.0} messages/s, {:.0} deliveries/s",
        MESSAGES as f64 / seconds,
        delivered as f64 / seconds
    );
    // A machine that is busy with other things is slow, but not that slow.
    assert!(seconds < 60.0);
}

#[test]
fn many_messages_go_through() {
    run("one subscriber on each of 3 nodes", 1, |_| "user.*".into(), None);
    run(
        "100 subscribers to a channel each, on each of 3 nodes",
        100,
        |n| format!("user.{n}.*"),
        None,
    );
    run("100 subscribers to all, on each of 3 nodes", 100, |_| "user.*".into(), None);
    run("a group with 10 members on each of 3 nodes", 10, |_| "user.*".into(), Some("g"));
}
