//! The sequences of channels: what was used last, for the channels that were used lately.

use crate::Sequence;
use crate::name::{Name, key};
use std::cell::Cell;
use std::collections::{HashMap, hash_map};

/// Counters of a dropped generation that are freed with each message: all are long gone when the
/// next generation is dropped, and none holds up a publisher.
const FREED_PER_MESSAGE: usize = 4;

/// Two generations of counters. One that is used moves to the newer one; when that is full, the older
/// one is dropped.
#[derive(Debug)]
pub(super) struct Counters {
    max: usize,
    newer: Generation,
    older: Generation,
    dropped: Option<hash_map::IntoIter<Name, Cell<u64>>>,
    /// No counter that was dropped was higher, so those that begin anew begin above.
    floor: u64,
    buffer: String,
}

#[derive(Debug, Default)]
struct Generation {
    /// Cells, because the name is needed with it: one look finds both.
    last: HashMap<Name, Cell<u64>>,
    /// None in it is or was higher.
    highest: u64,
}

impl Counters {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            newer: Generation::default(),
            older: Generation::default(),
            dropped: None,
            floor: 0,
            buffer: String::new(),
        }
    }

    /// The next sequence of a channel, and its name.
    pub(super) fn next(&mut self, namespace: &str, channel: &str) -> (Name, Sequence) {
        if let Some(dropped) = &mut self.dropped
            && dropped.take(FREED_PER_MESSAGE).count() < FREED_PER_MESSAGE
        {
            self.dropped = None;
        }
        let key = key(&mut self.buffer, namespace, channel);
        if let Some((name, last)) = self.newer.last.get_key_value(key) {
            last.set(last.get() + 1);
            self.newer.highest = self.newer.highest.max(last.get());
            return (name.clone(), Sequence(last.get()));
        }
        // Taken out first, so that it is not dropped.
        let kept = self.older.last.remove_entry(key);
        if self.newer.last.len() >= self.max {
            self.turn();
        }
        let key = crate::name::key(&mut self.buffer, namespace, channel);
        let (name, last) = kept.unwrap_or_else(|| (Name::of_key(key), Cell::new(self.floor)));
        let next = last.get() + 1;
        self.newer.last.insert(name.clone(), Cell::new(next));
        self.newer.highest = self.newer.highest.max(next);
        (name, Sequence(next))
    }

    /// The counters that are kept, in no order.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Name, Sequence)> {
        let all = self.newer.last.iter().chain(&self.older.last);
        all.map(|(name, last)| (name, Sequence(last.get())))
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        for generation in [&self.newer, &self.older] {
            assert!(generation.last.len() <= self.max);
            assert!(generation.last.values().all(|last| last.get() <= generation.highest));
        }
    }

    fn turn(&mut self) {
        // As many are to come: it does not grow, which would hold up a publisher.
        let last = HashMap::with_capacity(self.max);
        let newer = std::mem::replace(&mut self.newer, Generation { last, highest: 0 });
        let older = std::mem::replace(&mut self.older, newer);
        self.floor = self.floor.max(older.highest);
        self.dropped = Some(older.last.into_iter());
    }
}
