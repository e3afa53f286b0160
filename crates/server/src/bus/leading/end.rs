//! The two tasks of a link: one reads what its node says, the other says what there is for it.

use super::{Leading, Shared, Term};
use futures::StreamExt as _;
use quorate_bus::{Epoch, LinkId};
use quorate_consensus::AsideUps;
use quorate_proto::peer;
use quorate_state::NodeId;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A link, as each of its two tasks has it: when one of them is over, so is the link.
#[derive(Clone)]
pub(super) struct End {
    pub(super) leading: Leading,
    pub(super) epoch: Epoch,
    pub(super) node: NodeId,
    pub(super) link: LinkId,
    pub(super) woken: Arc<Notify>,
    pub(super) over: CancellationToken,
}

impl End {
    /// What it has to do with the term, if that and the link still are.
    fn with<T>(&self, work: impl FnOnce(&Shared, &mut Term) -> T) -> Option<T> {
        let mut term = self.leading.lock();
        let term = term.as_mut().filter(|term| term.epoch == self.epoch)?;
        term.links.get(&self.node).filter(|link| link.id == self.link)?;
        Some(work(&self.leading.0, term))
    }

    /// The next message, when there is something to say; none when the link is over.
    pub(super) async fn next(&self) -> Option<peer::AsideDown> {
        loop {
            let said = self.with(|shared, term| term.message(&shared.counters, self.node))?;
            if !said.is_empty() {
                let wrap = |response| peer::AsideResponse { response: Some(response) };
                return Some(peer::AsideDown { responses: said.into_iter().map(wrap).collect() });
            }
            tokio::select! {
                () = self.woken.notified() => {}
                () = self.over.cancelled() => return None,
            }
        }
    }

    /// Reads what the node says, until the link is over.
    pub(super) async fn read(self, mut said: AsideUps) {
        loop {
            let next = tokio::select! {
                next = said.next() => next,
                () = self.over.cancelled() => return,
            };
            let Some(Ok(message)) = next else { return };
            let (node, link) = (self.node, self.link);
            let discarded = self.with(|shared, term| {
                let requests = message.requests.into_iter().filter_map(|one| one.request);
                let handle = |request| term.handle(shared, node, link, request);
                requests.filter_map(handle).collect::<Vec<_>>()
            });
            // Outside of the lock.
            let Some(discarded) = discarded else { return };
            drop(discarded);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.over.cancel();
        let node = self.node;
        self.with(|_, term| term.broke(node));
    }
}
