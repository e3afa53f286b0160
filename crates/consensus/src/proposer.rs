//! Turns commands of all connections into log entries: takes what is queued, never waits for more.

use crate::admission::{Admission, Origin, Permit, Where};
use crate::backlog::{Backlog, Proposal, Taken};
use crate::clock::{TermClock, WallClock};
use crate::failure::{Failure, Reason};
use crate::leader::own;
use crate::levels::Levels;
use crate::maintenance::FREE_BYTES_MIN;
use crate::trace::{Milestones, Passage};
use crate::types::{Body, Raft, TypeConfig};
use crate::weight::{Weight, grows, is_urgent};
use openraft::alias::CommittedLeaderIdOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use quorate_state::{Batch, Command, EntryBody, Envelope, LogIndex, Outcome};
use quorate_storage::Histogram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

/// Entries on their way at once. Enough to keep log and network busy, few enough that what arrives
/// meanwhile becomes large entries, which is what a busy machine needs.
const ENTRIES_IN_FLIGHT: usize = 4;
/// Hand-overs queued before new ones are refused, each of one command or of what a connection had
/// at once; memory is bounded by bytes before this counts.
const QUEUE_LEN: usize = 65_536;
/// Bytes of what is urgent that is held at once. It has room of its own, which clients can't take;
/// past it, its makers say it again a little later.
pub(crate) const URGENT_BYTES_MAX: usize = 4 << 20;

/// A committed and applied command.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Index of its entry.
    pub index: LogIndex,
    /// What it came to.
    pub outcome: Outcome,
    /// How it came there, while somebody wants to know that of its entry.
    pub(crate) passage: Option<Arc<Passage>>,
}

impl Committed {
    /// Tells the request it was of how it came there, if that wants to know; others forget it.
    pub(crate) fn told(mut self, origin: &Origin) -> Self {
        if let Some(passage) = self.passage.take() {
            self.passage = origin.trace().map(|trace| trace.passed(&passage));
        }
        self
    }
}

/// What this node needs to know to lead: exists from the first applied entry of its term on.
#[derive(Clone)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) id: CommittedLeaderIdOf<TypeConfig>,
    pub(crate) clock: Arc<TermClock>,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct ProposerCounters {
    pub(crate) entries: AtomicU64,
    pub(crate) commands: AtomicU64,
    /// Commands whose deadline had come when they had their turn.
    pub(crate) late: AtomicU64,
    /// Commands refused because the disk was almost full.
    pub(crate) full: AtomicU64,
    /// From an entry's proposal until it was applied.
    pub(crate) commits: Histogram,
}

/// What became of a command.
pub(crate) type Answer = Result<Committed, Failure>;
/// The way back to a lane.
pub(crate) type Answers = mpsc::Sender<Vec<(u64, Answer)>>;

/// Who is told what became of a command.
pub(crate) enum ReplyTo {
    /// One caller.
    Caller(oneshot::Sender<Answer>),
    /// A lane, together with what else of it becomes known at the same time.
    Lane { number: u64, answers: Answers },
}

/// Tells each its answer; consecutive ones of a lane as one message.
pub(crate) fn tell(told: impl Iterator<Item = (ReplyTo, Answer)>) {
    let mut lane: Option<(Answers, Vec<(u64, Answer)>)> = None;
    // Whoever is gone has given up; there is nobody to tell.
    let flush = |lane: Option<(Answers, Vec<(u64, Answer)>)>| {
        if let Some((answers, batch)) = lane {
            let _ = answers.try_send(batch);
        }
    };
    for (reply, answer) in told {
        match reply {
            ReplyTo::Caller(caller) => drop(caller.send(answer)),
            ReplyTo::Lane { number, answers } => match &mut lane {
                Some((same, batch)) if same.same_channel(&answers) => batch.push((number, answer)),
                _ => flush(lane.replace((answers, vec![(number, answer)]))),
            },
        }
    }
    flush(lane);
}

/// Handle to the proposer of one group.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Vec<Proposal>>,
    /// Whose commands the leader's own are.
    own: Origin,
    pub(crate) admission: Admission,
    pub(crate) urgent: Admission,
    /// Bytes free on this node's disk, as they were seen last.
    pub(crate) free_bytes: Arc<AtomicU64>,
    /// What the cluster knows.
    levels: Arc<Levels>,
    pub(crate) counters: Arc<ProposerCounters>,
}

