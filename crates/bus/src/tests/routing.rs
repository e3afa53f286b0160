//! Hub and routers where the model's steps are too small or too mixed to show it.

use super::{content, selector};
use crate::limits::{ALIKE_MAX, NODES_MAX, PAYLOAD_BYTES_MAX, SELECTORS_MAX};
use crate::{
    Content, Delivery, Epoch, Hub, HubLimits, InterestChange, Item, LinkId, Lost, OutboxOptions,
    Place, Position, Refusal, Router, RouterLimits, Sequence, SlowPolicy, Subscribed, Taken,
};
use quorate_state::NodeId;
use std::collections::BTreeMap;

const LINK: LinkId = LinkId(1);
const ROOMY: OutboxOptions =
    OutboxOptions { messages_max: 100_000, bytes_max: 1 << 30, policy: SlowPolicy::DropOldest };

fn hub(nodes: u64) -> Hub {
    hub_with(nodes, HubLimits::default())
}

fn hub_with(nodes: u64, limits: HubLimits) -> Hub {
    let mut hub = Hub::new(Epoch(5), limits);
    for node in 1..=nodes {
        let start = hub.link(NodeId(node), LINK, None).unwrap();
        assert!(!start.resumed);
        take(&mut hub, node);
    }
    hub
}

fn change(text: &str, group: Option<&str>, subscribers: u64) -> InterestChange {
    let (namespace, group) = ("".into(), group.map(Into::into));
    InterestChange { namespace, selector: selector(text), group, subscribers }
}

fn want(hub: &mut Hub, node: u64, text: &str, group: Option<&str>, subscribers: u64) {
    hub.set_interest(NodeId(node), LINK, &[change(text, group, subscribers)]).unwrap();
}

fn take(hub: &mut Hub, node: u64) -> Taken {
    hub.take(NodeId(node), LINK, usize::MAX, usize::MAX).unwrap()
}

fn publish(hub: &mut Hub, channel: &str) -> (Sequence, u32, u64) {
    let published = hub.publish("", channel, content(10)).unwrap();
    (published.sequence, published.nodes, published.subscribers)
}

/// A router that is linked to a hub as node 1.
fn linked(hub: &Hub) -> Router {
    let mut router = Router::new(RouterLimits::default());
    router.new_epoch(hub.epoch(), hub.position().position);
    router
}

fn subscribe(
    hub: &mut Hub,
    router: &mut Router,
    texts: &[&str],
    group: Option<&str>,
    options: OutboxOptions,
) -> Subscribed {
    let selectors: Vec<_> = texts.iter().map(|text| selector(text)).collect();
    let begun = router.subscribe("", &selectors, group, options).unwrap();
    let place = hub.set_interest(NodeId(1), LINK, &begun.changes).unwrap();
    assert!(router.confirm(begun.id, place));
    begun
}

fn carry(hub: &mut Hub, router: &mut Router) -> u64 {
    let taken = take(hub, 1);
    taken.lost.iter().for_each(|lost| router.lost(lost));
    let delivered = taken.deliveries.iter().map(|delivery| router.deliver(delivery));
    let unserved = delivered.map(|delivered| delivered.unserved).sum();
    router.advance(taken.through);
    unserved
}

