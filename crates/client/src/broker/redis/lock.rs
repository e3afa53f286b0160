//! Locks: `SET NX PX` with a token of the owner. Who waits asks again.

use super::connection::Effect;
use super::{Inner, NAME, names};
use crate::Error;
use crate::broker::{Answer, HeldLock, LockState};
use futures::future::BoxFuture;
use redis::{Script, cmd};
use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// As short as a lease may be.
const TTL_MIN: Duration = Duration::from_millis(100);
/// How long who waits waits before it asks again, at least and at most.
const ASK_AFTER: Duration = Duration::from_millis(10);
const ASK_JITTER: Duration = Duration::from_millis(50);

static TAKE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lock_take.lua")));
static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lock_renew.lua")));
static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/lock_release.lua")));

/// What is asked for, or held. Gives it back when it is dropped.
struct Claim {
    inner: Arc<Inner>,
    name: String,
    key: Vec<u8>,
    /// Nobody else's.
    token: [u8; 16],
    ttl: Duration,
    /// Whether there may be something to give back.
    open: bool,
}

impl Claim {
    async fn run(&self, what: &str, effect: Effect, script: &Script) -> Result<bool, Error> {
        let ttl_ms = names::millis(self.ttl);
        let call = |mut connection| async move {
            let mut call = script.prepare_invoke();
            call.key(&self.key).arg(&self.token[..]).arg(ttl_ms);
            call.invoke_async(&mut connection).await
        };
        self.inner.connection.call(what, effect, call).await
    }

    /// Asking again under the same token is asking once.
    async fn take(&self) -> Result<bool, Error> {
        self.run("lock acquire", Effect::Once, &TAKE).await
    }

    async fn renew(&self) -> Result<bool, Error> {
        self.run("lock renew", Effect::Once, &RENEW).await
    }

    async fn release(&self) -> Result<bool, Error> {
        self.run("lock release", Effect::EachTime, &RELEASE).await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let claim = Self {
            inner: Arc::clone(&self.inner),
            name: std::mem::take(&mut self.name),
            key: std::mem::take(&mut self.key),
            token: self.token,
            ttl: self.ttl,
            open: false,
        };
        // Ends by itself within its deadline.
        drop(runtime.spawn(async move {
            if let Err(error) = claim.release().await {
                let name = &claim.name;
                tracing::debug!(name, %error, "a lock was not given back; its ttl ends it");
            }
        }));
    }
}

pub(super) async fn acquire(
    inner: &Arc<Inner>,
    name: &str,
    ttl: Duration,
    wait: Duration,
) -> Result<Box<dyn HeldLock>, Error> {
    if ttl < TTL_MIN {
        return Err(Error::bad_option(format!("ttl is {ttl:?}; it must be at least {TTL_MIN:?}")));
    }
    let mut claim = Claim {
        inner: Arc::clone(inner),
        name: name.to_owned(),
        key: inner.names.lock(name)?,
        token: inner.random.key(),
        ttl,
        open: false,
    };
    let until = Instant::now().checked_add(wait);
    loop {
        let sent_at = Instant::now();
        // If this future is dropped, or fails, it is not known whether it was taken.
        claim.open = true;
        match claim.take().await {
            Ok(true) if sent_at.elapsed() < ttl => return Ok(Box::new(Held::new(claim, sent_at))),
            // The answer took as long as the lease.
            Ok(true) => {}
            Ok(false) => claim.open = false,
            Err(error) => {
                // What may be taken is given back as this is dropped.
                claim.open = error.may_have_been_applied();
                return Err(error);
            }
        }
        let pause = ASK_AFTER + inner.random.up_to(ASK_JITTER);
        let now = Instant::now();
        if until.is_some_and(|until| now >= until) {
            return Err(not_acquired(name, wait));
        }
        let next = now + pause;
        tokio::time::sleep_until(until.map_or(next, |until| next.min(until))).await;
    }
}

fn not_acquired(name: &str, wait: Duration) -> Error {
    let (reason, message) = match wait.is_zero() {
        true => ("LOCK_HELD", format!("lock {name:?} is held by another")),
        false => (
            "LOCK_WAIT_TIMEOUT",
            format!("timeout: lock {name:?} was not granted within {wait:?}, and is not held"),
        ),
    };
    Error::NotAcquired { reason: reason.to_owned(), message }
}

