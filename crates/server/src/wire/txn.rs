//! Transactions: their requests and answers.

use super::kv::{self, Freshness, freshness};
use super::{
    Invalid, bus, cache, caller, guard, invalid, key, lock, lock_name, namespace, queue,
    unexpected, value,
};
use crate::grpc::Refused;
use quorate_proto::v1;
use quorate_proto::v1::txn_condition::Condition as Asked;
use quorate_proto::v1::txn_kv_set::Expect as IfSet;
use quorate_proto::v1::txn_operation::Operation as Step;
use quorate_proto::v1::txn_result::Result as Came;
use quorate_state::limits::Limits;
use quorate_state::{
    CacheDelete, Caller, Command, Condition, Envelope, Expect, GroupId, KvDelete, KvIncrement,
    KvIncrementFloat, KvSet, LockRelease, Operated, Operation, Outcome, QueueAck, Transaction,
};

/// A checked `Commit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Commit {
    /// It changes something, so it goes through the log.
    Write(Box<Envelope>),
    /// A view answers it.
    Read(Read),
}

/// A transaction that only reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) namespace: String,
    pub(crate) transaction: Transaction,
    pub(crate) fresh: Freshness,
}

/// How many steps there are, and whether there are any, is left to the state machine, which has to
/// look at it anyway; but what has too many does not go through the log.
pub(crate) fn commit(request: v1::TxnRequest, limits: &Limits) -> Result<Commit, Invalid> {
    let v1::TxnRequest {
        namespace: name,
        origin,
        conditions,
        then,
        otherwise,
        consistency,
        min_revision,
    } = request;
    let namespace = namespace(name)?;
    let caller = caller(&origin)?;
    let guard = guard(origin)?;
    let fresh = freshness(consistency, min_revision)?;
    let operation = |step| operation(step, &caller, limits);
    let transaction = Transaction {
        conditions: each("conditions", conditions, |asked| condition(asked, limits))?,
        then: each("then", then, operation)?,
        otherwise: each("otherwise", otherwise, operation)?,
    };
    // A guard is judged where the log says who holds the lock. What the log can't hold is refused by the
    // view, in the words in which the state machine refuses it.
    if !transaction.is_bounded() || (transaction.only_reads() && guard.is_none()) {
        return Ok(Commit::Read(Read { namespace, transaction, fresh }));
    }
    let command = Command::Transaction(transaction);
    Ok(Commit::Write(Box::new(Envelope { namespace, caller, guard, command })))
}

/// Converts a list; a refusal names the place in it.
pub(super) fn each<T, U>(
    list: &str,
    items: Vec<T>,
    convert: impl Fn(T) -> Result<U, Invalid>,
) -> Result<Vec<U>, Invalid> {
    let convert = |(position, item)| {
        convert(item).map_err(|Invalid { reason, message }| Invalid {
            reason,
            message: format!("{list}[{position}]: {message}"),
        })
    };
    items.into_iter().enumerate().map(convert).collect()
}

fn unknown(what: &str) -> Invalid {
    invalid(
        "UNKNOWN_STEP",
        format!(
            "it names no {what} that this version knows; compare the versions of client and server"
        ),
    )
}

fn condition(asked: v1::TxnCondition, limits: &Limits) -> Result<Condition, Invalid> {
    Ok(match asked.condition.ok_or_else(|| unknown("condition"))? {
        Asked::KvVersion(of) => {
            let version = kv::checked(of.version)?;
            Condition::KvVersion { key: key(of.key, limits)?, version }
        }
        Asked::KvAbsent(of) => Condition::KvAbsent { key: key(of.key, limits)? },
        Asked::KvExists(of) => Condition::KvExists { key: key(of.key, limits)? },
        Asked::KvValue(of) => {
            Condition::KvValue { key: key(of.key, limits)?, value: value(of.value, limits)? }
        }
        Asked::LockHeld(of) => {
            Condition::LockHeld { name: lock_name(of.name)?, token: lock::token(of.fencing_token)? }
        }
        Asked::LockFree(of) => Condition::LockFree { name: lock_name(of.name)? },
        Asked::QueueJobs(of) => {
            Condition::QueueJobs { queue: queue::queue_name(of.queue)?, at_most: of.at_most }
        }
    })
}

