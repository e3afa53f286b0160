//! What the clients of a run with transactions were told.

use super::super::course::Course;
use super::super::journal::Journal;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Inner {
    acknowledged: u64,
    unknown: u64,
    refused: u64,
    repeated: u64,
    reads: u64,
    told: bool,
}

/// The books of one run.
pub(super) struct Books {
    pub(super) journal: Journal,
    pub(super) course: Course,
    inner: Mutex<Inner>,
}

impl Books {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal, course: Course::default(), inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn acknowledged(&self) {
        self.lock().acknowledged += 1;
    }

    pub(super) fn unknown(&self) {
        self.lock().unknown += 1;
    }

    pub(super) fn refused(&self) {
        self.lock().refused += 1;
    }

    pub(super) fn repeated(&self) {
        self.lock().repeated += 1;
    }

    pub(super) fn read(&self) {
        self.lock().reads += 1;
    }

    /// Whether it is the first time that a node holds half of something: it will for a while.
    pub(super) fn told_once(&self) -> bool {
        !std::mem::replace(&mut self.lock().told, true)
    }

    /// Whether the counter may be at this in the end; or why not.
    pub(super) fn check(&self, count: u64) -> Result<(), String> {
        let Inner { acknowledged, unknown, .. } = *self.lock();
        match (acknowledged..=acknowledged + unknown).contains(&count) {
            true => Ok(()),
            false => Err(format!(
                "{count} transactions are counted, but {acknowledged} were acknowledged and the \
                 outcome of {unknown} is unknown"
            )),
        }
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let Inner { acknowledged, unknown, refused, repeated, reads, .. } = *self.lock();
        vec![
            ("acknowledged", acknowledged),
            ("of unknown outcome", unknown),
            ("refused", refused),
            ("answered again", repeated),
            ("read at one moment", reads),
        ]
    }
}
