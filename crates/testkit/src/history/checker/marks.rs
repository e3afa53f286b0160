//! The look ahead: a mark that is still to be read must not be lost.
//!
//! Without it a wrong guess (that a write of unknown outcome took effect here) is found out only
//! when the one who read that write comes, after any number of other guesses.

use super::super::event::Outcome;
use super::super::model::Model;
use super::Op;
use super::wgl::Placed;
use std::collections::HashMap;

/// For each mark that somebody reads, who reads and who writes it and is not placed.
pub(super) struct Marks<M: Model> {
    /// Numbers of the marks.
    numbers: HashMap<M::Mark, usize>,
    readers_left: Vec<usize>,
    writers_left: Vec<usize>,
    /// The mark that each answered operation reads.
    answered_reads: Vec<Option<usize>>,
    answered_writes: Vec<Option<usize>>,
    unknown_writes: Vec<Option<usize>>,
}

impl<M: Model> Marks<M> {
    /// The marks that these operations read.
    pub(super) fn new(answered: &[&Op<M>]) -> Self {
        let mut numbers = HashMap::new();
        let mut readers_left = Vec::new();
        let answered_reads = answered.iter().map(|operation| {
            let Outcome::Ok(ret) = &operation.outcome else { return None };
            let mark = M::reads(&operation.op, ret)?;
            let number = *numbers.entry(mark).or_insert_with(|| {
                readers_left.push(0);
                readers_left.len() - 1
            });
            readers_left[number] += 1;
            Some(number)
        });
        let answered_reads = answered_reads.collect();
        Self {
            writers_left: vec![0; readers_left.len()],
            numbers,
            readers_left,
            answered_reads,
            answered_writes: Vec::new(),
            unknown_writes: Vec::new(),
        }
    }

    /// Counts who writes the marks.
    pub(super) fn count_writers(&mut self, answered: &[&Op<M>], unknown: &[M::Op]) {
        let number = |op: &M::Op| self.numbers.get(&M::writes(op)?).copied();
        self.answered_writes = answered.iter().map(|operation| number(&operation.op)).collect();
        self.unknown_writes = unknown.iter().map(number).collect();
        for number in self.answered_writes.iter().chain(&self.unknown_writes).flatten() {
            self.writers_left[*number] += 1;
        }
    }

    /// Whether anybody reads the mark.
    pub(super) fn is_read(&self, mark: &M::Mark) -> bool {
        self.numbers.contains_key(mark)
    }

    /// Whether a mark goes that is still to be read and can't be written again.
    pub(super) fn is_lost_between(&self, before: &M::State, after: &M::State) -> bool {
        let mark = M::mark(before);
        let Some(number) = mark.as_ref().and_then(|mark| self.numbers.get(mark)) else {
            return false;
        };
        let needed = self.readers_left[*number] > 0 && self.writers_left[*number] == 0;
        needed && M::mark(after) != mark
    }

    /// An operation is placed.
    pub(super) fn place(&mut self, placed: Placed) {
        let (reads, writes) = self.of(placed);
        if let Some(number) = reads {
            self.readers_left[number] -= 1;
        }
        if let Some(number) = writes {
            self.writers_left[number] -= 1;
        }
    }

    /// A placed operation is taken back.
    pub(super) fn take_back(&mut self, placed: Placed) {
        let (reads, writes) = self.of(placed);
        if let Some(number) = reads {
            self.readers_left[number] += 1;
        }
        if let Some(number) = writes {
            self.writers_left[number] += 1;
        }
    }

    /// What an operation reads and writes; nothing when there is no look ahead.
    fn of(&self, placed: Placed) -> (Option<usize>, Option<usize>) {
        let at = |marks: &Vec<Option<usize>>, index: usize| marks.get(index).copied().flatten();
        match placed {
            Placed::Answered(index) => {
                (at(&self.answered_reads, index), at(&self.answered_writes, index))
            }
            Placed::Unknown(index) => (None, at(&self.unknown_writes, index)),
        }
    }
}