fn operation(
    step: v1::TxnOperation,
    caller: &Caller,
    limits: &Limits,
) -> Result<Operation, Invalid> {
    Ok(match step.operation.ok_or_else(|| unknown("operation"))? {
        Step::KvGet(get) => Operation::KvGet { key: key(get.key, limits)? },
        Step::KvSet(set) => {
            let expect = match set.expect {
                None => Expect::Any,
                Some(IfSet::IfAbsent(asked)) => kv::absent(asked)?,
                Some(IfSet::IfVersion(version)) => Expect::Version(kv::checked(version)?),
            };
            Operation::KvSet(KvSet {
                key: key(set.key, limits)?,
                value: value(set.value, limits)?,
                ttl_ms: kv::ttl(set.ttl_ms)?,
                expect,
                owner: None,
            })
        }
        Step::KvDelete(delete) => {
            let expect = match delete.if_version {
                None => Expect::Any,
                Some(version) => Expect::Version(kv::checked(version)?),
            };
            Operation::KvDelete(KvDelete { key: key(delete.key, limits)?, expect })
        }
        Step::KvIncrement(increment) => Operation::KvIncrement(KvIncrement {
            key: key(increment.key, limits)?,
            by: increment.by,
        }),
        Step::KvIncrementFloat(increment) => Operation::KvIncrementFloat(KvIncrementFloat {
            key: key(increment.key, limits)?,
            by: kv::finite(increment.by)?,
        }),
        Step::LockAcquire(acquire) => {
            lock::in_session(caller)?;
            Operation::LockAcquire {
                name: lock_name(acquire.name)?,
                share: lock::share(acquire.mode, acquire.permits)?,
                ttl_ms: lock::ttl(acquire.ttl_ms)?,
            }
        }
        Step::LockRelease(release) => Operation::LockRelease(LockRelease {
            name: lock_name(release.name)?,
            token: lock::token(release.fencing_token)?,
        }),
        Step::QueuePush(push) => {
            Operation::QueuePush(queue::new_jobs(push.queue, push.jobs, limits)?)
        }
        Step::CacheSet(set) => {
            Operation::CacheSet(cache::setting(set.key, set.value, set.policy, limits)?)
        }
        Step::CacheDelete(delete) => {
            Operation::CacheDelete(CacheDelete { key: key(delete.key, limits)? })
        }
        Step::CacheInvalidateTags(invalidate) => {
            Operation::CacheInvalidateTags(cache::invalidating(invalidate.tags)?)
        }
        Step::BusPublish(publish) => {
            Operation::BusPublish(bus::publication(publish.channel, publish.content)?)
        }
        Step::QueueAck(ack) => {
            let job = queue::leased(ack.queue, ack.job_id, ack.lease)?;
            Operation::QueueAck(QueueAck { job })
        }
    })
}

