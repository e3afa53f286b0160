//! Keeping sessions and locks alive, on any node: without a log entry as long as that is done in
//! time, and never by a leader that was deposed.

use crate::barrier::no_quorum;
use crate::failure::{Failure, Reason};
use crate::leader::unreadable;
use crate::leases::Renewal;
use crate::proposer::{Leadership, leads, quorum_acked};
use crate::replica::{PAUSE, Replica, garbled};
use quorate_proto::peer::{self as pb, forward_request::Request as Forwarded, forward_response};
#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use quorate_state::{Command, HeldLock, LeaseId, SessionId, query};
use std::time::Duration;
use tokio::time::Instant;

impl Replica {
    /// Keeps a session alive; answers the milliseconds it now has, counted from before the call.
    /// Costs no log entry, and is answered only after a barrier that began after the call.
    ///
    /// # Errors
    /// [`Reason::SessionExpired`] when it is gone; otherwise nothing is known to have changed.
    pub async fn keep_alive(&self, session: SessionId, timeout: Duration) -> Result<u64, Failure> {
        let keep = Forwarded::KeepAlive(pb::KeepAlive { session_id: session.0 });
        self.renew(keep, timeout, |deadline| self.keep_alive_here(session, deadline)).await
    }

    /// Renews a lock, and keeps the session that holds it alive: as [`Replica::keep_alive`]. Answers
    /// how long both live, because the lock is lost with its session.
    ///
    /// # Errors
    /// [`Reason::LockLost`] when it is not held under that token; otherwise nothing is known to
    /// have changed.
    pub async fn renew_lock(&self, held: HeldLock, timeout: Duration) -> Result<u64, Failure> {
        let renew = Forwarded::RenewLock(pb::RenewLock {
            namespace: held.namespace.clone(),
            name: held.name.clone(),
            token: held.token.0,
        });
        self.renew(renew, timeout, |deadline| self.renew_lock_here(held.clone(), deadline)).await
    }

