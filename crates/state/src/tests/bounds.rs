//! What one entry may do at most, where a command alone could do more.

mod access;
mod cache;
mod queues;

use super::group::Group;
use crate::limits::{
    DELETE_PATTERN_KEYS_MAX, ENTRY_COMMANDS_MAX, EXPIRE_PER_ENTRY_MAX, SCAN_ROW_STEPS,
    SCAN_STEPS_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_READ_BYTES_MAX, TRANSACTION_STEPS_MAX,
    VALUE_BYTES_MAX,
};
use crate::testing::GROUP;
use crate::{
    Applied, Caller, Command, Condition, Event, Expect, KeySelector, KvDeletePattern, KvIncrement,
    KvSet, Operated, Operation, Outcome, Rejection, Sequence, SessionExpire, SessionId,
    SessionOpen, Transaction, TransactionStep, query,
};
use bytes::Bytes;

impl Group {
    fn set(&mut self, count: usize, value: &Bytes, ttl_ms: Option<u64>) {
        let set = |number: usize| {
            let (key, value) = (format!("key-{number:08}").into(), value.clone());
            Command::KvSet(KvSet { key, value, ttl_ms, expect: Default::default(), owner: None })
        };
        let numbers: Vec<usize> = (0..count).collect();
        for numbers in numbers.chunks(ENTRY_COMMANDS_MAX) {
            self.own(numbers.iter().copied().map(set).collect());
        }
    }

    /// A session with so many rows of answers that its floor has not passed.
    fn session(&mut self, rows: u64) -> SessionId {
        let opened = self.own(vec![Command::SessionOpen(SessionOpen { ttl_ms: 10_000 })]);
        let Outcome::SessionOpen { id, .. } = opened.outcomes[0] else { panic!("{opened:?}") };
        for sequence in 1..=rows {
            let (sequence, floor) = (Sequence(sequence), Sequence(1));
            self.apply(vec![(Caller::Session { id, sequence, floor }, Command::Tick)]);
        }
        id
    }
}

fn delete(after: Option<Bytes>, keys_max: u64) -> Command {
    let selector = KeySelector::Prefix(Bytes::new());
    Command::KvDeletePattern(KvDeletePattern { selector, after, keys_max })
}

