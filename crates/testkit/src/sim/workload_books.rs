//! What the clients of a run write down together.

use super::course::Course;
use super::invariants::SLACK;
use super::journal::Journal;
use crate::history::{CounterOp, Outcome, Recorder, RegisterOp, RegisterRet};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A key with a ttl.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) key: String,
    pub(super) value: String,
    /// The ttl, counted from before the write was sent.
    pub(super) lives_until: Duration,
}

/// What is known of a number without reading it.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    acknowledged: i64,
    unknown: i64,
}

#[derive(Default)]
struct Inner {
    sums: BTreeMap<&'static str, Sum>,
    leased: Vec<String>,
}

/// The books of one run.
pub(super) struct Books {
    pub(super) registers: Recorder<RegisterOp, RegisterRet>,
    pub(super) counters: Recorder<CounterOp, i64>,
    pub(super) journal: Journal,
    pub(super) course: Course,
    inner: Mutex<Inner>,
}

impl Books {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            registers: Recorder::new(),
            counters: Recorder::new(),
            journal,
            course: Course::default(),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An increment ended like this.
    pub(super) fn counted(&self, key: &'static str, by: i64, outcome: &Outcome<i64>) {
        let mut inner = self.lock();
        let sum = inner.sums.entry(key).or_default();
        match outcome {
            Outcome::Ok(_) => sum.acknowledged += by,
            Outcome::Unknown => sum.unknown += by,
            Outcome::Failed => {}
        }
    }

    /// The number must hold every acknowledged increment once, and of the others none twice.
    pub(super) fn check_count(&self, key: &'static str, value: i64, now: Duration) {
        let Sum { acknowledged, unknown } = self.lock().sums.get(key).copied().unwrap_or_default();
        if value < acknowledged || value > acknowledged + unknown {
            self.journal.problem(
                now,
                format_args!(
                    "{key} is {value}, but {acknowledged} were acknowledged and the outcome of \
                     {unknown} more is unknown"
                ),
            );
        }
    }

    /// A key with a ttl may have been set.
    pub(super) fn leased(&self, key: &str) {
        self.lock().leased.push(key.to_owned());
    }

    /// Keys that must be gone when their ttls are over.
    pub(super) fn leases(&self) -> Vec<String> {
        self.lock().leased.clone()
    }

    /// What an acknowledged key with a ttl was found to be, in an answer that came at `now`.
    pub(super) fn check_lease(&self, lease: &Lease, found: Option<String>, now: Duration) {
        let Lease { key, value, lives_until } = lease;
        match found {
            Some(found) if found == *value => {}
            None if now + SLACK > *lives_until => {}
            found => self.journal.problem(
                now,
                format_args!(
                    "{key} is {found:?}, but lives with another value until {lives_until:?}"
                ),
            ),
        }
    }
}
