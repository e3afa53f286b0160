//! A hub, nodes, and links that carry what they say in order, until they break.

use super::steps::{CHANNELS, GROUPS, NAMESPACES, SELECTORS, Step};
use crate::tests::{content, selector};
use crate::{
    Closed, Epoch, Hub, HubLimits, InterestChange, Item, LinkId, Lost, LostMessages, Message,
    Outbox, Place, Position, Router, RouterLimits, Selector, SlowPolicy, SubscriptionId, Taken,
};
use quorate_state::NodeId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

const NODES: usize = 4;

/// What has to happen now and then, or the steps show little.
pub(super) const REACHED: [&str; 9] = [
    "resumed links",
    "links that begin anew",
    "losses of the ring that are counted",
    "losses of the ring that are not",
    "losses that a subscription saw a part of",
    "losses of a group",
    "slow subscribers that are dropped",
    "gaps in full queues",
    "answers to what was missed",
];

/// Small, so that everything happens.
const LIMITS: HubLimits = HubLimits {
    ring_bytes_max: 6_000,
    ring_messages_max: 8,
    journal_messages_max: 30,
    journal_bytes_max: 700,
    missed_messages_max: 25,
    lost_rows_max: 4,
    counters_max: 3,
    interest_rows_max: 200,
    interest_bytes_max: 100_000,
};

/// What a node has to tell the leader, until that was answered.
#[derive(Clone)]
struct Saying {
    changes: Vec<InterestChange>,
    /// Subscriptions that are live with the answer.
    confirms: Vec<usize>,
    /// It is the last of all interest that was told to a link that began anew.
    begins: bool,
}

/// What a link carries to its node.
enum Frame {
    Answer(Place),
    Part(Taken),
}

struct Node {
    router: Router,
    link: Option<LinkId>,
    saying: VecDeque<Saying>,
    /// How many of those the leader has heard on this link.
    heard: usize,
    arriving: VecDeque<Frame>,
    awake: bool,
}

/// A subscription, and all that it was handed.
pub(super) struct Subscription {
    pub(super) node: usize,
    id: SubscriptionId,
    pub(super) namespace: &'static str,
    pub(super) selectors: Vec<Selector>,
    pub(super) group: Option<&'static str>,
    outbox: Arc<Outbox>,
    policy: SlowPolicy,
    /// Where it was confirmed first.
    pub(super) start: Option<Place>,
    /// From where it is live; `None` while it is not.
    since: Option<Place>,
    ended: bool,
    position_before: Option<Place>,
    pub(super) log: Vec<Item>,
    /// How often it may have been told of a gap of unknown size.
    pub(super) lapses: usize,
}

impl Subscription {
    pub(super) fn matches(&self, message: &Message) -> bool {
        self.wants(message.namespace(), message.channel())
    }

    fn wants(&self, namespace: &str, channel: &str) -> bool {
        namespace == self.namespace && self.selectors.iter().any(|one| one.matches(channel))
    }

    /// How far it says that it is.
    pub(super) fn position(&self) -> Option<Place> {
        self.outbox.position()
    }

    pub(super) fn is_slow(&self) -> bool {
        self.outbox.closed() == Some(Closed::SlowSubscriber)
    }

    fn hears(&self, place: Place) -> bool {
        !self.ended && self.since.is_some_and(|since| since < place)
    }
}

pub(super) struct World {
    hub: Hub,
    nodes: Vec<Node>,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) published: Vec<Message>,
    /// What the hub was told, by node.
    told: BTreeMap<(usize, InterestKey), u64>,
    /// For each group: the messages that a node was to serve it.
    pub(super) assigned: BTreeMap<(&'static str, &'static str), Vec<Message>>,
    /// Nothing happened that loses messages of groups without a word.
    pub(super) groups_exact: bool,
    links: u64,
    reached: [u64; REACHED.len()],
}

/// Namespace, selector, group.
type InterestKey = (String, Selector, Option<String>);

impl World {
    pub(super) fn new() -> Self {
        let node = || Node {
            router: Router::new(RouterLimits::default()),
            link: None,
            saying: VecDeque::new(),
            heard: 0,
            arriving: VecDeque::new(),
            awake: false,
        };
        let mut world = Self {
            hub: Hub::new(Epoch(1), LIMITS),
            nodes: (0..NODES).map(|_| node()).collect(),
            subscriptions: Vec::new(),
            published: Vec::new(),
            told: BTreeMap::new(),
            assigned: BTreeMap::new(),
            groups_exact: true,
            links: 0,
            reached: [0; REACHED.len()],
        };
        (0..NODES - 1).for_each(|node| world.link(node));
        world
    }