#[test]
fn only_nodes_that_want_a_message_get_it() {
    let mut hub = hub(3);
    want(&mut hub, 1, "user.*", None, 2);
    want(&mut hub, 2, "user.created", None, 1);
    want(&mut hub, 2, "*.created", None, 4);
    want(&mut hub, 3, "*.moved", Some("g"), 4);
    assert_eq!(publish(&mut hub, "box.moved"), (Sequence(1), 1, 1));
    let grouped = take(&mut hub, 3).deliveries;
    assert!(!grouped[0].plain && grouped[0].groups == ["g".into()]);
    want(&mut hub, 3, "*.moved", Some("g"), 0);
    assert_eq!(hub.woken(), [NodeId(3)]);
    assert_eq!(publish(&mut hub, "user.created"), (Sequence(1), 2, 7));
    assert_eq!(publish(&mut hub, "nobody"), (Sequence(1), 0, 0));
    assert_eq!(publish(&mut hub, "user.created"), (Sequence(2), 2, 7));
    assert_eq!(hub.woken(), [NodeId(1), NodeId(2)]);
    assert_eq!(hub.woken(), []);

    let first = hub.take(NodeId(1), LINK, 1, 9).unwrap();
    assert_eq!((first.deliveries.len(), first.more), (1, true));
    assert!(first.deliveries[0].plain && first.deliveries[0].groups.is_empty());
    assert_eq!(first.through.position, Position(2));
    publish(&mut hub, "user.deleted");
    assert_eq!(hub.woken(), [], "one takes, the other was named");
    let rest = take(&mut hub, 1);
    let positions: Vec<u64> = rest.deliveries.iter().map(|one| one.message.position().0).collect();
    assert_eq!((positions, rest.through.position, rest.more), (vec![4, 5], Position(5), false));
    let nothing = take(&mut hub, 3);
    assert_eq!((nothing.deliveries.len(), nothing.through.position), (0, Position(5)));

    hub.unlink(NodeId(1), LINK);
    assert_eq!(publish(&mut hub, "user.deleted"), (Sequence(2), 0, 0), "its link is broken");
    assert_eq!(take(&mut hub, 2).deliveries.len(), 2);
    want(&mut hub, 2, "user.created", None, 0);
    want(&mut hub, 2, "*.created", None, 0);
    assert_eq!(publish(&mut hub, "user.created"), (Sequence(3), 0, 0));
    drop(hub.forget(NodeId(1)));
    assert_eq!(
        hub.take(NodeId(1), LINK, 1, 1),
        Err(Refusal::NotLinked(NodeId(1))),
        "nothing is left of it"
    );
    hub.check();
}

#[test]
fn a_link_goes_on_only_where_nothing_is_missing() {
    let limits = HubLimits { ring_messages_max: 4, ..HubLimits::default() };
    let mut hub = hub_with(2, limits);
    want(&mut hub, 1, "a", None, 1);
    want(&mut hub, 2, "b", None, 1);
    let at = |position| Some(Place::new(Epoch(5), Position(position)));
    let resumed = |hub: &mut Hub, link, place| {
        let start = hub.link(NodeId(1), LinkId(link), place).unwrap();
        (start.resumed, start.position.0)
    };
    for _ in 0..3 {
        publish(&mut hub, "a");
    }
    assert_eq!(take(&mut hub, 1).through.position, Position(3));
    // The part was lost on its way: it is still there.
    assert!(hub.unlink(NodeId(1), LINK));
    assert!(!hub.unlink(NodeId(1), LINK));
    assert_eq!(resumed(&mut hub, 2, at(1)), (true, 1));
    let taken = hub.take(NodeId(1), LinkId(2), usize::MAX, 9).unwrap();
    assert_eq!(taken.deliveries.len(), 2);
    assert!(hub.take(NodeId(1), LINK, 1, 1).is_err(), "the link was replaced");
    // What others wanted does not matter to it, but takes the room.
    for _ in 0..4 {
        publish(&mut hub, "b");
    }
    assert_eq!(resumed(&mut hub, 3, at(3)), (true, 3));
    assert_eq!(resumed(&mut hub, 4, at(2)), (false, 7), "the third is gone");
    assert_eq!(publish(&mut hub, "a"), (Sequence(4), 0, 0), "there is no interest any more");

    // Another epoch, or what never was, or a node that is not known.
    let other = Place::new(Epoch(4), Position(8));
    assert_eq!(resumed(&mut hub, 5, Some(other)), (false, 8));
    assert_eq!(resumed(&mut hub, 6, at(9)), (false, 8));
    assert_eq!(resumed(&mut hub, 7, at(7)), (false, 8), "before the link began");
    assert_eq!(resumed(&mut hub, 8, at(8)), (true, 8));
    drop(hub.forget(NodeId(1)));
    assert_eq!(resumed(&mut hub, 9, at(8)), (false, 8));
    hub.check();
}

