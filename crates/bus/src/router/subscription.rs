//! One subscription, and from where on it is live.

use crate::{Outbox, Place, Selector, SubscriptionId};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The leader may not know of it yet.
    Pending,
    /// It receives what comes above this place, in its epoch.
    Live(Place),
    /// It was live, and something may be missing until it is again.
    Lapsed,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) namespace: Arc<str>,
    pub(super) selectors: Box<[Selector]>,
    pub(super) group: Option<(u32, Arc<str>)>,
    pub(super) state: State,
    pub(super) outbox: Arc<Outbox>,
}

impl Subscription {
    pub(super) fn start(&self) -> Option<Place> {
        if let State::Live(start) = self.state { Some(start) } else { None }
    }

    pub(super) fn hears(&self, place: Place) -> bool {
        self.start().is_some_and(|start| start.epoch == place.epoch && start < place)
    }
}
