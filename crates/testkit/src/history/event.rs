//! What a history is made of.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// How a call ended, as its caller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome<R> {
    /// It was answered. A rejection that tells something about the state (a condition that did not
    /// hold) is an answer as well.
    Ok(R),
    /// It certainly had no effect and never will.
    Failed,
    /// It may have had an effect, may have one at any later time, or never.
    Unknown,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation<O, R> {
    /// Who called. Calls of one client may overlap; the checker reads only the order of events.
    pub client: u64,
    /// The part of the state it touches. Operations on different keys are independent.
    pub key: String,
    /// What was asked.
    pub op: O,
    /// Position of the invocation among all events of the history.
    pub invoked: u64,
    /// Position of the return; `None` when no answer was seen before the history was taken.
    pub returned: Option<u64>,
    /// What was answered.
    pub outcome: Outcome<R>,
}

impl<O: fmt::Debug, R: fmt::Debug> fmt::Display for Operation<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:>6} .. ", self.invoked)?;
        match self.returned {
            Some(returned) => write!(f, "{returned:>6}]")?,
            None => write!(f, "      ]")?,
        }
        write!(f, " client {:<3} {:?} -> ", self.client, self.op)?;
        match &self.outcome {
            Outcome::Ok(ret) => write!(f, "{ret:?}"),
            Outcome::Failed => f.write_str("failed, not applied"),
            Outcome::Unknown => f.write_str("unknown"),
        }
    }
}

/// Operations whose events are in one total order. Built by a recorder or read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<O, R> {
    operations: Vec<Operation<O, R>>,
}

impl<O, R> History<O, R> {
    /// Takes operations in any order.
    ///
    /// # Errors
    /// When two events have the same position, an operation returns before it is invoked, or an
    /// answered operation has no position of return.
    pub fn new(mut operations: Vec<Operation<O, R>>) -> Result<Self> {
        let mut positions = HashSet::with_capacity(operations.len() * 2);
        for operation in &operations {
            let invoked = operation.invoked;
            ensure!(
                positions.insert(invoked),
                "two events of the history are at position {invoked}"
            );
            if let Some(returned) = operation.returned {
                ensure!(
                    positions.insert(returned),
                    "two events of the history are at position {returned}"
                );
                ensure!(
                    invoked < returned,
                    "the operation invoked at {invoked} returned before, at {returned}"
                );
            } else {
                let answered = matches!(operation.outcome, Outcome::Ok(_));
                ensure!(
                    !answered,
                    "the operation invoked at {invoked} was answered but never returned"
                );
            }
        }
        operations.sort_unstable_by_key(|operation| operation.invoked);
        Ok(Self { operations })
    }

    /// All operations, by invocation.
    pub fn operations(&self) -> &[Operation<O, R>] {
        &self.operations
    }

    /// How many operations have each kind of outcome: (ok, failed, unknown). A test asserts on
    /// it that its workload did something before it trusts a verdict.
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for operation in &self.operations {
            match operation.outcome {
                Outcome::Ok(_) => counts.0 += 1,
                Outcome::Failed => counts.1 += 1,
                Outcome::Unknown => counts.2 += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(invoked: u64, returned: Option<u64>, outcome: Outcome<()>) -> Operation<(), ()> {
        Operation { client: 1, key: String::new(), op: (), invoked, returned, outcome }
    }

    #[test]
    fn refuses_what_cannot_have_happened() {
        assert!(History::new(vec![op(1, Some(2), Outcome::Ok(()))]).is_ok());
        assert!(History::new(vec![op(2, Some(1), Outcome::Ok(()))]).is_err());
        assert!(History::new(vec![op(1, None, Outcome::Ok(()))]).is_err());
        let same = vec![op(1, Some(3), Outcome::Ok(())), op(3, None, Outcome::Unknown)];
        assert!(History::new(same).is_err());
    }

    #[test]
    fn counts_outcomes() {
        let history = History::new(vec![
            op(1, Some(2), Outcome::Ok(())),
            op(3, Some(4), Outcome::Failed),
            op(5, None, Outcome::Unknown),
            op(6, Some(7), Outcome::Unknown),
        ]);
        assert_eq!(history.unwrap().counts(), (1, 1, 2));
    }
}
