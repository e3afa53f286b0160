//! Transactions: several operations at once, all or none, on conditions.
//!
//! ```no_run
//! use quorate_client::{Client, Error};
//!
//! # async fn example(client: Client) -> Result<(), Error> {
//! // The next job number and the job itself, or neither; and not twice.
//! let outcome = client
//!     .txn()
//!     .when_absent("job/today")
//!     .increment("jobs", 1)
//!     .set("job/today", "queued")
//!     .or_get("job/today")
//!     .commit()
//!     .await?;
//! match outcome.succeeded() {
//!     true => println!("it is job number {:?}", outcome.number(0)),
//!     false => println!("somebody was faster: {:?}", outcome.entry(0)),
//! }
//! # Ok(())
//! # }
//! ```

mod outcome;
mod steps;

pub use outcome::{TxnOutcome, TxnResult};

use crate::Error;
use crate::call::Effect;
use crate::client::{CallOptions, Inner};
use crate::kv::{call_settings, guard_setting, mutation_settings};
use bytes::Bytes;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;
use quorate_proto::v1::{Consistency, Origin, TxnCondition, TxnOperation, TxnRequest};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Conditions of a transaction, and operations of each of its branches.
const STEPS_MAX: usize = 128;

/// A transaction; sent by [`Transaction::commit`].
///
/// Conditions ([`Transaction::when_version`] and its kin) must all hold; then the operations happen
/// in the order in which they were added, all of them at one moment, each on top of those before
/// it. When a condition does not hold, the operations whose names begin with `or_` happen instead,
/// if there are any; that is an answer ([`TxnOutcome::succeeded`]) and no error. An operation that
/// is refused, because what it adds to is not a number for example, is an error; then nothing
/// has happened.
///
/// At most 128 conditions and 128 operations in each branch; at most 2 MiB of keys and values, of
/// which it reads 1 MiB at most. One that only reads sees all of its keys at one moment and is no
/// write: it takes no place in the log, and works while a disk is full.
///
/// Of one that changes something the cluster remembers the answer for retries only up to 4 KiB; if
/// the first answer of a larger one is lost, the call fails as [`Error::Indeterminate`] with the
/// reason `RESULT_DROPPED`, and it has happened. Read what is large apart.
///
/// # Locks
/// One that takes locks ([`Transaction::acquire_lock`] and its kin) must be sent in a session, as it is
/// by default; under an idempotency key, or of a one-shot client, it is refused with the reason
/// `NO_SESSION`. What it took is not renewed by itself, and is not given back when its answer is
/// not waited for: it ends with its ttl then.
#[derive(Clone)]
#[must_use = "a transaction is sent when it is committed"]
pub struct Transaction {
    inner: Arc<Inner>,
    namespace: Arc<str>,
    conditions: Vec<Condition>,
    then: Vec<Operation>,
    otherwise: Vec<Operation>,
    consistency: Consistency,
    min_revision: u64,
    options: CallOptions,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("namespace", &self.namespace)
            .field("conditions", &self.conditions)
            .field("then", &self.then)
            .field("otherwise", &self.otherwise)
            .finish_non_exhaustive()
    }
}

impl Transaction {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self {
            inner,
            namespace,
            conditions: Vec::new(),
            then: Vec::new(),
            otherwise: Vec::new(),
            consistency: Consistency::Linearizable,
            min_revision: 0,
            options: CallOptions::default(),
        }
    }

    mutation_settings!();

    /// Reads from whatever the node that answers has applied, and works without a quorum. Only of a
    /// transaction that only reads; any other always sees everything.
    pub fn stale(mut self) -> Self {
        self.consistency = Consistency::Stale;
        self
    }

    /// Sees this revision or a later one. Only of a transaction that only reads; any other always
    /// sees everything.
    pub fn min_revision(mut self, revision: u64) -> Self {
        self.min_revision = revision;
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it has no or too many steps; those of a read when it only
    /// reads, else those of a mutation, whose text then names the operation that was refused
    /// (`then[3]`, counted from 0).
    ///
    /// # Cancel safety
    /// As of the methods of [`KeyValue`](crate::KeyValue).
    pub async fn commit(self) -> Result<TxnOutcome, Error> {
        self.check()?;
        let only_reads = self.only_reads();
        let keys = [keys_read(&self.then), keys_read(&self.otherwise)];
        let Self {
            inner,
            namespace,
            conditions,
            then,
            otherwise,
            consistency,
            min_revision,
            options,
        } = self;
        let wrapped = |steps: Vec<Operation>| -> Vec<TxnOperation> {
            steps.into_iter().map(|step| TxnOperation { operation: Some(step) }).collect()
        };
        let conditions = conditions.into_iter();
        let request = TxnRequest {
            namespace: namespace.to_string(),
            origin: None,
            conditions: conditions.map(|asked| TxnCondition { condition: Some(asked) }).collect(),
            then: wrapped(then),
            otherwise: wrapped(otherwise),
            consistency: consistency.into(),
            min_revision,
        };
        // The last one it was sent in is the one it happened in.
        let session_id = AtomicU64::new(0);
        let answer = if only_reads {
            let plan = inner.plan("txn", Effect::Read, &options);
            inner.read(&plan, || request.clone()).await?
        } else {
            let request = |origin: Origin| {
                session_id.store(origin.session_id, Ordering::Relaxed);
                TxnRequest { origin: Some(origin), ..request.clone() }
            };
            inner.mutate("txn", &namespace, &options, request).await?
        };
        let [then, otherwise] = keys;
        let keys = if answer.succeeded { then } else { otherwise };
        let session_id = Some(session_id.into_inner()).filter(|id| *id != 0);
        TxnOutcome::of(answer, keys, session_id).map_err(|what| {
            let message = format!("the answer to the transaction makes no sense: {what}");
            match only_reads {
                true => Error::bad_answer(message),
                // It was answered, so something has happened.
                false => Error::Indeterminate { reason: "BAD_ANSWER".to_owned(), message },
            }
        })
    }

    fn check(&self) -> Result<(), Error> {
        let lists = [
            ("conditions", self.conditions.len()),
            ("operations", self.then.len()),
            ("operations for when a condition does not hold", self.otherwise.len()),
        ];
        let invalid = |reason: &str, message: String| {
            Err(Error::InvalidArgument { reason: reason.to_owned(), message })
        };
        if lists.iter().all(|(_, length)| *length == 0) {
            return invalid(
                "TXN_EMPTY",
                "the transaction is empty; give it an operation or a condition".to_owned(),
            );
        }
        match lists.iter().find(|(_, length)| *length > STEPS_MAX) {
            None => Ok(()),
            Some((what, length)) => invalid(
                "TXN_TOO_LONG",
                format!("the transaction has {length} {what}, the limit is {STEPS_MAX}; split it"),
            ),
        }
    }

    fn only_reads(&self) -> bool {
        let reads = |step: &Operation| matches!(step, Operation::KvGet(_));
        self.then.iter().chain(&self.otherwise).all(reads)
    }
}

/// The keys of the reads by their places; the answer leaves them out.
fn keys_read(steps: &[Operation]) -> Vec<Option<Bytes>> {
    let key = |step: &Operation| match step {
        Operation::KvGet(get) => Some(get.key.clone()),
        _ => None,
    };
    steps.iter().map(key).collect()
}
