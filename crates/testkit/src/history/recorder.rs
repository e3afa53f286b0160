//! The recorder: who asked what, in which order, and what was answered.

use super::event::{History, Operation, Outcome};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A recorder refuses to grow beyond this many operations (about 0.5 GiB), because a longer
/// history could not be checked either.
pub const OPERATIONS_MAX: usize = 4_000_000;

/// Records calls from any number of threads and tasks. Cheap to clone; all clones write one
/// history.
///
/// The order is a counter, not a clock: an invocation takes its number last thing before the call
/// may begin, a return first thing after the answer. So recorded intervals are never shorter than
/// the real ones, and a violation found in them is real.
pub struct Recorder<O, R> {
    shared: Arc<Shared<O, R>>,
}

struct Shared<O, R> {
    position: AtomicU64,
    operations: Mutex<Vec<Operation<O, R>>>,
}

impl<O, R> Shared<O, R> {
    fn next_position(&self) -> u64 {
        self.position.fetch_add(1, Ordering::SeqCst)
    }

    fn operations(&self) -> MutexGuard<'_, Vec<Operation<O, R>>> {
        // Every critical section leaves the list whole, so a panic elsewhere must not hide it.
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O, R> Clone for Recorder<O, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O, R> Default for Recorder<O, R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<O, R> Recorder<O, R> {
    /// An empty history.
    pub fn new() -> Self {
        let shared = Shared { position: AtomicU64::new(0), operations: Mutex::new(Vec::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Records that `client` is about to call. Do this before the request can leave.
    ///
    /// # Panics
    /// When [`OPERATIONS_MAX`] operations were recorded.
    pub fn invoke(&self, client: u64, key: impl Into<String>, op: O) -> Invocation<O, R> {
        let key = key.into();
        let mut operations = self.shared.operations();
        let index = operations.len();
        assert!(
            index < OPERATIONS_MAX,
            "the history has {OPERATIONS_MAX} operations, which is the limit; run the workload for a shorter time"
        );
        let invoked = self.shared.next_position();
        let outcome = Outcome::Unknown;
        operations.push(Operation { client, key, op, invoked, returned: None, outcome });
        drop(operations);
        Invocation { shared: Arc::clone(&self.shared), index, ended: false }
    }
}

impl<O: Clone, R: Clone> Recorder<O, R> {
    /// Everything recorded up to now. Calls that are still under way are in it as unknown.
    pub fn history(&self) -> History<O, R> {
        let operations = self.shared.operations().clone();
        History::new(operations).expect("positions come from one counter, in the order of events")
    }
}

/// A call under way. Dropping it without an outcome (a cancelled future, a panic) records the
/// outcome as unknown, which is always right.
#[must_use = "dropping the invocation records its outcome as unknown"]
pub struct Invocation<O, R> {
    shared: Arc<Shared<O, R>>,
    index: usize,
    ended: bool,
}

impl<O, R> Invocation<O, R> {
    /// The call was answered.
    pub fn ok(self, ret: R) {
        self.end(Outcome::Ok(ret));
    }

    /// The call certainly had no effect and never will.
    pub fn failed(self) {
        self.end(Outcome::Failed);
    }

    /// The call may have had an effect, or may still have one.
    pub fn unknown(self) {
        self.end(Outcome::Unknown);
    }

    /// The call ended like this.
    pub fn end(mut self, outcome: Outcome<R>) {
        self.record(outcome);
    }

    fn record(&mut self, outcome: Outcome<R>) {
        let returned = self.shared.next_position();
        self.ended = true;
        let mut operations = self.shared.operations();
        let operation = &mut operations[self.index];
        operation.returned = Some(returned);
        operation.outcome = outcome;
    }
}

impl<O, R> Drop for Invocation<O, R> {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Outcome::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_call_and_one_under_way_are_unknown() {
        let recorder: Recorder<&str, u8> = Recorder::new();
        drop(recorder.invoke(1, "k", "dropped"));
        let under_way = recorder.invoke(2, "k", "under way");
        recorder.invoke(3, "k", "answered").ok(7);
        recorder.invoke(4, "k", "refused").failed();
        let history = recorder.history();
        under_way.ok(1);

        let seen: Vec<_> = history
            .operations()
            .iter()
            .map(|o| (o.op, o.invoked, o.returned, o.outcome.clone()))
            .collect();
        assert_eq!(
            seen,
            [
                ("dropped", 0, Some(1), Outcome::Unknown),
                ("under way", 2, None, Outcome::Unknown),
                ("answered", 3, Some(4), Outcome::Ok(7)),
                ("refused", 5, Some(6), Outcome::Failed),
            ]
        );
    }

    #[test]
    fn threads_share_one_order() {
        let recorder: Recorder<u64, u64> = Recorder::new();
        std::thread::scope(|scope| {
            for client in 0..4 {
                let recorder = recorder.clone();
                scope.spawn(move || {
                    for n in 0..500 {
                        recorder.invoke(client, "k", n).ok(n);
                    }
                });
            }
        });
        // `history` checks that no two events share a position.
        let history = recorder.history();
        assert_eq!(history.counts(), (2000, 0, 0));
        for client in 0..4 {
            let own = history.operations().iter().filter(|o| o.client == client).map(|o| o.op);
            assert!(own.eq(0..500), "calls of client {client} are out of order");
        }
    }
}
