//! What a command weighs: by its bytes while it is held, and by the work that it makes in an entry.

use quorate_state::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use quorate_state::{
    AccessRule, Caller, Command, DeadLetters, Envelope, HeldLock, KeySelector, NewJob, Operation,
    Redriven, Transaction,
};

/// Bytes an envelope takes besides its key and value.
const ENVELOPE_BYTES: usize = 128;
/// Bytes that a command takes while it is held, besides what is in it: its places in the tables of who
/// waits, at the door, on the way and with the proposer.
const HELD_BYTES: usize = 384;
/// What a step of a transaction, or a job of a push or pull, counts for in an entry besides what is in
/// it: by its work, so that an entry has no more of them than it may have commands.
const STEP_BYTES: usize = ENTRY_BYTES_MAX / ENTRY_COMMANDS_MAX;
/// Steps that the end of a consumer counts for: between the few jobs that it has as a rule and the
/// thousand that it may have.
pub(crate) const DETACH_STEPS: usize = 32;
/// What a transaction counts for in an entry if it reads: its answer may have a megabyte
/// ([`quorate_state::limits::TRANSACTION_READ_BYTES_MAX`]), and those of an entry are held together.
const READING_BYTES: usize = ENTRY_BYTES_MAX / 16;

/// Bytes a lock takes in a command besides its names.
const HELD_LOCK_BYTES: usize = 32;

/// Bytes a victim of an eviction takes besides what it is called.
const VICTIM_BYTES: usize = 48;

/// What a command weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Bytes that it takes while it is held.
    pub(crate) bytes: usize,
    /// What it counts for in an entry, which has [`ENTRY_BYTES_MAX`] of it: its bytes in the log, or
    /// by what is to be done for it.
    pub(crate) work: usize,
}

impl Weight {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        let written = written(envelope);
        let (held, work) = beside(&envelope.command);
        Self { bytes: written + held + HELD_BYTES, work: written + work }
    }
}

/// Bytes of a command in the log.
fn written(envelope: &Envelope) -> usize {
    let caller = match &envelope.caller {
        Caller::Idempotency { key } => key.len(),
        Caller::Anonymous | Caller::Session { .. } => 0,
    };
    let guard = envelope.guard.as_ref().map_or(0, |guard| guard.name.len());
    let held = |held: &HeldLock| HELD_LOCK_BYTES + held.namespace.len() + held.name.len();
    let command = match &envelope.command {
        Command::KvSet(set) => set.key.len() + set.value.len(),
        Command::KvDelete(delete) => delete.key.len(),
        Command::KvIncrement(increment) => increment.key.len(),
        Command::KvIncrementFloat(increment) => increment.key.len(),
        Command::KvDeletePattern(delete) => pattern_step(&delete.selector, delete.after.as_ref()),
        Command::Transaction(transaction) => transaction.bytes(),
        Command::SessionExpire(expire) => expire.ids.len() * 8,
        Command::MemberPublish(publish) => publish.client_addr.len() + publish.http_addr.len(),
        Command::LockAcquire(acquire) => acquire.request.name.len(),
        Command::LockRelease(release) => release.name.len(),
        Command::LockForceRelease(release) => release.name.len(),
        Command::LockDetach(detach) => detach.calls.len() * 24,
        Command::LockExpire(expire) => expire.locks.iter().map(held).sum(),
        Command::LeaseCheckpoint(checkpoint) => {
            let locks = checkpoint.locks.iter().map(|(lock, _)| held(lock));
            checkpoint.sessions.len() * 16 + locks.sum::<usize>()
        }
        Command::QueuePush(push) => {
            push.queue.len() + push.jobs.iter().map(NewJob::bytes).sum::<usize>()
        }
        Command::QueuePull(pull) => pull.request.queue.len(),
        Command::ConsumerAttach(attach) => attach.queue.len(),
        Command::QueueAck(ack) => ack.job.queue.len(),
        Command::QueueNack(nack) => nack.job.queue.len() + nack.error.len(),
        Command::QueueExtend(extend) => extend.job.queue.len(),
        Command::QueueProgress(progress) => progress.job.queue.len() + progress.note.len(),
        Command::QueueCancel(cancel) => cancel.queue.len(),
        Command::QueueUpdate(update) => {
            let to = match &update.change.dead_letters {
                Some(DeadLetters::To(to)) => to.len(),
                _ => 0,
            };
            update.queue.len() + to
        }
        Command::QueuePause(pause) => pause.queue.len(),
        Command::QueuePurge(purge) => purge.queue.len(),
        Command::QueueDelete(delete) => delete.queue.len(),
        Command::QueueRedrive(redrive) => {
            let jobs = match &redrive.which {
                Redriven::Jobs(jobs) => jobs.len() * 8,
                Redriven::After { .. } => 0,
            };
            redrive.queue.len() + jobs
        }
        Command::SchedulePut(put) => put.name.len() + put.queue.len() + put.job.bytes(),
        Command::ScheduleNext(next) => next.name.len(),
        Command::ScheduleDelete(delete) => delete.name.len(),
        Command::CacheSet(set) => set.key.len() + set.value.len() + texts(&set.tags),
        Command::CacheDelete(delete) => delete.key.len(),
        Command::CacheDeletePattern(delete) => {
            pattern_step(&delete.selector, delete.after.as_ref())
        }
        Command::CacheInvalidateTags(invalidate) => texts(&invalidate.tags),
        Command::CacheTouch(touch) => touch.key.len(),
        Command::CacheBuild(build) => build.key.len(),
        Command::CacheFill(fill) => fill.key.len() + fill.value.len() + texts(&fill.tags),
        Command::CacheBuildEnd(end) => end.key.len() + end.error.as_ref().map_or(0, String::len),
        Command::CacheEvict(evict) => {
            evict.victims.iter().map(|victim| victim.id.len() + VICTIM_BYTES).sum()
        }
        Command::MemberInvite(invite) => invite.token_hash.len(),
        Command::MemberJoin(join) => {
            let token = join.token_hash.as_ref().map_or(0, |hash| hash.len());
            join.peer_addr.len() + join.client_addr.len() + token
        }
        Command::AccessTokenCreate(create) => {
            create.hash.len() + create.name.len() + texts(&create.roles)
        }
        Command::AccessRolePut(put) => put.name.len() + put.rules.iter().map(rule).sum::<usize>(),
        Command::AccessRoleDelete(delete) => delete.name.len(),
        Command::AccessSubjectPut(put) => put.subject.len() + texts(&put.roles),
        Command::AccessSubjectDelete(delete) => delete.subject.len(),
        Command::MemberChange(_)
        | Command::MemberSettle(_)
        | Command::FeatureLevelRaise(_)
        | Command::AccessTokenRevoke(_)
        | Command::CacheResize(_)
        | Command::Tick
        | Command::SessionOpen(_)
        | Command::SessionClose(_)
        | Command::LockCancel(_)
        | Command::LockAttach(_)
        | Command::LockDetachNode(_)
        | Command::ConsumerDetach(_)
        | Command::ConsumerDetachNode(_)
        | Command::ConsumerResize(_) => 0,
    };
    ENVELOPE_BYTES + envelope.namespace.len() + caller + guard + command
}

