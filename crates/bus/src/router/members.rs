//! The subscriptions to one selector, by their slots.

use std::slice;

/// Slots in their order. Most selectors have one subscriber, which takes no memory of its own.
#[derive(Debug)]
pub(super) enum Members {
    One(u32),
    Many(Vec<u32>),
}

impl Default for Members {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Members {
    pub(super) fn slots(&self) -> &[u32] {
        match self {
            Self::One(slot) => slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    pub(super) fn add(&mut self, slot: u32) {
        match self {
            Self::Many(slots) if slots.is_empty() => *self = Self::One(slot),
            Self::Many(slots) => {
                if let Err(at) = slots.binary_search(&slot) {
                    slots.insert(at, slot);
                }
            }
            Self::One(other) if *other == slot => {}
            Self::One(other) => *self = Self::Many(vec![slot.min(*other), slot.max(*other)]),
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        match self {
            Self::One(other) if *other == slot => *self = Self::default(),
            Self::One(_) => {}
            Self::Many(slots) => {
                if let Ok(at) = slots.binary_search(&slot) {
                    slots.remove(at);
                }
                if let [last] = slots[..] {
                    *self = Self::One(last);
                }
            }
        }
    }

    /// The first behind a slot that will do, going round.
    pub(super) fn next_after(
        &self,
        slot: u32,
        mut will_do: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let slots = self.slots();
        let (before, behind) = slots.split_at(slots.partition_point(|other| *other <= slot));
        behind.iter().chain(before).copied().find(|slot| will_do(*slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_in_order() {
        let mut members = Members::default();
        assert_eq!(members.next_after(0, |_| true), None);
        for slot in [5, 2, 9, 5] {
            members.add(slot);
        }
        assert_eq!(members.slots(), [2, 5, 9]);
        assert_eq!(members.next_after(2, |_| true), Some(5));
        assert_eq!(members.next_after(9, |_| true), Some(2));
        assert_eq!(members.next_after(4, |slot| slot != 5), Some(9));
        assert_eq!(members.next_after(5, |slot| slot == 5), Some(5));
        for slot in [2, 7, 9] {
            members.remove(slot);
        }
        assert!(matches!(members, Members::One(5)));
        members.remove(5);
        assert!(members.slots().is_empty());
    }
}
