//! Transactions: conditions that choose a branch, then its operations, of which all happen or none.
//!
//! As etcd's `Txn`. A condition that does not hold is no failure but an answer; an operation that
//! is refused is a failure, and nothing of the transaction remains then.

use crate::limits::{
    JOBS_PER_CALL_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_READ_BYTES_MAX, TRANSACTION_STEPS_MAX,
};
use crate::query::{self, KvItem};
use crate::scope::{Failure, Scope, at_most, within};
use crate::{
    Attachment, Caller, Condition, Fatal, FencingToken, GroupId, LockAcquire, LockRequest,
    Operated, Operation, Outcome, Read, Rejection, Revision, Transaction, TransactionStep, bus,
    cache, kv, lock, queue,
};

/// A step that is refused is no rejection of its own, because it has a place to be told.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    caller: &Caller,
    transaction: &Transaction,
) -> Result<Outcome, Failure> {
    if let Err(refused) = check(transaction)? {
        return Ok(refused);
    }
    let lease_ms = scope.lease_ms();
    if transaction.conditions.iter().any(|asked| matches!(asked, Condition::QueueJobs { .. })) {
        // They are held against the tables, where the counts of this entry are not yet.
        queue::write_touched(scope);
    }
    let chosen = choose(&scope.txn, scope.group, namespace, lease_ms, transaction)?;
    let mut budget = ReadBudget::default();
    let mut at = 0;
    let newest_token = scope.meta.fencing_token;
    let operated = scope.atomically(|scope| {
        let mut operated = Vec::with_capacity(chosen.operations.len());
        for (position, operation) in (0..).zip(chosen.operations) {
            at = position;
            operated.push(operate(scope, namespace, caller, operation, &mut budget)?);
        }
        Ok(operated)
    });
    match operated {
        Ok(operated) => Ok(chosen.done(operated, scope.revision)),
        Err(Failure::Rejected(rejection)) => {
            Ok(chosen.refused(at, without_tokens_after(newest_token, rejection)))
        }
        Err(fatal) => Err(fatal),
    }
}

/// A token that the transaction itself granted is taken back with it, and will be another's.
fn without_tokens_after(newest: FencingToken, rejection: Rejection) -> Rejection {
    match rejection {
        Rejection::LockHeld { name, token } => {
            Rejection::LockHeld { name, token: token.filter(|token| *token <= newest) }
        }
        other => other,
    }
}

/// Whether the transaction is well formed as a whole: a rejection when it is too long or empty,
/// the outcome it has when one of its conditions can't be asked.
pub(crate) fn check(transaction: &Transaction) -> Result<Result<(), Outcome>, Rejection> {
    let Transaction { conditions, then, otherwise } = transaction;
    let limit = TRANSACTION_STEPS_MAX as u64;
    within("conditions of a transaction", conditions.len(), limit)?;
    within("operations in then", then.len(), limit)?;
    within("operations in otherwise", otherwise.len(), limit)?;
    within("jobs of a transaction", transaction.jobs(), JOBS_PER_CALL_MAX as u64)?;
    within(
        "bytes of keys and values in a transaction",
        transaction.bytes(),
        TRANSACTION_BYTES_MAX,
    )?;
    if conditions.is_empty() && then.is_empty() && otherwise.is_empty() {
        return Err(Rejection::Invalid(
            "the transaction is empty; give it an operation or a condition".to_owned(),
        ));
    }
    for (position, condition) in (0..).zip(conditions) {
        if let Err(rejection) = check_condition(condition) {
            let step = TransactionStep::Condition(position);
            return Ok(Err(Outcome::TransactionFailed { step, rejection }));
        }
    }
    Ok(Ok(()))
}

/// The branch that happens.
pub(crate) struct Chosen<'a> {
    pub(crate) operations: &'a [Operation],
    failed_condition: Option<u32>,
}

impl Chosen<'_> {
    pub(crate) fn done(&self, operated: Vec<Operated>, revision: Revision) -> Outcome {
        Outcome::Transaction { failed_condition: self.failed_condition, operated, revision }
    }

    pub(crate) fn refused(&self, position: u32, rejection: Rejection) -> Outcome {
        let step = match self.failed_condition {
            None => TransactionStep::Then(position),
            Some(_) => TransactionStep::Otherwise(position),
        };
        Outcome::TransactionFailed { step, rejection }
    }
}

/// Holds the conditions against the tables, in their order, up to the first that does not hold.
pub(crate) fn choose<'a>(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    lease_ms: u64,
    transaction: &'a Transaction,
) -> Result<Chosen<'a>, Fatal> {
    for (position, condition) in (0..).zip(&transaction.conditions) {
        if !holds(tables, group, namespace, lease_ms, condition)? {
            let operations = &transaction.otherwise;
            return Ok(Chosen { operations, failed_condition: Some(position) });
        }
    }
    Ok(Chosen { operations: &transaction.then, failed_condition: None })
}

