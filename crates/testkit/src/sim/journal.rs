//! What happened, line by line in the order of the run: what two runs of one seed must have alike.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The lines of one run. Clones write the same journal.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    lines: Vec<String>,
    problems: Vec<String>,
}

impl Journal {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, at: Duration, what: fmt::Arguments<'_>) {
        self.lock().lines.push(format!("{at:>12.3?} {what}"));
    }

    /// Something that must not be.
    pub(super) fn problem(&self, at: Duration, what: fmt::Arguments<'_>) {
        self.write(at, format_args!("PROBLEM: {what}"));
        self.lock().problems.push(format!("at {at:.3?}: {what}"));
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }

    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lock().lines.hash(&mut hasher);
        hasher.finish()
    }
}