impl Proposer {
    /// Starts the task; it ends when the last handle is dropped.
    pub(crate) fn start(
        raft: Raft,
        leadership: watch::Receiver<Option<Leadership>>,
        wall: Arc<dyn WallClock>,
        own: Origin,
        bytes_max: usize,
        levels: Arc<Levels>,
        milestones: Arc<Milestones>,
    ) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_LEN);
        let counters = Arc::new(ProposerCounters::default());
        tokio::spawn(run(raft, leadership, wall, queued, Arc::clone(&counters), milestones));
        let admission = Admission::new(Where::Proposed, bytes_max);
        let urgent = Admission::new(Where::ProposedUrgent, URGENT_BYTES_MAX);
        let free_bytes = Arc::new(AtomicU64::new(u64::MAX));
        Self { queue, own, admission, urgent, free_bytes, levels, counters }
    }

    /// Proposes a command of the leader's own: as [`Proposer::propose`].
    pub(crate) async fn propose_own(
        &self,
        command: Command,
        deadline: Instant,
    ) -> Result<Committed, Failure> {
        self.propose(&self.own, own(command), deadline).await
    }

    /// Proposes on this node, which must lead; answers when applied here, or at the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future while the command is queued withdraws it; later it has no influence.
    pub(crate) async fn propose(
        &self,
        origin: &Origin,
        envelope: Envelope,
        deadline: Instant,
    ) -> Result<Committed, Failure> {
        let (reply, answer) = oneshot::channel();
        let weight = Weight::of(&envelope);
        let reply = ReplyTo::Caller(reply);
        let (proposal, claimed) = self.proposal(origin, envelope, weight, deadline, reply)?;
        let claim = Claim(claimed);
        self.queue(vec![proposal]).map_err(|_| self.refusal())?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) if claim.withdraw() => Err(stopped()),
            Ok(Err(_)) => Err(Failure::unknown(
                Reason::Fatal,
                "this node stopped while the command was on its way",
            )),
            Err(_) => Err(overtaken(claim.withdraw())),
        }
    }

    /// A command to be queued, and the flag by which it can be withdrawn until it is taken.
    pub(crate) fn proposal(
        &self,
        origin: &Origin,
        envelope: Envelope,
        weight: Weight,
        deadline: Instant,
        reply: ReplyTo,
    ) -> Result<(Proposal, Arc<AtomicBool>), Failure> {
        self.levels.admit(envelope.level())?;
        let free = self.free_bytes.load(Ordering::Relaxed);
        if free < FREE_BYTES_MIN && grows(&envelope.command) {
            self.counters.full.fetch_add(1, Ordering::Relaxed);
            return Err(Failure::not_applied(
                Reason::DiskFull,
                format!(
                    "the leader's disk is almost full: it has {free} bytes free, and below \
                     {FREE_BYTES_MIN} it takes only what frees room: delete keys, or give the disk \
                     more room"
                ),
            ));
        }
        let Weight { bytes, work } = weight;
        let (admission, turn) = match is_urgent(&envelope.command) {
            true => (&self.urgent, None),
            false => (&self.admission, Some(origin.id())),
        };
        let permit = admission.take(origin, bytes)?;
        let claimed = Arc::<AtomicBool>::default();
        let taken = Arc::clone(&claimed);
        let traced = origin.trace().is_some();
        let proposal =
            Proposal { envelope, work, turn, deadline, traced, claimed: taken, reply, permit };
        Ok((proposal, claimed))
    }

    /// Hands commands over, in their order, at once; gives them back when there is no room.
    pub(crate) fn queue(&self, proposals: Vec<Proposal>) -> Result<(), Vec<Proposal>> {
        if proposals.is_empty() {
            return Ok(());
        }
        self.queue.try_send(proposals).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Why [`Proposer::queue`] gave something back.
    pub(crate) fn refusal(&self) -> Failure {
        if self.queue.is_closed() {
            return stopped();
        }
        Failure::not_applied(
            Reason::Overloaded,
            format!("{QUEUE_LEN} batches of commands are queued already; try again more slowly"),
        )
    }
}

