//! What a command weighs: by its bytes, and by the work that it makes.

use quorate_state::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use quorate_state::{
    Caller, Command, DeadLetters, Envelope, HeldLock, NewJob, Operation, Transaction,
};

/// Bytes an envelope takes besides its key and value.
const ENVELOPE_BYTES: usize = 128;
/// Bytes that a step of a transaction, or a job of a push or pull, counts for besides what is in it:
/// by its work, so that an entry has no more of them than it may have commands.
const STEP_BYTES: usize = ENTRY_BYTES_MAX / ENTRY_COMMANDS_MAX;
/// Steps that the end of a consumer counts for: between the few jobs that it has as a rule and the
/// thousand that it may have.
pub(crate) const DETACH_STEPS: usize = 32;
/// Bytes that a transaction counts for which reads: its answer may have a megabyte
/// ([`quorate_state::limits::TRANSACTION_READ_BYTES_MAX`]), and those of an entry are held together.
const READING_BYTES: usize = ENTRY_BYTES_MAX / 16;

/// Bytes a lock takes in a command besides its names.
const HELD_LOCK_BYTES: usize = 32;

/// Bytes that a command counts for, in an entry and among those that are held.
pub(crate) fn size(envelope: &Envelope) -> usize {
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
        // By its work, not its bytes: each has an entry to itself, and few are on their way.
        Command::KvDeletePattern(_) => ENTRY_BYTES_MAX,
        Command::Transaction(transaction) => transaction_size(transaction),
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
            push.queue.len() + push.jobs.iter().map(job_size).sum::<usize>()
        }
        // By its work: each job it takes is moved as one that is pushed.
        Command::QueuePull(pull) => {
            pull.request.queue.len() + pull.request.count as usize * STEP_BYTES
        }
        Command::ConsumerAttach(attach) => attach.queue.len(),
        // By its work, which only the tables know: it may hand back as many jobs as a window has.
        Command::ConsumerDetach(_) => DETACH_STEPS * STEP_BYTES,
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
        // As a step of a `DeletePattern`.
        Command::QueueRedrive(_) => ENTRY_BYTES_MAX,
        Command::SchedulePut(put) => put.name.len() + put.queue.len() + job_size(&put.job),
        Command::ScheduleNext(next) => next.name.len(),
        Command::ScheduleDelete(delete) => delete.name.len(),
        Command::Tick
        | Command::SessionOpen(_)
        | Command::SessionClose(_)
        | Command::LockCancel(_)
        | Command::LockAttach(_)
        | Command::LockDetachNode(_)
        | Command::ConsumerDetachNode(_)
        | Command::ConsumerResize(_) => 0,
    };
    ENVELOPE_BYTES + envelope.namespace.len() + caller + guard + command
}

/// What a job counts for in a push: its bytes and its work.
fn job_size(job: &NewJob) -> usize {
    STEP_BYTES + job.bytes()
}

fn transaction_size(transaction: &Transaction) -> usize {
    let Transaction { conditions, then, otherwise } = transaction;
    let mut operations = then.iter().chain(otherwise);
    let reads = operations.any(|operation| matches!(operation, Operation::KvGet { .. }));
    let steps = conditions.len() + then.len() + otherwise.len() + transaction.jobs();
    transaction.bytes() + steps * STEP_BYTES + if reads { READING_BYTES } else { 0 }
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
        | Command::SchedulePut(_) => true,
        Command::Tick
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
                | Operation::QueuePush(_) => true,
                Operation::KvGet { .. }
                | Operation::KvDelete(_)
                | Operation::LockRelease(_)
                | Operation::QueueAck(_) => false,
            })
        }
    }
}
