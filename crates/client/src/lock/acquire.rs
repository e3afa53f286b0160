//! `lock acquire`: takes a lock, or waits in line for it.

use super::held::Grant;
use super::{Lock, Locks, renew};
use crate::Error;
use crate::call::{Effect, Plan};
use crate::client::CallOptions;
use crate::failure::Failure;
use crate::kv::millis;
use crate::session::Ticket;
use futures::future::BoxFuture;
use quorate_proto::v1::{self, LockAcquireRequest, LockAcquireResponse, LockCancelRequest};
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The lease when nothing is said.
const TTL: Duration = Duration::from_secs(30);
/// How long to wait when nothing is said.
const WAIT: Duration = Duration::from_secs(10);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// How long a request that was given up is tried to be cancelled.
const CANCEL: Duration = Duration::from_secs(10);
/// Sessions that one call may lose before it is sent.
const SESSIONS_LOST_MAX: u32 = 3;

/// A request for a lock; sent when awaited.
///
/// It is served in the order of the requests that came, also across nodes that fail: a repetition
/// goes on waiting at the same place. Locks are not reentrant: who asks for a lock twice waits for
/// itself.
///
/// # Cancel safety
/// When the future is dropped the request is withdrawn in the background: what it was granted is
/// given back. If the program ends before that, a grant that was on its way ends with its ttl.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when it is awaited"]
pub struct Acquire {
    locks: Locks,
    name: String,
    ttl: Duration,
    wait: Duration,
    mode: v1::LockMode,
    permits: u32,
    options: CallOptions,
}

impl Acquire {
    pub(super) fn new(locks: Locks, name: String) -> Self {
        Self {
            locks,
            name,
            ttl: TTL,
            wait: WAIT,
            mode: v1::LockMode::Exclusive,
            permits: 0,
            options: CallOptions::default(),
        }
    }

    /// It is lost when it is not renewed for this long, 100 ms to 1 h; default: 30 s. It is lost with
    /// its session, too, so the client's session ttl should not be shorter. It is renewed in the
    /// background, three times in the shorter of both.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long to wait for it, up to a day; default: 10 s. Then [`Error::NotAcquired`].
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Now or not at all: without waiting.
    pub fn no_wait(self) -> Self {
        self.wait(Duration::ZERO)
    }

    /// Shares it with others that ask for it shared: a read lock, beside the exclusive one for
    /// writers. Served in order, so nobody starves.
    pub fn shared(mut self) -> Self {
        (self.mode, self.permits) = (v1::LockMode::Shared, 0);
        self
    }

    /// Shares it with others that ask for the same number of permits, while fewer than those hold
    /// it: a semaphore. 1 to 1000.
    pub fn permits(mut self, permits: u32) -> Self {
        (self.mode, self.permits) = (v1::LockMode::Permit, permits);
        self
    }

