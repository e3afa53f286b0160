//! The checker against the definition of linearizability, on thousands of small histories.

use super::super::{
    Counter, CounterOp, Expect, History, Model, Operation, Outcome, Register, RegisterOp,
    RegisterRet,
};
use super::brute;
use super::{Bounds, Verdict, check};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use std::cell::Cell;
use std::fmt::Debug;

const HISTORIES: u32 = 6_000;
const CLIENTS: usize = 4;
const OPERATIONS_MAX: usize = 7;

/// What a client does at one point of a history.
#[derive(Clone, Copy, Debug)]
struct Turn {
    client: usize,
    /// Which of the operations it asks for, when it is idle.
    op: usize,
    /// How it ends, when it is not.
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// With the answer the service would give if it took effect on invocation.
    AtInvocation,
    /// With the answer the service would give if it took effect now.
    AtReturn,
    /// With any of the possible answers.
    Any(usize),
    Unknown,
    UnknownApplied,
    Failed,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let ending = prop_oneof![
        3 => Just(Ending::AtInvocation),
        3 => Just(Ending::AtReturn),
        2 => (0_usize..100).prop_map(Ending::Any),
        1 => Just(Ending::Unknown),
        1 => Just(Ending::UnknownApplied),
        1 => Just(Ending::Failed),
    ];
    let turn = (0..CLIENTS, 0_usize..100, ending).prop_map(|(client, op, ending)| Turn {
        client,
        op,
        ending,
    });
    proptest::collection::vec(turn, 1..20)
}

/// Plays the turns against the model. The answers are often right, so that both verdicts occur.
fn play<M: Model>(turns: &[Turn], ops: &[M::Op], rets: &[M::Ret]) -> History<M::Op, M::Ret> {
    let mut operations: Vec<Operation<M::Op, M::Ret>> = Vec::new();
    // For each client its call under way, with the state that it began in.
    let mut under_way: [Option<(usize, M::State)>; CLIENTS] = [const { None }; CLIENTS];
    let mut state = M::init();
    for (position, turn) in (0..).zip(turns) {
        let client = turn.client as u64;
        let Some((index, began)) = under_way[turn.client].take() else {
            if operations.len() < OPERATIONS_MAX {
                under_way[turn.client] = Some((operations.len(), state.clone()));
                operations.push(Operation {
                    client,
                    key: "k".to_owned(),
                    op: ops[turn.op % ops.len()].clone(),
                    invoked: position,
                    returned: None,
                    outcome: Outcome::Unknown,
                });
            }
            continue;
        };
        let op = operations[index].op.clone();
        let answer = |state: &M::State| {
            rets.iter().find(|ret| M::step(state, &op, Some(ret)).is_some()).cloned()
        };
        let applied = || M::step(&state, &op, None).expect("any answer is possible");
        let (outcome, next) = match turn.ending {
            Ending::AtInvocation => (answer(&began).map(Outcome::Ok), Some(applied())),
            Ending::AtReturn => (answer(&state).map(Outcome::Ok), Some(applied())),
            Ending::Any(ret) => {
                (Some(Outcome::Ok(rets[ret % rets.len()].clone())), Some(applied()))
            }
            Ending::Unknown => (None, None),
            Ending::UnknownApplied => (None, Some(applied())),
            Ending::Failed => (Some(Outcome::Failed), None),
        };
        operations[index].returned = Some(position);
        operations[index].outcome = outcome.unwrap_or(Outcome::Unknown);
        state = next.unwrap_or(state);
    }
    History::new(operations).unwrap()
}

/// Compares the verdicts, and looks at what a violation says about itself.
fn agree<M: Model>(history: &History<M::Op, M::Ret>) -> Result<bool, TestCaseError>
where
    M::Ret: PartialEq + Debug,
{
    let expected = brute::is_linearizable::<M>(history);
    match check::<M>(history, &Bounds::default()) {
        Verdict::Undecided(undecided) => return Err(TestCaseError::fail(undecided.to_string())),
        Verdict::Linearizable { .. } => prop_assert!(expected, "a violation was missed"),
        Verdict::Violation(violation) => {
            prop_assert!(!expected, "an order exists, but: {violation}");
            // The prefix is an order of the model and of time, and lacks the misfit.
            let mut state = M::init();
            for (index, operation) in violation.prefix.iter().enumerate() {
                let ret = match &operation.outcome {
                    Outcome::Ok(ret) => Some(ret),
                    _ => None,
                };
                state = match M::step(&state, &operation.op, ret) {
                    Some(next) => next,
                    None => return Err(TestCaseError::fail("the prefix does not fit")),
                };
                let late = violation.prefix[index..].iter().chain([&violation.misfit]).any(|o| {
                    matches!(o.outcome, Outcome::Ok(_))
                        && o.returned.is_some_and(|returned| returned < operation.invoked)
                });
                prop_assert!(!late, "the prefix is not in the order of time");
            }
            prop_assert_eq!(violation.state, format!("{state:?}"));
            prop_assert!(violation.prefix.iter().all(|o| o.invoked != violation.misfit.invoked));
        }
    }
    Ok(expected)
}