/// What a caller is told whose deadline came first.
pub(crate) fn overtaken(withdrawn: bool) -> Failure {
    if withdrawn {
        return Failure::not_applied(
            Reason::Deadline,
            "the deadline came while the command was still queued on the leader",
        );
    }
    Failure::unknown(
        Reason::Deadline,
        "the deadline came before the command was committed and applied; it may still be",
    )
}

fn stopped() -> Failure {
    Failure::not_applied(Reason::ShuttingDown, "this node is stopping; ask another one")
}

/// The caller's side of `Proposal::claimed`.
struct Claim(Arc<AtomicBool>);

impl Claim {
    /// Whether the command was still queued; it will then never be proposed.
    fn withdraw(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.withdraw();
    }
}

async fn run(
    raft: Raft,
    mut leadership: watch::Receiver<Option<Leadership>>,
    wall: Arc<dyn WallClock>,
    mut queued: mpsc::Receiver<Vec<Proposal>>,
    counters: Arc<ProposerCounters>,
    milestones: Arc<Milestones>,
) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
    let mut backlog = Backlog::default();
    loop {
        let Ok(slot) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if backlog.is_empty() {
            match queued.recv().await {
                Some(proposals) => backlog.extend(proposals),
                None => return,
            }
        }
        // Everything else that is there has its turn, too.
        while let Ok(proposals) = queued.try_recv() {
            backlog.extend(proposals);
        }
        let Taken { commands: taken, late } = backlog.next_entry(Instant::now());
        if !late.is_empty() {
            counters.late.fetch_add(late.len() as u64, Ordering::Relaxed);
            fail(late.into_iter().map(Proposal::into_reply), &overtaken(true));
        }
        if taken.is_empty() {
            continue;
        }
        let leading = leadership.borrow_and_update().clone();
        let Some(leading) = leading else {
            fail(taken.into_iter().map(Proposal::into_reply), &not_leader());
            continue;
        };
        let traced = taken.iter().any(|proposal| proposal.traced);
        let (commands, replies): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|proposal| (proposal.envelope, (proposal.reply, proposal.permit)))
            .unzip();
        let acked = quorum_acked(&raft);
        let stamp = leading.clock.sample(acked, wall.now_ms());
        counters.entries.fetch_add(1, Ordering::Relaxed);
        counters.commands.fetch_add(commands.len() as u64, Ordering::Relaxed);
        let body = EntryBody::new(&Batch { stamp, commands });
        if let Err(failure) = readable(&body) {
            fail(replies.into_iter(), &failure);
            continue;
        }
        let body = Body(body);
        let watching = traced.then(|| milestones.watch());
        let begun = Instant::now();
        let (responder, completed) = ProgressResponder::complete_only();
        let written = raft.write(body).with_leader(leading.id).responder(responder).await;
        if written.is_err() {
            fail(replies.into_iter(), &stopped());
            continue;
        }
        let counters = Arc::clone(&counters);
        tokio::spawn(async move {
            let completed = completed.await;
            drop(slot);
            match completed {
                Ok(Ok(response)) => {
                    counters.commits.record(begun.elapsed());
                    let index = LogIndex(response.log_id.index);
                    let passage = watching.map(|watching| watching.passage(index.0, begun));
                    let passage = passage.map(Arc::new);
                    debug_assert_eq!(response.data.len(), replies.len());
                    let outcomes = replies.into_iter().zip(response.data);
                    tell(outcomes.map(|((reply, _permit), outcome)| {
                        (reply, Ok(Committed { index, outcome, passage: passage.clone() }))
                    }));
                }
                Ok(Err(error)) => fail(replies.into_iter(), &write_failure(&error)),
                Err(_) => fail(
                    replies.into_iter(),
                    &Failure::unknown(
                        Reason::Fatal,
                        "this node stopped while the command was on its way",
                    ),
                ),
            }
        });
    }
}

/// An entry that no node can decode would stop all of them, again and again. Whoever takes commands in has
/// checked them, so this finds nothing; if it does, all that goes with that command has to be asked again.
fn readable(body: &EntryBody) -> Result<(), Failure> {
    let Err(error) = body.batch() else { return Ok(()) };
    tracing::error!(%error, "a command that can't be read back was kept out of the log");
    Err(Failure::not_applied(
        Reason::Overloaded,
        "a command beside this one can't be written to the log, and took it along; try again",
    ))
}

