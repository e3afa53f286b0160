//! Consumers: jobs as they are given to them, as fast as their clients read.
//!
//! ```text
//!  Consume ──► open ──► ConsumerAttach ──► what it held before ──┐
//!                 │                                              ├──► messages, when asked for
//!                 └─► Mailbox ◄── News ◄── what this node applies┘
//! ```
//!
//! The mailbox is opened before the log hears of the consumer: from the entry on that attaches it,
//! jobs may be given to it. Jobs are handed over in the order of their leases, which grow; so one
//! number says which of them were ([`Presence::delivered`]), and what a stream that ends says in the
//! log (`ConsumerDetach`) sends the others back as if they had not been delivered.
//!
//! A consumer that is taken for gone while its stream is there, because its node could not be reached
//! for a while, comes back if it has a session, and so does one that may have missed something. One
//! without a session has ended then: its client opens another, and what it works on stays its own.

use super::slow_reader::Watched;
use super::status::not_applied;
use super::{Context, Deadline, Refused, refusals, say};
use crate::connections::ConnectionState;
use crate::metrics::Counters;
use crate::news::{Mailbox, Stray};
use crate::wire;
use futures::{FutureExt as _, StreamExt as _};
use http::Extensions;
use prost::Message as _;
use quorate_consensus::{Committed, Failure, Reason};
use quorate_proto::v1;
use quorate_proto::v1::consume_request::Request as Asked;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_state::{
    AssignedJob, Caller, Command, ConsumerAttach, ConsumerDetach, ConsumerId, ConsumerResize,
    Envelope, JobId, JobLease, Outcome, Rejection, query,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};

/// Consumers of a node, as many as watches. One takes about 2 KiB, and 64 KiB while a message is made
/// for it; what it was given takes 60 bytes each.
pub(super) const CONSUMERS_MAX: usize = 10_000;
/// A stream whose client has not opened it for so long is ended.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How long a consumer may be on its way into the log before its client is told to go elsewhere.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a message, if one job alone does not have more: what a client that does not read costs.
const MESSAGE_BYTES: usize = 64 << 10;
/// Jobs of a message: so many are read from the tables at once.
const MESSAGE_JOBS: usize = 256;
/// Messages of a client that are looked at before it is told something again.
const HEARD_AT_ONCE: usize = 64;

/// Consumers of an earlier process that are sent away at once.
const SAID_AT_ONCE: usize = 64;

/// The messages of one stream.
pub(super) type Deliveries = Watched<v1::ConsumeResponse>;

/// What a consumer holds of the bounds, until what is to be said when it ends was said.
pub(super) struct Places {
    _of_node: OwnedSemaphorePermit,
    /// None in a simulation, whose connections are its own.
    _of_connection: Option<OwnedSemaphorePermit>,
}

/// Counts a stream while it is open.
struct Counted(Arc<Counters>);

impl Counted {
    fn new(counters: &Arc<Counters>) -> Self {
        counters.consumers.open.enter();
        Self(Arc::clone(counters))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.consumers.open.leave();
    }
}

/// Places for one more consumer.
pub(super) fn places(context: &Context, extensions: &Extensions) -> Result<Places, Status> {
    let full = |count: usize, of: &str, what: &str| {
        let message = format!("there are {count} consumers on this {of} already; {what}");
        not_applied(Code::ResourceExhausted, "TOO_MANY_CONSUMERS", message)
    };
    let of_connection = match extensions.get::<Arc<ConnectionState>>() {
        None => None,
        Some(connection) => {
            let place = Arc::clone(&connection.consumers).try_acquire_owned().map_err(|_| {
                let what = "end one first, give one a larger window, or use another connection";
                full(ConnectionState::CONSUMERS_MAX, "connection", what)
            })?;
            Some(place)
        }
    };
    let of_node = Arc::clone(&context.consumers).try_acquire_owned();
    let of_node = of_node.map_err(|_| full(CONSUMERS_MAX, "node", "use another node"))?;
    Ok(Places { _of_node: of_node, _of_connection: of_connection })
}

/// Begins a stream; what is wrong with its opening is told in it.
pub(super) fn start(
    context: &Context,
    requests: Streaming<v1::ConsumeRequest>,
    places: Places,
) -> Deliveries {
    let counted = Counted::new(&context.counters);
    let new = New { context: context.clone(), requests, places, counted };
    let new = Stage::New(Box::new(new));
    let counters = Arc::clone(&context.counters);
    let cut = move || counters.consumers.slow_readers_cut.count();
    let messages = futures::stream::unfold(Some(new), next).boxed();
    Watched::new(messages, context.slow_reader_max, slow_reader, cut)
}

