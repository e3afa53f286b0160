//! What a check found, in words.

use super::super::event::Operation;
use std::fmt;

/// How many operations of the part that fits are printed.
const PREFIX_SHOWN: usize = 12;
/// How many concurrent operations are printed.
const CONCURRENT_SHOWN: usize = 24;

/// What a check found.
#[derive(Clone, Debug)]
pub enum Verdict<O, R> {
    /// An order that explains every answer exists.
    Linearizable {
        /// How many transitions of the model were tried.
        steps: u64,
    },
    /// No order does.
    Violation(Box<Violation<O, R>>),
    /// A bound was met first.
    Undecided(Box<Undecided<O, R>>),
}

impl<O, R> Verdict<O, R> {
    /// Whether it is [`Verdict::Linearizable`].
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Self::Linearizable { .. })
    }

    /// Whether it is [`Verdict::Violation`].
    pub fn is_violation(&self) -> bool {
        matches!(self, Self::Violation(_))
    }
}

/// The search met a bound. Tests count it as a failure: histories that are linearizable are mostly
/// decided in few steps, so it is likely a violation that could not be proved.
#[derive(Clone, Debug)]
pub struct Undecided<O, R> {
    /// Which bound.
    pub reason: String,
    /// The obstacle that the search had not passed until then.
    pub furthest: Violation<O, R>,
}

impl<O: fmt::Debug, R: fmt::Debug> fmt::Display for Undecided<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, furthest } = self;
        let key = &furthest.key;
        writeln!(f, "could not decide whether key {key:?} is linearizable: {reason}")?;
        writeln!(f, "the search came this far:")?;
        furthest.explain(f)
    }
}

/// Why a history is not linearizable.
#[derive(Clone, Debug)]
pub struct Violation<O, R> {
    /// The key whose operations can't be ordered.
    pub key: String,
    /// An order of operations that explains every answer up to the one that can't be explained:
    /// the furthest that the search came.
    pub prefix: Vec<Operation<O, R>>,
    /// The state after it.
    pub state: String,
    /// The operation whose answer does not fit there, nor in any other order.
    pub misfit: Operation<O, R>,
    /// What else was under way when it returned and is not in the prefix.
    pub concurrent: Vec<Operation<O, R>>,
}

impl<O: fmt::Debug, R: fmt::Debug> fmt::Display for Violation<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "key {:?} is not linearizable", self.key)?;
        self.explain(f)
    }
}

impl<O: fmt::Debug, R: fmt::Debug> Violation<O, R> {
    fn explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = self.prefix.len().saturating_sub(PREFIX_SHOWN);
        writeln!(
            f,
            "{} operations can be ordered; the last of them, in order:",
            self.prefix.len()
        )?;
        for operation in &self.prefix[hidden..] {
            writeln!(f, "    {operation}")?;
        }
        writeln!(f, "the state is then")?;
        writeln!(f, "    {}", self.state)?;
        writeln!(
            f,
            "and this answer fits neither there nor after any other order that was tried:"
        )?;
        writeln!(f, "    {}", self.misfit)?;
        write!(f, "not placed either, and under way when it returned: ")?;
        if self.concurrent.is_empty() {
            return f.write_str("nothing");
        }
        for operation in self.concurrent.iter().take(CONCURRENT_SHOWN) {
            write!(f, "\n    {operation}")?;
        }
        match self.concurrent.len().saturating_sub(CONCURRENT_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n    and {more} more"),
        }
    }
}
