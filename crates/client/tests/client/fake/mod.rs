//! A cluster of scripted nodes behind a network of in-memory pipes.

mod bus;
mod cache;
mod net;
mod node;
mod pipeline;
mod queue;
mod state;

pub(crate) use bus::{Heard, gap, item};
pub(crate) use net::{Net, Reach};
pub(crate) use node::{Act, Node, Seen, Sent};
pub(crate) use queue::Said;
pub(crate) use state::State;

use quorate_client::{Client, Options};
use quorate_proto::metadata;
use std::sync::Arc;
use tonic::{Code, Status};

/// Nodes that share one state, as a healthy cluster does.
pub(crate) struct Fake {
    pub(crate) net: Arc<Net>,
    pub(crate) state: Arc<State>,
    pub(crate) nodes: Vec<Arc<Node>>,
}

impl Fake {
    /// Starts nodes at `n1:1`, `n2:1` and so on.
    pub(crate) fn start(count: usize) -> Self {
        let net = Arc::new(Net::default());
        let state = Arc::new(State::default());
        let nodes = (1..=count)
            .map(|id| {
                let addr = format!("n{id}:1");
                let node = Arc::new(Node::new(addr.clone(), Arc::clone(&state), Arc::clone(&net)));
                net.serve(addr, Arc::clone(&node));
                node
            })
            .collect();
        Self { net, state, nodes }
    }

    /// Settings that reach these nodes. The seed is fixed: what a test says holds for each.
    pub(crate) fn options(&self) -> Options {
        let addrs = self.nodes.iter().map(|node| node.addr.clone());
        Client::builder().endpoints(addrs).dial(Arc::clone(&self.net)).seed(1)
    }

    pub(crate) fn client(&self) -> Client {
        self.options().connect().expect("good options")
    }

    /// The mutations and reads that reached nodes, in the order they came.
    pub(crate) fn seen(&self, method: &str) -> Vec<Seen> {
        let mut seen: Vec<_> = self.nodes.iter().flat_map(|node| node.seen(method)).collect();
        seen.sort_by_key(|seen| seen.nth);
        seen
    }

    /// All nodes do this whenever they are asked that.
    pub(crate) fn always(&self, method: &'static str, act: &Act) {
        for node in &self.nodes {
            node.always(method, act.clone());
        }
    }

    /// Whichever node is asked first does the first of these, and so on; then all answer.
    pub(crate) fn script(&self, method: &'static str, acts: impl IntoIterator<Item = Act>) {
        self.state.script(method, acts);
    }
}

/// A failure as a node sends it.
pub(crate) fn fail(code: Code, outcome: Option<&str>, reason: &str) -> Act {
    Act::Fail(status(code, outcome, reason))
}

pub(crate) fn status(code: Code, outcome: Option<&str>, reason: &str) -> Status {
    let mut status = Status::new(code, format!("scripted {reason}"));
    let map = status.metadata_mut();
    map.insert(metadata::REASON, reason.parse().expect("ascii"));
    if let Some(outcome) = outcome {
        map.insert(metadata::OUTCOME, outcome.parse().expect("ascii"));
    }
    status
}

pub(crate) const NOT_APPLIED: Option<&str> = Some("not_applied");
pub(crate) const UNKNOWN: Option<&str> = Some("unknown");
