//! What a node does because it leads: keeps the clocks and the leases, lets time pass in the log,
//! ends what has run out, and notices which nodes nobody can wait on.

use crate::clock::{TermClock, WallClock};
use crate::failure::{Failure, Reason};
use crate::leaps::Wakes;
use crate::leases::{Begin, Leases, RunOut};
use crate::machine_adapter::Applied;
use crate::proposer::{Committed, Leadership, Proposer, leads, quorum_acked};
use crate::types::Raft;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver as _;
use quorate_state::{
    Caller, Command, ConsumerDetachNode, Envelope, Event, GroupId, HeldLock, LeaseId,
    LockDetachNode, LockExpire, NodeId, Outcome, SessionExpire, Stamp, query,
};
use quorate_storage::state::StateReader;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// How often a leader looks for what is due. Bounds how late something expires.
const LOOK: Duration = Duration::from_millis(100);
/// While any deadline exists the log moves at least this often, so that a new leader's clocks
/// start close to the old one's.
const TICK: Duration = Duration::from_secs(5);
/// A node that acknowledged nothing for this long is taken for unreachable, and whoever waits there
/// is passed over. Longer than an election and the reconnects after it take.
const UNREACHABLE: Duration = Duration::from_secs(2);
/// How long a proposal of the leader's own may take.
const PROPOSAL: Duration = Duration::from_secs(5);
/// How long a leader waits before it tries again what failed when it took leadership up.
const LEAD_AGAIN: Duration = Duration::from_millis(50);
/// Longer than any process runs.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);
/// How long a round to confirm leadership may take before it is tried again.
const CONFIRM: Duration = Duration::from_secs(1);

/// What the looks for what is due remember.
pub(crate) struct Looks {
    /// No deadline is earlier: what lies before was deleted, and a look would walk over it.
    from_ms: u64,
    /// As `from_ms`, of what waits for a wall time.
    wall_from_ms: u64,
    /// When the log was last moved for the clocks' sake.
    ticked: Instant,
    /// When this node began to lead.
    led: Instant,
    /// Nodes that can't be reached, and whose waiters were detached for it.
    unreachable: BTreeSet<NodeId>,
}

impl Looks {
    /// Below which lease time, and which wall time, nothing is due.
    pub(crate) fn from(&self) -> (u64, u64) {
        (self.from_ms, self.wall_from_ms)
    }
}

