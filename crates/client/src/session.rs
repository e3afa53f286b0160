//! Sessions: opened when the first mutation needs one, kept alive in the background, replaced when
//! lost; and the sequences that make a retried mutation have one effect.
//!
//! A session's life is counted from the moment a request that prolongs it was SENT, on this
//! process's monotonic clock: it is over here before it is over in the cluster.

use crate::call::{Effect, Engine, Plan};
use crate::failure::{Cause, Failure};
use crate::window::Window;
use quorate_proto::v1::{CloseRequest, KeepAliveRequest, OpenRequest, Origin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Code;

/// The shortest ttl the cluster grants. A smaller one in an answer would make keep-alives a flood.
pub(crate) const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(3_600);
/// How long one keep-alive may be tried, if a third of the ttl is longer than that.
const KEEP_ALIVE_DEADLINE_MAX: Duration = Duration::from_secs(10);

/// The place of a namespace's session: at most one is in use at a time.
pub(crate) struct SessionCell {
    namespace: String,
    ttl: Duration,
    state: Mutex<State>,
    /// Held by the call that opens the session or waits for room in its window. First come, first
    /// served.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    /// An opening whose answer never came. The next one repeats its key, so that it gets the same
    /// session instead of leaving one behind; that session may be as old as the first try.
    opening: Option<Opening>,
}

#[derive(Clone)]
struct Opening {
    key: [u8; 16],
    first_sent_at: Instant,
}

/// A session in use. Dropping this ends its keep-alives.
struct Live {
    session: Arc<Session>,
    keep_alive: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.keep_alive.abort();
    }
}

/// One session.
pub(crate) struct Session {
    id: u64,
    life: Mutex<Life>,
    window: Mutex<Window>,
    /// The floor moved, or the session was lost.
    changed: Notify,
}

struct Life {
    expires_at: Instant,
    lost: bool,
}

/// A sequence in use by one call. Dropping it says that the call was answered or given up.
pub(crate) struct Ticket {
    session: Arc<Session>,
    sequence: u64,
}

impl Ticket {
    /// What goes into a request now; the floor may have moved since the last attempt.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            session_id: self.session.id,
            sequence: self.sequence,
            floor: self.session.window().floor(),
            ..Origin::default()
        }
    }

    /// Until when the session certainly lives.
    pub(crate) fn session_lives_until(&self) -> Instant {
        self.session.life().expires_at
    }

    /// The cluster does not know the session any more.
    pub(crate) fn session_is_lost(&self) {
        self.session.lose();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.session.window().finish(self.sequence) {
            self.session.changed.notify_one();
        }
    }
}

