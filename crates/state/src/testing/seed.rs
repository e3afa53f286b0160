//! Random numbers that can be had again: each random test prints its seed.

/// A small generator of random numbers (splitmix64): the same numbers on every platform, and
/// nothing to depend on.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number below `bound`, for indexes.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).expect("it is below a usize")
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// The seed of a random test: `QUORATE_SEED` when it is set, a fresh one otherwise. Prints it with
/// the command that repeats the run; test runners show that when the test fails.
///
/// # Panics
/// When `QUORATE_SEED` is no number.
#[must_use]
pub fn seed(command: &str) -> u64 {
    let seed = given().unwrap_or_else(fresh);
    #[allow(clippy::print_stderr, reason = "the seed must reach whoever sees the test fail")]
    {
        eprintln!("seed {seed}; repeat with: QUORATE_SEED={seed} {command}");
    }
    seed
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's seed is the one thing its caller may choose"
)]
fn given() -> Option<u64> {
    let text = std::env::var("QUORATE_SEED").ok()?;
    Some(text.parse().expect("QUORATE_SEED is a decimal number"))
}

#[expect(clippy::disallowed_types, reason = "a fresh seed has to come from outside the program")]
fn fresh() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}