/// Everything the task needs.
pub(crate) struct LeaderTask {
    pub(crate) raft: Raft,
    pub(crate) group: GroupId,
    pub(crate) reader: Arc<dyn StateReader>,
    pub(crate) told: broadcast::Receiver<Applied>,
    pub(crate) applied: watch::Receiver<u64>,
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
        tracing::info!(term, lease_ms = stamp, leases = self.leases.len(), "leading");
        self.leadership.send_replace(Some(Leadership { term, id, clock: Arc::clone(&clock) }));
        let mut looked = tokio::time::interval(LOOK);
        looked.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let now = Instant::now();
        let mut looks = Looks {
            from_ms: 0,
            wall_from_ms: 0,
            ticked: now,
            led: now,
            unreachable: BTreeSet::new(),
        };
        let mut metrics = self.raft.server_metrics();
        let mut wakes = Wakes::new(self.wall.leaps(), self.applied.clone());
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
                () = wakes.next() => {}
            }
            self.leap(&clock, &mut looks)?;
        }
        Ok(())
    }

    pub(crate) fn now(&self, clock: &TermClock) -> Stamp {
        clock.sample(quorum_acked(&self.raft), self.wall.now_ms())
    }

    pub(crate) fn now_ms(&self, clock: &TermClock) -> u64 {
        self.now(clock).lease_ms
    }

    /// Leases of an earlier term were cleared when it ended.
    fn take_over(&self) -> Result<(Arc<TermClock>, u64), Failure> {
        let view = self.reader.view();
        let stamp = query::clocks(view.tables.as_ref(), self.group).map_err(|e| unreadable(&e))?;
        let clock = TermClock::new(stamp, self.wall.now_ms(), self.quorum_ttl);
        let clock = Arc::new(clock.leaping(self.wall.leaps()));
        self.derive_leases(stamp.lease_ms)?;
        Ok((clock, stamp.lease_ms))
    }

    pub(crate) fn derive_leases(&self, now_ms: u64) -> Result<(), Failure> {
        let view = self.reader.view();
        let tables = view.tables.as_ref();
        let sessions = query::sessions(tables, self.group).map_err(|e| unreadable(&e))?;
        let locks = query::lock_leases(tables, self.group).map_err(|e| unreadable(&e))?;
        let sessions = sessions.into_iter().map(|session| Begin {
            id: LeaseId::Session(session.id),
            ttl_ms: session.ttl_ms,
            remaining_ms: session.remaining_ms,
            lock: None,
        });
        let locks = locks.into_iter().map(|lock| Begin {
            id: LeaseId::Lock(lock.held.token),
            ttl_ms: lock.ttl_ms,
            remaining_ms: lock.remaining_ms,
            lock: Some(lock.held),
        });
        self.leases.start(sessions.chain(locks), now_ms);
        Ok(())
    }

    pub(crate) fn take_in(&self, events: &[Event], clock: &TermClock) {
        for event in events {
            match event {
                Event::SessionOpened { id, ttl_ms } => {
                    let id = LeaseId::Session(*id);
                    let begin = Begin { id, ttl_ms: *ttl_ms, remaining_ms: None, lock: None };
                    self.leases.begun(begin, self.now_ms(clock));
                }
                Event::SessionEnded { id } => self.leases.ended(LeaseId::Session(*id)),
                Event::LockGranted { namespace, name, token, ttl_ms, .. } => {
                    let (namespace, name) = (namespace.clone(), name.clone());
                    let held = HeldLock { namespace, name, token: *token };
                    let (id, lock) = (LeaseId::Lock(*token), Some(held));
                    let begin = Begin { id, ttl_ms: *ttl_ms, remaining_ms: None, lock };
                    self.leases.begun(begin, self.now_ms(clock));
                }
                Event::LockFreed { token, .. } => self.leases.ended(LeaseId::Lock(*token)),
                Event::LeaseRecorded { lease, remaining_ms } => {
                    self.leases.recorded(*lease, *remaining_ms);
                }
                Event::TicketChanged { .. }
                | Event::JobAssigned { .. }
                | Event::JobWithdrawn { .. }
                | Event::ConsumerLeft { .. }
                | Event::ScheduleDue { .. }
                | Event::CacheChanged { .. }
                | Event::CacheTagsInvalidated { .. }
                | Event::CachePatternDeleted { .. }
                | Event::CacheBuildEnded { .. }
                | Event::Published { .. }
                | Event::PullChanged { .. }
                | Event::AccessChanged => {}
            }
        }
    }

    pub(crate) fn look(&self, clock: &TermClock, looks: &mut Looks) -> Result<(), Failure> {
        let Stamp { lease_ms: now_ms, wall_ms } = self.now(clock);
        let run_out = self.leases.run_out(now_ms);
        if !run_out.is_empty() {
            self.propose_expiry(run_out);
        }
        if let Some(checkpoint) = self.leases.to_record(now_ms) {
            // Whatever becomes of it: renewals wait for the fate of what may be recorded.
            self.propose_unheard(Command::LeaseCheckpoint(checkpoint));
        }
        self.look_for_unreachable(looks);
        let view = self.reader.view();
        let next = |within| {
            query::next_deadline_ms(view.tables.as_ref(), self.group, within)
                .map_err(|e| unreadable(&e))
        };
        let applied =
            query::clocks(view.tables.as_ref(), self.group).map_err(|e| unreadable(&e))?;
        let due = next(looks.from_ms..=now_ms)?;
        // What is scheduled from here on lies above the clock of this view.
        looks.from_ms = due.unwrap_or(now_ms).min(applied.lease_ms);
        // A clock that was set back, or is held back, is not there yet.
        let wall_within = looks.wall_from_ms..=wall_ms.max(looks.wall_from_ms);
        let wall_due = query::next_wall_deadline_ms(view.tables.as_ref(), self.group, wall_within)
            .map_err(|e| unreadable(&e))?;
        looks.wall_from_ms = wall_due.unwrap_or(wall_ms).min(applied.wall_ms);
        let stale = looks.ticked.elapsed() >= TICK
            && (!self.leases.is_empty() || next(looks.from_ms..=u64::MAX)?.is_some());
        if due.is_some() || wall_due.is_some() || stale {
            looks.ticked = Instant::now();
            // What is due is found again at the next look if this fails.
            self.propose_unheard(Command::Tick);
        }
        Ok(())
    }

    /// Proposes what needs no care if it fails.
    fn propose_unheard(&self, command: Command) {
        let proposer = self.proposer.clone();
        tokio::spawn(async move {
            let _ = proposer.propose_own(command, Instant::now() + PROPOSAL).await;
        });
    }

    /// A node that can't be reached can't tell its waiters anything; nor may they be connected to
    /// it any more. Whoever waits or consumes there is passed over until it is heard of again.
    fn look_for_unreachable(&self, looks: &mut Looks) {
        use openraft::Instant as _;
        let metrics = self.raft.metrics();
        let seen = metrics.borrow_watched();
        for (node, acked) in seen.heartbeat.iter().flatten() {
            let node = NodeId(*node);
            let silent = acked.as_ref().map_or_else(|| looks.led.elapsed(), |at| at.elapsed());
            if silent < UNREACHABLE || seen.id == node.0 {
                looks.unreachable.remove(&node);
            } else if looks.led.elapsed() >= UNREACHABLE && looks.unreachable.insert(node) {
                self.propose_detach(node);
            }
        }
    }

    fn propose_detach(&self, node: NodeId) {
        tracing::info!(%node, "the node can't be reached: who waits there is passed over");
        let proposer = self.proposer.clone();
        tokio::spawn(async move { detach(&proposer, node).await });
    }

    fn propose_expiry(&self, run_out: RunOut) {
        let RunOut { sessions, locks } = run_out;
        if !sessions.is_empty() {
            let (proposer, leases) = (self.proposer.clone(), Arc::clone(&self.leases));
            tokio::spawn(async move {
                let command = Command::SessionExpire(SessionExpire { ids: sessions.clone() });
                let ended = proposer.propose_own(command, Instant::now() + PROPOSAL).await;
                let settled = match &ended {
                    // One entry deletes a bounded number of rows: the rest gets its turn.
                    Ok(Committed { outcome: Outcome::SessionExpire { settled }, .. }) => {
                        usize::try_from(*settled).unwrap_or(usize::MAX)
                    }
                    _ => 0,
                };
                let left = sessions.into_iter().skip(settled).map(LeaseId::Session);
                settle_expiry(&leases, &ended, left);
            });
        }
        if !locks.is_empty() {
            let (proposer, leases) = (self.proposer.clone(), Arc::clone(&self.leases));
            tokio::spawn(async move {
                let ids: Vec<_> = locks.iter().map(|held| LeaseId::Lock(held.token)).collect();
                let command = Command::LockExpire(LockExpire { locks });
                let ended = proposer.propose_own(command, Instant::now() + PROPOSAL).await;
                let done = matches!(&ended, Ok(Committed { outcome: Outcome::Done, .. }));
                settle_expiry(&leases, &ended, ids.into_iter().skip_while(|_| done));
            });
        }
    }
}

