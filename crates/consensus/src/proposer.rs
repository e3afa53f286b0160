//! Turns commands of all connections into log entries: takes what is queued, never waits for more.

use crate::clock::{TermClock, WallClock};
use crate::failure::{Failure, Reason};
use crate::maintenance::FREE_BYTES_MIN;
use crate::types::{Body, Raft, TypeConfig};
use crate::weight::{Weight, grows};
use openraft::alias::CommittedLeaderIdOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use quorate_state::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use quorate_state::{Batch, EntryBody, Envelope, LogIndex, Outcome};
use quorate_storage::Histogram;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

/// Entries on their way at once. Enough to keep log and network busy, few enough that what arrives
/// meanwhile becomes large entries, which is what a busy machine needs.
const ENTRIES_IN_FLIGHT: usize = 4;
/// Hand-overs queued before new ones are refused, each of one command or of what a connection had
/// at once; memory is bounded by bytes before this counts.
const QUEUE_LEN: usize = 65_536;
/// A committed and applied command.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Index of its entry.
    pub index: LogIndex,
    /// What it came to.
    pub outcome: Outcome,
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

/// A command on its way into an entry.
pub(crate) struct Proposal {
    envelope: Envelope,
    /// What it counts for in an entry.
    work: usize,
    /// Set by whoever gets there first: the caller who gives up, or the proposer who takes it.
    claimed: Arc<AtomicBool>,
    pub(crate) reply: ReplyTo,
    permit: OwnedSemaphorePermit,
}

/// A bound on the bytes of commands that are held at once.
#[derive(Clone)]
pub(crate) struct ByteBudget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl ByteBudget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// Room for a command of so many bytes, or the refusal its caller is told. A command larger than
    /// the whole budget takes all of it.
    pub(crate) fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let permits = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_| {
            Failure::not_applied(
                Reason::Overloaded,
                format!(
                    "{} bytes of proposals are on their way already; try again more slowly",
                    self.bytes_max
                ),
            )
        })
    }
}

/// Handle to the proposer of one group.
#[derive(Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Vec<Proposal>>,
    budget: ByteBudget,
    /// Bytes free on this node's disk, as they were seen last.
    pub(crate) free_bytes: Arc<AtomicU64>,
    pub(crate) counters: Arc<ProposerCounters>,
}

