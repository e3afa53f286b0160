//! A lock that is held: renewed in the background, and known to be lost before another can have it.

use super::{LockGuard, Locks, release, renew};
use crate::Error;
use crate::client::CallOptions;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A lock that is held.
///
/// Its lease, and that of its session, without which it is lost, are counted by this process's
/// monotonic clock from the moment a renewal was sent, so
/// [`Lock::lost`] resolves before the cluster gives the lock to another, even if this process was
/// stopped meanwhile: it notices as soon as it runs again. What was begun before may then still be
/// on its way; only [`Lock::guard`] keeps that from having an effect.
///
/// # Dropping it
/// gives the lock back in the background, as well as that can be done: when the program ends before,
/// or the cluster can't be reached, it ends with its ttl. [`Lock::release`] tells.
pub struct Lock {
    held: Arc<Held>,
    renewing: JoinHandle<()>,
    /// Whether dropping it gives it back.
    releases: bool,
}

/// What the cluster says of a grant.
pub(super) struct Grant {
    pub(super) token: u64,
    pub(super) revision: u64,
    pub(super) session_id: u64,
}

struct Held {
    locks: Locks,
    name: String,
    token: u64,
    revision: u64,
    session_id: u64,
    state: watch::Sender<State>,
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

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("name", &self.held.name)
            .field("fencing_token", &self.held.token)
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

impl Lock {
    pub(super) fn new(
        locks: Locks,
        name: String,
        Grant { token, revision, session_id }: Grant,
        expires_at: Instant,
    ) -> Self {
        let state = watch::Sender::new(State { expires_at, lost: false });
        let held = Arc::new(Held { locks, name, token, revision, session_id, state });
        let renewing = tokio::spawn(keep(Arc::clone(&held)));
        Self { held, renewing, releases: true }
    }

    /// The lock's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.held.name
    }

    /// Larger than that of every earlier holder; below 2^53. For systems outside the cluster: one
    /// that keeps the largest token it has seen, and refuses smaller ones, is safe from holders that
    /// come too late.
    #[must_use]
    pub fn fencing_token(&self) -> u64 {
        self.held.token
    }

    /// When it was granted.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.held.revision
    }

    /// The session that holds it.
    #[must_use]
    pub fn session_id(&self) -> u64 {
        self.held.session_id
    }

    /// What makes a mutation depend on it: it is refused with [`Error::LockLost`] once the lock has
    /// passed on.
    #[must_use]
    pub fn guard(&self) -> LockGuard {
        LockGuard { name: self.held.name.clone(), fencing_token: self.held.token }
    }

    /// How long it is certainly still held if no renewal comes through.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let state = *self.held.state.borrow();
        match state.lost {
            true => Duration::ZERO,
            false => state.expires_at.saturating_duration_since(Instant::now()),
        }
    }

    /// Whether it may be another's by now.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.held.state.borrow().is_lost()
    }

    /// Resolves when it may be another's: its lease ran out here, or the cluster said so.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn lost(&self) {
        let mut states = self.held.state.subscribe();
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
    }

    /// Gives it back; answers whether it was still held.
    ///
    /// # Errors
    /// As a mutation. Whatever the error, it is not renewed any more, and ends with its ttl.
    pub async fn release(mut self) -> Result<bool, Error> {
        self.renewing.abort();
        self.releases = false;
        let Held { locks, name, token, .. } = &*self.held;
        release::release(locks, name, *token, &CallOptions::default()).await
    }

    /// Stops caring for it without giving it back: it is held until its ttl has passed, or whoever
    /// knows the token renews or releases it. Answers the token.
    #[must_use]
    pub fn leave(mut self) -> u64 {
        self.releases = false;
        self.held.token
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewing.abort();
        if !self.releases || self.held.state.borrow().lost {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let held = Arc::clone(&self.held);
        // Ends by itself within its deadline.
        drop(runtime.spawn(async move {
            let Held { locks, name, token, .. } = &*held;
            if let Err(error) = release::give_back(locks, name, *token).await {
                tracing::debug!(name, token, %error, "a lock was not given back; its ttl ends it");
            }
        }));
    }
}

/// Renews a lock until it is lost; ended from outside when nobody needs it any more.
async fn keep(held: Arc<Held>) {
    let now = Instant::now();
    let mut every = held.state.borrow().expires_at.saturating_duration_since(now) / 3;
    let mut next_at = now + every;
    loop {
        let expires_at = held.state.borrow().expires_at;
        tokio::time::sleep_until(next_at.min(expires_at)).await;
        let sent_at = Instant::now();
        if sent_at >= expires_at {
            break;
        }
        let plan = renew::plan(&held.locks.inner, expires_at.min(sent_at + every));
        match renew::send(&held.locks, &plan, &held.name, held.token).await {
            Ok(left) => {
                let mut late = false;
                held.state.send_modify(|state| {
                    // This process was stopped meanwhile, and somebody may have looked: what is lost
                    // stays lost.
                    late = state.is_lost();
                    if !late {
                        state.expires_at = state.expires_at.max(sent_at + left);
                    }
                });
                if late {
                    break;
                }
                every = left / 3;
                next_at = sent_at + every;
            }
            Err(failure) if failure.reason == "LOCK_LOST" => break,
            Err(failure) => {
                tracing::debug!(
                    name = held.name,
                    error = failure.message,
                    "a lock was not renewed; trying again"
                );
                // Not at once: an answer that is no success may have come without delay.
                next_at = Instant::now() + every / 8;
            }
        }
    }
    tracing::warn!(name = held.name, fencing_token = held.token, "the lock is lost");
    held.state.send_modify(|state| state.lost = true);
}
