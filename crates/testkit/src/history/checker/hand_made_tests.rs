//! Small histories whose verdict is known, drawn as stories.

use super::super::{
    Counter, CounterOp, Expect, History, Operation, Outcome, Recorder, Register, RegisterOp,
    RegisterRet,
};
use super::{Bounds, Verdict, Violation, assert_linearizable, check};
use RegisterOp::Get;

type RegisterHistory = History<RegisterOp, RegisterRet>;

/// `(client, op, invoked, returned, outcome)`, all on one key.
type Call<O, R> = (u64, O, u64, Option<u64>, Outcome<R>);

fn history<O, R>(calls: Vec<Call<O, R>>) -> History<O, R> {
    let calls = calls.into_iter().map(|(client, op, invoked, returned, outcome)| Operation {
        client,
        key: "k".to_owned(),
        op,
        invoked,
        returned,
        outcome,
    });
    History::new(calls.collect()).unwrap()
}

fn seen(value: &str, version: u64) -> Outcome<RegisterRet> {
    Outcome::Ok(RegisterRet::Get(Some((value.into(), version))))
}

fn absent() -> Outcome<RegisterRet> {
    Outcome::Ok(RegisterRet::Get(None))
}

fn set(version: u64) -> Outcome<RegisterRet> {
    Outcome::Ok(RegisterRet::Set { version })
}

fn good(history: &RegisterHistory) {
    let verdict = check::<Register>(history, &Bounds::default());
    assert!(verdict.is_linearizable(), "{verdict:?}");
}