#[test]
fn a_slow_node_loses_its_own_and_is_told() {
    let limits = HubLimits { ring_messages_max: 3, lost_rows_max: 2, ..HubLimits::default() };
    let mut hub = hub_with(2, limits);
    want(&mut hub, 1, "*", None, 1);
    want(&mut hub, 2, "z", None, 1);
    for channel in ["a", "b", "a", "z", "z", "z"] {
        publish(&mut hub, channel);
    }
    let Taken { lost, deliveries, .. } = take(&mut hub, 1);
    let counts: Vec<(String, u64, u64, u64)> = lost
        .iter()
        .map(|lost| match lost {
            Lost::Messages(lost) => {
                let (first, last) = (lost.first.position.0, lost.last.position.0);
                (lost.channel.clone(), lost.count, first, last)
            }
            Lost::Unknown { .. } => panic!("there are few"),
        })
        .collect();
    assert_eq!(counts, [("a".into(), 2, 1, 3), ("b".into(), 1, 2, 2)]);
    assert_eq!(deliveries.len(), 3);
    assert_eq!(take(&mut hub, 1).lost, [], "told once");

    for channel in ["a", "b", "c", "d", "e", "f"] {
        publish(&mut hub, channel);
    }
    let place = |position| Place::new(Epoch(5), Position(position));
    let lost = take(&mut hub, 1).lost;
    assert_eq!(lost, [Lost::Unknown { first: place(7), last: place(9) }]);
    // The other one lost what it wanted itself, and nothing else.
    let other = take(&mut hub, 2);
    assert_eq!((other.lost.len(), other.deliveries.len()), (1, 0));
    hub.check();
}

#[test]
fn large_messages_push_out_small_ones() {
    let limits = HubLimits { ring_bytes_max: 10_000, ..HubLimits::default() };
    let mut hub = hub_with(1, limits);
    want(&mut hub, 1, "*", None, 1);
    for _ in 0..5 {
        publish(&mut hub, "small");
    }
    hub.publish("", "large", content(20_000)).unwrap();
    hub.check();
    let taken = take(&mut hub, 1);
    assert_eq!((taken.lost.len(), taken.deliveries.len()), (1, 1));
}

#[test]
fn sequences_have_no_hole_while_counters_are_kept_and_never_go_back() {
    let limits = HubLimits { counters_max: 3, ..HubLimits::default() };
    let mut hub = hub_with(1, limits);
    let mut next = |channel: &str| publish(&mut hub, channel).0.0;
    assert_eq!([next("a"), next("a"), next("b"), next("a")], [1, 2, 1, 3]);
    // `a` moves to the newer generation each time before its own would be dropped.
    for round in 0..20 {
        assert_eq!(next("a"), 4 + round);
        for other in 0..3 {
            next(&format!("{round}.{other}"));
        }
    }
    // Long gone, and the highest that was dropped was at least its own.
    let again = next("b");
    assert!(again > 1);
    assert_eq!(next("b"), again + 1);
    // What was dropped last was `a`.
    for other in 0..9 {
        next(&format!("other.{other}"));
    }
    assert!(next("a") > 23);
    assert!(next("new") > 23, "nothing begins below what was dropped");
    hub.check();
    let other = hub.publish("other", "a", content(1)).unwrap();
    assert!(other.sequence > Sequence(23), "a channel of another namespace is another one");
}

