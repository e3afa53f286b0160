//! One call: attempts on one node after the other until there is an answer, or the deadline.
//!
//! The rule that everything here serves: a mutation fails as not applied only if each of its
//! attempts certainly was not; one attempt of open fate makes the whole call `Indeterminate`,
//! unless a later attempt is answered.

use crate::dial::Channel;
use crate::failure::{self, Cause, Failure};
use crate::method::Method;
use crate::nodes::Nodes;
use crate::patience::Patience;
use crate::pipe::Failed;
use crate::pool::{Connected, Pool};
use crate::random::Random;
use crate::retry::{self, Budget};
use crate::seen::Seen;
use crate::trace::{Contexts, TraceContext};
use quorate_proto::metadata::LEADER;
use quorate_proto::v1::MembersRequest;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

mod history;
mod openings;

use history::History;

/// How often the members are asked for when nothing fails: more often than a cluster can replace all that
/// a client knows of, each after the other has caught up.
const MEMBERS_EVERY: Duration = Duration::from_secs(10);
/// How often at most they are asked for while calls, or asking, fail.
const MEMBERS_EVERY_FAILING: Duration = Duration::from_secs(1);
/// How long one node may take to name them.
const MEMBERS_DEADLINE: Duration = Duration::from_secs(1);
/// A node that is silent for less may just be slow, and the caller in a hurry.
const SILENCE_MIN: Duration = Duration::from_millis(100);
/// With less time left an attempt is not begun: a node answers 50 ms before the deadline it is
/// given, so it would refuse such a request, or its answer would come too late.
const ATTEMPT_MIN: Duration = Duration::from_millis(5);
/// What a repetition of a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// It carries a session and sequence, or an idempotency key: repetitions have one effect.
    Once,
    /// A repetition may have a second effect, so there is none after an attempt of open fate.
    EachTime,
}

/// How a call is made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What it is, for texts: `"kv set"`.
    pub(crate) what: &'static str,
    pub(crate) effect: Effect,
    pub(crate) deadline: Instant,
    /// How long a node may be silent before another one is asked.
    pub(crate) attempt_timeout: Duration,
    /// Ask this node only.
    pub(crate) only: Option<String>,
}

impl Plan {
    /// The plan of a call whose answer may take so much longer. Silence is what waiting sounds like;
    /// a node that is gone is noticed by the connection.
    pub(crate) fn waiting(mut self, wait: Duration) -> Self {
        self.deadline += wait;
        self.attempt_timeout += wait;
        self
    }
}

/// What all handles of a client share to make calls. It knows nothing of sessions.
pub(crate) struct Engine {
    pub(crate) pool: Pool,
    pub(crate) random: Random,
    pub(crate) budget: Budget,
    patience: Patience,
    pub(crate) attempt_timeout: Duration,
    /// Raised by every answer that tells of a revision.
    pub(crate) seen: Seen,
    /// Each call on its own instead of in the connection's pipeline.
    unary: bool,
    contexts: Contexts,
    nodes: Mutex<Nodes>,
    refresh: Mutex<Refresh>,
}

/// When the members are asked for next.
struct Refresh {
    asked_at: Option<Instant>,
    /// Since then.
    failed: bool,
    /// Whether they are being asked for: one task does.
    asking: bool,
}

/// The members are being asked for, until this is dropped.
struct Asking(Arc<Engine>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.refresh().asking = false;
    }
}

impl Engine {
    pub(crate) fn new(
        pool: Pool,
        random: Random,
        budget: Budget,
        attempt_timeout: Duration,
        unary: bool,
        nodes: Nodes,
        contexts: Contexts,
    ) -> Self {
        let refresh = Refresh { asked_at: None, failed: false, asking: false };
        Self {
            pool,
            random,
            budget,
            patience: Patience::default(),
            attempt_timeout,
            seen: Seen::default(),
            unary,
            contexts,
            nodes: Mutex::new(nodes),
            refresh: Mutex::new(refresh),
        }
    }

