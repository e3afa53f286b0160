//! What a node does because it leads: keeps the clocks and the sessions' leases, lets time pass in
//! the log, ends what has run out.

use crate::clock::{TermClock, WallClock};
use crate::failure::{Failure, Reason};
use crate::machine_adapter::Applied;
use crate::proposer::{Committed, Leadership, Proposer, leads, quorum_acked};
use crate::types::Raft;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use quorate_state::{
    Caller, Command, Envelope, Event, GroupId, Outcome, SessionExpire, SessionId, limits, query,
};
use quorate_storage::state::StateReader;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// How often a leader looks for what is due. Bounds how late something expires.
const LOOK: Duration = Duration::from_millis(100);
/// While any deadline exists the log moves at least this often, so that a new leader's clocks
/// start close to the old one's.
const TICK: Duration = Duration::from_secs(5);
/// How long a proposal of the leader's own may take.
const PROPOSAL: Duration = Duration::from_secs(5);
/// How long a leader waits before it tries again what failed when it took leadership up.
const LEAD_AGAIN: Duration = Duration::from_millis(50);
/// Longer than any process runs.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How long a round to confirm leadership may take before it is tried again.
const CONFIRM: Duration = Duration::from_secs(1);

/// When each session's lease runs out, as this term's leader counts it.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    inner: Mutex<BTreeMap<SessionId, Lease>>,
    /// Bumped when the fate of a proposed expiry is known.
    settled: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl_ms: u64,
    /// In lease time.
    until_ms: u64,
    /// Its end was proposed: renewals wait for the proposal's fate.
    ending: bool,
}

/// What a renewal came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It lives for this long.
    Renewed(u64),
    /// Its end was proposed: ask again when that is settled.
    Ending,
    /// There is no such session here.
    Missing,
}

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Lease>> {
        self.inner.lock().expect("no holder of this lock can panic")
    }

    /// A new term, or events were missed: every live session starts with a full ttl, but one
    /// whose end this leader has proposed goes on waiting for that proposal's fate.
    fn start(&self, sessions: impl IntoIterator<Item = (SessionId, u64)>, now_ms: u64) {
        let mut leases = self.lock();
        let fresh = |(id, ttl_ms)| {
            let ending = leases.get(&id).is_some_and(|lease| lease.ending);
            (id, Lease { ttl_ms, until_ms: now_ms.saturating_add(ttl_ms), ending })
        };
        *leases = sessions.into_iter().map(fresh).collect();
        drop(leases);
        self.settle();
    }

    fn clear(&self) {
        self.lock().clear();
        self.settle();
    }

    fn opened(&self, id: SessionId, ttl_ms: u64, now_ms: u64) {
        let lease = Lease { ttl_ms, until_ms: now_ms.saturating_add(ttl_ms), ending: false };
        // A renewal may have come before the event of the opening; it counts from later.
        self.lock().entry(id).or_insert(lease);
    }

    fn ended(&self, id: SessionId) {
        self.lock().remove(&id);
        self.settle();
    }

    pub(crate) fn renew(&self, id: SessionId, now_ms: u64) -> Renewal {
        let mut leases = self.lock();
        let Some(lease) = leases.get_mut(&id) else { return Renewal::Missing };
        if lease.ending {
            return Renewal::Ending;
        }
        lease.until_ms = lease.until_ms.max(now_ms.saturating_add(lease.ttl_ms));
        Renewal::Renewed(lease.ttl_ms)
    }

    /// Marks up to one entry's worth of run-out sessions as ending, and names them.
    fn run_out(&self, now_ms: u64) -> Vec<SessionId> {
        let mut leases = self.lock();
        let due = leases.iter_mut().filter(|(_, lease)| !lease.ending && lease.until_ms <= now_ms);
        due.take(limits::EXPIRE_PER_ENTRY_MAX)
            .map(|(id, lease)| {
                lease.ending = true;
                *id
            })
            .collect()
    }

    /// An expiry certainly did not happen: the sessions may be renewed, or run out, again.
    fn spared(&self, ids: &[SessionId]) {
        let mut leases = self.lock();
        for id in ids {
            if let Some(lease) = leases.get_mut(id) {
                lease.ending = false;
            }
        }
        drop(leases);
        self.settle();
    }

    fn settle(&self) {
        self.settled.send_modify(|version| *version += 1);
    }

    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// What the looks for what is due remember.
struct Looks {
    /// No deadline is earlier: what lies before was deleted, and a look would walk over it.
    from_ms: u64,
    /// When the log was last moved for the clocks' sake.
    ticked: Instant,
}