    async fn renew<Here: Future<Output = Result<u64, Failure>>>(
        &self,
        request: Forwarded,
        timeout: Duration,
        here: impl Fn(Instant) -> Here,
    ) -> Result<u64, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let attempt = match self.leader_soon(deadline).await? {
                leader if leader == self.0.me.node => here(deadline).await,
                leader => match self.ask_leader(leader, request.clone(), deadline).await {
                    Ok(forward_response::Result::KeptAlive(kept)) => Ok(kept.ttl_ms),
                    Ok(_) => Err(garbled()),
                    Err(failure) => Err(failure),
                },
            };
            match attempt {
                Err(failure)
                    if !matches!(failure.reason, Reason::SessionExpired | Reason::LockLost) =>
                {
                    // Renewing twice is renewing once: every other failure may be tried again.
                    self.pause(deadline, failure).await?;
                }
                settled => return settled,
            }
        }
    }

    /// Renews on this node, which must lead.
    pub(crate) async fn keep_alive_here(
        &self,
        session: SessionId,
        deadline: Instant,
    ) -> Result<u64, Failure> {
        let leading = self.leading_behind_barrier(deadline).await?;
        let id = LeaseId::Session(session);
        self.renew_lease(&leading, id, deadline, || {
            let view = self.stale();
            let exists = query::session_exists(view.tables.as_ref(), self.group(), session)
                .map_err(|error| unreadable(&error))?;
            if exists { Ok(()) } else { Err(session_expired(session)) }
        })
        .await
    }

    /// Renews on this node, which must lead.
    pub(crate) async fn renew_lock_here(
        &self,
        held: HeldLock,
        deadline: Instant,
    ) -> Result<u64, Failure> {
        let leading = self.leading_behind_barrier(deadline).await?;
        let holder = || {
            let view = self.stale();
            let lock = query::lock(view.tables.as_ref(), self.group(), &held.namespace, &held.name)
                .map_err(|error| unreadable(&error))?;
            let holders = lock.map(|lock| lock.holders).unwrap_or_default();
            let holder = holders.into_iter().find(|holder| holder.token == held.token);
            holder.map(|holder| holder.session).ok_or_else(|| lock_lost(&held))
        };
        // First the session: when that is ending the lock goes with it.
        let id = LeaseId::Session(holder()?);
        match self.renew_lease(&leading, id, deadline, || holder().map(drop)).await {
            Err(failure) if failure.reason == Reason::SessionExpired => Err(lock_lost(&held)),
            Err(failure) => Err(failure),
            Ok(session_ms) => {
                let id = LeaseId::Lock(held.token);
                let lives = || holder().map(drop);
                Ok(self.renew_lease(&leading, id, deadline, lives).await?.min(session_ms))
            }
        }
    }

    /// What is left of a lease, in milliseconds of lease time, as this node counts it if it leads. None
    /// elsewhere, where nobody tells of renewals, and when there is no such lease.
    #[must_use]
    pub fn lease_remaining_ms(&self, id: LeaseId) -> Option<u64> {
        let leading = self.0.leadership.borrow().clone()?;
        let now = leading.clock.sample(quorum_acked(&self.0.raft), self.0.wall.now_ms());
        self.0.leases.remaining_ms(id, now.lease_ms)
    }

    /// A deposed leader extends nothing: behind a barrier that began after the call arrived.
    async fn leading_behind_barrier(&self, deadline: Instant) -> Result<Leadership, Failure> {
        let leading = self.leading_here(deadline).await?;
        #[cfg(feature = "planted-faults")]
        if is_planted(Fault::KeepAliveByDeposedLeader) {
            return Ok(leading);
        }
        self.0.barrier.pass_urgent(deadline).await?;
        Ok(leading)
    }

    /// Renews a lease; `lives` tells whether what it is for exists, as this node has applied.
    async fn renew_lease(
        &self,
        leading: &Leadership,
        id: LeaseId,
        deadline: Instant,
        lives: impl Fn() -> Result<(), Failure>,
    ) -> Result<u64, Failure> {
        let leases = &self.0.leases;
        let mut settled = leases.settled();
        loop {
            settled.borrow_and_update();
            // Asked of consensus itself, behind the barrier: the round may have gone through a new
            // leader, and this node's own notion of leading is put right a little later.
            if !leads(&self.0.raft, leading.term) {
                return Err(Failure::not_applied(Reason::NotLeader, "leadership moved away"));
            }
            let acked = quorum_acked(&self.0.raft);
            let now_ms = leading.clock.sample(acked, self.0.wall.now_ms()).lease_ms;
            match leases.renew(id, now_ms) {
                Renewal::Renewed(ttl_ms) => return Ok(ttl_ms),
                Renewal::Recorded => {
                    if let Some((number, checkpoint)) = leases.take_back(id) {
                        // Goes on when the caller does not: the lease must not stay as it is.
                        let (replica, until) = (self.clone(), deadline);
                        let taken_back = tokio::spawn(async move {
                            let command = Command::LeaseCheckpoint(checkpoint);
                            let proposed = replica.0.proposer.propose_own(command, until).await;
                            match &proposed {
                                Ok(_) => replica.0.leases.taken_back(id, number),
                                Err(failure) if !failure.unknown => {
                                    replica.0.leases.not_taken_back(id, number);
                                }
                                // It may yet be applied, and then its event says so.
                                Err(_) => {}
                            }
                            proposed.is_ok()
                        });
                        // What became of it is in the lease.
                        let done = taken_back.await.unwrap_or(false);
                        if done && Instant::now() < deadline {
                            continue;
                        }
                        if !done {
                            // Refused, as when there is much to do: not again at once, by thousands
                            // that tell each other of it.
                            tokio::time::sleep_until(deadline.min(Instant::now() + PAUSE)).await;
                        }
                    }
                }
                Renewal::Missing => lives()?,
                Renewal::Ending => {}
            }
            // Just begun, its event not taken in yet; or something was proposed of it.
            let waited = deadline.min(Instant::now() + PAUSE);
            if Instant::now() >= deadline {
                return Err(no_quorum());
            }
            let _ = tokio::time::timeout_at(waited, settled.changed()).await;
        }
    }
}

fn session_expired(session: SessionId) -> Failure {
    Failure::not_applied(
        Reason::SessionExpired,
        format!("session {session} has expired or was closed; open a new one"),
    )
}

fn lock_lost(held: &HeldLock) -> Failure {
    Failure::not_applied(
        Reason::LockLost,
        format!(
            "lock {:?} is not held under token {}: it was lost or given back; acquire it again",
            held.name, held.token
        ),
    )
}
