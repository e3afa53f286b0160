//! The newest messages that a node wants, kept once for all of them.

use crate::{Message, Position};
use std::collections::VecDeque;
use std::sync::Arc;

/// Nodes by their slots, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nodes(pub(super) u64);

impl Nodes {
    pub(super) fn has(self, slot: usize) -> bool {
        self.0 & (1 << slot) != 0
    }

    pub(super) fn add(&mut self, slot: usize) {
        self.0 |= 1 << slot;
    }

    pub(super) fn remove(&mut self, slot: usize) {
        self.0 &= !(1 << slot);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn slots(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |slot| self.has(*slot))
    }
}

/// A message with who wants it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) message: Message,
    /// Nodes to send it to, for whatever reason. A slot may have another node by now, but the cursor
    /// of that is beyond.
    pub(super) to: Nodes,
    /// Those of them with subscribers outside of groups.
    pub(super) plain: Nodes,
    /// Groups with the slot of the node that serves each of them.
    pub(super) groups: Box<[(usize, Arc<str>)]>,
}

impl Kept {
    /// Bytes it counts for.
    fn bytes(&self) -> usize {
        let groups =
            self.groups.iter().map(|(_, group)| size_of::<(usize, Arc<str>)>() + group.len());
        self.message.counted_bytes() + groups.sum::<usize>()
    }

    /// The groups that a node serves.
    pub(super) fn served_by(&self, slot: usize) -> impl Iterator<Item = &Arc<str>> {
        self.groups.iter().filter(move |(by, _)| *by == slot).map(|(_, group)| group)
    }
}

/// In the order of their positions, with holes.
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: VecDeque<Kept>,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, kept: Kept) {
        self.bytes += kept.bytes();
        self.kept.push_back(kept);
    }

    /// Takes out the oldest, if there is too much. The newest stays, however large it is.
    pub(super) fn pop_beyond(&mut self, bytes_max: usize, messages_max: usize) -> Option<Kept> {
        let beyond = self.bytes > bytes_max || self.kept.len() > messages_max.max(1);
        if !beyond || self.kept.len() < 2 {
            return None;
        }
        let oldest = self.kept.pop_front()?;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }

    /// What lies above a position.
    pub(super) fn above(&self, position: Position) -> impl Iterator<Item = &Kept> {
        let from = self.kept.partition_point(|kept| kept.message.position() <= position);
        self.kept.range(from..)
    }

    #[cfg(test)]
    pub(super) fn check(&self, bytes_max: usize, messages_max: usize) {
        assert_eq!(self.bytes, self.kept.iter().map(Kept::bytes).sum::<usize>());
        assert!(self.kept.len() <= messages_max);
        assert!(self.bytes <= bytes_max || self.kept.len() == 1);
        assert!(self.kept.iter().is_sorted_by_key(|kept| kept.message.position()));
        assert!(self.kept.iter().all(|kept| kept.plain.0 & !kept.to.0 == 0));
    }
}