/// Everything the task needs.
pub(crate) struct LeaderTask {
    pub(crate) raft: Raft,
    pub(crate) group: GroupId,
    pub(crate) reader: Arc<dyn StateReader>,
    pub(crate) told: broadcast::Receiver<Applied>,
    pub(crate) leadership: watch::Sender<Option<Leadership>>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) proposer: Proposer,
    pub(crate) wall: Arc<dyn WallClock>,
    pub(crate) quorum_ttl: Duration,
}

impl LeaderTask {
    /// Runs until consensus stops.
    pub(crate) async fn run(mut self) {
        let mut metrics = self.raft.server_metrics();
        loop {
            let term = {
                let seen = metrics.borrow_and_update();
                seen.state.is_leader().then_some(seen.vote.leader_id.term)
            };
            if let Some(term) = term
                && let Err(failure) = self.lead(term).await
            {
                tracing::warn!(term, %failure, "leadership could not be taken up; trying again");
            }
            self.leadership.send_replace(None);
            self.leases.clear();
            // Still the leader, but leading failed: again soon, not at once, because the same may
            // fail again. After consensus stopped the metrics may say "leader" for ever.
            let again =
                if term.is_some_and(|term| self.leads(term)) { LEAD_AGAIN } else { FOREVER };
            if let Ok(Err(_)) = tokio::time::timeout(again, metrics.changed()).await {
                return;
            }
            if self.raft.metrics().borrow_watched().running_state.is_err() {
                return;
            }
        }
    }

    fn leads(&self, term: u64) -> bool {
        leads(&self.raft, term)
    }

