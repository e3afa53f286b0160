//! Long histories of a simulated service: the checker is fast enough for them, and finds one wrong
//! answer among fifty thousand.

use super::super::{
    History, Model as _, Operation, Outcome, Recorder, Register, RegisterOp, RegisterRet,
};
use super::{Bounds, Verdict, check};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const SEED: u64 = 0x5eed;
const KEYS: usize = 5;
const OPERATIONS_PER_KEY: usize = 10_000;
const CLIENTS: usize = 16;

/// A call of one client: recorded, then applied to the register, then answered.
struct Call {
    key: usize,
    op: RegisterOp,
    answer: Option<RegisterRet>,
    invocation: super::super::Invocation<RegisterOp, RegisterRet>,
}

/// Clients with their calls in any order of steps. One call of `calls_per_loss` gets lost: it is
/// applied at any later time, or never.
fn simulate(seed: u64, calls_per_loss: u32) -> History<RegisterOp, RegisterRet> {
    let mut rng = StdRng::seed_from_u64(seed);
    let recorder = Recorder::new();
    let mut states = [const { None }; KEYS];
    let mut calls: [Option<Call>; CLIENTS] = [const { None }; CLIENTS];
    let mut lost: Vec<(usize, RegisterOp)> = Vec::new();
    let mut invoked = 0;
    while invoked < KEYS * OPERATIONS_PER_KEY {
        if !lost.is_empty() && rng.random_ratio(1, 500) {
            let (key, op) = lost.swap_remove(rng.random_range(0..lost.len()));
            states[key] = Register::step(&states[key], &op, None).unwrap();
        }
        let client = rng.random_range(0..CLIENTS);
        calls[client] = match calls[client].take() {
            None => {
                let key = invoked % KEYS;
                let version = states[key].as_ref().map_or(0, |(_, version): &(_, u64)| *version);
                let op = match rng.random_range(0..10) {
                    0..4 => RegisterOp::Get,
                    4..7 => RegisterOp::set(invoked.to_string()),
                    7 | 8 => RegisterOp::cas(version, invoked.to_string()),
                    _ => RegisterOp::delete(),
                };
                invoked += 1;
                let name = format!("key {key}");
                let invocation = recorder.invoke(client as u64, name, op.clone());
                Some(Call { key, op, answer: None, invocation })
            }
            Some(call) if call.answer.is_none() && rng.random_ratio(1, calls_per_loss) => {
                call.invocation.unknown();
                lost.push((call.key, call.op));
                None
            }
            Some(mut call) if call.answer.is_none() => {
                let state = &mut states[call.key];
                let answer = answer(state, &call.op);
                *state = Register::step(state, &call.op, Some(&answer)).unwrap();
                call.answer = Some(answer);
                Some(call)
            }
            Some(call) => {
                let ret = call.answer.expect("looked at above");
                call.invocation.ok(ret);
                None
            }
        };
    }
    recorder.history()
}

fn answer(state: &Option<(super::super::Value, u64)>, op: &RegisterOp) -> RegisterRet {
    let version = state.as_ref().map(|(_, version)| *version);
    let candidates = [
        RegisterRet::Get(state.clone()),
        RegisterRet::Set { version: version.unwrap_or(0) + 1 },
        RegisterRet::Delete { deleted: version.is_some() },
        RegisterRet::ConditionFailed { version },
    ];
    let fits = |ret: &RegisterRet| Register::step(state, op, Some(ret)).is_some();
    candidates.into_iter().find(fits).expect("one of the four is the answer")
}

/// Steps, not seconds, so that a busy machine does not fail the test. A step takes well under a
/// microsecond.
const STEPS_MAX: u64 = 3_000_000;

fn check_within(
    steps_max: u64,
    history: &History<RegisterOp, RegisterRet>,
) -> Verdict<RegisterOp, RegisterRet> {
    check::<Register>(history, &Bounds { steps_max, ..Bounds::default() })
}

#[test]
fn a_long_history_is_checked_in_few_steps() {
    for calls_per_loss in [2_000, 200, 20] {
        let history = simulate(SEED, calls_per_loss);
        let (ok, _, unknown) = history.counts();
        let told = format!("seed {SEED}, {ok} answered, {unknown} unknown");
        assert!(ok > 40_000 && unknown > 10, "{told}");
        let verdict = check_within(STEPS_MAX, &history);
        assert!(verdict.is_linearizable(), "{told}: {verdict:?}");
    }
}

#[test]
fn one_stale_read_in_a_long_history_is_found() {
    for calls_per_loss in [2_000, 200] {
        let history = simulate(SEED, calls_per_loss);
        let (history, key, invoked) = with_stale_read(&history);
        let told = format!("seed {SEED}, one of {calls_per_loss} lost, planted at {invoked}");
        match check_within(STEPS_MAX, &history) {
            Verdict::Violation(violation) => {
                assert_eq!(violation.key, key);
                // Found where it is, not somewhere in the vast rest.
                let distance = violation.misfit.invoked.abs_diff(invoked);
                assert!(distance < 1_000, "{told}: {violation}");
            }
            verdict => panic!("{told}: {verdict:?}"),
        }
    }
}

/// A read late in the history gets the answer of the last read that returned before the last write
/// that returned before it. Answers its key and invocation too.
fn with_stale_read(
    history: &History<RegisterOp, RegisterRet>,
) -> (History<RegisterOp, RegisterRet>, String, u64) {
    let mut operations: Vec<Operation<_, _>> = history.operations().to_vec();
    let planted = operations.iter().enumerate().take(40_000).rev().find_map(|(index, read)| {
        let before = |position: u64| {
            operations.iter().rev().filter(move |o| {
                o.key == read.key && o.returned.is_some_and(|returned| returned < position)
            })
        };
        let write = before(read.invoked)
            .find(|o| matches!(o.outcome, Outcome::Ok(RegisterRet::Set { .. })))?;
        let old = before(write.invoked)
            .find(|o| matches!(o.outcome, Outcome::Ok(RegisterRet::Get(Some(_)))))?;
        let was_read = matches!(read.outcome, Outcome::Ok(RegisterRet::Get(_)));
        was_read.then(|| (index, old.outcome.clone()))
    });
    let (index, answer) = planted.expect("a long history has a write between two reads");
    operations[index].outcome = answer;
    let (key, invoked) = (operations[index].key.clone(), operations[index].invoked);
    let history = History::new(operations).expect("only an answer changed");
    (history, key, invoked)
}
