//! What the callers of all workloads share: a call that is noted and sorted by what became of it, and
//! lists that callers write and the judge reads.

use super::book::{Book, Ended};
use super::workload::{CALL_DEADLINE, Context, Verdict};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_client::Error;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How much later than its deadline a call may return before that is a problem of its own: this
/// process may not have been given the processor, and a withdrawn request takes up to 10 s.
const OVERDUE: Duration = Duration::from_secs(15);
/// Answers that can't be, of which the text is kept.
const ODD_MAX: usize = 20;
/// Breaches that are told one by one; one defect often shows in thousands of places.
const TOLD_MAX: usize = 8;

/// What callers note. Cheap to clone.
pub(crate) struct Notes<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Notes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Notes<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Notes<T> {
    pub(crate) fn push(&self, note: T) {
        self.with(|notes| notes.push(note));
    }

    pub(crate) fn len(&self) -> usize {
        self.with(|notes| notes.len())
    }

    /// All of them; there are none afterwards.
    pub(crate) fn take(&self) -> Vec<T> {
        self.with(std::mem::take)
    }

    pub(crate) fn with<R>(&self, what: impl FnOnce(&mut Vec<T>) -> R) -> R {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Came<T> {
    Answer(T),
    /// An answer that is no success, such as a condition that did not hold. Its workload has to know
    /// whether that can be.
    Refused(Error),
    /// It certainly had no effect, and will not.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// What became of a change, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// It happened, at this revision.
    At(u64),
    /// It did not happen, and will not.
    Not,
    /// Nobody knows.
    Unknown,
}

/// How the callers of one workload make their calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Calls {
    workload: &'static str,
    book: Book,
    odd: Odd,
}

/// Answers that can't be, and how many there were.
#[derive(Clone, Default)]
pub(crate) struct Odd {
    texts: Notes<String>,
    count: Arc<AtomicU64>,
}

impl Odd {
    /// Another one.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.texts.len() < ODD_MAX {
            self.texts.push(text());
        }
    }

    /// Each is a problem.
    pub(crate) fn report(&self, verdict: &mut Verdict) {
        let count = self.count.load(Ordering::Relaxed);
        let texts = self.texts.take();
        if texts.len() as u64 != count {
            verdict
                .problems
                .push(format!("{count} answers that can't be, of which these are some"));
        }
        verdict.problems.extend(texts);
    }
}

impl Calls {
    pub(crate) fn new(workload: &'static str, context: &Context, odd: &Odd) -> Self {
        Self { workload, book: context.book.clone(), odd: odd.clone() }
    }

    /// Since the run began, by the one clock of this process.
    pub(crate) fn now(&self) -> Duration {
        self.book.elapsed()
    }

    /// Makes a call that takes [`CALL_DEADLINE`] at most, and notes it.
    pub(crate) fn make<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        call: impl IntoFuture<Output = Result<T, Error>, IntoFuture: Send + 'a>,
    ) -> BoxFuture<'a, Came<T>> {
        self.make_waiting(operation, Duration::ZERO, call)
    }

    /// Makes a call that may wait for so long besides.
    pub(crate) fn make_waiting<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        wait: Duration,
        call: impl IntoFuture<Output = Result<T, Error>, IntoFuture: Send + 'a>,
    ) -> BoxFuture<'a, Came<T>> {
        let call = call.into_future();
        async move {
            let noted = self.book.call(self.workload, operation);
            let until = CALL_DEADLINE + wait + OVERDUE;
            match tokio::time::timeout(until, call).await {
                Ok(Ok(answer)) => {
                    noted.answered();
                    Came::Answer(answer)
                }
                Ok(Err(error)) => match noted.failed(&error) {
                    Ended::Answered => Came::Refused(error),
                    Ended::Failed => Came::Failed,
                    Ended::Unknown => Came::Unknown,
                },
                Err(_) => {
                    let at = self.now();
                    self.odd.note(|| format!("{operation} did not return in {until:?}, by {at:?}"));
                    Came::Unknown
                }
            }
        }
        .boxed()
    }

    /// An answer that no call of this kind may get.
    pub(crate) fn odd(&self, operation: &str, answer: &impl std::fmt::Debug) {
        let at = self.now();
        self.odd.note(|| format!("{operation} was answered, at {at:?}: {answer:?}"));
    }
}

/// Adds what was found to a verdict, the first of it in full.
pub(crate) fn tell(verdict: &mut Verdict, breaches: Vec<String>) {
    let more = breaches.len().saturating_sub(TOLD_MAX);
    verdict.problems.extend(breaches.into_iter().take(TOLD_MAX));
    if more > 0 {
        verdict.problems.push(format!("and {more} more like these"));
    }
}