impl Session {
    fn new(id: u64, expires_at: Instant) -> Self {
        Self {
            id,
            life: Mutex::new(Life { expires_at, lost: false }),
            window: Mutex::new(Window::new()),
            changed: Notify::new(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster does not know it any more.
    pub(crate) fn lose(&self) {
        self.life().lost = true;
        self.changed.notify_one();
    }

    /// Until when it lives, if it still does.
    fn lives_until(&self, now: Instant) -> Option<Instant> {
        let life = self.life();
        (!life.lost && now < life.expires_at).then_some(life.expires_at)
    }

    fn prolong(&self, expires_at: Instant) {
        let mut life = self.life();
        life.expires_at = life.expires_at.max(expires_at);
    }
}

impl SessionCell {
    pub(crate) fn new(namespace: String, ttl: Duration) -> Self {
        Self { namespace, ttl, state: Mutex::default(), turn: tokio::sync::Mutex::new(()) }
    }

    /// A sequence of the session, which is opened if there is none. Waits while 1 024 calls are
    /// unanswered. A failure never leaves a mutation of open fate: it was not sent.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped; the next caller goes on with the opening.
    pub(crate) async fn ticket(
        &self,
        engine: &Arc<Engine>,
        what: &'static str,
        deadline: Instant,
    ) -> Result<Ticket, Failure> {
        let Ok(_turn) = tokio::time::timeout_at(deadline, self.turn.lock()).await else {
            return Err(self.no_turn(what));
        };
        loop {
            let now = Instant::now();
            let (session, expires_at) = match self.live(now) {
                Some(live) => live,
                None => self.open(engine, deadline).await?,
            };
            let allocated = session.window().allocate();
            if let Some(sequence) = allocated {
                return Ok(Ticket { session, sequence });
            }
            if now >= deadline {
                return Err(window_full(what));
            }
            tokio::select! {
                biased;
                () = session.changed.notified() => {}
                () = tokio::time::sleep_until(deadline.min(expires_at)) => {}
            }
        }
    }

    /// The session itself, for what ends with it; opened if there is none.
    ///
    /// # Cancel safety
    /// As [`SessionCell::ticket`].
    pub(crate) async fn session(
        &self,
        engine: &Arc<Engine>,
        what: &'static str,
        deadline: Instant,
    ) -> Result<Arc<Session>, Failure> {
        let Ok(_turn) = tokio::time::timeout_at(deadline, self.turn.lock()).await else {
            return Err(self.no_turn(what));
        };
        match self.live(Instant::now()) {
            Some((session, _)) => Ok(session),
            None => Ok(self.open(engine, deadline).await?.0),
        }
    }

    /// Ends the session, if there is one: what it owns in the cluster is freed at once.
    pub(crate) async fn close(
        &self,
        engine: &Arc<Engine>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let Some(live) = self.state().live.take() else { return Ok(()) };
        live.session.lose();
        // Repeating it changes nothing, so it is as safe as a read.
        let plan = plan(engine, "session close", Effect::Read, deadline);
        let request =
            || CloseRequest { session_id: live.session.id, namespace: self.namespace.clone() };
        engine.call(&plan, request).await.map(|_| ())
    }

    fn live(&self, now: Instant) -> Option<(Arc<Session>, Instant)> {
        let state = self.state();
        let session = &state.live.as_ref()?.session;
        session.lives_until(now).map(|until| (Arc::clone(session), until))
    }

    async fn open(
        &self,
        engine: &Arc<Engine>,
        deadline: Instant,
    ) -> Result<(Arc<Session>, Instant), Failure> {
        let opening = self.opening(engine);
        let plan = plan(engine, "session open", Effect::Once, deadline);
        let ttl_ms = u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX);
        let request = || OpenRequest {
            namespace: self.namespace.clone(),
            origin: Some(Origin {
                idempotency_key: opening.key.to_vec().into(),
                ..Origin::default()
            }),
            ttl_ms,
        };
        let opened = match engine.call(&plan, request).await {
            Ok(opened) => opened,
            Err(mut failure) => {
                if !failure.maybe_applied {
                    self.state().opening = None;
                }
                // Whatever became of the session: the mutation that wanted it was not sent.
                failure.maybe_applied = false;
                if failure.cause == Cause::Answered && failure.is_worth_retrying() {
                    failure.cause = Cause::Deadline;
                }
                return Err(failure);
            }
        };
        if opened.session_id == 0 {
            self.state().opening = None;
            return Err(bad_answer("session open was answered without an id".to_owned()));
        }
        let ttl = Duration::from_millis(opened.ttl_ms).clamp(TTL_MIN, TTL_MAX);
        let expires_at = opening.first_sent_at + ttl;
        let session = Arc::new(Session::new(opened.session_id, expires_at));
        let keep_alive = tokio::spawn(keep_alive(
            Arc::clone(engine),
            Arc::clone(&session),
            self.namespace.clone(),
            opening.first_sent_at + ttl / 3,
            ttl,
        ));
        tracing::debug!(session = session.id, namespace = self.namespace, ?ttl, "session opened");
        let mut state = self.state();
        state.opening = None;
        state.live = Some(Live { session: Arc::clone(&session), keep_alive });
        Ok((session, expires_at))
    }

    /// The opening to go on with. One that is so old that its session may be over is left behind.
    fn opening(&self, engine: &Engine) -> Opening {
        let now = Instant::now();
        let mut state = self.state();
        let young = |opening: &Opening| now < opening.first_sent_at + self.ttl.min(TTL_MAX) / 2;
        match state.opening.clone().filter(young) {
            Some(opening) => opening,
            None => {
                let opening = Opening { key: engine.random.key(), first_sent_at: now };
                state.opening = Some(opening.clone());
                opening
            }
        }
    }

    fn no_turn(&self, what: &'static str) -> Failure {
        match self.live(Instant::now()) {
            Some(_) => window_full(what),
            None => Failure::deadline(what),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session alive until it is lost; ended from outside when nobody needs it any more.
async fn keep_alive(
    engine: Arc<Engine>,
    session: Arc<Session>,
    namespace: String,
    first_at: Instant,
    ttl: Duration,
) {
    let mut next_at = first_at;
    let mut every = ttl / 3;
    loop {
        tokio::time::sleep_until(next_at).await;
        let sent_at = Instant::now();
        let Some(expires_at) = session.lives_until(sent_at) else { break };
        let deadline = expires_at.min(sent_at + every.min(KEEP_ALIVE_DEADLINE_MAX));
        let plan = plan(&engine, "session keep-alive", Effect::Read, deadline);
        let request = || KeepAliveRequest { session_id: session.id, namespace: namespace.clone() };
        match engine.call(&plan, request).await {
            Ok(kept) => {
                let ttl = Duration::from_millis(kept.ttl_ms).clamp(TTL_MIN, TTL_MAX);
                session.prolong(sent_at + ttl);
                every = ttl / 3;
                next_at = sent_at + every;
            }
            Err(failure) if failure.is_session_lost() => break,
            Err(failure) => {
                tracing::warn!(
                    session = session.id,
                    error = failure.message,
                    "the session was not prolonged"
                );
                // Not at once: an answer that is no success may have come without delay.
                next_at = Instant::now() + every / 4;
            }
        }
    }
    tracing::warn!(session = session.id, "the session is lost; the next mutation opens another");
    session.lose();
}

fn plan(engine: &Engine, what: &'static str, effect: Effect, deadline: Instant) -> Plan {
    Plan { what, effect, deadline, attempt_timeout: engine.attempt_timeout, only: None }
}

fn window_full(what: &'static str) -> Failure {
    Failure {
        cause: Cause::Deadline,
        code: Code::DeadlineExceeded,
        reason: "SESSION_WINDOW_FULL".to_owned(),
        message: format!(
            "{what} was not sent: {} calls of this client were unanswered until its deadline; use \
             fewer at a time, or several clients",
            crate::window::LEN
        ),
        version: None,
        oldest_revision: None,
        maybe_applied: false,
    }
}

fn bad_answer(message: String) -> Failure {
    Failure {
        cause: Cause::Answered,
        code: Code::Internal,
        reason: "BAD_ANSWER".to_owned(),
        message,
        version: None,
        oldest_revision: None,
        maybe_applied: false,
    }
}
