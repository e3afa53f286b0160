//! Tests of more than one file, and what they share.

mod delivery;
mod outbox;
mod routing;
mod selectors;

use crate::{Content, Selector};
use proptest::prelude::ProptestConfig;
use proptest::strategy::Strategy;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use quorate_state::testing::seed;

/// Runs a property over `cases` values of `strategy`, from a seed that is printed.
fn property<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> TestCaseResult,
) {
    let seed = seed(&format!("cargo test --release -p quorate-bus {name}"));
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        // The seed is enough to come back, and a file of old failures would have to be kept true.
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    if let Err(failure) = runner.run(strategy, test) {
        panic!("{name}: {failure}");
    }
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn content(bytes: usize) -> Content {
    Content { payload: vec![b'.'; bytes].into(), ..Content::default() }
}
