//! Which nodes there are, which one leads, and which one to ask next. Pure bookkeeping.

use crate::random::Random;
use std::time::Duration;
use tokio::time::Instant;

/// Nodes kept in mind: far above any cluster, so that a broken answer can't fill the memory.
pub(crate) const NODES_MAX: usize = 64;
/// Bytes of an address: a host name has at most 253, and a port follows.
pub(crate) const ADDRESS_BYTES_MAX: usize = 260;
/// How long a node is passed over after it failed once; doubles with each failure in a row.
const REST_BASE: Duration = Duration::from_millis(250);
/// The longest rest: a node that came back is found again after this at the latest.
const REST_CAP: Duration = Duration::from_secs(10);
/// Failures in a row up to which the word of another node shortens a rest.
const VOUCHED_FAILURES_MAX: u32 = 2;

/// Which nodes a client's requests go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// The leader once it is known, since it answers without a further hop; else any node.
    #[default]
    Leader,
    /// All nodes in turn.
    AnyNode,
    /// Only the given endpoints, the same one as long as it answers. Nothing is learnt.
    Endpoints,
}

#[derive(Debug)]
struct Node {
    addr: String,
    /// Given by the user: never forgotten.
    seed: bool,
    failures_in_a_row: u32,
    rests_until: Option<Instant>,
}

/// The nodes as this client knows them.
#[derive(Debug)]
pub(crate) struct Nodes {
    routing: Routing,
    nodes: Vec<Node>,
    leader: Option<String>,
    /// Where the next choice begins to look.
    cursor: usize,
}

impl Nodes {
    /// Clients shuffle their seeds, so that they do not all burden the first one.
    pub(crate) fn new(mut seeds: Vec<String>, routing: Routing, random: &Random) -> Self {
        random.shuffle(&mut seeds);
        let nodes = seeds.into_iter().map(|addr| Node::new(addr, true)).collect();
        Self { routing, nodes, leader: None, cursor: 0 }
    }

    /// Whether this client asks nodes about each other.
    pub(crate) fn learns(&self) -> bool {
        self.routing != Routing::Endpoints
    }

    /// The node to ask now. `tried` are those that failed in this call; when all did, it is
    /// emptied and the round begins again.
    pub(crate) fn pick(&mut self, tried: &mut Vec<String>, now: Instant) -> String {
        if self.nodes.iter().all(|node| tried.contains(&node.addr)) {
            // Two or more nodes: the last one that failed is not the first of the next round.
            let last = tried.pop();
            tried.clear();
            tried.extend(last.filter(|_| self.nodes.len() > 1));
        }
        let leader = match self.routing {
            Routing::Leader => self.leader.as_deref().and_then(|leader| self.position(leader)),
            Routing::AnyNode | Routing::Endpoints => None,
        };
        let count = self.nodes.len();
        let in_turn = (0..count).map(|step| (self.cursor + step) % count);
        let chosen = leader
            .into_iter()
            .chain(in_turn)
            .filter(|&at| !tried.contains(&self.nodes[at].addr))
            // min_by_key takes the first of equals: a rested node in turn, else who rests least.
            .min_by_key(|&at| self.nodes[at].rests_until.filter(|until| *until > now))
            .unwrap_or(0);
        if self.routing == Routing::AnyNode {
            self.cursor = (chosen + 1) % count;
        }
        self.nodes[chosen].addr.clone()
    }

    /// A node serves.
    pub(crate) fn answered(&mut self, addr: &str) {
        if let Some(at) = self.position(addr) {
            self.nodes[at].failures_in_a_row = 0;
            self.nodes[at].rests_until = None;
            if self.routing != Routing::AnyNode {
                self.cursor = at;
            }
        }
    }

    /// A node that serves says that another one leads: that one is believed in again soon, unless
    /// it keeps failing this client. Then others reach it, but this client does not, and every new
    /// try would cost its calls the time of a dial.
    pub(crate) fn vouched_for(&mut self, leader: &str, now: Instant) {
        if let Some(at) = self.position(leader) {
            let node = &mut self.nodes[at];
            if node.failures_in_a_row <= VOUCHED_FAILURES_MAX {
                node.rests_until = node.rests_until.map(|until| until.min(now + REST_BASE));
            }
        }
    }

    /// A node could not be reached, was silent, broke the connection, or can't serve.
    pub(crate) fn failed(&mut self, addr: &str, now: Instant) {
        if self.leader.as_deref() == Some(addr) {
            self.leader = None;
        }
        if let Some(at) = self.position(addr) {
            let node = &mut self.nodes[at];
            let rest = REST_BASE.saturating_mul(1 << node.failures_in_a_row.min(16)).min(REST_CAP);
            node.failures_in_a_row = node.failures_in_a_row.saturating_add(1);
            node.rests_until = Some(now + rest);
        }
    }

    /// A node named the leader.
    pub(crate) fn learn_leader(&mut self, addr: &str) {
        if self.routing != Routing::Leader || self.leader.as_deref() == Some(addr) {
            return;
        }
        if self.position(addr).is_none() {
            if self.nodes.len() >= NODES_MAX || !is_address(addr) {
                return;
            }
            self.nodes.push(Node::new(addr.to_owned(), false));
        }
        self.leader = Some(addr.to_owned());
    }