/// Bytes of a step of deleting by a pattern.
fn pattern_step(selector: &KeySelector, after: Option<&bytes::Bytes>) -> usize {
    let (KeySelector::Prefix(of) | KeySelector::Pattern(of) | KeySelector::Key(of)) = selector;
    of.len() + after.map_or(0, |after| after.len())
}

/// Bytes of texts in a list, and of the list.
fn texts(texts: &[String]) -> usize {
    texts.iter().map(|text| size_of::<String>() + text.len()).sum()
}

/// Bytes of a rule of a role, and of its place in the list.
fn rule(rule: &AccessRule) -> usize {
    let AccessRule { service: _, actions, namespace, pattern } = rule;
    size_of::<AccessRule>() + size_of_val(&actions[..]) + namespace.len() + pattern.len()
}

/// What a command takes while it is held, and what it counts for in an entry, beside what is written.
fn beside(command: &Command) -> (usize, usize) {
    match command {
        Command::Transaction(transaction) => beside_transaction(transaction),
        Command::QueuePush(push) => {
            (push.jobs.len() * size_of::<NewJob>(), push.jobs.len() * STEP_BYTES)
        }
        Command::SchedulePut(_) => (size_of::<NewJob>(), STEP_BYTES),
        // Each job it takes is moved as one that is pushed.
        Command::QueuePull(pull) => (0, pull.request.count as usize * STEP_BYTES),
        // Only the tables know: it may hand back as many jobs as a window has.
        Command::ConsumerDetach(_) => (0, DETACH_STEPS * STEP_BYTES),
        // A row for each tag, and perhaps one that goes.
        Command::CacheSet(set) => (0, set.tags.len() * STEP_BYTES),
        Command::CacheFill(fill) => (0, fill.tags.len() * STEP_BYTES),
        Command::CacheInvalidateTags(invalidate) => (0, invalidate.tags.len() * STEP_BYTES),
        // A row for each role.
        Command::AccessTokenCreate(create) => (0, create.roles.len() * STEP_BYTES),
        Command::AccessSubjectPut(put) => (0, put.roles.len() * STEP_BYTES),
        // Each has an entry to itself: it goes through many keys or jobs, or all consumers there are.
        Command::KvDeletePattern(_)
        | Command::CacheDeletePattern(_)
        | Command::CacheEvict(_)
        | Command::QueuePurge(_)
        | Command::QueueDelete(_)
        | Command::QueueRedrive(_) => (0, ENTRY_BYTES_MAX),
        _ => (0, 0),
    }
}

