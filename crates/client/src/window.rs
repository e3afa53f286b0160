//! Which sequences of a session are unanswered: pure bookkeeping, no waiting.
//!
//! `floor <= every unanswered sequence < next`, and `next <= floor + LEN`: what the cluster is
//! asked to remember is bounded, and nothing it may still need to remember is below the floor.

use std::collections::BTreeSet;

/// Length of the window: the cluster remembers that many answers per session.
pub(crate) const LEN: u64 = 1_024;

/// The sequences of one session.
#[derive(Debug)]
pub(crate) struct Window {
    /// The lowest sequence that was never handed out.
    next: u64,
    /// Handed out, and neither answered nor given up.
    unanswered: BTreeSet<u64>,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { next: 1, unanswered: BTreeSet::new() }
    }

    /// The lowest sequence neither answered nor given up.
    pub(crate) fn floor(&self) -> u64 {
        self.unanswered.first().copied().unwrap_or(self.next)
    }

    /// The next sequence, if the window has room for it.
    pub(crate) fn allocate(&mut self) -> Option<u64> {
        if self.next - self.floor() >= LEN {
            return None;
        }
        let sequence = self.next;
        self.next += 1;
        self.unanswered.insert(sequence);
        Some(sequence)
    }

    /// Takes note that a sequence was answered or given up; whether the floor moved.
    pub(crate) fn finish(&mut self, sequence: u64) -> bool {
        let floor = self.floor();
        self.unanswered.remove(&sequence);
        self.floor() != floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed, TestRunner};

    #[derive(Clone, Debug)]
    enum Step {
        Allocate,
        /// Finishes one of the unanswered ones, counted from the lowest, modulo their number.
        Finish(usize),
        /// Finishes one that was finished before, or never handed out: must change nothing.
        FinishAgain(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Two regimes: around an empty window, and pressed against its end.
        (1u32..=60).prop_flat_map(|finishes| {
            let step = prop_oneof![
                60 => Just(Step::Allocate),
                finishes => prop_oneof![Just(0), any::<usize>()].prop_map(Step::Finish),
                3 => (0u64..5_000).prop_map(Step::FinishAgain),
            ];
            prop::collection::vec(step, 0..3_000)
        })
    }

    /// The same rules, as slow and as plain as possible: one flag per sequence ever handed out.
    #[derive(Default)]
    struct Model {
        done: Vec<bool>,
    }

    impl Model {
        fn floor(&self) -> u64 {
            let open = self.done.iter().position(|done| !done).unwrap_or(self.done.len());
            u64::try_from(open).expect("fits") + 1
        }
        fn unanswered(&self) -> Vec<u64> {
            let numbered = (1u64..).zip(&self.done);
            numbered.filter(|(_, done)| !**done).map(|(sequence, _)| sequence).collect()
        }
    }

    fn check(steps: Vec<Step>) -> Result<bool, TestCaseError> {
        let mut window = Window::new();
        let mut model = Model::default();
        let mut filled = false;
        for step in steps {
            let before = model.floor();
            match step {
                Step::Allocate => {
                    let next = u64::try_from(model.done.len()).expect("fits") + 1;
                    let expected = (next < before + LEN).then_some(next);
                    filled |= expected.is_none();
                    prop_assert_eq!(window.allocate(), expected);
                    if expected.is_some() {
                        model.done.push(false);
                    }
                }
                Step::Finish(nth) => {
                    let unanswered = model.unanswered();
                    if unanswered.is_empty() {
                        continue;
                    }
                    let sequence = unanswered[nth % unanswered.len()];
                    model.done[usize::try_from(sequence - 1).expect("fits")] = true;
                    prop_assert_eq!(window.finish(sequence), model.floor() != before);
                }
                Step::FinishAgain(sequence) => {
                    if !model.unanswered().contains(&sequence) {
                        prop_assert!(!window.finish(sequence));
                    }
                }
            }
            prop_assert_eq!(window.floor(), model.floor());
            prop_assert!(window.floor() >= before, "the floor never sinks");
            prop_assert!(window.unanswered.iter().copied().eq(model.unanswered()));
            prop_assert!(window.next <= window.floor() + LEN);
        }
        Ok(filled)
    }

    #[test]
    fn window_matches_its_model() {
        let seed = match std::env::var("QUORATE_TEST_SEED") {
            Ok(seed) => seed.parse().expect("QUORATE_TEST_SEED is a number"),
            Err(_) => rand::random(),
        };
        let config = Config {
            cases: 48,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            ..Config::default()
        };
        // The test is worth something only if the end of the window is really reached.
        let filled = std::cell::Cell::new(false);
        let result = TestRunner::new(config).run(&steps(), |steps| {
            filled.set(filled.get() | check(steps)?);
            Ok(())
        });
        if let Err(failure) = result {
            panic!(
                "seed {seed}: {failure}\nrepeat it with: QUORATE_TEST_SEED={seed} cargo test \
                 --release -p quorate-client window_matches_its_model"
            );
        }
        assert!(filled.get(), "seed {seed}: no run filled the window");
    }

    #[test]
    fn the_1025th_waits_for_the_lowest_and_for_no_other() {
        let mut window = Window::new();
        for expected in 1..=LEN {
            assert_eq!(window.allocate(), Some(expected));
        }
        assert_eq!(window.allocate(), None);
        assert!(!window.finish(2), "2 is above the floor");
        assert_eq!(window.allocate(), None);
        assert!(window.finish(1));
        assert_eq!(window.floor(), 3);
        assert_eq!(window.allocate(), Some(LEN + 1));
        assert_eq!(window.allocate(), Some(LEN + 2));
        assert_eq!(window.allocate(), None);
    }
}
