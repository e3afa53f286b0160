//! Who on this node waits for news of what: tickets of locks, locks that are watched, pulls that
//! wait, and consumers.
//!
//! One task follows what this node applies and wakes them; what the news is they read from the
//! state themselves. So nothing queues up for them, and a message that was missed costs a look.
//! Only consumers have mailboxes ([`Mailbox`]): what they were given stands in many rows.

mod mailbox;

pub(crate) use mailbox::{Mail, Mailbox};

use quorate_consensus::Applied;
use quorate_state::{Attachment, ConsumerId, Event, JobLease, NodeId, TicketId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, mpsc};

/// Consumers nobody is there for that wait to be looked after. Others are found when they are given
/// the next job; with a window that is full this is once a lease of theirs has run out.
const STRAYS_MAX: usize = 256;

/// What there may be news of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// What becomes of a ticket.
    Ticket(TicketId),
    /// Who holds a lock: its namespace and name.
    Lock(String, String),
    /// What becomes of a pull.
    Pull(ConsumerId),
}

/// A consumer that was given a job on this node, where nobody is to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    /// Who.
    pub(crate) consumer: ConsumerId,
    /// Where it is said to be.
    pub(crate) attachment: Attachment,
    /// The first job it was given for nothing.
    pub(crate) lease: JobLease,
}

/// Everybody who waits.
#[derive(Debug)]
pub(crate) struct News {
    node: NodeId,
    listening: Mutex<Listening>,
    strays: mpsc::Sender<Stray>,
}

#[derive(Debug, Default)]
struct Listening {
    topics: BTreeMap<Topic, Vec<Arc<Notify>>>,
    /// By the call of their attachment.
    mailboxes: BTreeMap<u64, Arc<mailbox::Shared>>,
}

/// Somebody who waits, until it is dropped. Woken once for any number of messages since it last
/// waited.
#[derive(Debug)]
pub(crate) struct Listener {
    news: Arc<News>,
    topic: Topic,
    woken: Arc<Notify>,
}

impl News {
    /// Of what a node applies; and the consumers that nobody is there for, to be looked after.
    pub(crate) fn of(node: NodeId) -> (Arc<Self>, mpsc::Receiver<Stray>) {
        let (strays, found) = mpsc::channel(STRAYS_MAX);
        (Arc::new(Self { node, listening: Mutex::default(), strays }), found)
    }

