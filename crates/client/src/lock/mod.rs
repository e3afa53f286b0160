//! Locks: taken in line, held with a fencing token, renewed in the background.

mod acquire;
mod adopt;
mod held;
mod inspect;
mod list;
mod release;
mod renew;
mod watch;

pub use acquire::Acquire;
pub use held::Lock;
pub use inspect::{Holder, LockState, Mode};
pub use list::LockList;
pub use watch::LockWatch;

use crate::Error;
use crate::client::{CallOptions, Inner};
use quorate_proto::v1;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Locks of one namespace. Cheap to clone.
///
/// ```no_run
/// # use quorate_client::{Client, Error};
/// # use std::time::Duration;
/// # async fn example(client: Client) -> Result<(), Error> {
/// let lock = client.locks().acquire("nightly-report").ttl(Duration::from_secs(10)).await?;
/// // The cluster refuses this write if the lock has passed on meanwhile, however late it comes.
/// client.kv().set("report/today", "…").guard(&lock.guard()).await?;
/// lock.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Locks {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What a mutation depends on: that a lock is held under a token. Made by [`Lock::guard`], or of a
/// token that was learnt otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockGuard {
    /// The lock, in the namespace of the mutation.
    pub name: String,
    /// What it must be held under.
    pub fencing_token: u64,
}

impl LockGuard {
    pub(crate) fn to_wire(&self) -> v1::LockGuard {
        v1::LockGuard { name: self.name.clone(), fencing_token: self.fencing_token }
    }
}

impl Locks {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self { inner, namespace }
    }

    /// Takes a lock, waiting in line for it if need be; see [`Acquire`].
    pub fn acquire(&self, name: impl Into<String>) -> Acquire {
        Acquire::new(self.clone(), name.into())
    }

    /// Takes care of a lock of which only the token is known, such as one that a transaction took
    /// ([`crate::Transaction::acquire_lock`]): renews it, and the session that holds it, and answers
    /// a [`Lock`] that goes on doing so, and gives it back when it is dropped.
    ///
    /// Whoever cares for it already is to [`Lock::leave`] it: when either gives it back, both have
    /// lost it. It is lost with its session also when that is another client's.
    ///
    /// # Errors
    /// [`Error::LockLost`] when it is not held under that token: it ran out before it was renewed,
    /// or was given back. Otherwise as a read; it may have been renewed all the same, and ends with
    /// its ttl.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn adopt(&self, name: impl Into<String>, fencing_token: u64) -> Result<Lock, Error> {
        adopt::adopt(self, name.into(), fencing_token, &CallOptions::default()).await
    }

    /// Gives back a lock of which only the token is known; answers whether it was held under it.
    /// A [`Lock`] has its own [`Lock::release`].
    ///
    /// # Errors
    /// As a mutation. Doing it again does no harm.
    pub async fn release(&self, name: &str, fencing_token: u64) -> Result<bool, Error> {
        release::release(self, name, fencing_token, &CallOptions::default()).await
    }

    /// Renews a lock of which only the token is known, and the session that holds it, once; answers
    /// how long it has now, counted from before the call. A [`Lock`] does it by itself; see
    /// [`Locks::adopt`].
    ///
    /// # Errors
    /// [`Error::LockLost`] when it is not held under that token.
    pub async fn renew(&self, name: &str, fencing_token: u64) -> Result<Duration, Error> {
        renew::renew(self, name, fencing_token, &CallOptions::default()).await
    }

    /// Takes a lock from whoever holds it; answers from how many. For operators: a holder learns of
    /// it when it renews, and its guarded writes are refused from now on.
    ///
    /// # Errors
    /// As a mutation.
    pub async fn force_release(&self, name: &str) -> Result<u64, Error> {
        release::force_release(self, name, &CallOptions::default()).await
    }

    /// Who holds a lock, and how many wait for it.
    ///
    /// # Errors
    /// As a read.
    pub async fn inspect(&self, name: &str) -> Result<LockState, Error> {
        inspect::inspect(self, name, &CallOptions::default()).await
    }

    /// The locks that are held or waited for and match a pattern; see
    /// [`crate::KeyValue::list`].
    pub fn list(&self, pattern: impl AsRef<[u8]>) -> LockList {
        LockList::new(self.clone(), pattern.as_ref())
    }

    /// Tells who holds a lock, now and whenever that changes: followers of an elected leader learn
    /// so who leads.
    ///
    /// # Errors
    /// As a read.
    pub async fn watch(&self, name: &str) -> Result<LockWatch, Error> {
        LockWatch::start(self.clone(), name.to_owned()).await
    }
}