    /// How long the call may take beside the waiting; default: the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    async fn send(self) -> Result<Lock, Error> {
        let inner = Arc::clone(&self.locks.inner);
        let cell = inner.cell(&self.locks.namespace)?;
        let plan = inner.plan("lock acquire", Effect::Once, &self.options);
        let until_sent = plan.deadline;
        let plan = plan.waiting(self.wait.min(WAIT_MAX));
        let mut sessions_lost = 0;
        loop {
            let ticket = cell.ticket(&inner.engine, plan.what, until_sent).await?;
            let asked = Asked::new(&self.locks, ticket);
            let sent_at = Instant::now();
            let request = || self.request(&asked);
            match inner.engine.call(&plan, request).await {
                Ok(granted) => return self.granted(asked, granted, sent_at).await,
                Err(failure) if failure.is_session_lost() && !failure.maybe_applied => {
                    asked.withdrawn().session_is_lost();
                    sessions_lost += 1;
                    if sessions_lost >= SESSIONS_LOST_MAX {
                        return Err(failure.into());
                    }
                }
                Err(failure) => return Err(self.not_granted(asked, failure).await),
            }
        }
    }

    fn request(&self, asked: &Asked) -> LockAcquireRequest {
        LockAcquireRequest {
            namespace: self.locks.namespace.to_string(),
            origin: asked.ticket.as_ref().map(Ticket::origin),
            name: self.name.clone(),
            ttl_ms: millis(self.ttl),
            wait_ms: millis(self.wait),
            mode: self.mode.into(),
            permits: self.permits,
        }
    }

    /// Part of the ttl is gone when the grant was waited for, or its answer was; how much nobody
    /// knows, but the lease did not begin before the request. And the lock is lost with its session,
    /// which may end before. When that may leave too little, a renewal, which is one of both, says
    /// what is left.
    async fn granted(
        self,
        asked: Asked,
        granted: LockAcquireResponse,
        sent_at: Instant,
    ) -> Result<Lock, Error> {
        let ttl = Duration::from_millis(granted.ttl_ms);
        let mut expires_at = (sent_at + ttl).min(asked.session_lives_until());
        let renewed_at = Instant::now();
        if expires_at < renewed_at + ttl * 2 / 3 {
            let plan = renew::plan(&self.locks.inner, renewed_at + ttl);
            match renew::send(&self.locks, &plan, &self.name, granted.fencing_token).await {
                Ok(left) => expires_at = renewed_at + left,
                // Lost while nobody could know that it was held.
                Err(failure) => {
                    asked.cancel().await?;
                    return Err(failure.into());
                }
            }
        }
        let grant = Grant {
            token: granted.fencing_token,
            revision: granted.revision,
            session_id: asked.session_id(),
        };
        // The answer has come, so its number is free; and nothing is to be withdrawn any more.
        drop(asked.withdrawn());
        Ok(Lock::new(self.locks, self.name, grant, expires_at))
    }

    /// What certainly was not granted needs no care. Anything else is withdrawn before it is told.
    async fn not_granted(&self, asked: Asked, failure: Failure) -> Error {
        if !failure.maybe_applied {
            drop(asked.withdrawn());
            return failure.into();
        }
        let reason = failure.reason.clone();
        match asked.cancel().await {
            Ok(()) if reason == "LOCK_WAITING" => Error::NotAcquired {
                reason: "LOCK_WAIT_TIMEOUT".to_owned(),
                message: format!(
                    "timeout: lock {:?} was not granted in time, and is not held; the request was \
                     withdrawn",
                    self.name
                ),
            },
            Ok(()) => Error::Unavailable {
                reason,
                message: format!("{}; the request was withdrawn", failure.message),
            },
            Err(_) => failure.into(),
        }
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Lock, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// A request that may have been granted. Withdraws it when it is dropped.
struct Asked {
    locks: Locks,
    /// Kept until the fate of the request is known: a later request of the session would pass it
    /// with its floor, and then it could not be withdrawn any more. None once that is so.
    ticket: Option<Ticket>,
}

impl Asked {
    fn new(locks: &Locks, ticket: Ticket) -> Self {
        Self { locks: locks.clone(), ticket: Some(ticket) }
    }

    fn session_id(&self) -> u64 {
        self.ticket.as_ref().map_or(0, |ticket| ticket.origin().session_id)
    }

    fn session_lives_until(&self) -> Instant {
        self.ticket.as_ref().map_or_else(Instant::now, Ticket::session_lives_until)
    }

    /// There is nothing to withdraw, or somebody else does it.
    fn withdrawn(mut self) -> Ticket {
        self.ticket.take().expect("it is taken once, when the request is done with")
    }

    /// Withdraws it, and waits until that is so.
    async fn cancel(mut self) -> Result<(), Error> {
        match self.ticket.take() {
            Some(ticket) => cancel(self.locks.clone(), ticket).await,
            None => Ok(()),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let locks = self.locks.clone();
        // Ends by itself within its deadline. What can't be withdrawn ends with its ttl.
        drop(runtime.spawn(async move { cancel(locks, ticket).await }));
    }
}

/// Withdraws a request. Doing it again does no harm, so it is as safe as a read.
async fn cancel(locks: Locks, ticket: Ticket) -> Result<(), Error> {
    let origin = ticket.origin();
    let engine = &locks.inner.engine;
    let plan = Plan {
        what: "lock cancel",
        effect: Effect::Read,
        deadline: Instant::now() + CANCEL,
        attempt_timeout: engine.attempt_timeout,
        only: None,
    };
    let request = || LockCancelRequest {
        namespace: locks.namespace.to_string(),
        session_id: origin.session_id,
        sequence: origin.sequence,
    };
    let cancelled = engine.call(&plan, request).await;
    drop(ticket);
    Ok(cancelled.map(|_| ())?)
}