    /// Follows what a replica applies, until that is over. It is followed from before anybody can
    /// listen: what happened between would wake nobody.
    pub(crate) async fn follow(self: Arc<Self>, mut applied: broadcast::Receiver<Applied>) {
        loop {
            match applied.recv().await {
                Ok(Applied::Events(events)) => self.tell(&events),
                Ok(Applied::Resync) | Err(RecvError::Lagged(_)) => self.resync(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// From now on news of the topic wakes the listener. What happened before it has to look for.
    pub(crate) fn listen(self: &Arc<Self>, topic: Topic) -> Listener {
        let woken = Arc::new(Notify::new());
        self.lock().topics.entry(topic.clone()).or_default().push(Arc::clone(&woken));
        Listener { news: Arc::clone(self), topic, woken }
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, events: &[Event]) {
        let listening = self.lock();
        // One is found again and again as long as its jobs come.
        let mut stray = None;
        for event in events {
            match *event {
                Event::TicketChanged { id } => listening.wake(&Topic::Ticket(id)),
                Event::LockGranted { ref namespace, ref name, .. }
                | Event::LockFreed { ref namespace, ref name, .. } => {
                    listening.wake(&Topic::Lock(namespace.clone(), name.clone()));
                }
                Event::PullChanged { consumer } => listening.wake(&Topic::Pull(consumer)),
                Event::JobAssigned { consumer, attachment, job } => {
                    match self.mailbox(&listening, attachment) {
                        Some(mailbox) => mailbox.assigned(job),
                        None if attachment.node == self.node && stray != Some(consumer) => {
                            stray = Some(consumer);
                            let lease = job.lease;
                            // Without room it is found later.
                            let _ = self.strays.try_send(Stray { consumer, attachment, lease });
                        }
                        None => {}
                    }
                }
                Event::JobWithdrawn { attachment, id, lease, .. } => {
                    if let Some(mailbox) = self.mailbox(&listening, attachment) {
                        mailbox.withdrawn(id, lease);
                    }
                }
                Event::ConsumerLeft { consumer, attachment } => {
                    // It may be a pull, too.
                    listening.wake(&Topic::Pull(consumer));
                    if let Some(mailbox) = self.mailbox(&listening, attachment) {
                        mailbox.left();
                    }
                }
                Event::SessionOpened { .. }
                | Event::SessionEnded { .. }
                | Event::LeaseRecorded { .. }
                | Event::ScheduleDue { .. }
                | Event::CacheChanged { .. }
                | Event::CacheTagsInvalidated { .. }
                | Event::CachePatternDeleted { .. }
                | Event::CacheBuildEnded { .. }
                | Event::Published { .. }
                | Event::AccessChanged => {}
            }
        }
    }

    fn mailbox<'a>(
        &self,
        listening: &'a Listening,
        at: Attachment,
    ) -> Option<&'a Arc<mailbox::Shared>> {
        listening.mailboxes.get(&at.call).filter(|_| at.node == self.node)
    }

    /// Everybody has to look for himself.
    pub(crate) fn resync(&self) {
        let listening = self.lock();
        listening.topics.values().flatten().for_each(|listener| listener.notify_one());
        listening.mailboxes.values().for_each(|mailbox| mailbox.missed());
    }
}

impl Listening {
    fn wake(&self, topic: &Topic) {
        if let Some(listeners) = self.topics.get(topic) {
            listeners.iter().for_each(|listener| listener.notify_one());
        }
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
        let mut listening = self.news.lock();
        if let Some(listeners) = listening.topics.get_mut(&self.topic) {
            listeners.retain(|listener| !Arc::ptr_eq(listener, &self.woken));
            if listeners.is_empty() {
                listening.topics.remove(&self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;
    use quorate_state::{AssignedJob, Era, JobId};

    const NODE: NodeId = NodeId(3);

    #[tokio::test]
    async fn a_listener_hears_of_its_topic_also_before_it_waits_and_leaves_nothing_behind() {
        let (news, _strays) = News::of(NODE);
        let ticket = news.listen(Topic::Ticket(TicketId(7)));
        let other = news.listen(Topic::Ticket(TicketId(8)));
        let pull = news.listen(Topic::Pull(ConsumerId(7)));
        news.tell(&[Event::TicketChanged { id: TicketId(7) }]);
        news.tell(&[Event::TicketChanged { id: TicketId(7) }]);
        ticket.news().await;
        assert!(ticket.news().now_or_never().is_none(), "once for both");
        assert!(other.news().now_or_never().is_none());
        news.tell(&[Event::PullChanged { consumer: ConsumerId(7) }]);
        pull.news().await;
        news.tell(&[Event::ConsumerLeft { consumer: ConsumerId(7), attachment: at(NODE, 1) }]);
        pull.news().await;
        news.resync();
        ticket.news().await;
        other.news().await;
        drop((ticket, other, pull));
        assert!(news.lock().topics.is_empty());
    }

    fn at(node: NodeId, call: u64) -> Attachment {
        Attachment { node, call }
    }

    fn job(lease: u64) -> AssignedJob {
        AssignedJob { era: Era(1), id: JobId(100 + lease), lease: JobLease(lease), attempt: 1 }
    }

    fn assigned(attachment: Attachment, lease: u64) -> Event {
        Event::JobAssigned { consumer: ConsumerId(5), attachment, job: job(lease) }
    }

    fn withdrawn(attachment: Attachment, lease: u64) -> Event {
        let JobId(id) = job(lease).id;
        let (consumer, id, lease) = (ConsumerId(5), JobId(id), JobLease(lease));
        Event::JobWithdrawn { consumer, attachment, id, lease }
    }

    #[tokio::test]
    async fn a_mailbox_has_what_is_meant_for_its_place_in_order() {
        let (news, mut strays) = News::of(NODE);
        let here = at(NODE, 9);
        let mailbox = Mailbox::open(&news, here);
        let others = [at(NodeId(4), 9), at(NodeId(4), 10)];
        news.tell(&[assigned(here, 1), assigned(others[0], 2), assigned(here, 3)]);
        news.tell(&[assigned(others[1], 4), assigned(here, 5), withdrawn(here, 3)]);
        mailbox.news().await;
        assert!(mailbox.news().now_or_never().is_none());
        // What it has not taken out by then it never had.
        let assigned_now = [1, 5].map(|lease| (JobLease(lease), job(lease))).into();
        let mail = Mail { assigned: assigned_now, ..Mail::default() };
        assert_eq!((mailbox.collect(), mailbox.collect()), (mail, Mail::default()));
        news.tell(&[withdrawn(here, 1), withdrawn(others[0], 2)]);
        mailbox.news().await;
        let withdrawn = [(job(1).id, JobLease(1))].into();
        assert_eq!(mailbox.collect(), Mail { withdrawn, ..Mail::default() });
        news.tell(&[Event::ConsumerLeft { consumer: ConsumerId(5), attachment: here }]);
        mailbox.news().await;
        let left = true;
        assert_eq!(mailbox.collect(), Mail { left, ..Mail::default() });
        // After a gap it takes in nothing more.
        news.tell(&[assigned(here, 6)]);
        news.resync();
        news.tell(&[assigned(here, 7)]);
        let missed = true;
        assert_eq!(mailbox.collect(), Mail { left, missed, ..Mail::default() });
        assert!(strays.try_recv().is_err());

        // Nobody is there any more: each batch says so once, on its own node only.
        drop(mailbox);
        assert!(news.lock().mailboxes.is_empty());
        news.tell(&[assigned(here, 8), assigned(here, 9), assigned(others[0], 10)]);
        let stray = Stray { consumer: ConsumerId(5), attachment: here, lease: JobLease(8) };
        assert_eq!(strays.try_recv(), Ok(stray));
        assert!(strays.try_recv().is_err());
    }
}