pub(crate) fn committed(outcome: Outcome, group: GroupId) -> Result<v1::TxnResponse, Refused> {
    match outcome {
        Outcome::Transaction { failed_condition, operated, revision } => Ok(v1::TxnResponse {
            succeeded: failed_condition.is_none(),
            failed_condition,
            results: operated.into_iter().map(result).collect(),
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

fn result(operated: Operated) -> v1::TxnResult {
    let result = match operated {
        Operated::KvGet(item) => {
            // Whose it is is said by its place; 128 keys would be as much as a value.
            let entry = item.map(|item| kv::entry(bytes::Bytes::new(), item));
            Came::KvGet(v1::TxnKvGetResult { entry })
        }
        Operated::KvSet { version } => Came::KvSet(v1::TxnKvSetResult { version }),
        Operated::KvDelete { deleted } => Came::KvDelete(v1::TxnKvDeleteResult { deleted }),
        Operated::KvIncrement { value, version } => {
            Came::KvIncrement(v1::TxnKvIncrementResult { value, version })
        }
        Operated::KvIncrementFloat { value, version } => {
            let value = value.get();
            Came::KvIncrementFloat(v1::TxnKvIncrementFloatResult { value, version })
        }
        Operated::LockAcquire { token, ttl_ms } => {
            Came::LockAcquire(v1::TxnLockAcquireResult { fencing_token: token.0, ttl_ms })
        }
        Operated::LockRelease { released } => {
            Came::LockRelease(v1::TxnLockReleaseResult { released })
        }
        Operated::QueuePush { jobs } => {
            Came::QueuePush(v1::TxnQueuePushResult { jobs: queue::pushed_jobs(jobs) })
        }
        Operated::CacheSet => Came::CacheSet(v1::TxnCacheSetResult {}),
        Operated::CacheDelete { deleted } => {
            Came::CacheDelete(v1::TxnCacheDeleteResult { deleted })
        }
        Operated::CacheInvalidateTags => {
            Came::CacheInvalidateTags(v1::TxnCacheInvalidateTagsResult {})
        }
        Operated::BusPublish => Came::BusPublish(v1::TxnBusPublishResult {}),
        Operated::QueueAck => Came::QueueAck(v1::TxnQueueAckResult {}),
    };
    v1::TxnResult { result: Some(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_state::{FencingToken, Rejection, Revision, Share, TransactionStep};

    fn of(then: Vec<Step>, otherwise: Vec<Step>) -> v1::TxnRequest {
        let steps = |steps: Vec<Step>| {
            steps.into_iter().map(|step| v1::TxnOperation { operation: Some(step) }).collect()
        };
        v1::TxnRequest { then: steps(then), otherwise: steps(otherwise), ..Default::default() }
    }

    fn get(key: &'static str) -> Step {
        Step::KvGet(v1::TxnKvGet { key: key.into() })
    }

    fn set(expect: Option<IfSet>, ttl_ms: Option<u64>) -> Step {
        Step::KvSet(v1::TxnKvSet { key: "k".into(), value: "v".into(), ttl_ms, expect })
    }

    fn refused(request: v1::TxnRequest) -> (&'static str, String) {
        let Invalid { reason, message } = commit(request, &Limits::default()).unwrap_err();
        (reason, message)
    }

    #[test]
    fn only_what_changes_something_becomes_a_command() {
        let limits = Limits::default();
        let Commit::Read(read) = commit(
            v1::TxnRequest {
                consistency: 2,
                min_revision: 9,
                ..of(vec![get("a")], vec![get("b")])
            },
            &limits,
        )
        .unwrap() else {
            panic!("it only reads")
        };
        assert!(read.fresh.stale && read.fresh.min_revision == Revision(9));
        // Either branch may make it a write.
        let deletes = || Step::KvDelete(v1::TxnKvDelete { key: "k".into(), if_version: Some(3) });
        for request in [of(vec![deletes()], vec![get("a")]), of(vec![get("a")], vec![deletes()])] {
            let Commit::Write(envelope) = commit(request, &limits).unwrap() else {
                panic!("it changes something")
            };
            assert_eq!(envelope.caller, Caller::Anonymous);
            let Command::Transaction(transaction) = envelope.command else { panic!("a command") };
            let delete = KvDelete { key: "k".into(), expect: Expect::Version(3) };
            let operations = [transaction.then, transaction.otherwise].concat();
            assert!(operations.contains(&Operation::KvDelete(delete)), "{operations:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_step() {
        let (reason, message) = refused(of(vec![get("a"), get("")], vec![]));
        assert_eq!(reason, "KEY_EMPTY");
        assert!(message.starts_with("then[1]: "), "{message}");
        let (reason, message) = refused(of(vec![], vec![set(None, Some(0))]));
        assert_eq!(reason, "INVALID_TTL");
        assert!(message.starts_with("otherwise[0]: "), "{message}");
        for expect in [IfSet::IfAbsent(false), IfSet::IfVersion(0)] {
            assert_eq!(refused(of(vec![set(Some(expect), None)], vec![])).0, "INVALID_CONDITION");
        }
        let float = v1::TxnKvIncrementFloat { key: "f".into(), by: f64::NAN };
        assert_eq!(refused(of(vec![Step::KvIncrementFloat(float)], vec![])).0, "INVALID_NUMBER");
        let conditions = vec![v1::TxnCondition::default()];
        let (reason, message) = refused(v1::TxnRequest { conditions, ..Default::default() });
        assert_eq!(reason, "UNKNOWN_STEP");
        assert!(message.starts_with("conditions[0]: "), "{message}");
        let large = Bytes::from(vec![0; (1 << 20) + 1]);
        let value = Asked::KvValue(v1::TxnKvValue { key: "k".into(), value: large });
        let conditions = vec![v1::TxnCondition { condition: Some(value) }];
        assert_eq!(
            refused(v1::TxnRequest { conditions, ..Default::default() }).0,
            "VALUE_TOO_LARGE"
        );
    }

    #[test]
    fn lock_steps_are_checked_as_those_of_the_lock_service() {
        let limits = Limits::default();
        let session = || v1::Origin { session_id: 4, sequence: 1, floor: 1, ..Default::default() };
        let take = v1::TxnLockAcquire { name: "l".to_owned(), ttl_ms: 30_000, mode: 3, permits: 7 };
        let acquire = |acquire: &v1::TxnLockAcquire| Step::LockAcquire(acquire.clone());
        let in_session = |acquired: v1::TxnLockAcquire| v1::TxnRequest {
            origin: Some(session()),
            ..of(vec![acquire(&acquired)], vec![])
        };
        let Commit::Write(envelope) = commit(in_session(take.clone()), &limits).unwrap() else {
            panic!("it takes a lock")
        };
        let Command::Transaction(transaction) = envelope.command else { panic!("a command") };
        let (name, share) = ("l".to_owned(), Share::Permit { of: 7 });
        assert_eq!(transaction.then, [Operation::LockAcquire { name, share, ttl_ms: 30_000 }]);

        let (reason, message) = refused(of(vec![get("a"), acquire(&take)], vec![]));
        assert_eq!(reason, "NO_SESSION");
        assert!(message.starts_with("then[1]: a lock is held by a session"), "{message}");
        for (wrong, reason) in [
            (v1::TxnLockAcquire { ttl_ms: 99, ..take.clone() }, "INVALID_TTL"),
            (v1::TxnLockAcquire { permits: 0, ..take.clone() }, "INVALID_PERMITS"),
            (v1::TxnLockAcquire { mode: 9, ..take.clone() }, "UNKNOWN_MODE"),
            (v1::TxnLockAcquire { name: String::new(), ..take }, "LOCK_NAME_EMPTY"),
        ] {
            assert_eq!(refused(in_session(wrong)).0, reason);
        }
        let release = v1::TxnLockRelease { name: "l".to_owned(), fencing_token: 0 };
        assert_eq!(refused(of(vec![], vec![Step::LockRelease(release)])).0, "NO_TOKEN");

        let held = v1::TxnLockHeld { name: "l".to_owned(), fencing_token: 7 };
        let free = v1::TxnLockFree { name: "m".to_owned() };
        let asked = [Asked::LockHeld(held.clone()), Asked::LockFree(free)];
        let conditions = asked.map(|asked| v1::TxnCondition { condition: Some(asked) }).to_vec();
        let request = v1::TxnRequest { conditions, ..of(vec![get("a")], vec![]) };
        let Commit::Read(read) = commit(request, &limits).unwrap() else {
            panic!("conditions change nothing")
        };
        let (name, token) = ("l".to_owned(), FencingToken(7));
        assert_eq!(read.transaction.conditions[0], Condition::LockHeld { name, token });
        let held = Asked::LockHeld(v1::TxnLockHeld { fencing_token: 0, ..held });
        let conditions = vec![v1::TxnCondition { condition: Some(held) }];
        assert_eq!(refused(v1::TxnRequest { conditions, ..Default::default() }).0, "NO_TOKEN");
    }

    #[test]
    fn outcomes_become_answers_or_refusals() {
        let revision = Revision(4096);
        let outcome = Outcome::Transaction {
            failed_condition: Some(2),
            operated: vec![
                Operated::KvGet(None),
                Operated::KvIncrement { value: -1, version: 7 },
                Operated::LockAcquire { token: FencingToken(9), ttl_ms: 30_000 },
            ],
            revision,
        };
        let answer = committed(outcome, GroupId(0)).unwrap();
        assert_eq!((answer.succeeded, answer.failed_condition), (false, Some(2)));
        assert_eq!((answer.results.len(), answer.revision), (3, 4096));
        let granted = v1::TxnLockAcquireResult { fencing_token: 9, ttl_ms: 30_000 };
        assert_eq!(answer.results[2].result, Some(Came::LockAcquire(granted)));
        let outcome =
            Outcome::Transaction { failed_condition: None, operated: Vec::new(), revision };
        assert!(committed(outcome, GroupId(0)).unwrap().succeeded);
        let step = TransactionStep::Then(3);
        let outcome = Outcome::TransactionFailed { step, rejection: Rejection::NotANumber };
        assert!(matches!(
            committed(outcome, GroupId(0)),
            Err(Refused::Step(TransactionStep::Then(3), Rejection::NotANumber))
        ));
        assert!(matches!(
            committed(Outcome::AppliedResultDropped, GroupId(0)),
            Err(Refused::ResultDropped)
        ));
    }
}
