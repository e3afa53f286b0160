//! A stream that is open: what its client is told and asks for, and how it comes back.

use super::places::Counted;
use super::presence::Presence;
use super::{ATTACH_WITHIN, attach_by, stopping, unknown_request};
use crate::grpc::status::not_applied;
use crate::grpc::{Context, Deadline, Refused, refusals, say};
use crate::news::{Mail, Mailbox};
use crate::wire;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use quorate_consensus::{Committed, Failure, Reason};
use quorate_proto::v1;
use quorate_proto::v1::consume_request::Request as Asked;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_state::{
    AssignedJob, Command, ConsumerAttach, ConsumerId, ConsumerResize, Envelope, JobId, JobLease,
    Outcome, Rejection, query,
};
use std::collections::{BTreeMap, VecDeque};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};

/// Bytes of a message, if one job alone does not have more: what a client that does not read costs.
const MESSAGE_BYTES: usize = 64 << 10;
/// Jobs of a message: so many are read from the tables at once.
const MESSAGE_JOBS: usize = 256;
/// Messages of a client that are looked at before it is told something again.
const HEARD_AT_ONCE: usize = 64;

/// A stream that is open.
pub(super) struct Consumer {
    pub(super) context: Context,
    /// None once the client has sent everything.
    pub(super) requests: Option<Streaming<v1::ConsumeRequest>>,
    pub(super) namespace: String,
    /// How it comes back, with the window that its client asked for last.
    pub(super) attach: ConsumerAttach,
    pub(super) id: ConsumerId,
    pub(super) presence: Presence,
    /// Jobs that it has and that were not handed over here, in the order of their leases; what was
    /// given to it since then is in the mailbox.
    pub(super) held: VecDeque<AssignedJob>,
    /// Jobs that were taken from it and that its client has heard of, before those in the mailbox.
    pub(super) withdrawn: VecDeque<(JobId, JobLease)>,
    /// The newest job that was taken in, handed over or not.
    pub(super) seen: JobLease,
    /// As the log has it.
    pub(super) window: u32,
    pub(super) resizing: Option<AbortOnDropHandle<Resized>>,
    /// It was found not to be here any more: it changes no window until it hears of that.
    pub(super) lost: bool,
    /// It has ended, and is told so once it was told of every job it has: to be done and settled
    /// they need no more than their leases, and nobody else has them.
    pub(super) over: bool,
    pub(super) _counted: Counted,
}

/// What became of a change of the window; none when that was not known in time.
type Resized = Result<Option<(u32, Outcome)>, Failure>;

/// What ends a wait for something to say.
enum Woken {
    News,
    Heard(Option<Result<v1::ConsumeRequest, Status>>),
    Resized(Resized),
    Stopping,
}

