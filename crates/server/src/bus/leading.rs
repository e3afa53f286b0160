//! The leader's end: numbers what is published in its term, and says to each node what concerns it.
//!
//! ```text
//!  link of a node ──► requests ──► Hub ──► ring ──► take, one cursor per link ──► link of a node
//!                                   └────► answers, queued per link ────────────┘
//! ```
//!
//! One mutex holds all of it, and nobody waits in there. An answer to a subscription is queued under
//! the same lock as the subscription, and a link's answers go before its messages: so a node knows
//! where a subscription begins before it has the first message of it.
//!
//! A new leader knows nobody's interest. For a moment it takes messages without publishing them: until
//! all members have said what they want, or [`SETTLE_MAX`] is over. Otherwise each failover would lose
//! what is published just then.

mod end;

use crate::cache::Accesses;
use crate::metrics::Counters;
use crate::wire;
use end::End;
use futures::StreamExt as _;
use quorate_bus::{Discarded, Epoch, Hub, HubLimits, LinkId, Place, Selector, Taken};
use quorate_consensus::{AsideDowns, AsideUps, Failure, Reason, Replica};
use quorate_proto::peer::{self, aside_request::Request, aside_response::Response};
use quorate_state::{NodeId, Publication};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a new leader waits for members that may be down. Longer than a node takes to notice who
/// leads and to open its link.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// Calls that wait for that, and bytes of their messages.
const HELD_MAX: usize = 16_384;
const HELD_BYTES_MAX: usize = 64 << 20;
/// Answers that wait for a node: as many as it may have calls. Beyond it the node does not read, and
/// its link is cut.
const ANSWERS_MAX: usize = 2 * super::outgoing::CALLS_MAX;
/// Bytes of them: answers to requests are as large as messages.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Bytes after which a message to a node is full.
const MESSAGE_BYTES: usize = 1 << 20;
/// Parts after which it is.
const MESSAGE_PARTS: usize = 1_024;
/// How long what a node wants is kept after its link broke, so that it can go on where it was.
const FORGET_AFTER: Duration = Duration::from_secs(30);
/// How often nodes are looked for that did not come back.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// What this node does for the bus while it leads. Clones are the same.
#[derive(Clone)]
pub(crate) struct Leading(Arc<Shared>);

struct Shared {
    replica: Replica,
    counters: Arc<Counters>,
    accesses: Arc<Accesses>,
    term: Mutex<Option<Term>>,
}

/// What there is in one term.
struct Term {
    hub: Hub,
    epoch: Epoch,
    links: BTreeMap<NodeId, Link>,
    /// When the links of nodes broke that have not come back.
    broken: BTreeMap<NodeId, Instant>,
    last_link: u64,
    /// What is to be published once the term has settled; none: it has.
    held: Option<Settling>,
    /// When it settles at the latest.
    settles_at: Instant,
}

struct Held {
    from: Option<NodeId>,
    publish: peer::BusPublish,
}

/// What waits for the term to settle.
#[derive(Default)]
struct Settling {
    held: VecDeque<Held>,
    bytes: usize,
}

/// What waits for a node.
struct Link {
    id: LinkId,
    /// It has said all that its node wants.
    ready: bool,
    answers: VecDeque<Response>,
    answer_bytes: usize,
    /// Up to where the node was told that it has everything.
    told: Place,
    woken: Arc<Notify>,
    /// Ends the task that reads what the node says.
    over: CancellationToken,
}

impl Leading {
    pub(crate) fn new(replica: Replica, counters: Arc<Counters>, accesses: Arc<Accesses>) -> Self {
        Self(Arc::new(Shared { replica, counters, accesses, term: Mutex::default() }))
    }

