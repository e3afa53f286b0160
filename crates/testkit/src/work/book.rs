//! Every call of every workload: when it began and ended, and how.

use quorate_client::Error;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a call ended, as its caller knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    /// Answered; a rejection that tells something of the state is an answer.
    Answered,
    /// It certainly had no effect, and will not.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What is kept of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) workload: &'static str,
    pub(crate) operation: &'static str,
    /// Since the run began.
    pub(crate) begun: Duration,
    pub(crate) ended: Duration,
    pub(crate) how: Ended,
}

/// Shared by all workloads of a run. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Book {
    clock: Arc<dyn Fn() -> Duration + Send + Sync>,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Book {
    /// Time begins now.
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        Self::by(move || began.elapsed())
    }

    /// By a clock that says how long the run has been going on.
    pub(crate) fn by(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), records: Arc::default() }
    }

    /// How long the run has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        (self.clock)()
    }

    /// A call begins.
    pub(crate) fn call(&self, workload: &'static str, operation: &'static str) -> Call {
        Call { book: self.clone(), workload, operation, begun: self.elapsed(), how: Ended::Unknown }
    }

    /// All calls that have ended, in the order in which they did.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that has begun. One that is dropped is of unknown outcome.
pub(crate) struct Call {
    book: Book,
    workload: &'static str,
    operation: &'static str,
    begun: Duration,
    how: Ended,
}

impl Call {
    /// It was answered.
    pub(crate) fn answered(mut self) {
        self.how = Ended::Answered;
    }

    /// Sorts an error: what it says of the call's effect. `None` when it is an answer, which the
    /// workload has to understand.
    pub(crate) fn failed(mut self, error: &Error) -> Ended {
        self.how = match error {
            Error::Indeterminate { .. } | Error::NoReply { .. } => Ended::Unknown,
            Error::Unavailable { .. }
            | Error::SessionExpired { .. }
            | Error::ResourceExhausted { .. } => Ended::Failed,
            _ => Ended::Answered,
        };
        self.how
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let ended = self.book.elapsed();
        let Self { workload, operation, begun, how, .. } = *self;
        self.book.lock().push(Record { workload, operation, begun, ended, how });
    }
}