#[test]
fn groups_are_served_by_turns_in_proportion() {
    let mut hub = hub(3);
    for (node, members) in [(1, 1), (2, 2), (3, 5)] {
        want(&mut hub, node, "jobs.*", Some("g"), members);
    }
    let serve = |hub: &mut Hub, channel: &str| {
        assert_eq!(publish(hub, channel).1, 1, "one node only");
        let served = (1..=3).filter(|node| !take(hub, *node).deliveries.is_empty());
        served.collect::<Vec<u64>>()[0]
    };
    let served: Vec<u64> = (0..80).map(|_| serve(&mut hub, "jobs.a")).collect();
    for eight in served.chunks(8) {
        let count = |node| eight.iter().filter(|other| **other == node).count();
        assert_eq!([count(1), count(2), count(3)], [1, 2, 5], "{eight:?}");
        // Mixed: nobody waits for all members of another node.
        assert!(eight.windows(4).all(|four| four.iter().any(|node| *node != 3)), "{eight:?}");
    }
    // Some messages can only go to node 3; the others still go to all.
    want(&mut hub, 3, "more", Some("g"), 5);
    let mut counts = BTreeMap::new();
    for _ in 0..160 {
        assert_eq!(serve(&mut hub, "more"), 3);
        *counts.entry(serve(&mut hub, "jobs.a")).or_insert(0) += 1;
    }
    assert!(counts[&1] >= 15 && counts[&2] >= 30, "{counts:?}");

    // A selector more of the same members weighs alike on all nodes; another group is another.
    want(&mut hub, 1, "jobs.a", Some("other"), 1);
    assert!(hub.publish("", "jobs.a", content(1)).unwrap().subscribers == 2);
    for node in 1..=3 {
        take(&mut hub, node);
    }
    // A node whose link is broken is passed over, unless there is no other.
    hub.unlink(NodeId(3), LINK);
    for _ in 0..20 {
        assert_eq!(publish(&mut hub, "jobs.b"), (hub_sequence(&hub, "jobs.b"), 1, 1));
    }
    assert_eq!(publish(&mut hub, "more").1, 0);
    let start = hub.link(NodeId(3), LINK, Some(hub.position())).unwrap();
    assert!(!start.resumed, "it had not taken that far");
    hub.check();
}

fn hub_sequence(hub: &Hub, channel: &str) -> Sequence {
    let rows = hub.channels("", &selector(channel), None, 1);
    rows[0].last_sequence.unwrap()
}

#[test]
fn members_of_a_node_are_served_by_turns() {
    let mut hub = hub(1);
    let mut router = linked(&hub);
    let small = OutboxOptions { messages_max: 2, ..ROOMY };
    let first = subscribe(&mut hub, &mut router, &["jobs.*"], Some("g"), ROOMY);
    let second = subscribe(&mut hub, &mut router, &["jobs.a", "*.a"], Some("g"), small);
    let third = subscribe(&mut hub, &mut router, &["jobs.*"], Some("g"), ROOMY);
    let plain = subscribe(&mut hub, &mut router, &["*", "jobs.*", "*.a"], None, ROOMY);
    let lens = |taken: bool| {
        let boxes = [&first.outbox, &second.outbox, &third.outbox];
        let items = boxes.map(|outbox| outbox.take(usize::MAX, usize::MAX).len());
        assert!(taken || items == [0; 3]);
        items
    };
    for _ in 0..6 {
        publish(&mut hub, "jobs.a");
    }
    assert_eq!(carry(&mut hub, &mut router), 0);
    assert_eq!(lens(true), [2, 2, 2]);
    for _ in 0..6 {
        publish(&mut hub, "jobs.b");
    }
    carry(&mut hub, &mut router);
    assert_eq!(lens(true), [3, 0, 3], "the second does not want those");
    for _ in 0..10 {
        publish(&mut hub, "jobs.a");
    }
    carry(&mut hub, &mut router);
    assert_eq!(lens(true), [4, 2, 4], "the second has no room for more");
    assert_eq!(plain.outbox.take(usize::MAX, usize::MAX).len(), 22, "each once");

    // All are full: it is one member's gap.
    for one in [&first, &third] {
        let changes = router.unsubscribe(one.id);
        hub.set_interest(NodeId(1), LINK, &changes).unwrap();
    }
    for _ in 0..5 {
        publish(&mut hub, "jobs.a");
    }
    carry(&mut hub, &mut router);
    let items = second.outbox.take(usize::MAX, usize::MAX);
    assert!(matches!(items[..], [Item::Gap(gap), _, _] if gap.missed == Some(3)), "{items:?}");

    // The last one goes while a message is on its way: nobody is served.
    publish(&mut hub, "jobs.a");
    let changes = router.unsubscribe(second.id);
    assert_eq!(carry(&mut hub, &mut router), 1);
    hub.set_interest(NodeId(1), LINK, &changes).unwrap();
    assert_eq!(publish(&mut hub, "jobs.a").2, 3, "the plain one, by three selectors");
    hub.check();
    router.check();
}

