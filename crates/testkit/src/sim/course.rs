//! How far a run is: who is still at work, and whether anything is in the way of the clients.

use quorate_client::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long after the first write since the last fault clients may still have troubles of their own.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Inner {
    working: u64,
    closed: bool,
    audited: bool,
    recovery: Option<Duration>,
    calm_since: Option<Duration>,
    calls: Calls,
}

/// Calls that were answered, failed, and of unknown outcome.
type Calls = (usize, usize, usize);

/// The course of one run.
#[derive(Default)]
pub(super) struct Course(Mutex<Inner>);

impl Course {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client begins its work.
    pub(super) fn begins(&self) {
        self.lock().working += 1;
    }

    /// One has ended it.
    pub(super) fn is_done(&self) {
        self.lock().working -= 1;
    }

    /// How many are at work.
    pub(super) fn working(&self) -> u64 {
        self.lock().working
    }

    /// A call has ended. What refuses it for a reason of its own, as a lock that is lost, answers it.
    pub(super) fn called<T>(&self, outcome: &Result<T, Error>) {
        let (answered, failed, unknown) = &mut self.lock().calls;
        match outcome {
            Err(error) if error.may_have_been_applied() => *unknown += 1,
            Err(Error::Unavailable { .. } | Error::ResourceExhausted { .. }) => *failed += 1,
            _ => *answered += 1,
        }
    }

    pub(super) fn calls(&self) -> Calls {
        self.lock().calls
    }

    /// Whoever goes on until it is told has to end.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// What is left was looked at.
    pub(super) fn audited(&self) {
        self.lock().audited = true;
    }

    pub(super) fn is_audited(&self) -> bool {
        self.lock().audited
    }

    /// Nothing is broken from now on.
    pub(super) fn calm(&self, now: Duration) {
        self.lock().calm_since = Some(now);
    }

    pub(super) fn calm_since(&self) -> Option<Duration> {
        self.lock().calm_since
    }

    /// Whether a call that began then should have had its way.
    pub(super) fn was_calm(&self, then: Duration) -> bool {
        self.calm_since().is_some_and(|since| then > since + RECOVERED_AFTER)
    }

    /// The first write after everything was repaired took so long. A connection that lost a packet
    /// is noticed only by its keep-alives, so calm begins with that write.
    pub(super) fn recovered(&self, after: Duration, now: Duration) {
        self.lock().recovery = Some(after);
        self.calm(now);
    }

    pub(super) fn recovery(&self) -> Option<Duration> {
        self.lock().recovery
    }
}
