//! Locks over any adapter.

use super::{Answer, Broker};
use crate::Error;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The lease of a lock that is taken through [`Lock`].
const TTL: Duration = Duration::from_secs(30);

/// A lock that is held, and renewed until this is dropped; dropping it gives it back in the
/// background, as well as that can be done.
pub trait HeldLock: fmt::Debug + Send + Sync {
    /// The lock's name.
    fn name(&self) -> &str;

    /// Larger than that of every earlier holder, whatever has failed meanwhile.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where that can't be promised.
    fn fencing_token(&self) -> Result<u64, Error>;

    /// Whether it may be another's by now.
    fn is_lost(&self) -> bool;

    /// Resolves when it may be another's: its lease ran out, by this process's own clock, or it was
    /// told so. Nothing is lost when the future is dropped.
    fn lost(&self) -> BoxFuture<'_, ()>;

    /// Gives it back; answers whether it was still held.
    fn release(self: Box<Self>) -> Answer<'static, bool>;

    /// Stops renewing it, without giving it back: it is held until its ttl is over.
    fn leave(self: Box<Self>);
}

/// A lock as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockState {
    /// Whether somebody holds it.
    pub held: bool,
    /// How many wait for it, if that is known.
    pub waiting: Option<u64>,
}

/// Takes locks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lock {
    broker: Arc<dyn Broker>,
}

impl Lock {
    /// Over this adapter.
    #[must_use]
    pub fn new(broker: Arc<dyn Broker>) -> Self {
        Self { broker }
    }

    /// Takes a lock, waiting up to `wait` for it, with a lease of 30 s that is renewed by itself.
    ///
    /// # Errors
    /// [`Error::NotAcquired`], with the word `timeout` in its text, when the wait is over; otherwise
    /// those of [`Broker::lock_acquire`].
    pub async fn acquire(&self, name: &str, wait: Duration) -> Result<Box<dyn HeldLock>, Error> {
        self.acquire_for(name, TTL, wait).await
    }

    /// As [`Lock::acquire`], with a lease of another length.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire_for(
        &self,
        name: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Box<dyn HeldLock>, Error> {
        self.broker.lock_acquire(name, ttl, wait).await
    }

    /// Takes a lock now, or answers none when it is another's.
    ///
    /// # Errors
    /// Those of [`Broker::lock_acquire`].
    pub async fn try_acquire(&self, name: &str) -> Result<Option<Box<dyn HeldLock>>, Error> {
        match self.broker.lock_acquire(name, TTL, Duration::ZERO).await {
            Ok(lock) => Ok(Some(lock)),
            Err(Error::NotAcquired { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody holds a lock.
    ///
    /// # Errors
    /// Those of [`Broker::lock_inspect`].
    pub async fn is_held(&self, name: &str) -> Result<bool, Error> {
        Ok(self.broker.lock_inspect(name).await?.held)
    }
}