#[test]
fn what_a_router_asks_for_is_what_it_has() {
    let mut router = Router::new(RouterLimits::default());
    let mut subscribe = |texts: &[&str], group: Option<&str>| {
        let selectors: Vec<_> = texts.iter().map(|text| selector(text)).collect();
        router.subscribe("", &selectors, group, ROOMY).unwrap()
    };
    let first = subscribe(&["b", r"\b", "a.*", "a.**"], None);
    assert_eq!(first.changes, [change("a.*", None, 1), change("b", None, 1)], "each once");
    let second = subscribe(&["b"], None);
    assert_eq!(second.changes, [change("b", None, 2)]);
    let third = subscribe(&["b"], Some("g"));
    assert_eq!(third.changes, [change("b", Some("g"), 1)]);
    let all = [change("a.*", None, 1), change("b", None, 2), change("b", Some("g"), 1)];
    assert_eq!(router.interest(), all);
    assert_eq!(router.unsubscribe(first.id), [change("a.*", None, 0), change("b", None, 1)]);
    assert_eq!(router.unsubscribe(first.id), []);
    assert_eq!(router.unsubscribe(second.id), [change("b", None, 0)]);
    assert_eq!(router.unsubscribe(third.id), [change("b", Some("g"), 0)]);
    assert_eq!((router.interest(), router.subscriptions()), (vec![], 0));
    router.check();
}

#[test]
fn a_subscription_is_live_from_where_it_is_confirmed() {
    let mut hub = hub(1);
    let mut router = linked(&hub);
    let early = subscribe(&mut hub, &mut router, &["a"], None, ROOMY);
    let late = router.subscribe("", &[selector("a")], None, ROOMY).unwrap();
    publish(&mut hub, "a");
    let start = hub.set_interest(NodeId(1), LINK, &late.changes).unwrap();
    publish(&mut hub, "a");
    assert_eq!(late.outbox.position(), None);
    assert!(router.confirm(late.id, start));
    assert!(router.confirm(late.id, start), "once more changes nothing");
    assert_eq!(late.outbox.position(), Some(start));
    carry(&mut hub, &mut router);
    assert_eq!(early.outbox.take(usize::MAX, 9).len(), 2);
    let items = late.outbox.take(usize::MAX, 9);
    assert!(matches!(&items[..], [Item::Message(message)] if message.position() == Position(2)));
    // Both are as far as the router, although the last message was not for them.
    publish(&mut hub, "b");
    carry(&mut hub, &mut router);
    assert_eq!(router.position(), Some(hub.position()));
    assert_eq!(late.outbox.position(), Some(hub.position()));

    // What comes again, because a link was resumed, is not delivered again.
    let before = hub.position();
    publish(&mut hub, "a");
    let again = take(&mut hub, 1);
    for _ in 0..2 {
        for delivery in &again.deliveries {
            router.deliver(delivery);
        }
    }
    router.advance(again.through);
    assert_eq!(late.outbox.position(), Some(before), "there is something to take");
    assert_eq!(late.outbox.take(usize::MAX, 9).len(), 1);

    // Confirmed too late: something may have been delivered in between.
    let tardy = router.subscribe("", &[selector("a")], None, ROOMY).unwrap();
    let start = hub.set_interest(NodeId(1), LINK, &tardy.changes).unwrap();
    publish(&mut hub, "a");
    carry(&mut hub, &mut router);
    assert!(router.confirm(tardy.id, start));
    let items = tardy.outbox.take(usize::MAX, 9);
    assert!(matches!(items[..], [Item::Gap(gap)] if gap.missed.is_none()), "{items:?}");
    // By a leader that is not followed any more: not at all.
    router.new_epoch(Epoch(6), Position(0));
    let other = router.subscribe("", &[selector("a")], None, ROOMY).unwrap();
    assert!(!router.confirm(other.id, hub.position()));
}