fn beside_transaction(transaction: &Transaction) -> (usize, usize) {
    let Transaction { conditions, then, otherwise } = transaction;
    let operations = || then.iter().chain(otherwise);
    let jobs = operations().map(|operation| match operation {
        Operation::QueuePush(push) => push.jobs.len(),
        _ => 0,
    });
    let texts = operations().map(|operation| match operation {
        Operation::CacheSet(set) => set.tags.len(),
        Operation::CacheInvalidateTags(invalidate) => invalidate.tags.len(),
        Operation::BusPublish(publication) => 2 * publication.headers.len(),
        _ => 0,
    });
    let held = size_of_val(&conditions[..])
        + size_of_val(&then[..])
        + size_of_val(&otherwise[..])
        + jobs.sum::<usize>() * size_of::<NewJob>()
        + texts.sum::<usize>() * size_of::<String>();
    let reads = operations().any(|operation| matches!(operation, Operation::KvGet { .. }));
    let tags = operations().map(|operation| match operation {
        Operation::CacheSet(set) => set.tags.len(),
        Operation::CacheInvalidateTags(invalidate) => invalidate.tags.len(),
        _ => 0,
    });
    let steps =
        conditions.len() + then.len() + otherwise.len() + transaction.jobs() + tags.sum::<usize>();
    (held, steps * STEP_BYTES + if reads { READING_BYTES } else { 0 })
}

/// Whether a command goes before all that clients ask for: what the leader says of its own accord so
/// that leases end in time and plans for members go on. Small, and no more often than it looks.
///
/// It may overtake what was proposed before. So detaches are none of these: one that overtook the attach
/// that it undoes, whose fate its node may not know, would leave a call attached that is over, to be
/// granted a lock or a job. And clients can bring about any number of them.
pub(crate) fn is_urgent(command: &Command) -> bool {
    matches!(
        command,
        Command::Tick
            | Command::SessionExpire(_)
            | Command::LockExpire(_)
            | Command::LeaseCheckpoint(_)
            | Command::MemberSettle(_)
    )
}