    /// The cluster named its members: what was learnt before and is not among them is forgotten.
    pub(crate) fn learn_members(&mut self, members: &[String]) {
        if !self.learns() || members.is_empty() {
            return;
        }
        let begin = self.nodes.get(self.cursor).map(|node| node.addr.clone());
        self.nodes.retain(|node| node.seed || members.contains(&node.addr));
        for addr in members {
            if self.nodes.len() >= NODES_MAX {
                break;
            }
            if is_address(addr) && self.position(addr).is_none() {
                self.nodes.push(Node::new(addr.clone(), false));
            }
        }
        if self.leader.as_deref().is_some_and(|leader| self.position(leader).is_none()) {
            self.leader = None;
        }
        self.cursor = begin.and_then(|addr| self.position(&addr)).unwrap_or(0);
    }

    /// The addresses, seeds first.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addr.clone()).collect()
    }

    /// The leader as last heard.
    pub(crate) fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    fn position(&self, addr: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.addr == addr)
    }
}

impl Node {
    fn new(addr: String, seed: bool) -> Self {
        Self { addr, seed, failures_in_a_row: 0, rests_until: None }
    }
}

/// Whether a text is `host:port` (an IPv6 host in brackets), and nothing else.
pub(crate) fn is_address(text: &str) -> bool {
    text.len() <= ADDRESS_BYTES_MAX
        && !text.contains('@')
        && text
            .parse::<http::uri::Authority>()
            .is_ok_and(|parsed| !parsed.host().is_empty() && parsed.port_u16().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(routing: Routing) -> Nodes {
        let seeds = ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec();
        let mut nodes = Nodes::new(seeds, routing, &Random::seeded(1));
        nodes.nodes.sort_by(|left, right| left.addr.cmp(&right.addr));
        nodes
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_visits_every_node_once_and_the_next_does_not_begin_where_it_ended() {
        for routing in [Routing::Leader, Routing::AnyNode, Routing::Endpoints] {
            let mut nodes = nodes(routing);
            let (mut tried, now) = (Vec::new(), Instant::now());
            let mut order = Vec::new();
            for _ in 0..6 {
                let addr = nodes.pick(&mut tried, now);
                nodes.failed(&addr, now);
                tried.push(addr.clone());
                order.push(addr);
            }
            let mut first = order[..3].to_vec();
            first.sort();
            assert_eq!(first, ["a:1", "b:1", "c:1"]);
            assert_ne!(order[2], order[3]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_comes_first_until_it_fails_and_a_resting_node_is_not_believed_in() {
        let mut nodes = nodes(Routing::Leader);
        let now = Instant::now();
        nodes.learn_leader("c:1");
        assert_eq!(nodes.pick(&mut Vec::new(), now), "c:1");
        nodes.failed("c:1", now);
        assert_eq!(nodes.pick(&mut Vec::new(), now), "a:1");
        // A node that has not heard the news names the dead one again.
        nodes.learn_leader("c:1");
        assert_eq!(nodes.pick(&mut Vec::new(), now), "a:1");
        let rested = now + REST_BASE;
        assert_eq!(nodes.pick(&mut Vec::new(), rested), "c:1");
    }

    #[tokio::test(start_paused = true)]
    async fn rests_double_and_end_with_an_answer() {
        let mut nodes = nodes(Routing::Endpoints);
        let now = Instant::now();
        let rest = |nodes: &Nodes| nodes.nodes[0].rests_until.map(|until| until - now);
        for expected_ms in [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
            nodes.failed("a:1", now);
            assert_eq!(rest(&nodes), Some(Duration::from_millis(expected_ms)));
        }
        nodes.vouched_for("a:1", now);
        assert_eq!(rest(&nodes), Some(REST_CAP), "what fails again and again is not vouched for");
        nodes.answered("a:1");
        assert_eq!(rest(&nodes), None);
        nodes.failed("a:1", now);
        nodes.failed("a:1", now);
        assert_eq!(rest(&nodes), Some(2 * REST_BASE));
        nodes.vouched_for("a:1", now);
        assert_eq!(rest(&nodes), Some(REST_BASE));
    }

    #[tokio::test(start_paused = true)]
    async fn any_node_takes_turns_and_endpoints_stays_where_it_is_answered() {
        let now = Instant::now();
        let three = |mut nodes: Nodes| {
            [(); 3].map(|()| {
                let addr = nodes.pick(&mut Vec::new(), now);
                nodes.answered(&addr);
                addr
            })
        };
        assert_eq!(three(nodes(Routing::AnyNode)), ["a:1", "b:1", "c:1"]);
        assert_eq!(three(nodes(Routing::Endpoints)), ["a:1", "a:1", "a:1"]);
    }

    #[test]
    fn members_replace_what_was_learnt_but_not_the_seeds() {
        let mut nodes = nodes(Routing::Leader);
        nodes.learn_leader("d:1");
        nodes.learn_members(&["b:1".to_owned(), "e:1".to_owned(), "no port".to_owned()]);
        assert_eq!(nodes.addresses(), ["a:1", "b:1", "c:1", "e:1"]);
        assert_eq!(nodes.leader(), None, "d is no member any more");
        let many: Vec<_> = (0..500).map(|port| format!("x:{port}")).collect();
        nodes.learn_members(&many);
        assert_eq!(nodes.addresses().len(), NODES_MAX);
    }

    #[test]
    fn with_routing_endpoints_nothing_is_learnt() {
        let mut nodes = nodes(Routing::Endpoints);
        nodes.learn_leader("d:1");
        nodes.learn_members(&["d:1".to_owned()]);
        assert_eq!(nodes.addresses(), ["a:1", "b:1", "c:1"]);
        assert_eq!(nodes.leader(), None);
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["localhost:8811", "127.0.0.1:1", "[::1]:8811", "node-1.example:65535"] {
            assert!(is_address(good), "{good}");
        }
        let long = format!("{}:1", "x".repeat(300));
        for bad in ["", "localhost", ":8811", "a:b", "a:70000", "u@h:1", "a:1/x", "a b:1", &long] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