#[test]
fn another_epoch_leaves_a_gap_and_nothing_of_the_one_before() {
    let mut hub = hub(1);
    let mut router = linked(&hub);
    let one = subscribe(&mut hub, &mut router, &["a"], None, ROOMY);
    publish(&mut hub, "a");
    let old: Vec<Delivery> = take(&mut hub, 1).deliveries;

    let mut hub = Hub::new(Epoch(6), HubLimits::default());
    hub.link(NodeId(1), LINK, router.position()).unwrap();
    router.lapse();
    assert_eq!(router.position(), None, "a link can't go on before all is told");
    let mut hasty = linked(&Hub::new(Epoch(5), HubLimits::default()));
    let two = hasty.subscribe("", &[selector("a")], None, ROOMY).unwrap();
    assert!(hasty.confirm(two.id, Place::new(Epoch(5), Position(0))));
    let interest = router.interest();
    hub.set_interest(NodeId(1), LINK, &interest).unwrap();
    publish(&mut hub, "a");
    // Confirmed by the new leader before the others are live again.
    let new = subscribe(&mut hub, &mut router, &["a"], None, ROOMY);
    publish(&mut hub, "a");
    let taken = take(&mut hub, 1);
    for delivery in &taken.deliveries {
        router.deliver(delivery);
        assert_eq!(hasty.deliver(delivery).subscribers, 0, "it is live in the epoch before");
    }
    router.advance(taken.through);
    assert!(one.outbox.take(usize::MAX, 9).is_empty(), "it is not live");
    assert_eq!(new.outbox.take(usize::MAX, 9).len(), 1);
    let start = hub.position();
    router.new_epoch(start.epoch, start.position);
    assert!(old.iter().all(|delivery| router.deliver(delivery).subscribers == 0));
    publish(&mut hub, "a");
    carry(&mut hub, &mut router);
    let items = one.outbox.take(usize::MAX, 9);
    let [Item::Gap(gap), Item::Message(message)] = &items[..] else { panic!("{items:?}") };
    assert_eq!((gap.missed, gap.through), (None, start));
    assert_eq!(message.position(), Position(3));
    let items = new.outbox.take(usize::MAX, 9);
    assert!(matches!(items[..], [Item::Message(_)]), "no gap: {items:?}");
}

#[test]
fn a_lapse_in_an_epoch_leaves_a_gap_too() {
    let mut hub = hub(1);
    let mut router = linked(&hub);
    let one = subscribe(&mut hub, &mut router, &["a"], None, ROOMY);
    publish(&mut hub, "a");
    carry(&mut hub, &mut router);
    assert_eq!(one.outbox.take(usize::MAX, 9).len(), 1);
    let before = hub.position();
    assert_eq!(one.outbox.position(), Some(before));

    drop(hub.forget(NodeId(1)));
    publish(&mut hub, "a");
    assert!(!hub.link(NodeId(1), LINK, router.position()).unwrap().resumed);
    router.lapse();
    carry(&mut hub, &mut router);
    assert_eq!(
        one.outbox.position(),
        Some(before),
        "the link is there, and what was missed is not"
    );
    let start = hub.set_interest(NodeId(1), LINK, &router.interest()).unwrap();
    publish(&mut hub, "a");
    router.new_epoch(start.epoch, start.position);
    carry(&mut hub, &mut router);
    let items = one.outbox.take(usize::MAX, 9);
    assert!(matches!(items[..], [Item::Gap(gap), Item::Message(_)] if gap.missed.is_none()));
    assert_eq!(one.outbox.position(), Some(hub.position()));
    assert_eq!(router.position(), Some(hub.position()));
}