    pub(super) fn reached(&self) -> [u64; REACHED.len()] {
        self.reached
    }

    /// What everybody saw.
    pub(super) fn seen(&self) -> Vec<Vec<Item>> {
        self.subscriptions.iter().map(|one| one.log.clone()).collect()
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Subscribe { node, namespace, selectors, group, options } => {
                let (namespace, node) = (NAMESPACES[*namespace], *node);
                let group = group.map(|group| GROUPS[group]);
                let selectors: Vec<Selector> =
                    selectors.iter().map(|at| selector(SELECTORS[*at])).collect();
                let router = &mut self.nodes[node].router;
                let begun = router.subscribe(namespace, &selectors, group, *options).unwrap();
                self.nodes[node].saying.push_back(Saying {
                    changes: begun.changes,
                    confirms: vec![self.subscriptions.len()],
                    begins: false,
                });
                self.subscriptions.push(Subscription {
                    node,
                    id: begun.id,
                    namespace,
                    selectors,
                    group,
                    outbox: begun.outbox,
                    policy: options.policy,
                    start: None,
                    since: None,
                    position_before: None,
                    ended: false,
                    log: Vec::new(),
                    lapses: 0,
                });
            }
            Step::Unsubscribe { subscription } => {
                let Some(at) = subscription.checked_rem(self.subscriptions.len()) else { return };
                self.unsubscribe(at);
            }
            Step::Publish { namespace, channel, bytes } => {
                self.publish(NAMESPACES[*namespace], CHANNELS[*channel], *bytes);
            }
            Step::Hear { node } => self.hear(*node),
            Step::Take { node, messages } => self.take(*node, *messages),
            Step::Arrive { node, frames } => (0..*frames).for_each(|_| self.arrive(*node)),
            Step::Read { subscription, items } => {
                let Some(at) = subscription.checked_rem(self.subscriptions.len()) else { return };
                self.read(at, *items);
            }
            Step::Break { node } => self.break_link(*node),
            Step::Link { node } => self.link(*node),
            Step::Forget { node } => {
                self.break_link(*node);
                self.groups_exact = false;
                drop(self.hub.forget(node_id(*node)));
                self.told.retain(|(other, _), _| other != node);
            }
            Step::Elect => {
                self.hub = Hub::new(Epoch(self.hub.epoch().0 + 1), LIMITS);
                self.told.clear();
                self.groups_exact = false;
                for node in 0..NODES {
                    self.break_link(node);
                    self.link(node);
                }
            }
            Step::Ask { namespace, selectors, back, length } => {
                self.ask(NAMESPACES[*namespace], selectors, *back, *length);
            }
        }
    }

    fn unsubscribe(&mut self, at: usize) {
        let subscription = &mut self.subscriptions[at];
        if std::mem::replace(&mut subscription.ended, true) {
            return;
        }
        if subscription.group.is_some() {
            // What is on its way to the node may find nobody.
            self.groups_exact = false;
        }
        let (node, id) = (subscription.node, subscription.id);
        let changes = self.nodes[node].router.unsubscribe(id);
        self.nodes[node].saying.push_back(Saying { changes, confirms: vec![], begins: false });
    }

    fn publish(&mut self, namespace: &'static str, channel: &'static str, bytes: usize) {
        let published = self.hub.publish(namespace, channel, content(bytes)).unwrap();
        let message =
            Message::new(namespace, channel, published.place, published.sequence, content(bytes));
        let message = message.unwrap();
        self.published.push(message.clone());
        let woken = self.hub.woken();
        woken.iter().for_each(|node| self.nodes[node_at(*node)].awake = true);

        // What the hub should have found.
        let matching = self.told.iter().filter(|((_, (wanted, selector, _)), _)| {
            wanted == namespace && selector.matches(channel)
        });
        let mut nodes = BTreeSet::new();
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut subscribers = 0;
        for ((node, (_, _, group)), count) in matching {
            match group {
                None if self.nodes[*node].link.is_some() => {
                    nodes.insert(*node);
                    subscribers += count;
                }
                None => {}
                Some(group) => groups.entry(group).or_default().push(*node),
            }
        }
        for (group, members) in groups {
            let group = GROUPS.iter().find(|name| **name == group).unwrap();
            self.assigned.entry((namespace, *group)).or_default().push(message.clone());
            subscribers += u64::from(members.iter().any(|node| self.nodes[*node].link.is_some()));
        }
        assert_eq!(published.subscribers, subscribers);
        assert!(u64::from(published.nodes) >= nodes.len() as u64);
        assert!(published.subscribers >= u64::from(published.nodes));
    }

    fn hear(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let (Some(link), Some(saying)) = (node.link, node.saying.get(node.heard)) else { return };
        let place = self.hub.set_interest(node_id(at), link, &saying.changes).unwrap();
        for change in &saying.changes {
            let InterestChange { namespace, selector, group, .. } = change;
            let group = group.as_ref().map(ToString::to_string);
            let key = (at, (namespace.to_string(), selector.clone(), group));
            match change.subscribers {
                0 => self.told.remove(&key),
                some => self.told.insert(key, some),
            };
        }
        node.heard += 1;
        node.arriving.push_back(Frame::Answer(place));
    }

    fn take(&mut self, at: usize, messages_max: usize) {
        let node = &mut self.nodes[at];
        let Some(link) = node.link.filter(|_| node.awake) else { return };
        let taken = self.hub.take(node_id(at), link, 2_000, messages_max).unwrap();
        assert!(taken.deliveries.len() <= messages_max);
        node.awake = taken.more;
        node.arriving.push_back(Frame::Part(taken));
    }

    fn arrive(&mut self, at: usize) {
        match self.nodes[at].arriving.pop_front() {
            None => {}
            Some(Frame::Answer(place)) => self.answered(at, place),
            Some(Frame::Part(taken)) => self.part(at, &taken),
        }
    }

    fn answered(&mut self, at: usize, place: Place) {
        let node = &mut self.nodes[at];
        node.heard -= 1;
        let saying = node.saying.pop_front().unwrap();
        if saying.begins {
            node.router.new_epoch(place.epoch, place.position);
            let here = self.subscriptions.iter_mut().filter(|one| one.node == at);
            for one in here.filter(|one| one.start.is_some() && one.since.is_none()) {
                one.since = Some(place);
            }
        }
        for confirmed in saying.confirms {
            let subscription = &mut self.subscriptions[confirmed];
            if !subscription.ended {
                assert!(node.router.confirm(subscription.id, place));
                subscription.start = subscription.start.or(Some(place));
                subscription.since = Some(place);
            }
        }
    }

    fn part(&mut self, at: usize, taken: &Taken) {
        let router = &mut self.nodes[at].router;
        let here = self.subscriptions.iter_mut().filter(|one| one.node == at && !one.ended);
        let mut here: Vec<_> = here.collect();
        for lost in &taken.lost {
            router.lost(lost);
            match lost {
                Lost::Unknown { last, .. } => {
                    self.reached[3] += 1;
                    let live =
                        here.iter_mut().filter(|one| one.hears(*last) || one.group.is_some());
                    live.for_each(|one| one.lapses += 1);
                }
                Lost::Messages(LostMessages { group: Some(_), .. }) => self.reached[5] += 1,
                Lost::Messages(LostMessages { namespace, channel, first, last, .. }) => {
                    self.reached[2] += 1;
                    // Those that were not there from the first one on do not know.
                    for one in &mut here {
                        let wanted = one.wants(namespace, channel);
                        if wanted && !one.hears(*first) && one.hears(*last) {
                            self.reached[4] += 1;
                            one.lapses += 1;
                        }
                    }
                }
            }
        }
        let last_lost = taken.lost.iter().map(|lost| match lost {
            Lost::Messages(LostMessages { last, .. }) | Lost::Unknown { last, .. } => *last,
        });
        let last_lost = last_lost.max().unwrap_or_default();
        let places = taken.deliveries.iter().map(|delivery| delivery.message.place());
        assert!(places.is_sorted_by(|a, b| a < b));
        for delivery in &taken.deliveries {
            assert!(delivery.message.place() > last_lost);
            assert!(delivery.message.place() <= taken.through);
            let delivered = router.deliver(delivery);
            let some_slow = here.iter().any(|one| one.is_slow());
            assert!(delivered.unserved == 0 || !self.groups_exact || some_slow);
        }
        router.advance(taken.through);
    }

    fn read(&mut self, at: usize, items_max: usize) {
        let subscription = &mut self.subscriptions[at];
        let items = subscription.outbox.take(1_500, items_max);
        assert!(items.len() <= items_max);
        subscription.log.extend(items);
    }

    fn break_link(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if let Some(link) = node.link.take() {
            self.hub.unlink(node_id(at), link);
        }
        node.arriving.clear();
        node.heard = 0;
    }

    fn link(&mut self, at: usize) {
        // A link that nobody has noticed to be broken is replaced.
        self.nodes[at].arriving.clear();
        self.nodes[at].heard = 0;
        self.links += 1;
        let link = LinkId(self.links);
        let node = &mut self.nodes[at];
        let start = self.hub.link(node_id(at), link, node.router.position()).unwrap();
        node.link = Some(link);
        node.awake = true;
        if start.resumed {
            self.reached[0] += 1;
            return;
        }
        drop(start.discarded);
        self.reached[1] += u64::from(!self.published.is_empty());
        self.groups_exact &= self.assigned.is_empty();
        self.told.retain(|(other, _), _| *other != at);
        node.router.lapse();
        node.saying.clear();
        let here = self.subscriptions.iter_mut().enumerate().filter(|(_, one)| one.node == at);
        let mut confirms = Vec::new();
        for (number, one) in here.filter(|(_, one)| !one.ended) {
            match one.start {
                Some(_) => {
                    one.since = None;
                    one.lapses += 1;
                }
                None => confirms.push(number),
            }
        }
        // In parts, so that messages come in between.
        let interest = node.router.interest();
        let parts = interest.chunks(2).map(|changes| Saying {
            changes: changes.to_vec(),
            confirms: vec![],
            begins: false,
        });
        node.saying.extend(parts);
        node.saying.push_back(Saying { changes: vec![], confirms, begins: true });
    }

    fn ask(&mut self, namespace: &str, selectors: &[usize], back: u64, length: u64) {
        let newest = self.hub.position();
        let after = newest.position.0.saturating_sub(back);
        let through = Position(after + length);
        let selectors: Vec<Selector> =
            selectors.iter().map(|at| selector(SELECTORS[*at])).collect();
        let after = Place::new(newest.epoch, Position(after));
        let earlier = Place::new(Epoch(newest.epoch.0 - 1), after.position);
        assert_eq!(self.hub.missed(namespace, &selectors, earlier, through), None);
        let Some(missed) = self.hub.missed(namespace, &selectors, after, through) else {
            assert!(back > 10, "{back} messages are not many");
            return;
        };
        self.reached[8] += u64::from(missed > 0);
        let between = self.published.iter().filter(|message| {
            message.place() > after && message.place() <= Place::new(newest.epoch, through)
        });
        let matching = between.filter(|message| {
            message.namespace() == namespace
                && selectors.iter().any(|selector| selector.matches(message.channel()))
        });
        assert_eq!(missed, matching.count() as u64);
    }

    /// Everything that was said is heard, taken, delivered and read.
    pub(super) fn come_to_rest(&mut self) {
        for at in 0..NODES {
            if self.nodes[at].link.is_none() {
                self.link(at);
            }
            while self.nodes[at].heard < self.nodes[at].saying.len() {
                self.hear(at);
            }
            while self.nodes[at].awake {
                self.take(at, 3);
            }
            while !self.nodes[at].arriving.is_empty() {
                self.arrive(at);
            }
        }
        // Once more without being woken, to learn how far everything is.
        for at in 0..NODES {
            self.nodes[at].awake = true;
            self.take(at, 1);
            let Some(Frame::Part(taken)) = self.nodes[at].arriving.front() else {
                panic!("it is linked")
            };
            assert!(taken.deliveries.is_empty() && taken.lost.is_empty() && !taken.more);
            self.arrive(at);
        }
        for at in 0..self.subscriptions.len() {
            while !self.subscriptions[at].outbox.is_empty() {
                self.read(at, 3);
            }
            let one = &self.subscriptions[at];
            let slow = one.is_slow();
            assert!(!slow || one.policy == SlowPolicy::Disconnect);
            self.reached[6] += u64::from(slow);
            let exact = |item: &&Item| matches!(item, Item::Gap(gap) if gap.missed.is_some());
            self.reached[7] += one.log.iter().filter(exact).count() as u64;
            if !one.ended && !slow {
                assert_eq!(one.position(), Some(self.hub.position()), "it is as far as the hub");
            }
        }
    }

    /// What holds at any time.
    pub(super) fn check(&mut self) {
        self.hub.check();
        self.nodes.iter().for_each(|node| node.router.check());
        for one in &mut self.subscriptions {
            one.outbox.check();
            let position = one.position();
            assert!(position >= one.position_before, "a subscription never goes back");
            one.position_before = position;
        }
        for one in &self.subscriptions {
            // From where it says that it is, a client goes on elsewhere.
            if one.group.is_none() {
                self.nothing_lost_silently(one).unwrap();
            }
        }
    }
}

fn node_id(at: usize) -> NodeId {
    NodeId(at as u64 * 7 + 3)
}

fn node_at(id: NodeId) -> usize {
    usize::try_from((id.0 - 3) / 7).unwrap()
}