fn not_leader() -> Failure {
    Failure::not_applied(Reason::NotLeader, "this node does not lead; ask the leader")
}

/// Only a refusal before the entry was appended is known to have no effect.
fn write_failure(error: &ClientWriteError<TypeConfig>) -> Failure {
    match error {
        ClientWriteError::ForwardToLeader(_) => not_leader(),
        ClientWriteError::LogEntryDiscarded(_) => Failure::unknown(
            Reason::LeaderChanged,
            "leadership changed while the command was on its way; it may still be committed",
        ),
        other => Failure::unknown(Reason::LeaderChanged, other.to_string()),
    }
}

fn fail(replies: impl Iterator<Item = (ReplyTo, Permit)>, failure: &Failure) {
    tell(replies.map(|(reply, _permit)| (reply, Err(failure.clone()))));
}

/// Whether consensus on this node takes itself for the leader of this term.
pub(crate) fn leads(raft: &Raft, term: u64) -> bool {
    let metrics = raft.server_metrics();
    let seen = metrics.borrow_watched();
    seen.state.is_leader() && seen.vote.leader_id.term == term
}

/// When a quorum last acknowledged this node as the leader.
pub(crate) fn quorum_acked(raft: &Raft) -> Option<Instant> {
    use openraft::Instant as _;
    let leader = raft.as_leader().ok()?;
    // A quorum of one is never asked, so openraft never hears from it again.
    let metrics = raft.server_metrics();
    let alone = metrics.borrow_watched().membership_config.membership().voter_ids().count() == 1;
    if alone {
        return Some(Instant::now());
    }
    let acked = leader.last_quorum_acked()?;
    Instant::now().checked_sub(acked.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::OriginId;
    use crate::weight::tests::envelope;
    use quorate_state::limits::TRANSACTION_STEPS_MAX;
    use quorate_state::{
        Command, FeatureLevel, KvIncrement, NodeId, Operation, Stamp, Transaction,
    };
    use std::time::Duration;

    #[test]
    fn what_nobody_could_read_back_is_kept_out_of_the_log() {
        let body = |steps| {
            let increment = KvIncrement { key: "n".into(), by: 1 };
            let then = vec![Operation::KvIncrement(increment); steps];
            let none = Vec::new();
            let transaction = Transaction { conditions: none, then, otherwise: Vec::new() };
            let commands = vec![envelope(Command::Transaction(transaction))];
            EntryBody::new(&Batch { stamp: Stamp::default(), commands })
        };
        assert!(readable(&body(TRANSACTION_STEPS_MAX)).is_ok());
        let failure = readable(&body(TRANSACTION_STEPS_MAX + 1)).unwrap_err();
        assert!(!failure.unknown, "{failure:?}");
    }

    #[tokio::test]
    async fn what_the_cluster_is_too_old_for_is_not_proposed() {
        let origin = Origin::new(OriginId { node: NodeId(1), connection: 0 });
        let cluster_at = |level| Proposer {
            queue: mpsc::channel(1).0,
            own: origin.clone(),
            admission: Admission::new(Where::Proposed, 1 << 20),
            urgent: Admission::new(Where::ProposedUrgent, 1 << 20),
            free_bytes: Arc::new(AtomicU64::new(u64::MAX)),
            levels: Arc::new(Levels::new(FeatureLevel::FIRST, FeatureLevel(level))),
            counters: Arc::default(),
        };
        let proposed = |proposer: &Proposer| {
            let envelope = envelope(Command::Tick);
            let weight = Weight::of(&envelope);
            let reply = ReplyTo::Caller(oneshot::channel().0);
            let deadline = Instant::now() + Duration::from_secs(1);
            proposer.proposal(&origin, envelope, weight, deadline, reply).map(drop)
        };
        proposed(&cluster_at(1)).expect("all know it");
        // There is no such cluster: it stands for one in which a command is newer.
        let refused = proposed(&cluster_at(0)).unwrap_err();
        assert_eq!(refused.reason, Reason::FeatureLevel, "{refused}");
        assert!(!refused.unknown);
    }
}
