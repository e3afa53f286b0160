//! The look ahead: a mark that is still to be read must not be lost.
//!
//! Without it a wrong guess (that a write of unknown outcome took effect here) is found out only
//! when the one who read that write comes, after any number of other guesses.

use super::super::event::Outcome;
use super::super::model::Model;
use super::Op;
use super::bits::Bits;
use std::collections::HashMap;

/// For each mark that somebody reads, who reads and who writes it.
pub(super) struct Marks<M: Model> {
    uses: HashMap<M::Mark, Uses>,
}

/// Operations by their indexes among their kind.
#[derive(Default)]
struct Uses {
    answered_readers: Vec<usize>,
    answered_writers: Vec<usize>,
    unknown_writers: Vec<usize>,
}

impl<M: Model> Marks<M> {
    /// The marks that these operations read.
    pub(super) fn new(answered: &[&Op<M>]) -> Self {
        let mut uses: HashMap<M::Mark, Uses> = HashMap::new();
        for (index, operation) in answered.iter().enumerate() {
            if let Outcome::Ok(ret) = &operation.outcome
                && let Some(mark) = M::reads(&operation.op, ret)
            {
                uses.entry(mark).or_default().answered_readers.push(index);
            }
        }
        for (index, operation) in answered.iter().enumerate() {
            if let Some(uses) = M::writes(&operation.op).and_then(|mark| uses.get_mut(&mark)) {
                uses.answered_writers.push(index);
            }
        }
        Self { uses }
    }

    /// Adds the unknown operations.
    pub(super) fn add_unknown(&mut self, unknown: &[M::Op]) {
        for (index, op) in unknown.iter().enumerate() {
            if let Some(uses) = M::writes(op).and_then(|mark| self.uses.get_mut(&mark)) {
                uses.unknown_writers.push(index);
            }
        }
    }

    /// Whether anybody reads the mark.
    pub(super) fn is_read(&self, mark: &M::Mark) -> bool {
        self.uses.contains_key(mark)
    }

    /// Whether, with these operations placed, a mark goes that is still to be read and can't be
    /// written again.
    pub(super) fn is_lost_between(
        &self,
        before: &M::State,
        after: &M::State,
        answered: &Bits,
        unknown: &Bits,
    ) -> bool {
        let mark = M::mark(before);
        let Some(uses) = mark.as_ref().and_then(|mark| self.uses.get(mark)) else { return false };
        let left = |indexes: &[usize], placed: &Bits| {
            // The last is the most likely one to be left.
            indexes.iter().rev().any(|index| !placed.contains(*index))
        };
        M::mark(after) != mark
            && !left(&uses.answered_writers, answered)
            && !left(&uses.unknown_writers, unknown)
            && left(&uses.answered_readers, answered)
    }
}
