//! A set of operations that is small to keep: part of every configuration that a search remembers.

/// A set of small numbers. A search through a long history has nearly all of them up to some point
/// and nearly none after it, so full words at the beginning are only counted, and empty ones at the
/// end are not kept. Equal sets are equal in this form too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Bits {
    full: usize,
    rest: Vec<u64>,
}

impl Bits {
    fn word(&self, index: usize) -> u64 {
        match index.checked_sub(self.full) {
            None => u64::MAX,
            Some(index) => self.rest.get(index).copied().unwrap_or(0),
        }
    }

    pub(super) fn contains(&self, bit: usize) -> bool {
        self.word(bit / 64) & (1 << (bit % 64)) != 0
    }

    pub(super) fn insert(&mut self, bit: usize) {
        let Some(index) = (bit / 64).checked_sub(self.full) else { return };
        if index >= self.rest.len() {
            self.rest.resize(index + 1, 0);
        }
        self.rest[index] |= 1 << (bit % 64);
        let full = self.rest.iter().take_while(|word| **word == u64::MAX).count();
        self.rest.drain(..full);
        self.full += full;
    }

    /// The numbers that are missing, from the lowest on, without end.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        (self.full..).flat_map(|index| {
            let word = self.word(index);
            let bits = if word == u64::MAX { 0..0 } else { 0..64 };
            bits.filter(move |bit| word & (1 << bit) == 0).map(move |bit| index * 64 + bit)
        })
    }

    /// Whether all of this set is in the other.
    pub(super) fn is_subset(&self, other: &Self) -> bool {
        let end = self.full + self.rest.len();
        (other.full.min(end)..end).all(|index| self.word(index) & !other.word(index) == 0)
    }

    /// Bytes on the heap, with the allocator's header.
    pub(super) fn heap_bytes(&self) -> usize {
        self.rest.capacity() * 8 + 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRng, TestRunner};
    use std::collections::BTreeSet;

    const NUMBERS: usize = 200;

    fn build(set: &BTreeSet<usize>, backwards: bool) -> Bits {
        let mut bits = Bits::default();
        let mut insert = |bit: &usize| bits.insert(*bit);
        if backwards {
            set.iter().rev().for_each(&mut insert)
        } else {
            set.iter().for_each(insert)
        }
        bits
    }

    #[test]
    fn behaves_as_a_set() {
        // Sets with long full beginnings, a few of their numbers missing.
        let set = || {
            let missing = proptest::collection::btree_set(0..NUMBERS, 0..6);
            (0..NUMBERS, missing).prop_map(|(end, missing)| {
                (0..end).filter(|bit| !missing.contains(bit)).collect::<BTreeSet<_>>()
            })
        };
        // A fixed seed: to repeat a failure, run the test again.
        let config = Config { failure_persistence: None, cases: 2_000, ..Config::default() };
        let rng = TestRng::deterministic_rng(config.rng_algorithm);
        let result = TestRunner::new_with_rng(config, rng).run(&(set(), set()), |(one, other)| {
            let (one_bits, other_bits) = (build(&one, false), build(&other, true));
            prop_assert_eq!(one_bits == other_bits, one == other);
            prop_assert_eq!(&one_bits, &build(&one, true));
            prop_assert_eq!(one_bits.is_subset(&other_bits), one.is_subset(&other));
            let both = one.intersection(&other).copied().collect();
            prop_assert!(build(&both, false).is_subset(&one_bits));
            prop_assert!((0..NUMBERS).all(|bit| one_bits.contains(bit) == one.contains(&bit)));
            let missing: Vec<_> = one_bits.missing().take_while(|bit| *bit < NUMBERS).collect();
            let expected: Vec<_> = (0..NUMBERS).filter(|bit| !one.contains(bit)).collect();
            prop_assert_eq!(missing, expected);
            Ok(())
        });
        if let Err(failure) = result {
            panic!("{failure}");
        }
    }
}
