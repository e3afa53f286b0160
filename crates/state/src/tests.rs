//! Tests of the crate as a whole; what belongs to one file is tested there.

mod access;
mod bounds;
mod codec;
mod fatal;
mod format;
mod glob;
mod golden;
mod group;
mod history;
mod invariants;
mod keys;
mod list;
mod model;
mod replicas;
mod requests;
mod restore;
mod samples;
mod session_rows;

use crate::testing::seed;
use proptest::prelude::ProptestConfig;
use proptest::strategy::Strategy;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};

/// Runs a property over `cases` values of `strategy`, from a seed that is printed.
pub(crate) fn property<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> TestCaseResult,
) {
    let seed = seed(&format!("cargo test --release -p quorate-state {name}"));
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
