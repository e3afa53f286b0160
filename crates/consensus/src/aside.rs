//! What goes between a node and the leader beside the log: the transport, and who leads.
//!
//! Nothing here is replicated, and nothing of what is carried is looked into; `server` does both
//! ends. The stream has a connection of its own, so that it holds up nothing of consensus.

use crate::failure::{Failure, Reason};
use crate::net::peers::Purpose;
use crate::proposer::{Leadership, leads, quorum_acked};
use crate::replica::Replica;
use futures::Stream;
use futures::stream::BoxStream;
use quorate_proto::peer::{AsideDown, AsideUp};
use quorate_state::{NodeId, Publication};
use std::sync::OnceLock;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// What a node says to the leader.
pub type AsideUps = BoxStream<'static, Result<AsideUp, Status>>;
/// What the leader says to a node.
pub type AsideDowns = BoxStream<'static, Result<AsideDown, Status>>;

type Serve = Box<dyn Fn(NodeId, AsideUps) -> Result<AsideDowns, Status> + Send + Sync>;
type Publish = Box<dyn Fn(u64, &str, &Publication) + Send + Sync>;

/// What the server does for consensus, once it is there.
#[derive(Default)]
pub(crate) struct Asides {
    serve: OnceLock<Serve>,
    publish: OnceLock<Publish>,
}

impl Asides {
    /// A node has opened its stream to this one.
    pub(crate) fn opened(&self, from: NodeId, said: AsideUps) -> Result<AsideDowns, Status> {
        match self.serve.get() {
            Some(serve) => serve(from, said),
            None => Err(Status::unavailable("this node does not serve yet; try again")),
        }
    }

    /// This node has applied, visibly, an entry of a term in which something is published.
    pub(crate) fn published(&self, term: u64, namespace: &str, publication: &Publication) {
        if let Some(publish) = self.publish.get() {
            publish(term, namespace, publication);
        }
    }
}

/// News of who leads.
pub struct LeaderWatch {
    seen: watch::Receiver<Option<NodeId>>,
    leadership: watch::Receiver<Option<Leadership>>,
}

impl LeaderWatch {
    /// The leader this node knows, and the term in which this node leads itself, once it has taken
    /// that up.
    pub fn now(&mut self) -> (Option<NodeId>, Option<u64>) {
        let leading = self.leadership.borrow_and_update().as_ref().map(|leading| leading.term);
        (*self.seen.borrow_and_update(), leading)
    }

    /// Waits until either may have changed since [`LeaderWatch::now`]. False when consensus has
    /// stopped here.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.seen.changed() => changed.is_ok(),
            changed = self.leadership.changed() => changed.is_ok(),
        }
    }
}

impl Replica {
    /// Says what to do with the streams of other nodes, and of this one. Once, before any is opened.
    pub fn serve_asides(
        &self,
        serve: impl Fn(NodeId, AsideUps) -> Result<AsideDowns, Status> + Send + Sync + 'static,
    ) {
        let _ = self.0.asides.serve.set(Box::new(serve));
    }

    /// Says what to do with what transactions publish: called with the term of the entry, the
    /// namespace and the message, after the entry is visible here, in the order of the log, on every
    /// node and also when a log is applied again. It must not wait. Once.
    pub fn on_published(&self, publish: impl Fn(u64, &str, &Publication) + Send + Sync + 'static) {
        let _ = self.0.asides.publish.set(Box::new(publish));
    }

    /// Opens the stream to a node, which may be this one.
    ///
    /// # Errors
    /// When it can't be reached, or does not take it.
    pub async fn open_aside(
        &self,
        leader: NodeId,
        said: impl Stream<Item = AsideUp> + Send + 'static,
    ) -> Result<AsideDowns, Failure> {
        use futures::StreamExt as _;
        let refused = |status: &Status| {
            Failure::not_applied(
                Reason::NoLeader,
                format!("node {leader}, the leader, can't be reached: {}", status.message()),
            )
        };
        if leader == self.node_id() {
            let opened = self.0.asides.opened(leader, said.map(Ok).boxed());
            return opened.map_err(|status| refused(&status));
        }
        let membership = self.membership();
        let member = membership.nodes.get(&leader).ok_or_else(|| {
            Failure::not_applied(Reason::NoLeader, format!("no address of node {leader} is known"))
        })?;
        let mut peer = self.0.peers.client(leader, member, Purpose::Aside);
        let call = peer.request(said);
        match peer.client.aside(call).await {
            Ok(opened) => Ok(opened.into_inner().boxed()),
            Err(status) => Err(refused(&status)),
        }
    }

    /// Tells who leads from now on.
    #[must_use]
    pub fn follow_leader(&self) -> LeaderWatch {
        LeaderWatch { seen: self.0.leader_seen.clone(), leadership: self.0.leadership.clone() }
    }

    /// The term in which this node leads, if a quorum has acknowledged that within an election
    /// timeout: nobody else can have been elected in that time, unless leadership was handed over.
    #[must_use]
    pub fn leads_with_quorum(&self) -> Option<u64> {
        let term = self.leads_in()?;
        let fresh = Instant::now().checked_sub(self.0.quorum_ttl);
        let acked = quorum_acked(&self.0.raft)?;
        (leads(&self.0.raft, term) && fresh.is_none_or(|fresh| acked > fresh)).then_some(term)
    }
}

/// Other nodes' streams as [`Asides::opened`] takes them.
pub(crate) fn ups(said: Streaming<AsideUp>) -> AsideUps {
    use futures::StreamExt as _;
    said.boxed()
}