/// Lets leases whose end was proposed go on if it certainly did not come. Otherwise they stay
/// as they are until their end is applied or the term is over.
fn settle_expiry(
    leases: &Leases,
    ended: &Result<Committed, Failure>,
    left: impl Iterator<Item = LeaseId>,
) {
    match ended {
        Ok(_) => leases.spared(left),
        Err(failure) => {
            tracing::warn!(%failure, "leases that ran out could not be ended yet");
            if !failure.unknown {
                leases.spared(left);
            }
        }
    }
}

/// Says that nobody waits or consumes on a node any more; false when this node leads no more, and the
/// next leader looks too.
pub(crate) async fn detach(proposer: &Proposer, node: NodeId) -> bool {
    for command in detachments(node) {
        loop {
            match proposer.propose_own(command.clone(), Instant::now() + PROPOSAL).await {
                Ok(Committed { outcome, .. }) if detaches_more(&outcome) => {}
                Ok(_) => break,
                // There was no quorum for it, or no room: it is as needed as before.
                Err(Failure { reason: Reason::Deadline | Reason::Overloaded, .. }) => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(_) => return false,
            }
        }
    }
    true
}

/// What says that nobody waits or consumes on a node any more; each is to be said again as long as
/// it [`detaches_more`].
fn detachments(node: NodeId) -> [Command; 2] {
    [
        Command::LockDetachNode(LockDetachNode { node }),
        Command::ConsumerDetachNode(ConsumerDetachNode { node }),
    ]
}

/// Whether there may be more than one entry detached.
fn detaches_more(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::LockDetachNode { more: true } | Outcome::ConsumerDetachNode { more: true }
    )
}

/// A command of the leader's own.
pub(crate) fn own(command: Command) -> Envelope {
    Envelope { namespace: String::new(), caller: Caller::Anonymous, guard: None, command }
}

pub(crate) fn unreadable(error: &quorate_state::Fatal) -> Failure {
    Failure::not_applied(
        Reason::Fatal,
        format!("this node's state is unreadable: {error}; see its log, and replace the node"),
    )
}
