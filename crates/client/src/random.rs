//! The client's only source of randomness, so that a simulation can seed it.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Jitter, shuffles and idempotency keys are drawn from here.
#[derive(Debug)]
pub(crate) struct Random(Mutex<StdRng>);

impl Random {
    pub(crate) fn from_os() -> Self {
        Self(Mutex::new(rand::make_rng()))
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Evenly between nothing and `bound`, both possible.
    pub(crate) fn up_to(&self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.with(|rng| rng.random_range(0..=nanos)))
    }

    pub(crate) fn shuffle<T>(&self, items: &mut [T]) {
        self.with(|rng| items.shuffle(rng));
    }

    /// 16 bytes that nobody else draws.
    pub(crate) fn key(&self) -> [u8; 16] {
        let mut key = [0; 16];
        self.with(|rng| rng.fill_bytes(&mut key));
        key
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
