//! A set of operations, cheap to change and to copy as a cache key.

/// A set of small numbers. It remembers where the leading run of full words ends, because a search
/// through a long history sets nearly all bits in order: its key holds only the rest.
pub(super) struct Bits {
    words: Vec<u64>,
    /// All words below are full.
    full: usize,
    /// All words from here on are empty.
    end: usize,
}

impl Bits {
    pub(super) fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], full: 0, end: 0 }
    }

    pub(super) fn contains(&self, bit: usize) -> bool {
        self.words[bit / 64] & (1 << (bit % 64)) != 0
    }

    pub(super) fn insert(&mut self, bit: usize) {
        let word = bit / 64;
        self.words[word] |= 1 << (bit % 64);
        self.end = self.end.max(word + 1);
        while self.words.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
    }

    pub(super) fn remove(&mut self, bit: usize) {
        let word = bit / 64;
        self.words[word] &= !(1 << (bit % 64));
        self.full = self.full.min(word);
        while self.end > 0 && self.words[self.end - 1] == 0 {
            self.end -= 1;
        }
    }

    /// Appends words from which the set could be told, given its length.
    pub(super) fn write_key(&self, key: &mut Vec<u64>) {
        let rest = &self.words[self.full..self.end.max(self.full)];
        key.push((self.full as u64) << 32 | rest.len() as u64);
        key.extend_from_slice(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRng, TestRunner};
    use std::collections::BTreeSet;

    /// The set after these changes, and its key.
    fn build(changes: &[(usize, bool)]) -> (Vec<u64>, BTreeSet<usize>) {
        // Starts almost full, so that the run of full words is exercised.
        let (mut bits, mut set) = (Bits::new(200), BTreeSet::new());
        for bit in 0..190 {
            bits.insert(bit);
            set.insert(bit);
        }
        for (bit, insert) in changes {
            if *insert {
                bits.insert(*bit);
                set.insert(*bit);
            } else {
                bits.remove(*bit);
                set.remove(bit);
            }
            assert_eq!(bits.contains(*bit), *insert);
        }
        let mut key = Vec::new();
        bits.write_key(&mut key);
        (key, set)
    }

    #[test]
    fn keys_are_equal_when_the_sets_are() {
        let changes = || proptest::collection::vec((0_usize..200, any::<bool>()), 0..300);
        // A fixed seed: to repeat a failure, run the test again.
        let config = Config { failure_persistence: None, ..Config::default() };
        let rng = TestRng::deterministic_rng(config.rng_algorithm);
        let result =
            TestRunner::new_with_rng(config, rng).run(&(changes(), changes()), |(left, right)| {
                let ((left_key, left), (right_key, right)) = (build(&left), build(&right));
                prop_assert_eq!(left_key == right_key, left == right);
                // The same set, reached in another way, has the same key.
                let again: Vec<_> = (0..200).map(|bit| (bit, left.contains(&bit))).collect();
                prop_assert_eq!(build(&again).0, left_key);
                Ok(())
            });
        if let Err(failure) = result {
            panic!("{failure}");
        }
    }
}
