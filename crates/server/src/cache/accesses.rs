//! Which entries were read lately: a sample on each node, and on the leader what all nodes told of.
//!
//! Entries are known by a hash. Two that share one keep each other alive, which costs a little room
//! and nothing else.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Entries that a node tells of in a second, at most: those that were read first in it. What is read
/// often is among them.
const SAMPLE_MAX: usize = 1_000;
/// Entries that the leader remembers of one generation: 1 000 a second of each of seven nodes, for a
/// minute; some ten megabytes.
const GENERATION_MAX: usize = 500_000;

/// The name of an entry in here.
pub(crate) fn hash(namespace: &str, key: &[u8]) -> u64 {
    // The namespace has no fixed length, so it goes into the seed.
    xxh3_64_with_seed(key, xxh3_64_with_seed(namespace.as_bytes(), 0))
}

/// The hashes are spread already; and a simulation needs the same order in every run.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("only numbers are hashed with it");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

type Hashes = HashSet<u64, BuildHasherDefault<AsItIs>>;

/// What was read on this node since the leader was told last.
#[derive(Default)]
pub(crate) struct Reads(Mutex<Hashes>);

impl Reads {
    /// An entry was read.
    pub(crate) fn read(&self, namespace: &str, key: &[u8]) {
        let mut sample = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sample.len() < SAMPLE_MAX {
            sample.insert(hash(namespace, key));
        }
    }

    /// Begins a new sample; the old one in the order of its hashes.
    pub(crate) fn take(&self) -> Vec<u64> {
        let mut sample = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hashes: Vec<u64> = sample.drain().collect();
        hashes.sort_unstable();
        hashes
    }
}

/// What all nodes told this one of while it led.
#[derive(Default)]
pub(crate) struct Accesses(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: Hashes,
    old: Hashes,
    /// When the young one began.
    began: Option<Instant>,
}

impl Accesses {
    /// A node says that these were read.
    pub(crate) fn told(&self, hashes: &[u64]) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() + hashes.len() > GENERATION_MAX {
            generations.turn();
        }
        // A node tells of fewer than a generation has room for; whatever it says.
        generations.young.extend(hashes.iter().take(GENERATION_MAX));
    }

    /// Whether an entry was read in this generation or the one before.
    pub(crate) fn knows(&self, hash: u64) -> bool {
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.contains(&hash) || generations.old.contains(&hash)
    }

    /// Forgets what was read before this generation began, if that is so long ago.
    pub(crate) fn turn_after(&self, age: std::time::Duration) {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now - *generations.began.get_or_insert(now) >= age {
            generations.turn();
        }
    }
}

impl Generations {
    fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.began = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_sample_is_bounded_and_begins_anew() {
        let reads = Reads::default();
        for key in 0..2 * SAMPLE_MAX as u64 {
            reads.read("n", &key.to_be_bytes());
            reads.read("n", &0_u64.to_be_bytes());
        }
        let sample = reads.take();
        assert_eq!(sample.len(), SAMPLE_MAX);
        assert!(sample.contains(&hash("n", &0_u64.to_be_bytes())));
        assert!(!sample.contains(&hash("m", &0_u64.to_be_bytes())), "namespaces are apart");
        assert!(reads.take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_is_known_for_two_generations() {
        let accesses = Accesses::default();
        let age = Duration::from_secs(3);
        accesses.turn_after(age);
        accesses.told(&[1]);
        tokio::time::advance(age).await;
        accesses.turn_after(age);
        accesses.told(&[2]);
        assert!(accesses.knows(1) && accesses.knows(2) && !accesses.knows(3));
        accesses.turn_after(age);
        assert!(accesses.knows(1), "the generation is too young to be forgotten");
        tokio::time::advance(age).await;
        accesses.turn_after(age);
        assert!(!accesses.knows(1) && accesses.knows(2));
        let many: Vec<u64> = (0..GENERATION_MAX as u64).collect();
        accesses.told(&many);
        accesses.told(&[u64::MAX]);
        assert!(accesses.knows(u64::MAX) && accesses.knows(7) && !accesses.knows(u64::MAX - 1));
    }
}