fn bad(history: &RegisterHistory) -> Violation<RegisterOp, RegisterRet> {
    match check::<Register>(history, &Bounds::default()) {
        Verdict::Violation(violation) => *violation,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn nothing_happened() {
    good(&history(vec![]));
}

#[test]
fn one_after_the_other() {
    good(&history(vec![
        (1, RegisterOp::create("a"), 0, Some(1), set(1)),
        (2, RegisterOp::cas(1, "b"), 2, Some(3), set(2)),
        (1, Get, 4, Some(5), seen("b", 2)),
        (1, RegisterOp::delete(), 6, Some(7), Outcome::Ok(RegisterRet::Delete { deleted: true })),
        (2, Get, 8, Some(9), absent()),
    ]));
}

#[test]
fn a_read_beside_a_write_may_see_either_state_but_not_go_back() {
    let write = (1, RegisterOp::set("a"), 0, Some(9), set(1));
    let before_then_after =
        vec![write.clone(), (2, Get, 1, Some(2), absent()), (2, Get, 3, Some(4), seen("a", 1))];
    good(&history(before_then_after));
    let after_then_before =
        vec![write, (2, Get, 1, Some(2), seen("a", 1)), (2, Get, 3, Some(4), absent())];
    let violation = bad(&history(after_then_before));
    assert_eq!(violation.misfit.invoked, 3);
}

#[test]
fn a_stale_read() {
    let violation = bad(&history(vec![
        (1, RegisterOp::set("a"), 0, Some(1), set(1)),
        (1, RegisterOp::set("b"), 2, Some(3), set(2)),
        (2, Get, 4, Some(5), seen("a", 1)),
        (1, RegisterOp::set("c"), 6, Some(7), set(3)),
    ]));
    // All that is before the stale read fits, and it alone is to blame.
    assert_eq!(violation.prefix.iter().map(|o| o.invoked).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(violation.misfit.invoked, 4);
    assert!(violation.concurrent.is_empty());
    let text = violation.to_string();
    for part in ["key \"k\" is not linearizable", "2 operations can be ordered", "(\"b\", 2)"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn a_read_of_a_value_that_was_never_written() {
    bad(&history(vec![
        (1, RegisterOp::set("a"), 0, Some(5), set(1)),
        (2, Get, 1, Some(2), seen("z", 1)),
    ]));
}

#[test]
fn a_lost_update() {
    // Both increments read 0 and wrote 1; each was told that its write is the key's first.
    bad(&history(vec![
        (1, RegisterOp::set("1"), 0, Some(4), set(1)),
        (2, RegisterOp::set("1"), 1, Some(5), set(1)),
    ]));
    // A write that was acknowledged is gone.
    bad(&history(vec![
        (1, RegisterOp::set("a"), 0, Some(1), set(1)),
        (2, Get, 2, Some(3), absent()),
    ]));
}

#[test]
fn two_winners_of_one_comparison() {
    let start = (1, RegisterOp::create("a"), 0, Some(1), set(1));
    let first = (2, RegisterOp::cas(1, "b"), 2, Some(5), set(2));
    bad(&history(vec![
        start.clone(),
        first.clone(),
        (3, RegisterOp::cas(1, "c"), 3, Some(6), set(2)),
    ]));
    let told = |version| Outcome::Ok(RegisterRet::ConditionFailed { version });
    let second = |outcome| (3, RegisterOp::cas(1, "c"), 3, Some(6), outcome);
    good(&history(vec![start.clone(), first.clone(), second(told(Some(2)))]));
    // The loser is told a version that the key never had meanwhile.
    bad(&history(vec![start.clone(), first.clone(), second(told(Some(3)))]));
    bad(&history(vec![start, first, second(told(Some(1)))]));
}

#[test]
fn a_write_with_unknown_outcome_takes_effect_at_once_late_or_never() {
    let first = (1, RegisterOp::set("a"), 0, Some(1), set(1));
    let unknown = (2, RegisterOp::set("u"), 2, Some(3), Outcome::Unknown);
    let read = |at, outcome| (3, Get, at, Some(at + 1), outcome);
    let with = |rest: Vec<_>| {
        let mut calls = vec![first.clone(), unknown.clone()];
        calls.extend(rest);
        history(calls)
    };
    good(&with(vec![read(4, seen("u", 2))]));
    good(&with(vec![read(4, seen("a", 1)), read(6, seen("a", 1)), read(8, seen("u", 2))]));
    good(&with(vec![read(4, seen("a", 1)), read(6, seen("a", 1))]));
    // But not twice, and not backwards.
    bad(&with(vec![read(4, seen("u", 2)), read(6, seen("a", 1))]));
    let overwritten = (1, RegisterOp::set("b"), 6, Some(7), set(3));
    let twice = vec![read(4, seen("u", 2)), overwritten, read(8, seen("u", 4))];
    bad(&with(twice));
    // Nor before it was invoked.
    bad(&history(vec![
        first.clone(),
        read(2, seen("u", 2)),
        (2, RegisterOp::set("u"), 4, None, Outcome::Unknown),
    ]));
}

#[test]
fn a_failed_write_never_takes_effect() {
    let failed = (1, RegisterOp::set("f"), 0, Some(1), Outcome::Failed);
    good(&history(vec![failed.clone(), (2, Get, 2, Some(3), absent())]));
    bad(&history(vec![failed, (2, Get, 2, Some(3), seen("f", 1))]));
}

#[test]
fn calls_under_way_at_the_end() {
    let under_way = (1, RegisterOp::set("a"), 0, None, Outcome::Unknown);
    good(&history(vec![under_way.clone()]));
    good(&history(vec![under_way.clone(), (2, Get, 1, Some(2), seen("a", 1))]));
    good(&history(vec![under_way.clone(), (2, Get, 1, Some(2), absent())]));
    bad(&history(vec![
        under_way,
        (2, Get, 1, Some(2), seen("a", 1)),
        (2, Get, 3, Some(4), absent()),
    ]));
}

#[test]
fn an_unknown_conditional_write_explains_a_value_only_where_its_condition_holds() {
    let unknown =
        |expect| (2, RegisterOp::Set { value: "u".into(), expect }, 2, None, Outcome::Unknown);
    let start = (1, RegisterOp::set("a"), 0, Some(1), set(1));
    let read = (3, Get, 4, Some(5), seen("u", 2));
    good(&history(vec![start.clone(), unknown(Expect::Version(1)), read.clone()]));
    bad(&history(vec![start.clone(), unknown(Expect::Version(2)), read.clone()]));
    bad(&history(vec![start, unknown(Expect::Absent), read]));
}

#[test]
fn keys_are_independent() {
    let recorder = Recorder::new();
    recorder.invoke(1, "good", RegisterOp::set("a")).ok(RegisterRet::Set { version: 1 });
    recorder.invoke(1, "other", Get).ok(RegisterRet::Get(None));
    good(&recorder.history());
    recorder.invoke(1, "other", Get).ok(RegisterRet::Get(Some(("a".into(), 1))));
    assert_eq!(bad(&recorder.history()).key, "other");
}

#[test]
fn a_retried_increment_that_counted_twice() {
    let add = |at: u64, ret| (1, CounterOp::Add(1), at, Some(at + 1), Outcome::Ok(ret));
    let is_good = |calls| {
        let verdict = check::<Counter>(&history(calls), &Bounds::default());
        assert!(verdict.is_linearizable() || verdict.is_violation());
        verdict.is_linearizable()
    };
    assert!(is_good(vec![add(0, 1), add(2, 2)]));
    assert!(!is_good(vec![add(0, 1), add(2, 3)]));
    // One of unknown outcome explains one missing number, not two.
    let unknown = (2, CounterOp::Add(1), 2, Some(5), Outcome::Unknown);
    assert!(is_good(vec![add(0, 1), unknown.clone(), add(3, 3)]));
    assert!(is_good(vec![add(0, 1), unknown.clone(), add(3, 2)]));
    assert!(!is_good(vec![add(0, 1), unknown, add(3, 4)]));
}

#[test]
fn many_equal_unknown_increments_do_not_blow_up_the_search() {
    // 60 unknown increments and a sum that needs 61: a search over their subsets would not end.
    let calls = |sum| {
        let mut calls: Vec<_> =
            (0..60).map(|at| (at, CounterOp::Add(1), at, None, Outcome::Unknown)).collect();
        calls.push((99, CounterOp::Get, 100, Some(101), Outcome::Ok(sum)));
        history(calls)
    };
    let bounds = Bounds { steps_max: 10_000, ..Bounds::default() };
    assert!(check::<Counter>(&calls(60), &bounds).is_linearizable());
    assert!(check::<Counter>(&calls(61), &bounds).is_violation());
}

/// Writers of distinct values without versions in the answers: the hardest kind of history.
fn hard_history() -> History<CounterOp, i64> {
    let mut calls: Vec<_> =
        (0..40).map(|at| (at, CounterOp::Add(1 << at), at, None, Outcome::Unknown)).collect();
    calls.push((99, CounterOp::Get, 100, Some(101), Outcome::Ok(-1)));
    history(calls)
}

#[test]
fn bounds_end_the_search_undecided() {
    let steps = Bounds { steps_max: 1_000, ..Bounds::default() };
    let bytes = Bounds { memory_bytes_max: 100_000, ..Bounds::default() };
    for (bounds, reason) in [(steps, "1000 steps"), (bytes, "100000 bytes")] {
        match check::<Counter>(&hard_history(), &bounds) {
            Verdict::Undecided(undecided) => {
                let text = undecided.to_string();
                assert!(text.contains(reason), "{text}");
            }
            verdict => panic!("{verdict:?}"),
        }
    }
}

#[test]
fn a_violation_outweighs_an_undecided_key() {
    let mut operations = hard_history().operations().to_vec();
    for operation in &mut operations {
        operation.key = "a".to_owned();
    }
    operations.push(Operation {
        client: 1,
        key: "b".to_owned(),
        op: CounterOp::Get,
        invoked: 200,
        returned: Some(201),
        outcome: Outcome::Ok(5),
    });
    let bounds = Bounds { steps_max: 1_000, ..Bounds::default() };
    let verdict = check::<Counter>(&History::new(operations).unwrap(), &bounds);
    assert!(verdict.is_violation(), "{verdict:?}");
}

#[test]
fn a_failing_history_is_kept_and_an_undecided_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let steps = Bounds { steps_max: 1_000, ..Bounds::default() };
    let stale = history(vec![
        (1, CounterOp::Add(1), 0, Some(1), Outcome::Ok(1)),
        (1, CounterOp::Get, 2, Some(3), Outcome::Ok(0)),
    ]);
    for (history, reason) in [(stale, "is not linearizable"), (hard_history(), "could not decide")]
    {
        let failure = std::panic::catch_unwind(|| {
            assert_linearizable::<Counter>(&history, &steps, directory.path());
        });
        let text = failure.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains(reason), "{text}");
        let path = text.lines().last().unwrap().split_once(" is kept in ").unwrap().1;
        let kept = super::super::load::<CounterOp, i64>(path.as_ref()).unwrap();
        assert_eq!(kept, history);
    }
}