type Item = Result<v1::ConsumeResponse, Status>;

enum Stage {
    New(Box<New>),
    Open(Box<Consumer>),
}

/// The next message; the stream is over after an error.
async fn next(stage: Option<Stage>) -> Option<(Item, Option<Stage>)> {
    let next = match stage? {
        Stage::New(new) => new.open().await.map(|consumer| (Some(consumer.opened()), consumer)),
        Stage::Open(mut consumer) => consumer.next().await.map(|told| (told, consumer)),
    };
    match next {
        Ok((told, consumer)) => {
            let message = v1::ConsumeResponse { response: Some(told?) };
            Some((Ok(message), Some(Stage::Open(consumer))))
        }
        Err(status) => Some((Err(status), None)),
    }
}

/// A stream that is not open yet.
struct New {
    context: Context,
    requests: Streaming<v1::ConsumeRequest>,
    places: Places,
    counted: Counted,
}

impl New {
    async fn open(mut self: Box<Self>) -> Result<Box<Consumer>, Status> {
        let asked = self.asked().await?;
        let deadline = Deadline::within(ATTACH_WITHIN);
        let Self { context, requests, places, counted } = *self;
        let mailbox = Mailbox::open(&context.news, context.attachment());
        let attachment = mailbox.attachment();
        let wire::queue::Open { namespace, queue, session, consumer, window } = asked;
        let attach = ConsumerAttach { queue: queue.clone(), consumer, session, window, attachment };
        let envelope = Envelope {
            namespace: namespace.clone(),
            // Attached twice, one that is known is where it is; a new one would be two.
            caller: match consumer {
                Some(_) => Caller::Anonymous,
                None => Caller::Idempotency { key: key_of(&mailbox) },
            },
            guard: None,
            command: Command::ConsumerAttach(attach),
        };
        let mut presence = Presence {
            context: context.clone(),
            runtime: Handle::current(),
            mailboxes: vec![mailbox],
            who: match consumer {
                Some(consumer) => Who::Known(consumer),
                None => Who::Asked(Box::new(envelope.clone())),
            },
            // Until it is known what it has, it may be working on all of it.
            delivered: if consumer.is_some() { JobLease(u64::MAX) } else { JobLease(0) },
            places: Some(places),
        };
        let committed = match attach_by(&context, &envelope, deadline).await {
            Ok(committed) => committed,
            Err(failure) => {
                if !failure.unknown {
                    presence.who = Who::Nobody;
                }
                return Err(Refused::from(failure).into());
            }
        };
        let Outcome::ConsumerAttach { consumer: id, mut held } = committed.outcome else {
            presence.who = Who::Nobody;
            return Err(wire::unexpected(committed.outcome).into());
        };
        held.sort_unstable_by_key(|job| job.lease);
        // Whatever it had was delivered elsewhere, as far as is known.
        let seen = held.last().map_or(JobLease(0), |job| job.lease);
        (presence.who, presence.delivered) = (Who::Known(id), seen);
        let remaining = deadline.remaining();
        context.replica.wait_index(committed.index, remaining).await.map_err(Refused::from)?;
        Ok(Box::new(Consumer {
            context,
            requests: Some(requests),
            namespace,
            attach: ConsumerAttach { queue, consumer: Some(id), session, window, attachment },
            id,
            presence,
            held: held.into(),
            withdrawn: VecDeque::new(),
            seen,
            window,
            resizing: None,
            lost: false,
            _counted: counted,
        }))
    }

    /// What the first message asks for.
    async fn asked(&mut self) -> Result<wire::queue::Open, Status> {
        let refused = |reason, message: &str| {
            Err(not_applied(Code::InvalidArgument, reason, message.to_owned()))
        };
        let first = tokio::select! {
            first = tokio::time::timeout(OPEN_WITHIN, self.requests.next()) => first,
            () = self.context.stop.cancelled() => return Err(stopping()),
        };
        match first {
            Ok(Some(Ok(v1::ConsumeRequest { request: Some(Asked::Open(open)) }))) => {
                Ok(wire::queue::open(open).map_err(Refused::from)?)
            }
            Ok(Some(Ok(v1::ConsumeRequest { request: Some(Asked::Window(_)) }))) => {
                refused("NOT_OPEN", "the first message changes a window; it must open the stream")
            }
            Ok(Some(Ok(v1::ConsumeRequest { request: None }))) => Err(unknown_request()),
            Ok(Some(Err(status))) => Err(refusals::put_into_words(&status, &self.context.limits)),
            Ok(None) => refused("NOT_OPEN", "the stream ended before it was opened"),
            Err(_) => Err(not_applied(
                Code::DeadlineExceeded,
                "NOT_OPEN",
                format!("the stream was not opened within {OPEN_WITHIN:?}; send what to consume"),
            )),
        }
    }
}

