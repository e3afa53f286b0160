//! What the old cluster gave out and acknowledged, and what was saved of it.

use super::super::course::Course;
use super::super::journal::Journal;
use quorate_client::LockGuard;
use quorate_state::{LogPosition, StoredMembership};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a backup holds.
pub(super) struct Saved {
    pub(super) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) applied: Option<LogPosition>,
    pub(super) membership: StoredMembership,
    /// What the counter was at least when it began.
    pub(super) count_min: u64,
}

/// The highest numbers that anybody was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    pub(super) token: u64,
    pub(super) revision: u64,
    pub(super) job: u64,
}

#[derive(Default)]
struct Inner {
    numbers: Numbers,
    granted: u64,
    granted_since: u64,
    acknowledged: u64,
    unknown: u64,
    guard: Option<LockGuard>,
    saved: Option<Arc<Saved>>,
    asked: u64,
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

    pub(super) fn granted(&self, guard: &LockGuard, revision: u64) {
        let mut inner = self.lock();
        inner.granted += 1;
        inner.granted_since += u64::from(inner.saved.is_some());
        inner.numbers.token = inner.numbers.token.max(guard.fencing_token);
        inner.numbers.revision = inner.numbers.revision.max(revision);
        inner.guard = Some(guard.clone());
    }

    pub(super) fn counted(&self, revision: u64) {
        let mut inner = self.lock();
        inner.acknowledged += 1;
        inner.numbers.revision = inner.numbers.revision.max(revision);
    }

    pub(super) fn not_counted_for_sure(&self) {
        self.lock().unknown += 1;
    }

    pub(super) fn pushed(&self, job: u64, revision: u64) {
        let mut inner = self.lock();
        inner.numbers.job = inner.numbers.job.max(job);
        inner.numbers.revision = inner.numbers.revision.max(revision);
    }

    /// How many were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.lock().acknowledged
    }

    pub(super) fn save(&self, saved: Saved) {
        self.lock().saved = Some(Arc::new(saved));
    }

    pub(super) fn saved(&self) -> Option<Arc<Saved>> {
        self.lock().saved.clone()
    }

    pub(super) fn numbers(&self) -> Numbers {
        self.lock().numbers
    }

    /// The newest lock of the old cluster.
    pub(super) fn guard(&self) -> Option<LockGuard> {
        self.lock().guard.clone()
    }

    /// What the counter may be at in the new cluster.
    pub(super) fn bounds(&self) -> (u64, u64) {
        let inner = self.lock();
        let least = inner.saved.as_ref().map_or(0, |saved| saved.count_min);
        (least, inner.acknowledged + inner.unknown)
    }

    /// Something was asked of the new cluster, and held against what is known of the old one.
    pub(super) fn asked(&self) {
        self.lock().asked += 1;
    }

    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = self.lock();
        let rows = inner.saved.as_ref().map_or(0, |saved| saved.rows.len() as u64);
        vec![
            ("locks granted", inner.granted),
            ("of them since the backup", inner.granted_since),
            ("acknowledged", inner.acknowledged),
            ("rows saved", rows),
            ("asked of the new cluster", inner.asked),
        ]
    }
}