fn run<M: Model>(ops: &[M::Op], rets: &[M::Ret])
where
    M::Ret: PartialEq + Debug,
{
    // A fixed seed: the same histories on every machine. To repeat a failure, run the test again.
    let config = Config { cases: HISTORIES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let linearizable = Cell::new(0);
    let result = runner.run(&turns(), |turns| {
        let history = play::<M>(&turns, ops, rets);
        linearizable.set(linearizable.get() + u32::from(agree::<M>(&history)?));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    // Otherwise the comparison would prove little.
    let share = f64::from(linearizable.get()) / f64::from(HISTORIES);
    assert!((0.2..0.9).contains(&share), "{share} of the histories are linearizable");
}

#[test]
fn registers_agree_with_the_definition() {
    let ops = [
        RegisterOp::Get,
        RegisterOp::Get,
        RegisterOp::set("a"),
        RegisterOp::set("b"),
        RegisterOp::cas(1, "c"),
        RegisterOp::cas(2, "a"),
        RegisterOp::create("b"),
        RegisterOp::delete(),
        RegisterOp::Delete { expect: Expect::Version(1) },
    ];
    let mut rets = vec![
        RegisterRet::Get(None),
        RegisterRet::Delete { deleted: true },
        RegisterRet::Delete { deleted: false },
        RegisterRet::ConditionFailed { version: None },
        RegisterRet::ConditionFailedUnseen,
    ];
    for version in 1..=3 {
        rets.push(RegisterRet::Set { version });
        rets.push(RegisterRet::ConditionFailed { version: Some(version) });
        for value in ["a", "b", "c"] {
            rets.push(RegisterRet::Get(Some((value.into(), version))));
        }
    }
    run::<Register>(&ops, &rets);
}

#[test]
fn counters_agree_with_the_definition() {
    let ops = [
        CounterOp::Get,
        CounterOp::Add(1),
        CounterOp::Add(1),
        CounterOp::Add(2),
        CounterOp::Add(0),
    ];
    run::<Counter>(&ops, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

/// A register that tells no versions and whose writes may leave the state as it is: no reduction
/// of the search may count on more than a model promises.
struct Plain;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PlainOp {
    Read,
    Write(u8),
}

impl Model for Plain {
    type State = u8;
    type Op = PlainOp;
    type Ret = Option<u8>;
    type Mark = u8;

    fn init() -> u8 {
        0
    }

    fn step(state: &u8, op: &PlainOp, ret: Option<&Option<u8>>) -> Option<u8> {
        match (op, ret) {
            (PlainOp::Read, Some(Some(ret))) => (ret == state).then_some(*state),
            (PlainOp::Read, None) => Some(*state),
            (PlainOp::Write(value), None | Some(None)) => Some(*value),
            (PlainOp::Read, Some(None)) | (PlainOp::Write(_), Some(Some(_))) => None,
        }
    }

    fn reads_only(op: &PlainOp, _ret: Option<&Option<u8>>) -> bool {
        *op == PlainOp::Read
    }

    fn mark(state: &u8) -> Option<u8> {
        Some(*state)
    }

    fn writes(op: &PlainOp) -> Option<u8> {
        match op {
            PlainOp::Write(value) => Some(*value),
            PlainOp::Read => None,
        }
    }

    fn reads(_op: &PlainOp, ret: &Option<u8>) -> Option<u8> {
        *ret
    }

    fn unmarked(op: &PlainOp) -> PlainOp {
        match op {
            PlainOp::Write(_) => PlainOp::Write(u8::MAX),
            PlainOp::Read => PlainOp::Read,
        }
    }
}

#[test]
fn plain_registers_agree_with_the_definition() {
    let ops =
        [PlainOp::Read, PlainOp::Read, PlainOp::Write(0), PlainOp::Write(1), PlainOp::Write(2)];
    run::<Plain>(&ops, &[None, Some(0), Some(1), Some(2)]);
}