    async fn lead(&mut self, term: u64) -> Result<(), Failure> {
        // Confirmed by a quorum, and everything committed before this term is applied here: only
        // now do clocks and sessions start from what the predecessors left.
        let confirmed = async {
            let reads = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
            reads.await_ready(&self.raft).await.ok()
        };
        let Ok(Some(_)) = tokio::time::timeout(CONFIRM, confirmed).await else {
            return Err(Failure::not_applied(Reason::NoLeader, "no quorum confirmed the leader"));
        };
        let Ok(leader) = self.raft.as_leader() else { return Ok(()) };
        if leader.term() != term {
            return Ok(());
        }
        self.told = self.told.resubscribe();
        let (clock, stamp) = self.take_over()?;
        let id = leader.to_committed_leader_id();
        tracing::info!(term, lease_ms = stamp, sessions = self.leases.lock().len(), "leading");
        self.leadership.send_replace(Some(Leadership { term, id, clock: Arc::clone(&clock) }));
        let mut looked = tokio::time::interval(LOOK);
        looked.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = Looks { from_ms: 0, ticked: Instant::now() };
        let mut metrics = self.raft.server_metrics();
        while self.leads(term) {
            tokio::select! {
                changed = metrics.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                told = self.told.recv() => match told {
                    Ok(Applied::Events(events)) => self.take_in(&events, &clock),
                    Ok(Applied::Resync) | Err(broadcast::error::RecvError::Lagged(_)) => {
                        // Deriving again gives each session a full ttl: late, never early.
                        self.derive_leases(self.now_ms(&clock))?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                _ = looked.tick() => self.look(&clock, &mut looks)?,
            }
        }
        Ok(())
    }

    fn now_ms(&self, clock: &TermClock) -> u64 {
        clock.sample(quorum_acked(&self.raft), self.wall.now_ms()).lease_ms
    }

    /// Leases of an earlier term were cleared when it ended.
    fn take_over(&self) -> Result<(Arc<TermClock>, u64), Failure> {
        let view = self.reader.view();
        let stamp = query::clocks(view.tables.as_ref(), self.group).map_err(|e| unreadable(&e))?;
        let clock = Arc::new(TermClock::new(stamp, self.wall.now_ms(), self.quorum_ttl));
        self.derive_leases(stamp.lease_ms)?;
        Ok((clock, stamp.lease_ms))
    }

    fn derive_leases(&self, now_ms: u64) -> Result<(), Failure> {
        let view = self.reader.view();
        let sessions =
            query::sessions(view.tables.as_ref(), self.group).map_err(|e| unreadable(&e))?;
        self.leases.start(sessions, now_ms);
        Ok(())
    }

    fn take_in(&self, events: &[Event], clock: &TermClock) {
        for event in events {
            match event {
                Event::SessionOpened { id, ttl_ms } => {
                    self.leases.opened(*id, *ttl_ms, self.now_ms(clock));
                }
                Event::SessionEnded { id } => self.leases.ended(*id),
            }
        }
    }

    fn look(&self, clock: &TermClock, looks: &mut Looks) -> Result<(), Failure> {
        let now_ms = self.now_ms(clock);
        let run_out = self.leases.run_out(now_ms);
        if !run_out.is_empty() {
            self.propose_expiry(run_out);
        }
        let view = self.reader.view();
        let next = |within| {
            query::next_deadline_ms(view.tables.as_ref(), self.group, within)
                .map_err(|e| unreadable(&e))
        };
        let applied_ms =
            query::clocks(view.tables.as_ref(), self.group).map_err(|e| unreadable(&e))?.lease_ms;
        let due = next(looks.from_ms..=now_ms)?;
        // What is scheduled from here on lies above the clock of this view.
        looks.from_ms = due.unwrap_or(now_ms).min(applied_ms);
        let stale = looks.ticked.elapsed() >= TICK
            && (!self.leases.is_empty() || next(looks.from_ms..=u64::MAX)?.is_some());
        if due.is_some() || stale {
            looks.ticked = Instant::now();
            let proposer = self.proposer.clone();
            tokio::spawn(async move {
                // Its failure needs no care: what is due is found again at the next look.
                let _ = proposer.propose(own(Command::Tick), Instant::now() + PROPOSAL).await;
            });
        }
        Ok(())
    }

    fn propose_expiry(&self, ids: Vec<SessionId>) {
        let (proposer, leases) = (self.proposer.clone(), Arc::clone(&self.leases));
        tokio::spawn(async move {
            let command = Command::SessionExpire(SessionExpire { ids: ids.clone() });
            match proposer.propose(own(command), Instant::now() + PROPOSAL).await {
                // One entry deletes a bounded number of rows: the rest gets its turn.
                Ok(Committed { outcome: Outcome::SessionExpire { settled }, .. }) => {
                    let settled = usize::try_from(settled).unwrap_or(usize::MAX);
                    leases.spared(ids.get(settled..).unwrap_or_default());
                }
                Ok(_) => leases.spared(&ids),
                Err(failure) => {
                    tracing::warn!(%failure, sessions = ids.len(), "sessions could not be ended yet");
                    // Unknown: they stay `ending` until their end is applied or the term is over.
                    if !failure.unknown {
                        leases.spared(&ids);
                    }
                }
            }
        });
    }
}

/// A command of the leader's own.
pub(crate) fn own(command: Command) -> Envelope {
    Envelope { namespace: String::new(), caller: Caller::Anonymous, command }
}

pub(crate) fn unreadable(error: &quorate_state::Fatal) -> Failure {
    Failure::not_applied(
        Reason::Fatal,
        format!("this node's state is unreadable: {error}; see its log, and replace the node"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId(7);

    #[test]
    fn a_lease_runs_out_unless_renewed_and_is_not_renewed_while_it_ends() {
        let leases = Leases::default();
        leases.start([(ID, 1_000)], 5_000);
        assert!(leases.run_out(5_999).is_empty());
        assert_eq!(leases.renew(ID, 5_500), Renewal::Renewed(1_000));
        assert!(leases.run_out(6_499).is_empty());
        assert_eq!(leases.run_out(6_500), [ID]);
        assert_eq!(leases.renew(ID, 6_500), Renewal::Ending);
        leases.start([(ID, 1_000)], 6_500);
        assert_eq!(leases.renew(ID, 6_500), Renewal::Ending, "its end may still be applied");
        assert!(leases.run_out(9_000).is_empty(), "its end is proposed once");
        leases.spared(&[ID]);
        assert_eq!(leases.renew(ID, 6_600), Renewal::Renewed(1_000));
        leases.ended(ID);
        assert_eq!(leases.renew(ID, 6_700), Renewal::Missing);
    }

    #[test]
    fn a_late_opening_event_does_not_shorten_a_renewed_lease() {
        let leases = Leases::default();
        leases.opened(ID, 1_000, 100);
        leases.renew(ID, 900);
        leases.opened(ID, 1_000, 200);
        assert!(leases.run_out(1_899).is_empty());
        assert_eq!(leases.run_out(1_900), [ID]);
    }

    #[test]
    fn one_entry_ends_a_bounded_number_of_sessions() {
        let leases = Leases::default();
        leases.start((0..2_500).map(|id| (SessionId(id), 1)), 0);
        let rounds: Vec<_> = (0..4).map(|_| leases.run_out(10).len()).collect();
        assert_eq!(rounds, [1_000, 1_000, 500, 0]);
    }
}
