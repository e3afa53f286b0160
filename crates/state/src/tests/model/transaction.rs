//! Transactions, and what sessions give up.

use super::{Model, Request, key_fits, selects, too_much};
use crate::{
    Attachment, Caller, Command, Condition, Envelope, Event, KeySelector, KvDeletePattern,
    LockAcquire, LockCancel, LockRequest, Operated, Operation, Outcome, Rejection, Revision,
    Transaction, TransactionStep,
};
use bytes::Bytes;

impl Model {
    /// Works on the items and locks themselves, and puts back a copy of all of them when it failed.
    pub(super) fn transaction(
        &mut self,
        at: Revision,
        namespace: &str,
        caller: &Caller,
        asked: &Transaction,
    ) -> Outcome {
        let failed = |step, rejection| Outcome::TransactionFailed { step, rejection };
        let Transaction { conditions, then, otherwise } = asked;
        if conditions.is_empty() && then.is_empty() && otherwise.is_empty() {
            let why = "the transaction is empty; give it an operation or a condition";
            return Outcome::Rejected(Rejection::Invalid(why.to_owned()));
        }
        let mut failed_condition = None;
        for (position, condition) in (0..).zip(conditions) {
            match self.holds(namespace, condition) {
                Ok(true) => {}
                Ok(false) => failed_condition = failed_condition.or(Some(position)),
                Err(rejection) => return failed(TransactionStep::Condition(position), rejection),
            }
        }
        let (operations, step): (_, fn(u32) -> _) = match failed_condition {
            None => (then, TransactionStep::Then),
            Some(_) => (otherwise, TransactionStep::Otherwise),
        };
        let before =
            (self.items.clone(), self.locks.clone(), self.queues.clone(), self.cache.clone());
        let mut operated = Vec::new();
        for (position, operation) in (0..).zip(operations) {
            match self.operate(at, namespace, caller, operation) {
                Ok(done) => operated.push(done),
                Err(mut rejection) => {
                    (self.items, self.locks, self.queues, self.cache) = before;
                    if let Rejection::LockHeld { token, .. } = &mut rejection {
                        *token = token.filter(|token| *token <= self.locks.newest_token());
                    }
                    return failed(step(position), rejection);
                }
            }
        }
        Outcome::Transaction { failed_condition, operated, revision: at }
    }

    pub(super) fn holds(&self, namespace: &str, condition: &Condition) -> Result<bool, Rejection> {
        let item = |key: &Bytes| {
            key_fits(key)?;
            Ok(self.items.get(&(namespace.to_owned(), key.to_vec())))
        };
        Ok(match condition {
            Condition::KvVersion { key, version } => {
                item(key)?.map(|item| item.version) == Some(*version)
            }
            Condition::KvAbsent { key } => item(key)?.is_none(),
            Condition::KvExists { key } => item(key)?.is_some(),
            Condition::KvValue { key, value } => {
                item(key)?.is_some_and(|item| item.value == *value)
            }
            Condition::LockHeld { name, token } => {
                self.locks.is_held(namespace, name, Some(*token))?
            }
            Condition::LockFree { name } => !self.locks.is_held(namespace, name, None)?,
            Condition::QueueJobs { queue, at_most } => {
                self.queues.length(namespace, queue)? <= *at_most
            }
        })
    }