    /// Takes part in whatever this node does for others, until consensus stops.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        // Weakly: the replica keeps both for as long as it lives, and this keeps the replica.
        let serving = Arc::downgrade(&self.0);
        self.0.replica.serve_asides(move |from, said| match serving.upgrade() {
            Some(leading) => Self(leading).serve(from, said),
            None => Err(Status::unavailable("this node stops; ask another one")),
        });
        let publishing = Arc::downgrade(&self.0);
        self.0.replica.on_published(move |term, namespace, publication| {
            if let Some(leading) = publishing.upgrade() {
                Self(leading).published(term, namespace, publication);
            }
        });
        let mut leader = self.0.replica.follow_leader();
        let mut forget = tokio::time::interval(FORGET_EVERY);
        loop {
            let (_, leads) = leader.now();
            let settles_at = self.lead(leads.map(Epoch));
            let settled = async {
                match settles_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = leader.changed() => {
                    if !changed {
                        break;
                    }
                }
                () = settled => self.settle(),
                _ = forget.tick() => self.forget(),
                () = stop.cancelled() => break,
            }
        }
        self.lead(None);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Term>> {
        self.0.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads in this epoch, or not; when that settles, if it has yet to.
    fn lead(&self, epoch: Option<Epoch>) -> Option<Instant> {
        let mut term = self.lock();
        if term.as_ref().map(|term| term.epoch) != epoch {
            if let Some(old) = term.take() {
                old.links.values().for_each(Link::end);
            }
            *term = epoch.map(|epoch| Term {
                hub: Hub::new(epoch, HubLimits::default()),
                epoch,
                links: BTreeMap::new(),
                broken: BTreeMap::new(),
                last_link: 0,
                held: Some(Settling::default()),
                settles_at: Instant::now() + SETTLE_MAX,
            });
        }
        term.as_ref().filter(|term| term.held.is_some()).map(|term| term.settles_at)
    }

    fn settle(&self) {
        let mut term = self.lock();
        if let Some(term) = &mut *term {
            term.settle(&self.0);
        }
    }

    fn forget(&self) {
        let mut locked = self.lock();
        let Some(term) = &mut *locked else { return };
        let now = Instant::now();
        let broken = term.broken.iter();
        let gone = broken.filter(|(_, broke)| now - **broke >= FORGET_AFTER);
        let gone: Vec<_> = gone.map(|(node, _)| *node).collect();
        for node in &gone {
            term.broken.remove(node);
        }
        let discarded: Vec<_> = gone.into_iter().map(|node| term.hub.forget(node)).collect();
        drop(locked);
        drop(discarded);
    }

    /// A node, perhaps this one, has opened its link.
    fn serve(&self, from: NodeId, said: AsideUps) -> Result<AsideDowns, Status> {
        let mut locked = self.lock();
        let Some(term) = &mut *locked else {
            return Err(Status::unavailable("this node does not lead"));
        };
        term.last_link += 1;
        let link = Link {
            id: LinkId(term.last_link),
            ready: false,
            answers: VecDeque::new(),
            answer_bytes: 0,
            told: Place::default(),
            woken: Arc::default(),
            over: CancellationToken::new(),
        };
        let end = End {
            leading: self.clone(),
            epoch: term.epoch,
            node: from,
            link: link.id,
            woken: Arc::clone(&link.woken),
            over: link.over.clone(),
        };
        if let Some(old) = term.links.insert(from, link) {
            old.end();
        }
        drop(locked);
        tokio::spawn(end.clone().read(said));
        let messages = futures::stream::unfold(end, |end| async move {
            let message = end.next().await?;
            Some((Ok(message), end))
        });
        Ok(messages.boxed())
    }

    /// A transaction of this term published something.
    fn published(&self, term: u64, namespace: &str, publication: &Publication) {
        let mut locked = self.lock();
        if let Some(led) = locked.as_mut().filter(|led| led.epoch == Epoch(term)) {
            let publish = wire::bus::of_transaction(namespace, publication);
            led.publish(&self.0, Held { from: None, publish });
        }
    }
}

impl Term {
    /// Publishes what was held.
    fn settle(&mut self, shared: &Shared) {
        for held in self.held.take().into_iter().flat_map(|waiting| waiting.held) {
            self.publish(shared, held);
        }
    }

    fn settle_if_all_came(&mut self, shared: &Shared) {
        let members = shared.replica.membership();
        let ready = |node| self.links.get(node).is_some_and(|link| link.ready);
        if self.held.is_some() && members.nodes.keys().all(ready) {
            self.settle(shared);
        }
    }

    fn answer(&mut self, node: NodeId, response: Response, bytes: usize) {
        let Some(link) = self.links.get_mut(&node) else { return };
        link.answer_bytes += bytes;
        link.answers.push_back(response);
        link.woken.notify_one();
        if link.answers.len() > ANSWERS_MAX || link.answer_bytes > ANSWER_BYTES_MAX {
            tracing::warn!(%node, "a node does not read what it is answered; its link is cut");
            link.end();
            self.broke(node);
        }
    }

