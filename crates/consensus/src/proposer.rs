//! Turns commands of all connections into log entries: takes what is queued, never waits for more.

use crate::clock::{TermClock, WallClock};
use crate::failure::{Failure, Reason};
use crate::types::{Body, Raft, TypeConfig};
use openraft::alias::CommittedLeaderIdOf;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use quorate_state::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use quorate_state::{Batch, Caller, Command, EntryBody, Envelope, LogIndex, Outcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

/// Entries on their way at once. Enough to keep log and network busy, few enough that a burst
/// becomes large entries.
const ENTRIES_IN_FLIGHT: usize = 16;
/// Commands queued before new ones are refused; memory is bounded by bytes before this counts.
const QUEUE_COMMANDS: usize = 65_536;
/// Bytes an envelope takes besides its key and value.
const ENVELOPE_BYTES: usize = 128;

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
}

struct Proposal {
    envelope: Envelope,
    bytes: usize,
    /// Set by whoever gets there first: the caller who gives up, or the proposer who takes it.
    claimed: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<Committed, Failure>>,
    _permit: OwnedSemaphorePermit,
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

    /// Room for a command, or the refusal its caller is told. A command larger than the whole
    /// budget takes all of it.
    pub(crate) fn take(&self, envelope: &Envelope) -> Result<OwnedSemaphorePermit, Failure> {
        let permits = u32::try_from(size(envelope).min(self.bytes_max)).unwrap_or(u32::MAX);
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
    queue: mpsc::Sender<Proposal>,
    budget: ByteBudget,
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
        let (queue, queued) = mpsc::channel(QUEUE_COMMANDS);
        let counters = Arc::new(ProposerCounters::default());
        tokio::spawn(run(raft, leadership, wall, queued, Arc::clone(&counters)));
        Self { queue, budget: ByteBudget::new(bytes_max), counters }
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
        let bytes = size(&envelope);
        let permit = self.budget.take(&envelope)?;
        let claim = Claim(Arc::default());
        let (reply, answer) = oneshot::channel();
        let claimed = Arc::clone(&claim.0);
        let proposal = Proposal { envelope, bytes, claimed, reply, _permit: permit };
        self.queue.try_send(proposal).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::not_applied(
                Reason::Overloaded,
                format!("{QUEUE_COMMANDS} commands are queued already; try again more slowly"),
            ),
            mpsc::error::TrySendError::Closed(_) => stopped(),
        })?;
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) if claim.withdraw() => Err(stopped()),
            Ok(Err(_)) => Err(Failure::unknown(
                Reason::Fatal,
                "this node stopped while the command was on its way",
            )),
            Err(_) if claim.withdraw() => Err(Failure::not_applied(
                Reason::Deadline,
                "the deadline came while the command was still queued on the leader",
            )),
            Err(_) => Err(Failure::unknown(
                Reason::Deadline,
                "the deadline came before the command was committed and applied; it may still be",
            )),
        }
    }
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

fn size(envelope: &Envelope) -> usize {
    let caller = match &envelope.caller {
        Caller::Idempotency { key } => key.len(),
        Caller::Anonymous | Caller::Session { .. } => 0,
    };
    let command = match &envelope.command {
        Command::KvSet(set) => set.key.len() + set.value.len(),
        Command::KvDelete(delete) => delete.key.len(),
        Command::KvIncrement(increment) => increment.key.len(),
        Command::KvIncrementFloat(increment) => increment.key.len(),
        // By its work, not its bytes: each has an entry to itself, and few are on their way.
        Command::KvDeletePattern(_) => ENTRY_BYTES_MAX,
        Command::SessionExpire(expire) => expire.ids.len() * 8,
        Command::MemberPublish(publish) => publish.client_addr.len() + publish.http_addr.len(),
        Command::Tick | Command::SessionOpen(_) | Command::SessionClose(_) => 0,
    };
    ENVELOPE_BYTES + envelope.namespace.len() + caller + command
}

async fn run(
    raft: Raft,
    mut leadership: watch::Receiver<Option<Leadership>>,
    wall: Arc<dyn WallClock>,
    mut queued: mpsc::Receiver<Proposal>,
    counters: Arc<ProposerCounters>,
) {
    let in_flight = Arc::new(Semaphore::new(ENTRIES_IN_FLIGHT));
    let mut held_over: Option<Proposal> = None;
    loop {
        let Ok(slot) = Arc::clone(&in_flight).acquire_owned().await else { return };
        let first = match held_over.take() {
            Some(proposal) => proposal,
            None => match queued.recv().await {
                Some(proposal) => proposal,
                None => return,
            },
        };
        let mut bytes = first.bytes;
        let mut taken = vec![first];
        while taken.len() < ENTRY_COMMANDS_MAX {
            match queued.try_recv() {
                Ok(proposal) if bytes + proposal.bytes <= ENTRY_BYTES_MAX => {
                    bytes += proposal.bytes;
                    taken.push(proposal);
                }
                Ok(proposal) => {
                    held_over = Some(proposal);
                    break;
                }
                Err(_) => break,
            }
        }
        // Whoever gave up while queued is left out: it was told that nothing happened.
        taken.retain(|proposal| !proposal.claimed.swap(true, Ordering::AcqRel));
        if taken.is_empty() {
            continue;
        }
        let leading = leadership.borrow_and_update().clone();
        let Some(leading) = leading else {
            answer_all(taken, &not_leader());
            continue;
        };
        let (commands, replies): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|proposal| (proposal.envelope, (proposal.reply, proposal._permit)))
            .unzip();
        let acked = quorum_acked(&raft);
        let stamp = leading.clock.sample(acked, wall.now_ms());
        counters.entries.fetch_add(1, Ordering::Relaxed);
        counters.commands.fetch_add(commands.len() as u64, Ordering::Relaxed);
        let body = Body(Arc::new(EntryBody::new(Batch { stamp, commands })));
        let (responder, completed) = ProgressResponder::complete_only();
        let written = raft.write(body).with_leader(leading.id).responder(responder).await;
        if written.is_err() {
            answer_all_replies(replies, &stopped());
            continue;
        }
        tokio::spawn(async move {
            let completed = completed.await;
            drop(slot);
            match completed {
                Ok(Ok(response)) => {
                    let index = LogIndex(response.log_id.index);
                    debug_assert_eq!(response.data.len(), replies.len());
                    for ((reply, _permit), outcome) in replies.into_iter().zip(response.data) {
                        // A caller that is gone has given up; nothing to tell.
                        let _ = reply.send(Ok(Committed { index, outcome }));
                    }
                }
                Ok(Err(error)) => answer_all_replies(replies, &write_failure(&error)),
                Err(_) => answer_all_replies(
                    replies,
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

type Reply = (oneshot::Sender<Result<Committed, Failure>>, OwnedSemaphorePermit);

fn answer_all(proposals: Vec<Proposal>, failure: &Failure) {
    for proposal in proposals {
        let _ = proposal.reply.send(Err(failure.clone()));
    }
}

fn answer_all_replies(replies: Vec<Reply>, failure: &Failure) {
    for (reply, _permit) in replies {
        let _ = reply.send(Err(failure.clone()));
    }
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