    /// Makes a call. `request` is asked for the message of each attempt.
    ///
    /// # Cancel safety
    /// When the future is dropped no further attempt is made; the one on its way may still have
    /// its effect.
    pub(crate) async fn call<M: Method>(
        self: &Arc<Self>,
        plan: &Plan,
        mut request: impl FnMut() -> M,
    ) -> Result<M::Answer, Failure> {
        let mut history = History::default();
        let context = self.context();
        loop {
            self.refresh_members_if_due();
            if plan.deadline.saturating_duration_since(Instant::now()) < ATTEMPT_MIN {
                return Err(history.gave_up(plan));
            }
            let addr = match &plan.only {
                Some(addr) => addr.clone(),
                None => self.nodes().pick(&mut history.tried, Instant::now()),
            };
            let failure = match self.attempt(plan, &addr, context.as_ref(), &mut request).await {
                Ok(answer) => {
                    self.budget.deposit();
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            tracing::debug!(
                call = plan.what,
                node = addr,
                reason = failure.reason,
                error = failure.message,
                maybe_applied = failure.maybe_applied,
                "attempt failed"
            );
            let again = failure.is_worth_retrying()
                && !(plan.effect == Effect::EachTime && failure.maybe_applied);
            if !again {
                return Err(history.refused(failure));
            }
            history.push(addr, failure);
            self.refresh().failed = true;
            let delay = retry::backoff(history.retries, &self.random);
            history.retries += 1;
            let resume = Instant::now() + delay;
            if resume + ATTEMPT_MIN > plan.deadline {
                return Err(history.gave_up(plan));
            }
            tokio::time::sleep_until(resume).await;
            if !self.budget.withdraw(plan.deadline).await {
                return Err(history.gave_up(plan));
            }
        }
    }

    async fn attempt<M: Method>(
        &self,
        plan: &Plan,
        addr: &str,
        context: Option<&TraceContext>,
        request: &mut impl FnMut() -> M,
    ) -> Result<M::Answer, Failure> {
        let begun = Instant::now();
        let dial_max = self.patience.stretch(self.pool.connect_timeout());
        let connecting = tokio::time::timeout_at(plan.deadline, self.pool.connect(addr, dial_max));
        let connected = match connecting.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(why)) => {
                if begun.elapsed() >= dial_max {
                    self.patience.in_vain(begun);
                }
                self.nodes().failed(addr, Instant::now());
                return Err(Failure::connect(addr, &why));
            }
            Err(_) => {
                // The next call must not wait for the same dial first.
                if begun.elapsed() >= SILENCE_MIN {
                    self.nodes().failed(addr, Instant::now());
                }
                return Err(Failure::connect(addr, "the deadline passed meanwhile"));
            }
        };
        let mutation = plan.effect != Effect::Read;
        let now = Instant::now();
        // Half of the time that is left is for another node.
        let left = plan.deadline.saturating_duration_since(now);
        let patient = self.patience.stretch(plan.attempt_timeout).min(left / 2);
        let until = plan.deadline.min(now + patient.max(plan.attempt_timeout));
        let timeout = until.saturating_duration_since(now);
        let mut namespace = None;
        let mut request = || {
            let message = request();
            namespace = message.namespace().map(str::to_owned);
            message
        };
        let request = &mut request;
        let sent = async {
            match self.unary || !M::PIPELINED {
                true => unary(connected.channel.clone(), request(), timeout, context).await,
                false => piped(&connected, request, timeout, context).await,
            }
        };
        match tokio::time::timeout_at(until, sent).await {
            Ok(Ok((answer, leader))) => {
                if let (Some(namespace), Some((group, revision))) =
                    (namespace, M::revision(&answer))
                {
                    self.seen.raise(&namespace, group, revision);
                }
                self.patience.answered(now.elapsed(), plan.attempt_timeout);
                let mut nodes = self.nodes();
                nodes.answered(addr);
                if let Some(leader) = leader {
                    nodes.vouched_for(&leader, Instant::now());
                    nodes.learn_leader(&leader);
                }
                Ok(answer)
            }
            Ok(Err(Failed::Unsent(why))) => {
                self.pool.discard(addr, &connected);
                self.nodes().failed(addr, Instant::now());
                Err(Failure::connect(addr, &why))
            }
            Ok(Err(Failed::Lost(why))) => {
                self.pool.discard(addr, &connected);
                self.nodes().failed(addr, Instant::now());
                Err(Failure::lost(addr, &why, mutation))
            }
            Ok(Err(Failed::Refused(status))) if is_local_timeout(&status) => {
                self.note_silence(addr, &connected, now);
                Err(Failure::silent(addr, mutation))
            }
            Ok(Err(Failed::Refused(status))) => {
                let failure = Failure::from_status(addr, &status, mutation);
                self.note(addr, &connected, &failure, &status);
                Err(failure)
            }
            Ok(Err(Failed::Alone)) => unreachable!("then it is sent on its own"),
            Err(_) => {
                self.note_silence(addr, &connected, now);
                Err(Failure::silent(addr, mutation))
            }
        }
    }

    /// Learns from a failed attempt.
    fn note(&self, addr: &str, connected: &Connected, failure: &Failure, status: &Status) {
        let mut nodes = self.nodes();
        if failure.cause != Cause::Answered {
            self.pool.discard(addr, connected);
            nodes.failed(addr, Instant::now());
            return;
        }
        if failure.code == Code::Unauthenticated {
            // What was shown may be known later; the pipeline of this connection stays refused.
            self.pool.discard(addr, connected);
        }
        if failure.is_worth_retrying() && !failure.is_overload() {
            // It lives, but serves nothing now; a leader of this kind is about to be none, whatever
            // it says of itself.
            nodes.failed(addr, Instant::now());
        } else {
            nodes.answered(addr);
        }
        let hint = failure::leader_hint(status.metadata());
        if let Some(leader) = hint.filter(|leader| leader != addr) {
            nodes.learn_leader(&leader);
        }
    }

