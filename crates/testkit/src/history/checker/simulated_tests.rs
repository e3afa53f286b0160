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

/// Clients with their calls in any order of steps. One answer of 400 gets lost, whether its call
/// was applied or not.
fn simulate(seed: u64) -> History<RegisterOp, RegisterRet> {
    let mut rng = StdRng::seed_from_u64(seed);
    let recorder = Recorder::new();
    let mut states = [const { None }; KEYS];
    let mut calls: [Option<Call>; CLIENTS] = [const { None }; CLIENTS];
    // Applied at some later time, or never.
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
            Some(call) if call.answer.is_none() && rng.random_ratio(1, 400) => {
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

/// Steps, not seconds, so that a busy machine does not fail the test: a step takes well under a
/// microsecond, so this is about a second.
const BOUNDS: Bounds = Bounds { steps_max: 400_000, cache_bytes_max: 64 << 20 };

#[test]
fn a_long_history_is_checked_in_few_steps() {
    let history = simulate(SEED);
    let (ok, _, unknown) = history.counts();
    assert!(ok > 49_000 && unknown > 100, "{ok} answered, {unknown} unknown");
    let verdict = check::<Register>(&history, &BOUNDS);
    assert!(verdict.is_linearizable(), "seed {SEED}: {verdict:?}");
}

#[test]
fn one_stale_read_in_a_long_history_is_found() {
    let history = simulate(SEED);
    let mut operations: Vec<Operation<_, _>> = history.operations().to_vec();
    // A read late in the history gets the answer of the last read that returned before the last
    // write that returned before it.
    let (stale, answer) = operations
        .iter()
        .enumerate()
        .rev()
        .find_map(|(index, read)| {
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
            (was_read && index < 40_000).then(|| (index, old.outcome.clone()))
        })
        .unwrap();
    operations[stale].outcome = answer;
    let (key, invoked) = (operations[stale].key.clone(), operations[stale].invoked);

    match check::<Register>(&History::new(operations).unwrap(), &BOUNDS) {
        Verdict::Violation(violation) => {
            assert_eq!(violation.key, key);
            // Found where it is, not somewhere in the vast rest.
            let distance = violation.misfit.invoked.abs_diff(invoked);
            assert!(distance < 1_000, "planted at {invoked}, found: {violation}");
        }
        verdict => panic!("seed {SEED}: {verdict:?}"),
    }
}