    pub(super) fn operate(
        &mut self,
        at: Revision,
        namespace: &str,
        caller: &Caller,
        operation: &Operation,
    ) -> Result<Operated, Rejection> {
        let command = match operation.clone() {
            Operation::KvGet { key } => {
                key_fits(&key)?;
                let item = self.items.get(&(namespace.to_owned(), key.to_vec())).cloned();
                return Ok(Operated::KvGet(item.map(|item| item.shown(self.now_ms))));
            }
            Operation::KvSet(set) => Command::KvSet(set),
            Operation::KvDelete(delete) => Command::KvDelete(delete),
            Operation::KvIncrement(increment) => Command::KvIncrement(increment),
            Operation::KvIncrementFloat(increment) => Command::KvIncrementFloat(increment),
            Operation::LockAcquire { name, share, ttl_ms } => {
                let request = LockRequest { name, share, ttl_ms, wait_ms: 0 };
                Command::LockAcquire(LockAcquire { request, attachment: Attachment::default() })
            }
            Operation::LockRelease(release) => Command::LockRelease(release),
            Operation::QueuePush(push) => Command::QueuePush(push),
            Operation::QueueAck(ack) => Command::QueueAck(ack),
            Operation::CacheSet(set) => Command::CacheSet(set),
            Operation::CacheDelete(delete) => Command::CacheDelete(delete),
            Operation::CacheInvalidateTags(invalidate) => Command::CacheInvalidateTags(invalidate),
            Operation::BusPublish(publication) => {
                if publication.channel.is_empty() {
                    let why = "the channel is empty; name one of 1 byte or more";
                    return Err(Rejection::Invalid(why.to_owned()));
                }
                let namespace = namespace.to_owned();
                self.cache.events.push(Event::Published { namespace, publication });
                return Ok(Operated::BusPublish);
            }
        };
        let (namespace, caller) = (namespace.to_owned(), caller.clone());
        let envelope = Envelope { namespace, caller, guard: None, command };
        match self.execute(at, &envelope) {
            Outcome::KvSet { version, .. } => Ok(Operated::KvSet { version }),
            Outcome::KvDelete { deleted, .. } => Ok(Operated::KvDelete { deleted }),
            Outcome::KvIncrement { value, version, .. } => {
                Ok(Operated::KvIncrement { value, version })
            }
            Outcome::KvIncrementFloat { value, version, .. } => {
                Ok(Operated::KvIncrementFloat { value, version })
            }
            Outcome::LockAcquire { token, ttl_ms, .. } => {
                Ok(Operated::LockAcquire { token, ttl_ms })
            }
            Outcome::LockRelease { released, .. } => {
                Ok(Operated::LockRelease { released: released == 1 })
            }
            Outcome::QueuePush { jobs, .. } => Ok(Operated::QueuePush { jobs }),
            Outcome::QueueAck { .. } => Ok(Operated::QueueAck),
            Outcome::CacheSet { .. } => Ok(Operated::CacheSet),
            Outcome::CacheDelete { deleted, .. } => Ok(Operated::CacheDelete { deleted }),
            Outcome::CacheInvalidateTags { .. } => Ok(Operated::CacheInvalidateTags),
            Outcome::Rejected(rejection) => Err(rejection),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn cancel(
        &mut self,
        at: Revision,
        caller: &Caller,
        cancel: &LockCancel,
    ) -> Result<Outcome, Rejection> {
        if let Caller::Session { id, sequence, .. } = caller
            && (*id, *sequence) == (cancel.session, cancel.sequence)
        {
            let why = "the request would cancel itself; name the sequence of the acquire";
            return Err(Rejection::Invalid(why.to_owned()));
        }
        let mut released = 0;
        if let Some(session) = self.sessions.get_mut(&cancel.session)
            && cancel.sequence.0 >= session.floor
        {
            if cancel.sequence.0 - session.floor >= 1_024 {
                let why = "lies beyond the session's window, so nothing was asked under it";
                return Err(Rejection::Invalid(format!("sequence {} {why}", cancel.sequence)));
            }
            match session.answers.get(&cancel.sequence.0) {
                Some((_, answer)) => {
                    let answer = answer.clone();
                    released = self.locks.cancel((self.now_ms, at), &answer);
                }
                None => {
                    let taken = Request {
                        namespace: String::new(),
                        guard: None,
                        command: Command::LockCancel(cancel.clone()),
                    };
                    let answer = (taken, Outcome::Rejected(Rejection::Cancelled));
                    session.answers.insert(cancel.sequence.0, answer);
                }
            }
        }
        Ok(Outcome::LockRelease { released, revision: at })
    }

    /// Goes through all items there are, the other namespaces' too.
    pub(super) fn delete_pattern(
        &mut self,
        at: Revision,
        namespace: &str,
        delete: &KvDeletePattern,
    ) -> Result<Outcome, Rejection> {
        check_step(&delete.selector, &delete.after, delete.keys_max)?;
        let (mut deleted, mut cursor, mut passed) = (Vec::new(), None, None);
        for (name, _) in self.items.iter().filter(|((of, _), _)| of == namespace) {
            if delete.after.as_ref().is_some_and(|after| name.1[..] <= after[..]) {
                continue;
            }
            if selects(&delete.selector, &name.1) {
                if deleted.len() as u64 == delete.keys_max {
                    cursor = passed;
                    break;
                }
                deleted.push(name.clone());
            }
            passed = Some(name.1.clone().into());
        }
        deleted.iter().for_each(|name| {
            self.items.remove(name);
        });
        Ok(Outcome::KvDeletePattern { deleted: deleted.len() as u64, cursor, revision: at })
    }
}

/// Whether a step of a deletion by a pattern is well formed.
pub(super) fn check_step(
    selector: &KeySelector,
    after: &Option<Bytes>,
    keys_max: u64,
) -> Result<(), Rejection> {
    if *selector == KeySelector::Key("".into()) {
        let why = "the key is empty; name one of 1 byte or more";
        return Err(Rejection::Invalid(why.to_owned()));
    }
    if let KeySelector::Pattern(pattern) = selector {
        let malformed = |why: &str| Rejection::Invalid(format!("the pattern is malformed: {why}"));
        match &pattern[..] {
            b"" => return Err(malformed("it is empty; `*` matches everything")),
            b"a[" => {
                return Err(malformed(
                    "the `[` at byte 2 is never closed; add the `]`, or write `\\[` for one",
                ));
            }
            _ => {}
        }
    }
    if after.as_ref().is_some_and(|after| after.len() > 1_024) {
        return Err(too_much("cursor bytes", 1_025, 1_024));
    }
    if keys_max == 0 {
        let why = "the most keys to delete is 0; give 1 or more";
        return Err(Rejection::Invalid(why.to_owned()));
    }
    Ok(())
}
