//! Keeping sessions alive, on any node: without a log entry, and never by a leader that was deposed.

use crate::barrier::no_quorum;
use crate::failure::{Failure, Reason};
use crate::leader::{Renewal, unreadable};
use crate::proposer::{leads, quorum_acked};
use crate::replica::{PAUSE, Replica, garbled};
use quorate_proto::peer::{self as pb, forward_request::Request as Forwarded, forward_response};
use quorate_state::{SessionId, query};
use std::time::Duration;
use tokio::time::Instant;

impl Replica {
    /// Keeps a session alive; answers the milliseconds it now has, counted from before the call.
    /// Costs no log entry, and is answered only after a barrier that began after the call.
    ///
    /// # Errors
    /// [`Reason::SessionExpired`] when it is gone; otherwise nothing is known to have changed.
    pub async fn keep_alive(&self, session: SessionId, timeout: Duration) -> Result<u64, Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let attempt = match self.leader_soon(deadline).await? {
                leader if leader == self.0.me.node => self.keep_alive_here(session, deadline).await,
                leader => {
                    let keep = Forwarded::KeepAlive(pb::KeepAlive { session_id: session.0 });
                    match self.ask_leader(leader, keep, deadline).await {
                        Ok(forward_response::Result::KeptAlive(kept)) => Ok(kept.ttl_ms),
                        Ok(_) => Err(garbled()),
                        Err(failure) => Err(failure),
                    }
                }
            };
            match attempt {
                Err(failure) if failure.reason != Reason::SessionExpired => {
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
        let leading = self.leading_here(deadline).await?;
        // Behind a barrier that began after the call arrived: a deposed leader extends nothing.
        self.0.barrier.pass(deadline).await?;
        let mut settled = self.0.leases.settled();
        loop {
            settled.borrow_and_update();
            // Asked of consensus itself, behind the barrier: the round may have gone through a new
            // leader, and this node's own notion of leading is put right a little later.
            if !leads(&self.0.raft, leading.term) {
                return Err(Failure::not_applied(Reason::NotLeader, "leadership moved away"));
            }
            let acked = quorum_acked(&self.0.raft);
            let now_ms = leading.clock.sample(acked, self.0.wall.now_ms()).lease_ms;
            match self.0.leases.renew(session, now_ms) {
                Renewal::Renewed(ttl_ms) => return Ok(ttl_ms),
                Renewal::Missing if !self.session_exists(session)? => {
                    return Err(Failure::not_applied(
                        Reason::SessionExpired,
                        format!("session {session} has expired or was closed; open a new one"),
                    ));
                }
                // Just opened, its event not taken in yet; or its end was proposed.
                Renewal::Missing | Renewal::Ending => {
                    let waited = deadline.min(Instant::now() + PAUSE);
                    if Instant::now() >= deadline {
                        return Err(no_quorum());
                    }
                    let _ = tokio::time::timeout_at(waited, settled.changed()).await;
                }
            }
        }
    }

    fn session_exists(&self, session: SessionId) -> Result<bool, Failure> {
        let view = self.stale();
        query::session_exists(view.tables.as_ref(), self.group(), session)
            .map_err(|error| unreadable(&error))
    }
}
