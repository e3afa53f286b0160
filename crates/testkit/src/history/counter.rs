//! A key that is only incremented and read: repeated or lost increments show in its number.

use super::model::Model;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// A number that starts at 0. Both operations answer the number after them.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

/// What is asked of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterOp {
    /// Add this much. At the ends of the range the number stays and the call is a failure.
    Add(i64),
    /// Read it.
    Get,
}

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;
    type Ret = i64;
    /// A sum does not tell what it is the sum of.
    type Mark = Infallible;

    fn init() -> i64 {
        0
    }

    fn step(state: &i64, op: &CounterOp, ret: Option<&i64>) -> Option<i64> {
        let next = match op {
            CounterOp::Get => Some(*state),
            CounterOp::Add(by) => state.checked_add(*by),
        };
        match (next, ret) {
            (Some(next), Some(ret)) => (next == *ret).then_some(next),
            (Some(next), None) => Some(next),
            (None, Some(_)) => None,
            (None, None) => Some(*state),
        }
    }

    fn reads_only(op: &CounterOp, _ret: Option<&i64>) -> bool {
        matches!(op, CounterOp::Get | CounterOp::Add(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_and_reads() {
        assert_eq!(Counter::step(&2, &CounterOp::Add(3), Some(&5)), Some(5));
        assert_eq!(Counter::step(&2, &CounterOp::Add(3), Some(&6)), None);
        assert_eq!(Counter::step(&2, &CounterOp::Get, Some(&2)), Some(2));
        assert_eq!(Counter::step(&2, &CounterOp::Get, Some(&3)), None);
        assert_eq!(Counter::step(&2, &CounterOp::Add(-3), None), Some(-1));
    }

    #[test]
    fn an_overflow_answers_nothing_and_changes_nothing() {
        assert_eq!(Counter::step(&i64::MAX, &CounterOp::Add(1), Some(&i64::MIN)), None);
        assert_eq!(Counter::step(&i64::MAX, &CounterOp::Add(1), None), Some(i64::MAX));
    }
}
