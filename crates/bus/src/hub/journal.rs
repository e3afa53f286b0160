//! The channels of the newest messages, for far longer than the messages themselves are kept.

use crate::limits::HubLimits;
use crate::name::Name;
use crate::{Position, Selector};
use std::collections::VecDeque;

/// One name per position, without a hole.
#[derive(Debug)]
pub(super) struct Journal {
    names: VecDeque<Name>,
    bytes: usize,
    /// The position of the newest.
    newest: u64,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { names: VecDeque::new(), bytes: 0, newest: 0 }
    }

    pub(super) fn push(&mut self, name: Name, limits: &HubLimits) {
        self.bytes += bytes(&name);
        self.names.push_back(name);
        self.newest += 1;
        while self.names.len() > limits.journal_messages_max
            || self.bytes > limits.journal_bytes_max
        {
            let Some(oldest) = self.names.pop_front() else { break };
            self.bytes -= bytes(&oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self, limits: &HubLimits, newest: Position) {
        assert_eq!(self.newest, newest.0);
        assert_eq!(self.bytes, self.names.iter().map(bytes).sum::<usize>());
        assert!(self.names.len() <= limits.journal_messages_max);
        assert!(self.bytes <= limits.journal_bytes_max);
    }

    /// How many messages in a namespace any selector matches, above one position and up to another.
    /// `None` when that is not known any more, or would take too long to find out.
    pub(super) fn count(
        &self,
        namespace: &str,
        selectors: &[Selector],
        after: Position,
        through: Position,
        limits: &HubLimits,
        steps_max: usize,
    ) -> Option<u64> {
        let through = through.0.min(self.newest);
        if after.0 >= through {
            return Some(0);
        }
        // What lies up to here was forgotten.
        let forgotten = self.newest - self.names.len() as u64;
        if after.0 < forgotten || through - after.0 > limits.missed_messages_max {
            return None;
        }
        let begin = usize::try_from(after.0 - forgotten).expect("the journal is in memory");
        let end = usize::try_from(through - forgotten).expect("the journal is in memory");
        let mut steps = 0;
        let mut count = 0;
        for name in self.names.range(begin..end) {
            if name.namespace() == namespace {
                let matches =
                    |selector: &Selector| selector.matches_counting(name.name(), &mut steps);
                count += u64::from(selectors.iter().any(matches));
            }
            if steps > steps_max {
                return None;
            }
        }
        Some(count)
    }
}

/// What a name takes, if no other entry shares it.
fn bytes(name: &Name) -> usize {
    size_of::<Name>() + name.namespace().len() + name.name().len()
}