fn deleted(outcome: &Outcome) -> (usize, Option<Bytes>) {
    match outcome {
        Outcome::KvDeletePattern { deleted, cursor, .. } => {
            (usize::try_from(*deleted).unwrap(), cursor.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_entry_deletes_so_many_keys() {
    let mut group = Group::new();
    group.set(DELETE_PATTERN_KEYS_MAX + 5_000, &Bytes::from_static(b"v"), Some(60_000));
    // The bound is the entry's: what the first command leaves of it is the second one's.
    let outcomes =
        group.own(vec![delete(None, 4_000), delete(None, u64::MAX), delete(None, 2)]).outcomes;
    assert_eq!(deleted(&outcomes[0]).0, 4_000);
    assert_eq!(deleted(&outcomes[1]).0, DELETE_PATTERN_KEYS_MAX - 4_000);
    assert_eq!(deleted(&outcomes[2]).0, 1, "each command gets somewhere");
    group.check();

    let (mut count, mut steps) = (DELETE_PATTERN_KEYS_MAX + 1, 0);
    let mut cursor = deleted(&outcomes[2]).1;
    while cursor.is_some() {
        let outcomes = group.own(vec![delete(cursor, u64::MAX)]).outcomes;
        let (more, next) = deleted(&outcomes[0]);
        (count, cursor, steps) = (count + more, next, steps + 1);
    }
    assert_eq!((count, steps), (DELETE_PATTERN_KEYS_MAX + 5_000, 1));
    assert_eq!(query::next_deadline_ms(&group.tables, GROUP, 0..=u64::MAX).unwrap(), None);
    group.check();
}

#[test]
fn one_entry_reads_so_many_bytes_to_delete() {
    let mut group = Group::new();
    let value_bytes = usize::try_from(VALUE_BYTES_MAX).unwrap();
    group.set(20, &Bytes::from(vec![b'v'; value_bytes]), None);
    let outcomes = group.own(vec![delete(None, u64::MAX), delete(None, u64::MAX)]).outcomes;
    let (count, cursor) = deleted(&outcomes[0]);
    assert_eq!(count, SCAN_STEPS_MAX.div_ceil(value_bytes + SCAN_ROW_STEPS));
    assert!(cursor.is_some());
    assert_eq!(deleted(&outcomes[1]).0, 1, "each command gets somewhere");
    group.check();
}

fn ended(applied: &Applied) -> Vec<SessionId> {
    let id = |event: &Event| match event {
        Event::SessionEnded { id } => Some(*id),
        _ => None,
    };
    applied.events.iter().filter_map(id).collect()
}

fn expire(ids: &[SessionId]) -> Command {
    Command::SessionExpire(SessionExpire { ids: ids.to_vec() })
}

#[test]
fn one_entry_ends_sessions_up_to_so_many_rows() {
    let mut group = Group::new();
    let rows = EXPIRE_PER_ENTRY_MAX as u64 * 2 / 5;
    let ids: Vec<SessionId> = (0..5).map(|_| group.session(rows)).collect();
    // Those that are gone are settled and cost nothing.
    let mut asked = vec![SessionId(1), SessionId(2)];
    asked.extend(&ids);
    let applied = group.own(vec![expire(&asked), expire(&ids[3..])]);
    // The third session passes the bound and is ended; for the second command nothing is left.
    assert_eq!(applied.outcomes[0], Outcome::SessionExpire { settled: 5 });
    assert_eq!(applied.outcomes[1], Outcome::SessionExpire { settled: 1 });
    assert_eq!(ended(&applied), ids[..4]);
    let open: Vec<SessionId> = query::sessions(&group.tables, GROUP)
        .unwrap()
        .into_iter()
        .map(|session| session.id)
        .collect();
    assert_eq!(open, ids[4..]);
    group.check();

    let applied = group.own(vec![expire(&asked)]);
    assert_eq!(applied.outcomes[0], Outcome::SessionExpire { settled: 7 });
    assert_eq!(ended(&applied), ids[4..]);
    group.check();
}

#[test]
fn sessions_without_answers_end_together() {
    let mut group = Group::new();
    let ids: Vec<SessionId> = (0..EXPIRE_PER_ENTRY_MAX).map(|_| group.session(0)).collect();
    let applied = group.own(vec![expire(&ids)]);
    let settled = ids.len() as u64;
    assert_eq!(applied.outcomes, [Outcome::SessionExpire { settled }]);
    assert_eq!(ended(&applied), ids);
    group.check();
}

#[test]
fn a_transaction_has_so_many_steps() {
    let mut group = Group::new();
    let add = Operation::KvIncrement(KvIncrement { key: "n".into(), by: 1 });
    let absent = Condition::KvAbsent { key: "never".into() };
    let full = Transaction {
        conditions: vec![absent.clone(); TRANSACTION_STEPS_MAX],
        then: vec![add.clone(); TRANSACTION_STEPS_MAX],
        otherwise: vec![add.clone(); TRANSACTION_STEPS_MAX],
    };
    let (mut conditions, mut then, mut otherwise) = (full.clone(), full.clone(), full.clone());
    conditions.conditions.push(absent);
    then.then.push(add.clone());
    otherwise.otherwise.push(add);
    let all = [conditions, then, otherwise, full].map(Command::Transaction);
    let outcomes = group.own(all.to_vec()).outcomes;
    for outcome in &outcomes[..3] {
        assert!(
            matches!(
                outcome,
                Outcome::Rejected(Rejection::LimitExceeded { actual: 129, limit: 128, .. })
            ),
            "{outcome:?}"
        );
    }
    let Outcome::Transaction { operated, .. } = &outcomes[3] else { panic!("{outcomes:?}") };
    // Those that were refused have added nothing.
    assert_eq!(operated[0], Operated::KvIncrement { value: 1, version: 1 });
    assert_eq!(operated[127], Operated::KvIncrement { value: 128, version: 128 });
    group.check();
}

#[test]
fn a_transaction_has_so_many_bytes() {
    let mut group = Group::new();
    let set = |key: &'static str, bytes: u64| {
        let value = Bytes::from(vec![b'v'; usize::try_from(bytes).unwrap()]);
        Operation::KvSet(KvSet {
            key: key.into(),
            value,
            ttl_ms: None,
            expect: Expect::Any,
            owner: None,
        })
    };
    let then = vec![set("a", VALUE_BYTES_MAX), set("b", VALUE_BYTES_MAX - 3)];
    let one_more = vec![Operation::KvGet { key: "c".into() }];
    let fits = Transaction { then, ..Default::default() };
    let too_many = Transaction { otherwise: one_more, ..fits.clone() };
    assert_eq!(fits.bytes() as u64 + 1, TRANSACTION_BYTES_MAX);
    let fits = Transaction { conditions: vec![Condition::KvAbsent { key: "a".into() }], ..fits };
    let outcomes =
        group.own(vec![Command::Transaction(too_many.clone()), Command::Transaction(fits)]);
    assert!(matches!(&outcomes.outcomes[1], Outcome::Transaction { .. }), "{outcomes:?}");
    let outcomes = group.own(vec![Command::Transaction(Transaction {
        conditions: vec![Condition::KvAbsent { key: "a".into() }],
        ..too_many
    })]);
    assert!(
        matches!(
            &outcomes.outcomes[0],
            Outcome::Rejected(Rejection::LimitExceeded { actual, limit, .. })
                if (*actual, *limit) == (TRANSACTION_BYTES_MAX + 1, TRANSACTION_BYTES_MAX)
        ),
        "{outcomes:?}"
    );
    group.check();
}

#[test]
fn a_transaction_reads_so_many_bytes() {
    let mut group = Group::new();
    let half = usize::try_from(TRANSACTION_READ_BYTES_MAX / 2).unwrap();
    let value = |bytes: usize| Bytes::from(vec![b'v'; bytes]);
    let set = |key: &'static str, value| {
        let key = Bytes::from_static(key.as_bytes());
        Command::KvSet(KvSet { key, value, ttl_ms: None, expect: Default::default(), owner: None })
    };
    group.own(vec![set("a", value(half)), set("b", value(half)), set("c", value(1))]);
    let get = |key: &'static str| Operation::KvGet { key: Bytes::from_static(key.as_bytes()) };
    let mark = Operation::KvIncrement(KvIncrement { key: "mark".into(), by: 1 });
    let asked = |then: Vec<Operation>| Transaction { then, ..Default::default() };
    let fits = asked(vec![mark.clone(), get("a"), get("b"), get("mark-not")]);
    let one_more = asked(vec![mark, get("a"), get("b"), get("c")]);
    let outcomes =
        group.own(vec![Command::Transaction(fits), Command::Transaction(one_more)]).outcomes;
    assert!(matches!(outcomes[0], Outcome::Transaction { .. }), "{outcomes:?}");
    let too_much = |outcome: &Outcome, position| {
        let Outcome::TransactionFailed { step, rejection } = outcome else { panic!("{outcome:?}") };
        assert_eq!(*step, TransactionStep::Then(position));
        let limit = TRANSACTION_READ_BYTES_MAX;
        assert!(
            matches!(rejection, Rejection::LimitExceeded { actual, limit: of, .. }
                if (*actual, *of) == (limit + 1, limit)),
            "{rejection:?}"
        );
    };
    too_much(&outcomes[1], 3);
    let marked = query::kv_get(&group.tables, GROUP, "", b"mark").unwrap().unwrap();
    assert_eq!(marked.value, "1", "what was refused has marked nothing");
    // As a query it has the same bound.
    let asked = asked(vec![get("a"), get("b"), get("c")]);
    too_much(&query::transaction(&group.tables, GROUP, "", &asked).unwrap(), 2);
    group.check();
}

/// The lower bound that a caller may keep finds every deadline, and an upper one hides what lies
/// behind it.
#[test]
fn deadlines_are_found_in_their_span() {
    let mut group = Group::new();
    let value = Bytes::from_static(b"v");
    let next = |group: &Group, within_ms| {
        query::next_deadline_ms(&group.tables, GROUP, within_ms).unwrap()
    };
    assert_eq!(next(&group, 0..=u64::MAX), None);
    group.stamp.lease_ms = 100;
    group.set(1, &value, Some(50));
    assert_eq!(next(&group, 0..=u64::MAX), Some(150));
    assert_eq!(next(&group, 150..=150), Some(150));
    assert_eq!(next(&group, 151..=u64::MAX), None);
    assert_eq!(next(&group, 0..=149), None);
    // An end below the beginning holds nothing.
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    {
        assert_eq!(next(&group, 200..=100), None);
    }

    let (mut from_ms, mut ttl_ms) = (0, 1);
    for _ in 0..200 {
        let lease_ms = query::clocks(&group.tables, GROUP).unwrap().lease_ms;
        let to_ms = lease_ms + ttl_ms % 5;
        let answer = next(&group, from_ms..=to_ms);
        assert_eq!(answer, next(&group, 0..=u64::MAX).filter(|at_ms| *at_ms <= to_ms));
        from_ms = answer.unwrap_or(to_ms).min(lease_ms);
        group.stamp.lease_ms += ttl_ms % 3;
        ttl_ms = ttl_ms * 7 % 31;
        group.set(2, &value, Some(ttl_ms));
    }
}
