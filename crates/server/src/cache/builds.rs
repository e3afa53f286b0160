//! Who on this node waits for a value to be built.
//!
//! A waiter is there before it looks, so that it misses nothing; woken, it looks again. Only why a
//! build failed stands in no table: that comes with the event, and who misses the event builds the
//! value itself.
//!
//! Of those who miss the same key one at a time asks for the task: the others would be told that it
//! is under way, and each asking is an entry in the log.

use quorate_state::{BuildEnd, BuildLease};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedMutexGuard};

type Key = (String, bytes::Bytes);

/// The right to ask for the task, until it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// Everybody who waits.
#[derive(Default)]
pub(crate) struct Builds(Mutex<BTreeMap<Key, Waiting>>);

#[derive(Default)]
struct Waiting {
    turn: Arc<tokio::sync::Mutex<()>>,
    waiters: Vec<Arc<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    woken: Notify,
    /// Why builds failed since it was asked last: the newest.
    failed: Mutex<Option<(BuildLease, String)>>,
}

/// Somebody who waits, until it is dropped.
pub(crate) struct Waiter {
    builds: Arc<Builds>,
    key: Key,
    shared: Arc<Shared>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Builds {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on news of the key wakes the waiter.
    pub(crate) fn wait(self: &Arc<Self>, namespace: &str, key: &bytes::Bytes) -> Waiter {
        let shared = Arc::<Shared>::default();
        let key = (namespace.to_owned(), key.clone());
        let mut builds = self.lock();
        let waiting = builds.entry(key.clone()).or_default();
        waiting.waiters.push(Arc::clone(&shared));
        let turn = Arc::clone(&waiting.turn);
        drop(builds);
        Waiter { builds: Arc::clone(self), key, shared, turn }
    }

    /// A key has another value, or none.
    pub(super) fn changed(&self, namespace: &str, key: &bytes::Bytes) {
        self.wake(namespace, key, None);
    }

    /// A build is over.
    pub(super) fn ended(
        &self,
        namespace: &str,
        key: &bytes::Bytes,
        lease: BuildLease,
        end: &BuildEnd,
    ) {
        let failed = match end {
            BuildEnd::Failed(why) => Some((lease, why)),
            BuildEnd::Filled | BuildEnd::GivenUp | BuildEnd::Lapsed | BuildEnd::Revoked => None,
        };
        self.wake(namespace, key, failed);
    }

    fn wake(&self, namespace: &str, key: &bytes::Bytes, failed: Option<(BuildLease, &String)>) {
        let builds = self.lock();
        if builds.is_empty() {
            return;
        }
        let Some(waiting) = builds.get(&(namespace.to_owned(), key.clone())) else { return };
        for waiter in &waiting.waiters {
            if let Some((lease, why)) = failed {
                let mut told = waiter.failed.lock().unwrap_or_else(PoisonError::into_inner);
                *told = Some((lease, why.clone()));
            }
            waiter.woken.notify_one();
        }
    }

    /// Everybody has to look for himself.
    pub(super) fn resync(&self) {
        for waiting in self.lock().values() {
            waiting.waiters.iter().for_each(|waiter| waiter.woken.notify_one());
        }
    }

    /// Keys that are waited for. For tests.
    #[cfg(test)]
    fn keys(&self) -> usize {
        self.lock().len()
    }
}

impl Waiter {
    /// Waits for news.
    ///
    /// # Cancel safety
    /// News is not lost when the future is dropped before it resolves.
    pub(crate) async fn news(&self) {
        self.shared.woken.notified().await;
    }

    /// Why this build, or a later one, failed since it was asked last.
    pub(crate) fn failed(&self, since: BuildLease) -> Option<String> {
        let told = self.shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        told.filter(|(lease, _)| *lease >= since).map(|(_, why)| why)
    }

    /// Waits for the right to ask for the task.
    pub(crate) async fn turn(&self) -> Turn {
        Arc::clone(&self.turn).lock_owned().await
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut builds = self.builds.lock();
        if let Some(waiting) = builds.get_mut(&self.key) {
            waiting.waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.shared));
            if waiting.waiters.is_empty() {
                builds.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn waiters_hear_of_their_key_and_leave_nothing_behind() {
        let builds = Arc::<Builds>::default();
        let key = bytes::Bytes::from_static(b"k");
        let (one, two) = (builds.wait("", &key), builds.wait("", &key));
        let other = builds.wait("n", &key);
        builds.changed("", &key);
        one.news().await;
        two.news().await;
        assert!(other.news().now_or_never().is_none());
        assert_eq!(one.failed(BuildLease(1)), None);

        builds.ended("", &key, BuildLease(3), &BuildEnd::Failed("no".to_owned()));
        assert_eq!(one.failed(BuildLease(3)), Some("no".to_owned()));
        assert_eq!(one.failed(BuildLease(3)), None, "it is told once");
        assert_eq!(two.failed(BuildLease(4)), None, "it is of an older build");
        builds.resync();
        other.news().await;

        let turn = one.turn().await;
        assert!(two.turn().now_or_never().is_none());
        assert!(other.turn().now_or_never().is_some());
        drop(turn);
        assert!(two.turn().now_or_never().is_some());
        drop((one, other));
        assert_eq!(builds.keys(), 1);
        drop(two);
        assert_eq!(builds.keys(), 0);
    }
}