/// What a new consumer is recognised by when the entry that makes it is asked for again: no other
/// place has this number.
fn key_of(mailbox: &Mailbox) -> bytes::Bytes {
    let at = mailbox.attachment();
    [at.node.0.to_be_bytes(), at.call.to_be_bytes()].concat().into()
}

/// Puts a consumer into the log. When its fate is open it is put there again, which changes nothing.
async fn attach_by(
    context: &Context,
    envelope: &Envelope,
    deadline: Deadline,
) -> Result<Committed, Failure> {
    let mut unknown = false;
    loop {
        match context.replica.propose(envelope.clone(), deadline.remaining()).await {
            Ok(committed) => return Ok(committed),
            Err(failure) => {
                unknown |= failure.unknown;
                if !failure.unknown || deadline.remaining() <= say::SAY_AGAIN {
                    return Err(Failure { unknown, ..failure });
                }
                tokio::time::sleep(say::SAY_AGAIN).await;
            }
        }
    }
}

/// That a consumer is here. When it is dropped this is not so any more, which is said in the log
/// until it is known there.
struct Presence {
    context: Context,
    runtime: Handle,
    /// Where it is; besides where it may come to be, which is the last.
    mailboxes: Vec<Mailbox>,
    who: Who,
    /// Everything up to here was handed to the connection, or to one before.
    delivered: JobLease,
    /// Free only after the farewell, or streams that come and go without a quorum would leave any
    /// number of those behind.
    places: Option<Places>,
}

enum Who {
    Known(ConsumerId),
    /// The one that this makes: the same for as often as it is asked for.
    Asked(Box<Envelope>),
    /// It did not come to be.
    Nobody,
}

impl Presence {
    fn mailbox(&self) -> &Mailbox {
        self.mailboxes.first().expect("there is one until it is dropped")
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mailboxes = std::mem::take(&mut self.mailboxes);
        let who = std::mem::replace(&mut self.who, Who::Nobody);
        let (context, delivered) = (self.context.clone(), self.delivered);
        let places = self.places.take();
        let farewell = async move {
            let _until_said = places;
            let consumer = match who {
                Who::Nobody => return,
                Who::Known(consumer) => consumer,
                Who::Asked(envelope) => match say::find(&context, *envelope).await {
                    Some(Committed {
                        outcome: Outcome::ConsumerAttach { consumer, .. }, ..
                    }) => consumer,
                    _ => return,
                },
            };
            let detach = |mailbox: &Mailbox| {
                let attachment = mailbox.attachment();
                let detach = ConsumerDetach { consumer, attachment, delivered };
                say::until_applied(&context, Command::ConsumerDetach(detach))
            };
            // They stay open so long: what comes meanwhile is known to be looked after.
            futures::future::join_all(mailboxes.iter().map(detach)).await;
        };
        self.context.calls_that_wait.spawn_on(farewell, &self.runtime);
    }
}

/// A stream that is open.
struct Consumer {
    context: Context,
    /// None once the client has sent everything.
    requests: Option<Streaming<v1::ConsumeRequest>>,
    namespace: String,
    /// How it comes back, with the window that its client asked for last.
    attach: ConsumerAttach,
    id: ConsumerId,
    presence: Presence,
    /// Jobs that it has and that were not handed over here, in the order of their leases; what was
    /// given to it since then is in the mailbox.
    held: VecDeque<AssignedJob>,
    /// Jobs that were taken from it and that its client has heard of, before those in the mailbox.
    withdrawn: VecDeque<(JobId, JobLease)>,
    /// The newest job that was taken in, handed over or not.
    seen: JobLease,
    /// As the log has it.
    window: u32,
    resizing: Option<AbortOnDropHandle<Resized>>,
    /// It was found not to be here any more: it changes no window until it hears of that.
    lost: bool,
    _counted: Counted,
}

/// What became of a change of the window.
type Resized = Result<(u32, Outcome), Failure>;