    /// The link of a node is no more; it may open another.
    fn broke(&mut self, node: NodeId) {
        if let Some(link) = self.links.remove(&node) {
            self.hub.unlink(node, link.id);
            self.broken.insert(node, Instant::now());
        }
    }

    fn publish(&mut self, shared: &Shared, held: Held) {
        if let Some(waiting) = &mut self.held {
            let bytes = wire::bus::publish_bytes(&held.publish);
            if waiting.held.len() < HELD_MAX && waiting.bytes + bytes <= HELD_BYTES_MAX {
                waiting.bytes += bytes;
                waiting.held.push_back(held);
            } else if let Some(from) = held.from {
                let failure = Failure {
                    unknown: false,
                    reason: Reason::Overloaded,
                    message: format!(
                        "{} calls with {} bytes of messages wait for a new leader already",
                        waiting.held.len(),
                        waiting.bytes
                    ),
                };
                self.refuse(from, held.publish.id, failure);
            }
            return;
        }
        let Held { from, publish } = held;
        // Of a transaction nobody waits for: an older leader's messages are told by their epoch.
        if let Some(from) = from
            && shared.replica.leads_with_quorum() != Some(self.epoch.0)
        {
            let failure = Failure {
                unknown: false,
                reason: Reason::NoLeader,
                message: "the leader has not heard from a quorum for an election timeout, so \
                          another one may have been elected"
                    .to_owned(),
            };
            return self.refuse(from, publish.id, failure);
        }
        let id = publish.id;
        let (namespace, messages) = wire::bus::to_publish(publish);
        let published = match self.hub.publish_all(&namespace, messages) {
            Ok(published) => published,
            Err(refusal) => {
                // Checked where it came in, so the versions of the nodes differ.
                tracing::warn!(%refusal, "a message can't be published");
                let (reason, message) = (Reason::Fatal, refusal.to_string());
                let failure = Failure { unknown: false, reason, message };
                return from.map_or((), |from| self.refuse(from, id, failure));
            }
        };
        shared.counters.bus.published.add(published.len() as u64);
        for node in self.hub.woken() {
            if let Some(link) = self.links.get(&node) {
                link.woken.notify_one();
            }
        }
        if let Some(from) = from {
            let answer = Response::BusPublished(wire::bus::published_out(id, &published));
            let bytes = wire::bus::weight(&answer);
            self.answer(from, answer, bytes);
        }
    }

    fn refuse(&mut self, node: NodeId, id: u64, failure: Failure) {
        let failure = Some(wire::bus::failure(failure));
        let answer = peer::BusPublished { id, failure, ..Default::default() };
        self.answer(node, Response::BusPublished(answer), 128);
    }

    /// What is to be dropped outside of the lock comes back.
    fn handle(
        &mut self,
        shared: &Shared,
        node: NodeId,
        link: LinkId,
        request: Request,
    ) -> Option<Discarded> {
        match request {
            Request::Open(open) => {
                let resume = open.resume.map(|place| wire::bus::place_in(Some(place)));
                match self.hub.link(node, link, resume) {
                    Ok(start) => {
                        self.broken.remove(&node);
                        let place = Place::new(self.epoch, start.position);
                        let opened = peer::AsideOpened {
                            place: Some(wire::bus::place_out(place)),
                            resumed: start.resumed,
                        };
                        self.answer(node, Response::Opened(opened), 32);
                        return Some(start.discarded);
                    }
                    Err(refusal) => {
                        tracing::warn!(%node, %refusal, "a node can't have a link");
                        self.broke(node);
                    }
                }
            }
            Request::Ready(_) => {
                if let Some(link) = self.links.get_mut(&node) {
                    link.ready = true;
                }
                let place = wire::bus::place_out(self.hub.position());
                self.answer(node, Response::Ready(place), 32);
                self.settle_if_all_came(shared);
            }
            Request::BusInterest(interest) => {
                let change = wire::bus::interest_in(interest);
                let set = change.and_then(|change| self.hub.set_interest(node, link, &[change]));
                if let Err(refusal) = set {
                    tracing::warn!(%node, %refusal, "interest of a node is not recorded");
                }
            }
            Request::BusSubscribe(subscribe) => self.subscribe(node, subscribe),
            Request::BusPublish(publish) => {
                self.publish(shared, Held { from: Some(node), publish });
            }
            Request::BusReply(reply) => self.reply(node, reply),
            Request::BusReplyTaken(taken) => {
                let done = peer::BusReplyDone { id: taken.id, taken: taken.taken };
                self.answer(NodeId(taken.node_id), Response::BusReplyDone(done), 16);
            }
            Request::BusList(list) => {
                let id = list.id;
                let listed = wire::bus::listed_out(&self.hub, list);
                let listed =
                    listed.unwrap_or_else(|_| peer::BusListed { id, ..Default::default() });
                let response = Response::BusListed(listed);
                let bytes = wire::bus::weight(&response);
                self.answer(node, response, bytes);
            }
            Request::CacheReads(reads) => shared.accesses.told(&reads.hashes),
        }
        None
    }