fn check_condition(condition: &Condition) -> Result<(), Rejection> {
    match condition {
        Condition::KvVersion { key, .. }
        | Condition::KvAbsent { key }
        | Condition::KvExists { key }
        | Condition::KvValue { key, .. } => kv::check_key(key),
        Condition::LockHeld { name, .. } | Condition::LockFree { name } => lock::check_name(name),
        Condition::QueueJobs { queue, .. } => queue::check_name(queue),
    }
}

fn holds(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    lease_ms: u64,
    condition: &Condition,
) -> Result<bool, Fatal> {
    let item = |key: &[u8]| query::item(tables, group, namespace, key, || Ok(lease_ms));
    let held = |name: &str, token| lock::is_held(tables, group, namespace, name, token);
    Ok(match condition {
        Condition::KvVersion { key, version } => {
            item(key)?.is_some_and(|item| item.version == *version)
        }
        Condition::KvAbsent { key } => item(key)?.is_none(),
        Condition::KvExists { key } => item(key)?.is_some(),
        Condition::KvValue { key, value } => item(key)?.is_some_and(|item| item.value == value),
        Condition::LockHeld { name, token } => held(name, Some(*token))?,
        Condition::LockFree { name } => !held(name, None)?,
        Condition::QueueJobs { queue, at_most } => {
            query::queue_jobs(tables, group, namespace, queue)? <= *at_most
        }
    })
}

/// What a transaction has read already.
#[derive(Default)]
pub(crate) struct ReadBudget {
    spent_bytes: u64,
}

/// Reads a key within the budget.
pub(crate) fn get(
    tables: &dyn Read,
    group: GroupId,
    namespace: &str,
    lease_ms: u64,
    key: &[u8],
    budget: &mut ReadBudget,
) -> Result<Option<KvItem>, Failure> {
    kv::check_key(key)?;
    let item = query::item(tables, group, namespace, key, || Ok(lease_ms))?;
    budget.spent_bytes += item.as_ref().map_or(0, |item| item.value.len() as u64);
    at_most(
        "bytes of the values that a transaction reads",
        budget.spent_bytes,
        TRANSACTION_READ_BYTES_MAX,
    )?;
    Ok(item)
}

fn operate(
    scope: &mut Scope<'_>,
    namespace: &str,
    caller: &Caller,
    operation: &Operation,
    budget: &mut ReadBudget,
) -> Result<Operated, Failure> {
    let outcome = match operation {
        Operation::KvGet { key } => {
            let lease_ms = scope.lease_ms();
            let item = get(&scope.txn, scope.group, namespace, lease_ms, key, budget)?;
            return Ok(Operated::KvGet(item));
        }
        Operation::KvSet(set) => kv::set::apply(scope, namespace, set)?,
        Operation::KvDelete(delete) => kv::delete::apply(scope, namespace, delete)?,
        Operation::KvIncrement(increment) => kv::increment::apply(scope, namespace, increment)?,
        Operation::KvIncrementFloat(increment) => {
            kv::increment_float::apply(scope, namespace, increment)?
        }
        Operation::LockAcquire { name, share, ttl_ms } => {
            let (share, ttl_ms) = (*share, *ttl_ms);
            let request = LockRequest { name: name.clone(), share, ttl_ms, wait_ms: 0 };
            let acquire = LockAcquire { request, attachment: Attachment::default() };
            lock::acquire::apply(scope, namespace, caller, &acquire)?
        }
        Operation::LockRelease(release) => lock::release::apply(scope, namespace, release)?,
        Operation::QueuePush(push) => queue::push::apply(scope, namespace, push)?,
        Operation::QueueAck(ack) => queue::ack::apply(scope, namespace, ack)?,
        Operation::CacheSet(set) => cache::set::apply(scope, namespace, set)?,
        Operation::CacheDelete(delete) => cache::delete::apply(scope, namespace, delete)?,
        Operation::CacheInvalidateTags(invalidate) => {
            cache::invalidate_tags::apply(scope, namespace, invalidate)?
        }
        Operation::BusPublish(publication) => {
            bus::publish(scope, namespace, publication)?;
            return Ok(Operated::BusPublish);
        }
    };
    Ok(match outcome {
        Outcome::KvSet { version, .. } => Operated::KvSet { version },
        Outcome::KvDelete { deleted, .. } => Operated::KvDelete { deleted },
        Outcome::KvIncrement { value, version, .. } => Operated::KvIncrement { value, version },
        Outcome::KvIncrementFloat { value, version, .. } => {
            Operated::KvIncrementFloat { value, version }
        }
        Outcome::LockAcquire { token, ttl_ms, .. } => Operated::LockAcquire { token, ttl_ms },
        Outcome::LockRelease { released, .. } => Operated::LockRelease { released: released > 0 },
        Outcome::QueuePush { jobs, .. } => Operated::QueuePush { jobs },
        Outcome::QueueAck { .. } => Operated::QueueAck,
        Outcome::CacheSet { .. } => Operated::CacheSet,
        Outcome::CacheDelete { deleted, .. } => Operated::CacheDelete { deleted },
        Outcome::CacheInvalidateTags { .. } => Operated::CacheInvalidateTags,
        other => {
            return Err(Failure::Fatal(Fatal::Invariant(format!(
                "an operation of a transaction came to {other:?}"
            ))));
        }
    })
}