    /// A frozen node, or one behind a partition, keeps the connection open and says nothing. The
    /// next attempt dials anew: a dial that fails is certain news, where silence is not. What has
    /// answered others meanwhile is slow, and a new connection would only make it slower.
    fn note_silence(&self, addr: &str, connected: &Connected, since: Instant) {
        self.patience.in_vain(since);
        if since.elapsed() >= SILENCE_MIN {
            if !connected.heard_since(since) {
                self.pool.discard(addr, connected);
            }
            self.nodes().failed(addr, Instant::now());
        }
    }

    /// Asks for the members beside the calls, if that is due.
    fn refresh_members_if_due(self: &Arc<Self>) {
        if !self.nodes().learns() {
            return;
        }
        let now = Instant::now();
        let is_first = {
            let mut refresh = self.refresh();
            let every = match refresh.failed {
                true => self.patience.stretch(MEMBERS_EVERY_FAILING),
                false => MEMBERS_EVERY,
            };
            let due = refresh.asked_at.is_none_or(|at| now >= at + every);
            if refresh.asking || !due {
                return;
            }
            let is_first = refresh.asked_at.is_none();
            *refresh = Refresh { asked_at: Some(now), failed: false, asking: true };
            is_first
        };
        let asking = Asking(Arc::clone(self));
        if is_first {
            self.keep_learning();
        }
        // Ends by itself: it asks each node once.
        drop(tokio::spawn(async move {
            if !asking.0.refresh_members().await {
                asking.0.refresh().failed = true;
            }
        }));
    }

    /// Asks for the members now and then for as long as the client lives. One that only listens makes no
    /// calls: when its node goes, all that it knows of may have gone before.
    fn keep_learning(self: &Arc<Self>) {
        let engine = Arc::downgrade(self);
        drop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(MEMBERS_EVERY_FAILING).await;
                let Some(engine) = engine.upgrade() else { return };
                engine.refresh_members_if_due();
            }
        }));
    }

    /// Whether a node has named them. Those it has a connection to are asked first: others may be gone
    /// for good, and each that does not even refuse costs the time of a dial.
    async fn refresh_members(&self) -> bool {
        let mut addresses = self.nodes().addresses();
        addresses.sort_by_key(|addr| !self.pool.is_connected(addr));
        for addr in addresses {
            let plan = Plan {
                what: "cluster members",
                effect: Effect::Read,
                deadline: Instant::now() + self.patience.stretch(MEMBERS_DEADLINE),
                attempt_timeout: self.attempt_timeout,
                only: None,
            };
            let mut request = MembersRequest::default;
            if let Ok(answer) = self.attempt(&plan, &addr, None, &mut request).await {
                let addresses: Vec<_> =
                    answer.members.into_iter().map(|member| member.client_addr).collect();
                self.nodes().learn_members(&addresses);
                return true;
            }
        }
        false
    }

    /// The span of the call that is made now.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.contexts.now()
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.pool.is_encrypted()
    }

    pub(crate) fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self) -> MutexGuard<'_, Refresh> {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Sent<A> = Result<(A, Option<Arc<str>>), Failed>;

/// Makes a call on its own.
async fn unary<M: Method>(
    channel: Channel,
    message: M,
    timeout: Duration,
    context: Option<&TraceContext>,
) -> Sent<M::Answer> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    if let Some(context) = context {
        context.put_into(&mut request);
    }
    let answer = M::unary(channel, request).await.map_err(Failed::Refused)?;
    let leader = failure::leader_hint(answer.metadata()).map(Arc::from);
    Ok((answer.into_inner(), leader))
}

/// Makes a call on the connection's pipeline, or on its own if it is too large for that.
async fn piped<M: Method>(
    connected: &Connected,
    request: &mut impl FnMut() -> M,
    timeout: Duration,
    context: Option<&TraceContext>,
) -> Sent<M::Answer> {
    let pipe = connected.pipe();
    match pipe.call(request().into_call(), timeout, context).await {
        Ok((answer, leader)) => match M::from_answer(answer) {
            Some(answer) => Ok((answer, leader)),
            None => Err(Failed::Refused(Status::internal("the answer is that of another call"))),
        },
        Err(Failed::Alone) => unary(connected.channel.clone(), request(), timeout, context).await,
        Err(Failed::Refused(mut status)) => {
            // As a unary answer has it beside its trailers.
            if let Some(leader) = pipe.leader().and_then(|leader| leader.parse().ok()) {
                status.metadata_mut().insert(LEADER, leader);
            }
            Err(Failed::Refused(status))
        }
        Err(failed) => Err(failed),
    }
}

/// Whether tonic's own clock ended the attempt. It runs beside ours, which was set a moment before.
fn is_local_timeout(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        source = error.source();
    }
    false
}