/// What ends a wait for something to say.
enum Woken {
    News,
    Heard(Option<Result<v1::ConsumeRequest, Status>>),
    Resized(Resized),
    Stopping,
}

impl Consumer {
    /// Nothing was taken in yet: what it has is what it had when it came. Whatever of that is taken
    /// from it since then it is told, as of all that its client has heard of.
    fn opened(&self) -> Told {
        let group_id = self.context.replica.group().0;
        let held_leases = self.held.iter().map(|job| job.lease.0).collect();
        Told::Opened(v1::ConsumeOpened { consumer_id: self.id.0, group_id, held_leases })
    }

    /// What its client is told next; none once it can't want anything more.
    async fn next(&mut self) -> Result<Option<Told>, Status> {
        loop {
            if self.context.stop.is_cancelled() {
                return Err(stopping());
            }
            self.listen()?;
            // What was taken from it before it left is in the mailbox by then.
            let mailbox = self.presence.mailbox();
            let unsure = mailbox.has_left() || mailbox.has_missed();
            self.take_in();
            if let Some((JobId(job_id), JobLease(lease))) = self.withdrawn.pop_front() {
                return Ok(Some(Told::Withdrawn(v1::JobWithdrawn { job_id, lease })));
            }
            if unsure {
                self.look_for_itself().await?;
                continue;
            }
            let jobs = self.jobs()?;
            if !jobs.is_empty() {
                return Ok(Some(Told::Jobs(v1::DeliveredJobs { jobs })));
            }
            // Everything that was sent can be read before the end; what comes still is handed back.
            if self.requests.is_none() && self.attach.window == 0 && self.window == 0 {
                return Ok(None);
            }
            match self.woken().await {
                Woken::News => {}
                Woken::Heard(Some(request)) => self.asked(request)?,
                Woken::Heard(None) => self.requests = None,
                Woken::Resized(resized) => self.resized(resized)?,
                Woken::Stopping => return Err(stopping()),
            }
        }
    }

