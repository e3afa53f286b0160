//! What was invalidated lately: enough to tell whether a value that comes late is still right.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

/// Invalidations that are remembered. A read that has been on its way while more than these came is
/// not kept.
pub(super) const LEN: usize = 4_096;

/// The kinds of what is invalidated; keys and tags that are spelled alike have nothing in common.
#[derive(Clone, Copy, Hash)]
pub(super) enum What<'a> {
    Key(&'a [u8]),
    Tag(&'a str),
}

/// The newest invalidation of each key and tag, back to a floor.
///
/// Kept by hash: two that share one make a value be refused that would have been right, never the
/// other way round.
#[derive(Debug)]
pub(super) struct Ring {
    /// What happened up to here is not remembered.
    floor: u64,
    order: VecDeque<(u64, u64)>,
    newest: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Ring {
    /// Knows of nothing up to a revision.
    pub(super) fn new(floor: u64) -> Self {
        let (order, newest) = (VecDeque::new(), HashMap::new());
        Self { floor, order, newest, hasher: RandomState::new() }
    }

    /// It happened then. Revisions never go back.
    pub(super) fn push(&mut self, what: What<'_>, revision: u64) {
        let hash = self.hasher.hash_one(what);
        if self.newest.insert(hash, revision) == Some(revision) {
            return;
        }
        self.order.push_back((hash, revision));
        if self.order.len() > LEN
            && let Some((hash, revision)) = self.order.pop_front()
        {
            self.floor = self.floor.max(revision);
            if self.newest.get(&hash) == Some(&revision) {
                self.newest.remove(&hash);
            }
        }
    }

    /// Something happened up to there that can't be remembered.
    pub(super) fn raise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Whether everything that happened behind a revision is remembered.
    pub(super) fn covers(&self, revision: u64) -> bool {
        revision >= self.floor
    }

    /// Whether it happened behind a revision, as far as is remembered.
    pub(super) fn is_behind(&self, what: What<'_>, revision: u64) -> bool {
        self.newest.get(&self.hasher.hash_one(what)).is_some_and(|newest| *newest > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_raises_the_floor() {
        let mut ring = Ring::new(7);
        assert!(!ring.covers(6) && ring.covers(7));
        ring.push(What::Key(b"a"), 8);
        ring.push(What::Tag("a"), 9);
        assert!(ring.is_behind(What::Key(b"a"), 7) && !ring.is_behind(What::Key(b"a"), 8));
        assert!(ring.is_behind(What::Tag("a"), 8));
        for revision in 10..10 + LEN as u64 {
            ring.push(What::Key(b"b"), revision);
        }
        // The first two are gone.
        assert!(!ring.covers(8) && ring.covers(9));
        assert!(!ring.is_behind(What::Key(b"a"), 0));
        assert_eq!((ring.order.len(), ring.newest.len()), (LEN, 1));
    }
}