    fn subscribe(&mut self, node: NodeId, subscribe: peer::BusSubscribe) {
        let peer::BusSubscribe { id, resume, namespace, patterns, in_group } = subscribe;
        let start = self.hub.position();
        let mut confirmed = peer::BusConfirmed {
            id,
            place: Some(wire::bus::place_out(start)),
            missed: None,
            failure: None,
        };
        if let Some(resume) = resume {
            let after = wire::bus::place_in(Some(resume));
            if after.epoch > self.epoch {
                confirmed.failure = Some(wire::bus::failure(Failure {
                    unknown: false,
                    reason: Reason::NotLeader,
                    message: format!(
                        "the subscription has seen epoch {}, and the leader of this node is of epoch \
                         {}",
                        after.epoch, self.epoch
                    ),
                }));
            } else {
                let selectors: Vec<_> =
                    patterns.iter().filter_map(|text| Selector::parse(text).ok()).collect();
                let missed = self.hub.missed(&namespace, &selectors, after, start.position);
                // Which member of a group they would have gone to nobody knows.
                confirmed.missed = missed.filter(|missed| *missed == 0 || !in_group);
            }
        }
        self.answer(node, Response::BusConfirmed(confirmed), 64);
    }

    fn reply(&mut self, from: NodeId, reply: peer::BusReply) {
        let peer::BusReply { id, reply_to, content } = reply;
        let to = super::ReplyTo::parse(&reply_to).map(|to| to.node);
        match to {
            Some(to) if self.links.contains_key(&to) => {
                let bytes = content.as_ref().map_or(0, |content| content.payload.len()) + 256;
                let answer = peer::BusAnswer { node_id: from.0, id, reply_to, content };
                self.answer(to, Response::BusAnswer(answer), bytes);
            }
            _ => {
                let done = peer::BusReplyDone { id, taken: false };
                self.answer(from, Response::BusReplyDone(done), 16);
            }
        }
    }

    /// What a link has to say next.
    fn message(&mut self, counters: &Counters, node: NodeId) -> Vec<Response> {
        let Some(link) = self.links.get_mut(&node) else { return Vec::new() };
        let (mut responses, mut bytes) = (Vec::new(), 0);
        while responses.len() < MESSAGE_PARTS
            && bytes < MESSAGE_BYTES
            && let Some(response) = link.answers.pop_front()
        {
            bytes += wire::bus::weight(&response);
            responses.push(response);
        }
        link.answer_bytes =
            if link.answers.is_empty() { 0 } else { link.answer_bytes.saturating_sub(bytes) };
        if !link.answers.is_empty() || bytes >= MESSAGE_BYTES {
            return responses;
        }
        let parts = MESSAGE_PARTS - responses.len().min(MESSAGE_PARTS - 1);
        let Ok(taken) = self.hub.take(node, link.id, MESSAGE_BYTES - bytes, parts) else {
            return responses;
        };
        let Taken { lost, deliveries, through, .. } = taken;
        responses.extend(lost.into_iter().map(|lost| Response::BusLost(wire::bus::lost_out(lost))));
        counters.bus.sent_to_nodes.add(deliveries.len() as u64);
        let moved = !deliveries.is_empty() || through > link.told;
        responses.extend(
            deliveries.into_iter().map(|one| Response::BusDelivery(wire::bus::delivery_out(one))),
        );
        if moved {
            link.told = through;
            responses.push(Response::BusThrough(wire::bus::place_out(through)));
        }
        responses
    }
}

impl Link {
    fn end(&self) {
        self.over.cancel();
        self.woken.notify_one();
    }
}
