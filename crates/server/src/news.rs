//! Who on this node waits for news of what: tickets of locks, and locks that are watched.
//!
//! One task follows what this node applies and wakes them; what the news is they read from the
//! state themselves. So nothing queues up for them, and a message that was missed costs a look.

use quorate_consensus::Applied;
use quorate_state::{Event, TicketId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

/// What there may be news of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// What becomes of a ticket.
    Ticket(TicketId),
    /// Who holds a lock: its namespace and name.
    Lock(String, String),
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(crate) struct News(Mutex<BTreeMap<Topic, Vec<Arc<Notify>>>>);

/// Somebody who waits, until it is dropped. Woken once for any number of messages since it last
/// waited.
#[derive(Debug)]
pub(crate) struct Listener {
    news: Arc<News>,
    topic: Topic,
    woken: Arc<Notify>,
}

impl News {
    /// Follows what a replica applies, until that is over. It is followed from before anybody can
    /// listen: what happened between would wake nobody.
    pub(crate) async fn follow(self: Arc<Self>, mut applied: broadcast::Receiver<Applied>) {
        loop {
            match applied.recv().await {
                Ok(Applied::Events(events)) => self.tell(&events),
                Ok(Applied::Resync) | Err(RecvError::Lagged(_)) => self.tell_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// From now on news of the topic wakes the listener. What happened before it has to look for.
    pub(crate) fn listen(self: &Arc<Self>, topic: Topic) -> Listener {
        let woken = Arc::new(Notify::new());
        self.lock().entry(topic.clone()).or_default().push(Arc::clone(&woken));
        Listener { news: Arc::clone(self), topic, woken }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Topic, Vec<Arc<Notify>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, events: &[Event]) {
        for event in events {
            let topic = match event {
                Event::TicketChanged { id } => Topic::Ticket(*id),
                Event::LockGranted { namespace, name, .. }
                | Event::LockFreed { namespace, name, .. } => {
                    Topic::Lock(namespace.clone(), name.clone())
                }
                _ => continue,
            };
            if let Some(listeners) = self.lock().get(&topic) {
                listeners.iter().for_each(|listener| listener.notify_one());
            }
        }
    }

    fn tell_all(&self) {
        self.lock().values().flatten().for_each(|listener| listener.notify_one());
    }
}

impl Listener {
    /// Waits for news.
    ///
    /// # Cancel safety
    /// News is not lost when the future is dropped before it resolves.
    pub(crate) async fn news(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut news = self.news.lock();
        if let Some(listeners) = news.get_mut(&self.topic) {
            listeners.retain(|listener| !Arc::ptr_eq(listener, &self.woken));
            if listeners.is_empty() {
                news.remove(&self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn a_listener_hears_of_its_topic_also_before_it_waits_and_leaves_nothing_behind() {
        let news = Arc::new(News::default());
        let ticket = news.listen(Topic::Ticket(TicketId(7)));
        let other = news.listen(Topic::Ticket(TicketId(8)));
        news.tell(&[Event::TicketChanged { id: TicketId(7) }]);
        news.tell(&[Event::TicketChanged { id: TicketId(7) }]);
        ticket.news().await;
        assert!(ticket.news().now_or_never().is_none(), "once for both");
        assert!(other.news().now_or_never().is_none());
        news.tell_all();
        ticket.news().await;
        other.news().await;
        drop((ticket, other));
        assert!(news.lock().is_empty());
    }
}