pub(super) async fn inspect(inner: &Inner, name: &str) -> Result<LockState, Error> {
    let exists = cmd("EXISTS").arg(inner.names.lock(name)?).to_owned();
    let held = inner
        .connection
        .call("lock inspect", Effect::Read, |mut connection| {
            let exists = &exists;
            async move { exists.query_async(&mut connection).await }
        })
        .await?;
    Ok(LockState { held, waiting: None })
}

pub(super) async fn force_release(inner: &Inner, name: &str) -> Result<bool, Error> {
    let delete = cmd("DEL").arg(inner.names.lock(name)?).to_owned();
    inner
        .connection
        .call("lock force-release", Effect::EachTime, |mut connection| {
            let delete = &delete;
            async move { delete.query_async(&mut connection).await }
        })
        .await
}

/// A lock that is held.
struct Held {
    claim: Arc<Claim>,
    state: watch::Sender<State>,
    renewing: JoinHandle<()>,
    /// Whether it is given back when it is dropped.
    releases: bool,
}

#[derive(Clone, Copy, Debug)]
struct State {
    expires_at: Instant,
    lost: bool,
}

impl State {
    fn is_lost(self) -> bool {
        self.lost || Instant::now() >= self.expires_at
    }
}

impl Held {
    fn new(mut claim: Claim, sent_at: Instant) -> Self {
        // From here on it is given back by this.
        claim.open = false;
        let claim = Arc::new(claim);
        let state = watch::Sender::new(State { expires_at: sent_at + claim.ttl, lost: false });
        let renewing = tokio::spawn(keep(Arc::clone(&claim), state.clone()));
        Self { claim, state, renewing, releases: true }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("name", &self.claim.name)
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

impl HeldLock for Held {
    fn name(&self) -> &str {
        &self.claim.name
    }

    fn fencing_token(&self) -> Result<u64, Error> {
        Err(Error::unsupported(NAME, "fencing tokens"))
    }

    fn is_lost(&self) -> bool {
        self.state.borrow().is_lost()
    }

    fn lost(&self) -> BoxFuture<'_, ()> {
        let mut states = self.state.subscribe();
        Box::pin(async move {
            loop {
                let state = *states.borrow_and_update();
                if state.is_lost() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep_until(state.expires_at) => {}
                    changed = states.changed() => if changed.is_err() { return },
                }
            }
        })
    }

    fn release(mut self: Box<Self>) -> Answer<'static, bool> {
        self.renewing.abort();
        self.releases = false;
        Box::pin(async move { self.claim.release().await })
    }

    fn leave(mut self: Box<Self>) {
        self.releases = false;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
        if !self.releases || self.state.borrow().lost {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let claim = Arc::clone(&self.claim);
        // Ends by itself within its deadline.
        drop(runtime.spawn(async move {
            if let Err(error) = claim.release().await {
                let name = &claim.name;
                tracing::debug!(name, %error, "a lock was not given back; its ttl ends it");
            }
        }));
    }
}

/// Renews a lock until it is lost; ended from outside when nobody needs it any more. Its time is
/// counted from when a renewal was sent, so it is over here before it is there.
async fn keep(claim: Arc<Claim>, state: watch::Sender<State>) {
    let every = claim.ttl / 3;
    let mut next_at = state.borrow().expires_at - 2 * every;
    loop {
        let expires_at = state.borrow().expires_at;
        tokio::time::sleep_until(next_at.min(expires_at)).await;
        let sent_at = Instant::now();
        if sent_at >= expires_at {
            break;
        }
        let renewed = tokio::time::timeout_at(expires_at, claim.renew()).await;
        match renewed {
            Ok(Ok(true)) => {
                let mut late = false;
                state.send_modify(|state| {
                    // Somebody may have looked meanwhile: what is lost stays lost.
                    late = state.is_lost();
                    if !late {
                        state.expires_at = sent_at + claim.ttl;
                    }
                });
                if late {
                    break;
                }
                next_at = sent_at + every;
            }
            Ok(Ok(false)) => break,
            Ok(Err(error)) => {
                let name = &claim.name;
                tracing::debug!(name, %error, "a lock was not renewed; trying again");
                next_at = Instant::now() + every / 8;
            }
            Err(_) => break,
        }
    }
    tracing::warn!(name = claim.name, "the lock is lost");
    state.send_modify(|state| state.lost = true);
}