#[test]
fn what_was_missed_is_counted_as_far_as_it_is_known() {
    let limits =
        HubLimits { journal_messages_max: 100, missed_messages_max: 50, ..HubLimits::default() };
    let mut hub = hub_with(1, limits);
    for number in 0..150 {
        publish(&mut hub, if number % 3 == 0 { "a.x" } else { "b" });
    }
    hub.publish("other", "a.x", content(1)).unwrap();
    let missed = |texts: &[&str], epoch, after, through| {
        let selectors: Vec<_> = texts.iter().map(|text| selector(text)).collect();
        hub.missed("", &selectors, Place::new(Epoch(epoch), Position(after)), Position(through))
    };
    assert_eq!(missed(&["a.*"], 5, 120, 150), Some(10));
    assert_eq!(missed(&["a.*", "a.x", "*"], 5, 120, 150), Some(30), "each once");
    assert_eq!(missed(&["*"], 5, 120, 151), Some(30), "the other namespace does not count");
    assert_eq!(missed(&["*"], 5, 120, 900), Some(30), "nothing is above the newest");
    assert_eq!(missed(&["*"], 5, 151, 151), Some(0));
    assert_eq!(missed(&["*"], 4, 120, 150), None, "another epoch");
    assert_eq!(missed(&["*"], 5, 90, 150), None, "too many to look through");
    assert_eq!(missed(&["*"], 5, 51, 60), Some(9));
    assert_eq!(missed(&["*"], 5, 50, 60), None, "forgotten");
    hub.check();
}

#[test]
fn an_operator_sees_what_there_is_page_by_page() {
    let mut hub = hub(2);
    want(&mut hub, 1, "a.*", None, 3);
    want(&mut hub, 2, "a.*", None, 4);
    want(&mut hub, 2, "a.*", Some("g"), 2);
    want(&mut hub, 1, "*.error", Some("g"), 1);
    want(&mut hub, 1, r"odd\*", None, 1);
    for channel in ["b", "a.x", "odd*", "b"] {
        publish(&mut hub, channel);
    }
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = hub.channels("", &selector("*"), after.as_deref(), 2);
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.selector.clone());
        rows.extend(page);
    }
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            let last = row.last_sequence.map(|last| last.0);
            let counts = [row.subscribers, row.members, row.groups, u64::from(row.nodes)];
            (row.selector.as_str(), row.is_pattern, counts, last)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("*.error", true, [0, 1, 1, 1], None),
            ("a.*", true, [7, 2, 1, 2], None),
            ("a.x", false, [0, 0, 0, 0], Some(1)),
            ("b", false, [0, 0, 0, 0], Some(2)),
            (r"odd\*", false, [1, 0, 0, 1], Some(1)),
        ]
    );
    let only: Vec<String> =
        hub.channels("", &selector("a*"), None, 9).into_iter().map(|row| row.selector).collect();
    assert_eq!(only, ["a.*", "a.x"]);
    assert_eq!(hub.channels("other", &selector("*"), None, 9), []);
}