/// Whether a command leaves more behind than it finds.
pub(crate) fn grows(command: &Command) -> bool {
    match command {
        Command::KvSet(_)
        | Command::KvIncrement(_)
        | Command::KvIncrementFloat(_)
        | Command::LockAcquire(_)
        | Command::SessionOpen(_)
        | Command::QueuePush(_)
        | Command::QueueProgress(_)
        | Command::SchedulePut(_)
        | Command::CacheSet(_)
        | Command::CacheBuild(_)
        | Command::CacheFill(_)
        | Command::AccessTokenCreate(_)
        | Command::AccessRolePut(_)
        | Command::AccessSubjectPut(_) => true,
        Command::Tick
        | Command::CacheDelete(_)
        | Command::CacheDeletePattern(_)
        | Command::CacheInvalidateTags(_)
        | Command::CacheTouch(_)
        | Command::CacheBuildEnd(_)
        | Command::CacheEvict(_)
        | Command::CacheResize(_)
        | Command::KvDelete(_)
        | Command::KvDeletePattern(_)
        | Command::SessionClose(_)
        | Command::SessionExpire(_)
        | Command::LockRelease(_)
        | Command::LockForceRelease(_)
        | Command::LockCancel(_)
        | Command::LockAttach(_)
        | Command::LockDetach(_)
        | Command::LockDetachNode(_)
        | Command::LockExpire(_)
        | Command::LeaseCheckpoint(_)
        | Command::MemberPublish(_)
        | Command::MemberInvite(_)
        | Command::MemberJoin(_)
        | Command::MemberChange(_)
        | Command::MemberSettle(_)
        | Command::FeatureLevelRaise(_)
        | Command::AccessTokenRevoke(_)
        | Command::AccessRoleDelete(_)
        | Command::AccessSubjectDelete(_)
        // Whoever takes jobs and is done with them frees room, and what that takes is small.
        | Command::QueuePull(_)
        | Command::ConsumerAttach(_)
        | Command::ConsumerDetach(_)
        | Command::ConsumerDetachNode(_)
        | Command::ConsumerResize(_)
        | Command::QueueAck(_)
        | Command::QueueNack(_)
        | Command::QueueExtend(_)
        | Command::QueueCancel(_)
        | Command::QueueUpdate(_)
        | Command::QueuePause(_)
        | Command::QueuePurge(_)
        | Command::QueueDelete(_)
        | Command::QueueRedrive(_)
        | Command::ScheduleNext(_)
        | Command::ScheduleDelete(_) => false,
        Command::Transaction(transaction) => {
            let mut operations = transaction.then.iter().chain(&transaction.otherwise);
            operations.any(|operation| match operation {
                Operation::KvSet(_)
                | Operation::KvIncrement(_)
                | Operation::KvIncrementFloat(_)
                | Operation::LockAcquire { .. }
                | Operation::QueuePush(_)
                | Operation::CacheSet(_) => true,
                Operation::KvGet { .. }
                | Operation::CacheDelete(_)
                | Operation::CacheInvalidateTags(_)
                | Operation::BusPublish(_)
                | Operation::KvDelete(_)
                | Operation::LockRelease(_)
                | Operation::QueueAck(_) => false,
            })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use quorate_state::{
        ConsumerDetach, ConsumerId, FencingToken, JobLease, KvDelete, KvDeletePattern, KvIncrement,
        LockRelease, PullRequest, QueueDelete, QueuePull, QueuePurge, QueuePush, QueueRedrive,
        Share,
    };

    pub(crate) fn add() -> Operation {
        Operation::KvIncrement(KvIncrement { key: "n".into(), by: 1 })
    }

    pub(crate) fn get() -> Operation {
        Operation::KvGet { key: "k".into() }
    }

    pub(crate) fn transaction(then: Vec<Operation>, otherwise: Vec<Operation>) -> Command {
        Command::Transaction(Transaction { conditions: Vec::new(), then, otherwise })
    }

    pub(crate) fn envelope(command: Command) -> Envelope {
        Envelope { namespace: String::new(), caller: Caller::Anonymous, guard: None, command }
    }

    fn weight(command: Command) -> Weight {
        Weight::of(&envelope(command))
    }

    #[test]
    fn what_makes_much_work_takes_no_more_room_than_it_has_bytes() {
        let (consumer, delivered) = (ConsumerId(7), JobLease(0));
        let detach = ConsumerDetach { consumer, attachment: Default::default(), delivered };
        let request = PullRequest { queue: "q".into(), count: 128, wait_ms: 0 };
        let selector = KeySelector::Prefix("p".into());
        let which = Redriven::After { after: None, jobs_max: 1_000 };
        for command in [
            Command::ConsumerDetach(detach),
            Command::QueuePull(QueuePull { request, attachment: Default::default() }),
            Command::KvDeletePattern(KvDeletePattern { selector, after: None, keys_max: 1_000 }),
            Command::QueuePurge(QueuePurge { queue: "q".into() }),
            Command::QueueDelete(QueueDelete { queue: "q".into() }),
            Command::QueueRedrive(QueueRedrive { queue: "q".into(), which }),
        ] {
            let Weight { bytes, work } = weight(command.clone());
            assert!(bytes <= ENVELOPE_BYTES + HELD_BYTES + 8, "{bytes}: {command:?}");
            assert!(work >= 32 * STEP_BYTES, "{work}: {command:?}");
        }
    }

    #[test]
    fn jobs_and_steps_take_the_room_that_they_need() {
        let jobs = vec![NewJob { payload: vec![0; 100].into(), ..NewJob::default() }; 128];
        let push = QueuePush { queue: "q".into(), jobs };
        let steps = vec![Operation::QueuePush(push.clone())];
        let (conditions, otherwise) = (Vec::new(), steps.clone());
        let both = Transaction { conditions, then: steps, otherwise };
        let once = weight(Command::QueuePush(push)).bytes;
        assert!(once >= 128 * (100 + size_of::<NewJob>()), "{once}");
        let twice = weight(Command::Transaction(both)).bytes;
        assert!(twice >= 2 * (once - ENVELOPE_BYTES - HELD_BYTES), "{twice}");
    }

    #[test]
    fn a_full_disk_takes_transactions_that_only_free_room() {
        let delete =
            || Operation::KvDelete(KvDelete { key: "k".into(), expect: Default::default() });
        assert!(!grows(&transaction(vec![get(), delete()], vec![delete()])));
        assert!(grows(&transaction(vec![get(), delete()], vec![add()])));
        assert!(grows(&transaction(vec![delete(), add()], vec![])));
        let release = LockRelease { name: "l".to_owned(), token: FencingToken(7) };
        assert!(!grows(&transaction(vec![Operation::LockRelease(release)], vec![])));
        let (name, share) = ("l".to_owned(), Share::Exclusive);
        let acquire = Operation::LockAcquire { name, share, ttl_ms: 30_000 };
        assert!(grows(&transaction(vec![delete(), acquire], vec![])));
    }
}