impl Proposer {
    /// Starts the task; it ends when the last handle is dropped.
    pub(crate) fn start(
        raft: Raft,
        leadership: watch::Receiver<Option<Leadership>>,
        wall: Arc<dyn WallClock>,
        bytes_max: usize,
    ) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_LEN);
        let counters = Arc::new(ProposerCounters::default());
        tokio::spawn(run(raft, leadership, wall, queued, Arc::clone(&counters)));
        let free_bytes = Arc::new(AtomicU64::new(u64::MAX));
        Self { queue, budget: ByteBudget::new(bytes_max), free_bytes, counters }
    }

    /// Proposes on this node, which must lead; answers when applied here, or at the deadline.
    ///
    /// # Cancel safety
    /// Dropping the future while the command is queued withdraws it; later it has no influence.
    pub(crate) async fn propose(
        &self,
        envelope: Envelope,
        deadline: Instant,
    ) -> Result<Committed, Failure> {
        let (reply, answer) = oneshot::channel();
        let weight = Weight::of(&envelope);
        let (proposal, claimed) = self.proposal(envelope, weight, ReplyTo::Caller(reply))?;
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
        envelope: Envelope,
        weight: Weight,
        reply: ReplyTo,
    ) -> Result<(Proposal, Arc<AtomicBool>), Failure> {
        let free = self.free_bytes.load(Ordering::Relaxed);
        if free < FREE_BYTES_MIN && grows(&envelope.command) {
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
        let permit = self.budget.take(bytes)?;
        let claimed = Arc::<AtomicBool>::default();
        let proposal = Proposal { envelope, work, claimed: Arc::clone(&claimed), reply, permit };
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

/// Commands handed over and not in an entry yet.
#[derive(Default)]
struct Backlog(VecDeque<Proposal>);

impl Backlog {
    /// The commands of the next entry: as many as fit, in order, one at least.
    fn next_entry(&mut self) -> Vec<Proposal> {
        let mut work = 0;
        let mut taken = Vec::new();
        while let Some(next) = self.0.front() {
            let fits = taken.len() < ENTRY_COMMANDS_MAX && work + next.work <= ENTRY_BYTES_MAX;
            if !fits && !taken.is_empty() {
                break;
            }
            work += next.work;
            taken.extend(self.0.pop_front());
        }
        taken
    }
}

async fn run(
    raft: Raft,
    mut leadership: watch::Receiver<Option<Leadership>>,
    wall: Arc<dyn WallClock>,
    mut queued: mpsc::Receiver<Vec<Proposal>>,
    counters: Arc<ProposerCounters>,
) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
    let mut backlog = Backlog::default();
    loop {
        let Ok(slot) = Arc::clone(&in_flight).acquire_owned().await else { return };
        if backlog.0.is_empty() {
            match queued.recv().await {
                Some(proposals) => backlog.0.extend(proposals),
                None => return,
            }
        }
        // What else is there goes along, up to an entry's worth.
        while backlog.0.len() < ENTRY_COMMANDS_MAX
            && let Ok(proposals) = queued.try_recv()
        {
            backlog.0.extend(proposals);
        }
        let mut taken = backlog.next_entry();
        // Whoever gave up while queued is left out: it was told that nothing happened.
        taken.retain(|proposal| !proposal.claimed.swap(true, Ordering::AcqRel));
        if taken.is_empty() {
            continue;
        }
        let leading = leadership.borrow_and_update().clone();
        let Some(leading) = leading else {
            fail(
                taken.into_iter().map(|proposal| (proposal.reply, proposal.permit)),
                &not_leader(),
            );
            continue;
        };
        let (commands, replies): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|proposal| (proposal.envelope, (proposal.reply, proposal.permit)))
            .unzip();
        let acked = quorum_acked(&raft);
        let stamp = leading.clock.sample(acked, wall.now_ms());
        counters.entries.fetch_add(1, Ordering::Relaxed);
        counters.commands.fetch_add(commands.len() as u64, Ordering::Relaxed);
        let body = Body(Arc::new(EntryBody::new(Batch { stamp, commands })));
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
                    debug_assert_eq!(response.data.len(), replies.len());
                    let outcomes = replies.into_iter().zip(response.data);
                    tell(outcomes.map(|((reply, _permit), outcome)| {
                        (reply, Ok(Committed { index, outcome }))
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

fn fail(replies: impl Iterator<Item = (ReplyTo, OwnedSemaphorePermit)>, failure: &Failure) {
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
    use crate::weight::DETACH_STEPS;
    use crate::weight::tests::{add, envelope, get, transaction};
    use quorate_state::{
        Command, ConsumerDetach, ConsumerId, JobLease, NewJob, PullRequest, QueueDelete, QueuePull,
        QueuePurge, QueuePush,
    };

    /// How many of so many equal commands the first entry takes.
    fn taken(command: &Command, count: usize) -> usize {
        let budget = ByteBudget::new(1 << 30);
        let mut backlog = Backlog::default();
        for _ in 0..count {
            let envelope = envelope(command.clone());
            let Weight { bytes, work } = Weight::of(&envelope);
            let permit = budget.take(bytes).expect("there is room");
            let (claimed, reply) = (Arc::default(), ReplyTo::Caller(oneshot::channel().0));
            backlog.0.push_back(Proposal { envelope, work, claimed, reply, permit });
        }
        backlog.next_entry().len()
    }

    #[test]
    fn an_entry_has_so_many_steps_and_so_many_that_read() {
        // Of the smallest steps no more than it may have commands.
        for steps in [1, 16, 128] {
            let entry = taken(&transaction(vec![add(); steps], Vec::new()), 1_000) * steps;
            assert!(entry <= ENTRY_COMMANDS_MAX, "{entry} steps, {steps} at a time");
            assert!(entry >= ENTRY_COMMANDS_MAX / 2, "{entry} steps, {steps} at a time");
        }
        // A megabyte each.
        for (then, otherwise) in [(vec![add(), get()], vec![]), (vec![add()], vec![get()])] {
            let entry = taken(&transaction(then, otherwise), 1_000);
            assert!((8..=16).contains(&entry), "{entry} that read");
        }
        // However large it is, an entry takes one.
        assert_eq!(taken(&transaction(vec![add(); 128], vec![get(); 128]), 2), 1);
    }

    #[test]
    fn an_entry_has_so_many_jobs_however_many_are_pushed_or_pulled_at_once() {
        for count in [1, 16, 128] {
            let jobs = vec![NewJob::default(); count];
            let push = Command::QueuePush(QueuePush { queue: "q".into(), jobs });
            let request = PullRequest { queue: "q".into(), count: 0, wait_ms: 0 };
            let request = PullRequest { count: u32::try_from(count).unwrap(), ..request };
            let pull = Command::QueuePull(QueuePull { request, attachment: Default::default() });
            for command in [push, pull] {
                let entry = taken(&command, 1_000) * count;
                assert!(entry <= ENTRY_COMMANDS_MAX, "{entry} jobs, {count} at a time");
                assert!(entry >= ENTRY_COMMANDS_MAX / 2, "{entry} jobs, {count} at a time");
            }
        }
    }

    #[test]
    fn an_entry_has_a_few_ends_of_consumers() {
        let (consumer, delivered) = (ConsumerId(7), JobLease(0));
        let detach = ConsumerDetach { consumer, attachment: Default::default(), delivered };
        let entry = taken(&Command::ConsumerDetach(detach), 1_000);
        let fits = ENTRY_COMMANDS_MAX / DETACH_STEPS;
        assert!((fits / 2..=fits).contains(&entry), "{entry} of {fits}");
    }

    #[test]
    fn what_goes_through_all_consumers_has_an_entry_to_itself() {
        let queue = || "q".to_owned();
        for command in [
            Command::QueuePurge(QueuePurge { queue: queue() }),
            Command::QueueDelete(QueueDelete { queue: queue() }),
        ] {
            assert_eq!(taken(&command, 10), 1, "{command:?}");
        }
    }
}