#[test]
fn what_is_beyond_a_bound_changes_nothing() {
    let limits = HubLimits { interest_rows_max: 2, ..HubLimits::default() };
    let mut hub = hub_with(1, limits);
    want(&mut hub, 1, "a", None, 1);
    want(&mut hub, 1, "a", Some("g"), 1);
    let beyond = hub.set_interest(NodeId(1), LINK, &[change("b", Some("new"), 1)]);
    assert!(matches!(beyond, Err(Refusal::TooMany { actual: 3, max: 2, .. })));
    want(&mut hub, 1, "a", None, 7);
    want(&mut hub, 1, "a", None, 0);
    want(&mut hub, 1, "b", None, 1);
    hub.check();
    // A channel takes a little more than a hundred bytes, such a pattern much more than its text.
    let few = HubLimits { interest_bytes_max: 1_000, ..HubLimits::default() };
    let mut small = hub_with(1, few);
    want(&mut small, 1, &"c".repeat(800), None, 1);
    want(&mut small, 1, &"c".repeat(800), None, 0);
    let beyond = small.set_interest(NodeId(1), LINK, &[change(&"?".repeat(40), None, 1)]);
    assert!(matches!(beyond, Err(Refusal::TooMany { max: 1_000, .. })));
    small.check();
    for (namespace, channel, bytes) in [
        ("", "", 1),
        ("", &*"c".repeat(1_025), 1),
        (&*"n".repeat(256), "c", 1),
        ("", "c", PAYLOAD_BYTES_MAX + 1),
    ] {
        assert!(hub.publish(namespace, channel, content(bytes)).is_err());
    }
    let many = vec![(String::new(), String::new()); 65];
    assert!(hub.publish("", "c", Content { headers: many, ..content(1) }).is_err());
    assert_eq!(hub.position().position, Position(0), "nothing was published");
    let link = |hub: &mut Hub, node: u64| hub.link(NodeId(node), LINK, None).map(drop);
    for node in 2..=NODES_MAX as u64 {
        link(&mut hub, node).unwrap();
    }
    assert!(link(&mut hub, 1_000).is_err());
    drop(hub.forget(NodeId(9)));
    link(&mut hub, 1_000).unwrap();
    hub.check();

    let mut router = Router::new(RouterLimits {
        subscriptions_max: 2,
        interest_rows_max: 100,
        ..RouterLimits::default()
    });
    let mut subscribe = |texts: &[String], group| {
        let selectors: Vec<_> = texts.iter().map(|text| selector(text)).collect();
        router.subscribe("", &selectors, group, ROOMY).map(|begun| begun.id)
    };
    let names = |count: usize| (0..count).map(|number| format!("c{number}")).collect::<Vec<_>>();
    assert_eq!(subscribe(&[], None), Err(Refusal::NoSelector));
    assert!(subscribe(&names(SELECTORS_MAX + 1), None).is_err());
    assert!(subscribe(&names(1), Some("")).is_err());
    let first = subscribe(&names(64), None).unwrap();
    assert!(subscribe(&names(64), Some("g")).is_err(), "more rows than there may be");
    subscribe(&names(36), Some("g")).unwrap();
    assert!(subscribe(&names(1), None).is_err(), "more subscriptions than there may be");
    router.unsubscribe(first);
    router.check();
}

#[test]
fn patterns_at_one_place_are_few_at_both_ends_of_a_link() {
    let mut hub = hub(1);
    let mut router = Router::new(RouterLimits::default());
    let mut number = 0;
    let mut more = |router: &mut Router, count: usize| {
        let texts = (number..number + count).map(|number| selector(&format!("*[a]{number}*")));
        number += count;
        router.subscribe("", &texts.collect::<Vec<_>>(), None, ROOMY)
    };
    for _ in 0..ALIKE_MAX / 64 {
        let begun = more(&mut router, 64).unwrap();
        hub.set_interest(NodeId(1), LINK, &begun.changes).unwrap();
    }
    assert!(matches!(more(&mut router, 1), Err(Refusal::TooMany { max: ALIKE_MAX, .. })));
    let beyond = hub.set_interest(NodeId(1), LINK, &[change("*[b]*", None, 1)]);
    assert!(matches!(beyond, Err(Refusal::TooMany { max: ALIKE_MAX, .. })));
    hub.check();
    router.check();
}

#[test]
fn messages_published_together_follow_each_other_or_none_is_published() {
    let mut hub = hub(1);
    let mut router = linked(&hub);
    let one = subscribe(&mut hub, &mut router, &["a*"], None, ROOMY);
    let messages = |channels: &[&str]| -> Vec<_> {
        channels.iter().map(|channel| ((*channel).to_owned(), content(10))).collect()
    };
    hub.publish("", "a", content(10)).unwrap();
    let published = hub.publish_all("", messages(&["a", "b", "a"])).unwrap();
    let numbers: Vec<_> = published
        .iter()
        .map(|one| (one.place.position.0, one.sequence.0, one.subscribers))
        .collect();
    assert_eq!(numbers, [(2, 2, 1), (3, 1, 0), (4, 3, 1)]);
    let before = hub.position();
    hub.publish_all("", messages(&["a", "", "a"])).expect_err("there is no such channel");
    assert_eq!(hub.position(), before);
    hub.check();
    drop(one);
}