    async fn woken(&mut self) -> Woken {
        let Self { context, presence, requests, resizing, .. } = self;
        let heard = async {
            match requests {
                Some(requests) => requests.next().await,
                None => std::future::pending().await,
            }
        };
        let resized = async {
            match resizing {
                Some(resizing) => resizing.await.unwrap_or_else(|_| Err(never_told())),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = presence.mailbox().news() => Woken::News,
            heard = heard => Woken::Heard(heard),
            resized = resized => Woken::Resized(resized),
            () = context.stop.cancelled() => Woken::Stopping,
        }
    }

    /// Takes in what its client has sent, without waiting for it: there may always be something to
    /// say.
    fn listen(&mut self) -> Result<(), Status> {
        for _ in 0..HEARD_AT_ONCE {
            let Some(requests) = &mut self.requests else { break };
            match requests.next().now_or_never() {
                None => break,
                Some(Some(request)) => self.asked(request)?,
                Some(None) => self.requests = None,
            }
        }
        if let Some(resizing) = &mut self.resizing
            && let Some(resized) = resizing.now_or_never()
        {
            self.resized(resized.unwrap_or_else(|_| Err(never_told())))?;
        }
        if self.resizing.is_none() && !self.lost && self.window != self.attach.window {
            self.resize();
        }
        Ok(())
    }

    fn asked(&mut self, request: Result<v1::ConsumeRequest, Status>) -> Result<(), Status> {
        let request =
            request.map_err(|status| refusals::put_into_words(&status, &self.context.limits))?;
        match request.request {
            Some(Asked::Window(window)) => {
                self.attach.window = wire::queue::window(window).map_err(Refused::from)?;
                Ok(())
            }
            Some(Asked::Open(_)) => Err(not_applied(
                Code::InvalidArgument,
                "ALREADY_OPEN",
                "the stream is open already; open another one for another queue",
            )),
            None => Err(unknown_request()),
        }
    }

    /// Changes the window as its client asked for last; one change is on its way at most.
    fn resize(&mut self) {
        let (context, window) = (self.context.clone(), self.attach.window);
        let (consumer, attachment) = (self.id, self.presence.mailbox().attachment());
        let command = Command::ConsumerResize(ConsumerResize { consumer, attachment, window });
        let resizing = tokio::spawn(async move {
            loop {
                let said = context.replica.propose(say::own(command.clone()), say::SAY).await;
                if let Ok(Committed { index, outcome }) = said {
                    context.replica.wait_index(index, say::SAY).await?;
                    return Ok((window, outcome));
                }
                tokio::time::sleep(say::SAY_AGAIN).await;
            }
        });
        self.resizing = Some(AbortOnDropHandle::new(resizing));
    }

    fn resized(&mut self, resized: Resized) -> Result<(), Status> {
        self.resizing = None;
        match resized.map_err(Refused::from)? {
            (window, Outcome::Done) => self.window = window,
            (_, Outcome::Rejected(Rejection::ConsumerGone(_))) => self.lost = true,
            (_, other) => return Err(wire::unexpected(other).into()),
        }
        Ok(())
    }

    /// Takes in what the mailbox has. A job that was taken from it before its client heard of it is
    /// not told of at all.
    fn take_in(&mut self) {
        let Self { presence, held, withdrawn, seen, .. } = self;
        let mailbox = presence.mailbox();
        while let Some((id, lease)) = mailbox.next_withdrawn() {
            if let Ok(at) = held.binary_search_by_key(&lease, |job| job.lease) {
                held.remove(at);
            }
            if lease <= presence.delivered {
                withdrawn.push_back((id, lease));
            }
        }
        while let Some(job) = mailbox.next_assigned() {
            // What it had when it came, and was given by the same entries, it has from those.
            if job.lease > *seen {
                *seen = job.lease;
                held.push_back(job);
            }
        }
    }

    /// Jobs for the next message: as many as fit, one at least if there is any.
    fn jobs(&mut self) -> Result<Vec<v1::DeliveredJob>, Status> {
        let mut jobs = Vec::new();
        let mut bytes = 0;
        // After they were taken in: a view from before does not have the newest ones.
        let (view, group) = (self.context.replica.stale(), self.context.replica.group());
        while bytes < MESSAGE_BYTES
            && jobs.len() < MESSAGE_JOBS
            && let Some(next) = self.held.pop_front()
        {
            // One whose lease has ended meanwhile was never here.
            let delivery = query::delivery(&*view.tables, group, &next).map_err(Refused::from)?;
            let Some(item) = delivery else { continue };
            let job = wire::queue::delivered(&next, item);
            bytes += job.encoded_len();
            if bytes > MESSAGE_BYTES && !jobs.is_empty() {
                self.held.push_front(next);
                break;
            }
            jobs.push(job);
            self.presence.delivered = self.presence.delivered.max(next.lease);
        }
        self.context.counters.consumers.deliveries.add(jobs.len() as u64);
        Ok(jobs)
    }

    /// It left, or may have missed that: finds out where it is by now, and comes back if it is
    /// nowhere else.
    async fn look_for_itself(&mut self) -> Result<(), Status> {
        let (view, group) = (self.context.replica.stale(), self.context.replica.group());
        let standing = query::consumer(&*view.tables, group, self.id).map_err(Refused::from)?;
        drop(view);
        let here = self.presence.mailbox().attachment();
        match standing {
            None => Err(self.gone()),
            Some(Some(at)) if at != here => Err(not_applied(
                Code::Unavailable,
                "CONSUMER_MOVED",
                format!(
                    "consumer {} went on with another stream; it gets its jobs there, so leave it \
                     there",
                    self.id
                ),
            )),
            Some(_) => self.come_back().await,
        }
    }

    /// Attaches again, at a new place: what is said of the old one is late from then on. What it has
    /// and was not given here comes first.
    async fn come_back(&mut self) -> Result<(), Status> {
        let deadline = Deadline::within(ATTACH_WITHIN);
        let mailbox = Mailbox::open(&self.context.news, self.context.attachment());
        self.attach.attachment = mailbox.attachment();
        self.presence.mailboxes.push(mailbox);
        self.resizing = None;
        let envelope = Envelope {
            namespace: self.namespace.clone(),
            ..say::own(Command::ConsumerAttach(self.attach.clone()))
        };
        let committed = attach_by(&self.context, &envelope, deadline);
        let committed = committed.await.map_err(Refused::from)?;
        let Outcome::ConsumerAttach { mut held, .. } = committed.outcome else {
            return Err(match committed.outcome {
                Outcome::Rejected(Rejection::ConsumerGone(_) | Rejection::QueueUnknown { .. }) => {
                    self.gone()
                }
                other => wire::unexpected(other).into(),
            });
        };
        let remaining = deadline.remaining();
        let applied = self.context.replica.wait_index(committed.index, remaining).await;
        applied.map_err(Refused::from)?;
        self.take_in();
        self.presence.mailboxes.remove(0);
        held.retain(|job| job.lease > self.seen);
        held.sort_unstable_by_key(|job| job.lease);
        self.seen = held.last().map_or(self.seen, |job| job.lease);
        self.held.extend(held);
        self.window = self.attach.window;
        self.lost = false;
        Ok(())
    }

    /// What its client is told once it has ended.
    fn gone(&self) -> Status {
        let (view, group) = (self.context.replica.stale(), self.context.replica.group());
        let tables = &*view.tables;
        let queue = query::queue(tables, group, &self.namespace, &self.attach.queue);
        let session = self.attach.session.map(|id| query::session_exists(tables, group, id));
        let why = if queue.is_ok_and(|queue| queue.is_none()) {
            "because its queue was deleted"
        } else if session.is_some_and(|exists| exists.is_ok_and(|exists| !exists)) {
            "with its session"
        } else {
            "because its node could not be reached; what it works on is its own as long as its \
             leases last"
        };
        not_applied(
            Code::NotFound,
            "CONSUMER_GONE",
            format!("consumer {} has ended {why}; open a new one", self.id),
        )
    }
}

fn stopping() -> Status {
    let message = "this node is stopping; open the stream on another one".to_owned();
    Refused::Failed(Failure { unknown: false, reason: Reason::ShuttingDown, message }).into()
}

fn never_told() -> Failure {
    let message = "a change of the window was not seen through; this is a bug".to_owned();
    Failure { unknown: true, reason: Reason::Fatal, message }
}

fn unknown_request() -> Status {
    not_applied(
        Code::InvalidArgument,
        "UNKNOWN_REQUEST",
        "the message asks for nothing that this version knows; compare the versions of client and \
         server",
    )
}

fn slow_reader(max: Duration) -> Status {
    not_applied(
        Code::ResourceExhausted,
        "SLOW_READER",
        format!(
            "jobs have waited for {max:?} without being read; those that were not sent go to \
             others. Open a new stream, with a window that its workers keep up with"
        ),
    )
}

/// Sends consumers away that have no stream here: first those of an earlier process of this node,
/// then whoever is given jobs here all the same, because what was to be said of it when it ended was
/// not heard.
pub(crate) async fn look_after(context: Context, mut strays: mpsc::Receiver<Stray>) {
    let stop = context.stop.clone();
    let look_after = async {
        send_predecessors_away(&context).await;
        while let Some(stray) = strays.recv().await {
            send_away(&context, stray).await;
        }
    };
    tokio::select! {
        () = look_after => {}
        () = stop.cancelled() => {}
    }
}

/// A process that ended in order has said so of its consumers and pulls itself.
async fn send_predecessors_away(context: &Context) {
    let view = loop {
        match context.replica.read(say::SAY).await {
            Ok(view) => break view,
            Err(_) => tokio::time::sleep(say::SAY_AGAIN).await,
        }
    };
    let node = context.replica.node_id();
    let here = match query::consumers_on(&*view.tables, context.replica.group(), node) {
        Ok(here) => here,
        Err(error) => {
            tracing::warn!(%error, "who consumed on this node before can't be read");
            return;
        }
    };
    drop(view);
    let before = here.into_iter().filter(|(_, at)| !context.is_own(*at));
    let said = before.map(|(consumer, attachment)| {
        // What was handed over nobody knows any more.
        let delivered = JobLease(u64::MAX);
        let detach = ConsumerDetach { consumer, attachment, delivered };
        say::until_applied(context, Command::ConsumerDetach(detach))
    });
    futures::stream::iter(said).buffer_unordered(SAID_AT_ONCE).for_each(async |()| {}).await;
}

async fn send_away(context: &Context, stray: Stray) {
    let Stray { consumer, attachment, lease } = stray;
    // A node that was away is told again of what has long changed.
    let Ok(view) = context.replica.read(say::SAY).await else { return };
    let standing = query::consumer(&*view.tables, context.replica.group(), consumer);
    drop(view);
    if !matches!(standing, Ok(Some(Some(at))) if at == attachment) {
        return;
    }
    tracing::info!(%consumer, "a consumer that nobody is there for is given jobs: it is detached");
    let delivered = JobLease(lease.0.saturating_sub(1));
    let detach = Command::ConsumerDetach(ConsumerDetach { consumer, attachment, delivered });
    // If it fails it is found again.
    let _ = context.replica.propose(say::own(detach), say::SAY).await;
}