impl Consumer {
    /// What its client is told when it has come, with what it had then. Whatever of that is taken
    /// from it since then it is told, as of all that its client has heard of.
    pub(super) fn opened<'a>(&self, had: impl IntoIterator<Item = &'a AssignedJob>) -> Told {
        let group_id = self.context.replica.group().0;
        let held_leases = had.into_iter().map(|job| job.lease.0).collect();
        Told::Opened(v1::ConsumeOpened { consumer_id: self.id.0, group_id, held_leases })
    }

    /// What its client is told next; none once it can't want anything more.
    pub(super) async fn next(&mut self) -> Result<Option<Told>, Status> {
        loop {
            if self.context.stop.is_cancelled() {
                return Err(stopping());
            }
            self.listen()?;
            let Mail { assigned, withdrawn, left, missed } = self.presence.mailbox().collect();
            self.take_in(assigned, withdrawn);
            if let Some((JobId(job_id), JobLease(lease))) = self.withdrawn.pop_front() {
                return Ok(Some(Told::Withdrawn(v1::JobWithdrawn { job_id, lease })));
            }
            if (left || missed) && !self.over {
                match self.look_for_itself().await? {
                    Some(opened) => return Ok(Some(opened)),
                    None => self.over = true,
                }
            }
            let jobs = self.jobs()?;
            if !jobs.is_empty() {
                return Ok(Some(Told::Jobs(v1::DeliveredJobs { jobs })));
            }
            if self.over {
                return Err(self.gone());
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
        if self.resizing.is_none() && !(self.lost || self.over) && self.window != self.attach.window
        {
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
            let said = say::find(&context, say::own(command)).await;
            let Some(Committed { index, outcome, .. }) = said else { return Ok(None) };
            context.replica.wait_index(index, say::SAY).await?;
            Ok(Some((window, outcome)))
        });
        self.resizing = Some(AbortOnDropHandle::new(resizing));
    }

    fn resized(&mut self, resized: Resized) -> Result<(), Status> {
        self.resizing = None;
        match resized.map_err(Refused::from)? {
            // It is asked for again.
            None => {}
            Some((window, Outcome::Done)) => self.window = window,
            Some((_, Outcome::Rejected(Rejection::ConsumerGone(_)))) => self.lost = true,
            Some((_, other)) => return Err(wire::unexpected(other).into()),
        }
        Ok(())
    }

    /// Takes in what was in the mailbox. A job that was taken from it before its client heard of it is
    /// not told of at all.
    fn take_in(
        &mut self,
        assigned: BTreeMap<JobLease, AssignedJob>,
        taken: VecDeque<(JobId, JobLease)>,
    ) {
        let Self { presence, held, withdrawn, seen, .. } = self;
        for (id, lease) in taken {
            if let Ok(at) = held.binary_search_by_key(&lease, |job| job.lease) {
                held.remove(at);
            }
            if lease <= presence.delivered {
                withdrawn.push_back((id, lease));
            }
        }
        // What it had when it came, and was given by the same entries, it has from those.
        let new = assigned.into_values().filter(|job| job.lease > *seen);
        held.extend(new);
        *seen = held.back().map_or(*seen, |job| job.lease.max(*seen));
    }

    /// Jobs for the next message: as many as fit, one at least if there is any.
    fn jobs(&mut self) -> Result<Vec<v1::DeliveredJob>, Status> {
        let mut jobs = Vec::new();
        if self.held.is_empty() {
            return Ok(jobs);
        }
        let mut bytes = 0;
        // After they were taken in: a view from before does not have the newest ones.
        let (view, group) = (self.context.replica.stale(), self.context.replica.group());
        let (tables, now) = (&*view.tables, query::clocks(&*view.tables, group));
        let now = now.map_err(Refused::from)?;
        while bytes < MESSAGE_BYTES
            && jobs.len() < MESSAGE_JOBS
            && let Some(next) = self.held.pop_front()
        {
            // One whose lease has ended meanwhile was never here.
            let delivery = query::delivery(tables, group, now, &next).map_err(Refused::from)?;
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
    /// nowhere else. None when it has ended.
    async fn look_for_itself(&mut self) -> Result<Option<Told>, Status> {
        let (view, group) = (self.context.replica.stale(), self.context.replica.group());
        let standing = query::consumer(&*view.tables, group, self.id).map_err(Refused::from)?;
        drop(view);
        let here = self.presence.mailbox().attachment();
        match standing {
            None => Ok(None),
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

    /// Attaches again, at a new place: what is said of the old one is late from then on. Its client
    /// is told what it has, as of what was taken from it meanwhile nobody told it. None when it has
    /// ended.
    async fn come_back(&mut self) -> Result<Option<Told>, Status> {
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
        let mut held = match committed.outcome {
            Outcome::ConsumerAttach { held, .. } => held,
            Outcome::Rejected(Rejection::ConsumerGone(_) | Rejection::QueueUnknown { .. }) => {
                return Ok(None);
            }
            other => return Err(wire::unexpected(other).into()),
        };
        let remaining = deadline.remaining();
        let applied = self.context.replica.wait_index(committed.index, remaining).await;
        applied.map_err(Refused::from)?;
        // What is in the old place it has from the entry: what it was given there, and, by not having
        // it any more, what was taken from it.
        self.presence.mailboxes.remove(0);
        held.sort_unstable_by_key(|job| job.lease);
        let opened = self.opened(&held);
        self.held.retain(|job| held.binary_search_by_key(&job.lease, |held| held.lease).is_ok());
        held.retain(|job| job.lease > self.seen);
        self.seen = held.last().map_or(self.seen, |job| job.lease);
        self.held.extend(held);
        self.window = self.attach.window;
        self.lost = false;
        Ok(Some(opened))
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

fn never_told() -> Failure {
    let message = "a change of the window was not seen through; this is a bug".to_owned();
    Failure { unknown: true, reason: Reason::Fatal, message }
}
