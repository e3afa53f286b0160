//! `lock watch`: who holds a lock, told whenever that changes.

use super::{LockState, Locks};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::failure::Failure;
use crate::incoming::Incoming;
use crate::retry;
use futures::Stream;
use quorate_proto::v1::{LockWatchRequest, LockWatchResponse};
use std::time::Duration;

/// How long going on at another node may take.
const RESUME_TIMEOUT: Duration = Duration::from_secs(60);

/// A watch over a lock. When its node fails it goes on at another one by itself, and tells the lock
/// as it is there; states that follow each other fast may be told as one.
pub struct LockWatch {
    locks: Locks,
    name: String,
    stream: Option<Box<Incoming<LockWatchResponse>>>,
    /// What was told last.
    told: Option<LockState>,
    revision: u64,
    failures: u32,
    over: bool,
}

impl std::fmt::Debug for LockWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockWatch").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LockWatch {
    pub(super) async fn start(locks: Locks, name: String) -> Result<Self, Error> {
        let mut watch =
            Self { locks, name, stream: None, told: None, revision: 0, failures: 0, over: false };
        watch.open(&CallOptions::default()).await?;
        Ok(watch)
    }

    /// The lock as it is now, the first time; later when it has passed on. None after an error.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no node could be found to go on with within a minute.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<LockState, Error>> {
        if self.over {
            return None;
        }
        let next = self.state().await;
        self.over = next.is_err();
        Some(next)
    }

    /// As a stream of what [`LockWatch::next`] answers.
    pub fn into_stream(self) -> impl Stream<Item = Result<LockState, Error>> + Send + use<> {
        futures::stream::unfold(self, |mut watch| async {
            let next = watch.next().await?;
            Some((next, watch))
        })
    }

    async fn state(&mut self) -> Result<LockState, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                let options = CallOptions { timeout: Some(RESUME_TIMEOUT), ..Default::default() };
                let pause = retry::backoff(self.failures, &self.locks.inner.engine.random);
                self.failures = self.failures.saturating_add(1);
                tokio::time::sleep(pause).await;
                self.open(&options).await?;
                continue;
            };
            match stream.message().await {
                Ok(Some(message)) => {
                    self.failures = 0;
                    if let Some(state) = self.take(message)? {
                        return Ok(state);
                    }
                }
                Ok(None) => self.stream = None,
                Err(status) => {
                    let failure = Failure::from_status("the node", &status, false);
                    if !failure.is_worth_retrying() {
                        return Err(failure.into());
                    }
                    self.stream = None;
                }
            }
        }
    }

    /// Another node may be behind the one before: what is older than what was told is passed over.
    fn take(&mut self, message: LockWatchResponse) -> Result<Option<LockState>, Error> {
        let Some(lock) = message.lock else {
            return Err(Error::bad_answer("lock watch was told of no lock".to_owned()));
        };
        if message.revision < self.revision {
            return Ok(None);
        }
        self.revision = message.revision;
        self.locks.inner.engine.seen.raise_in(&self.locks.namespace, message.revision);
        let state = LockState::from(lock);
        let tokens = |state: &LockState| -> Vec<u64> {
            state.holders.iter().map(|holder| holder.fencing_token).collect()
        };
        if self.told.as_ref().is_some_and(|told| tokens(told) == tokens(&state)) {
            return Ok(None);
        }
        self.told = Some(state.clone());
        Ok(Some(state))
    }

    async fn open(&mut self, options: &CallOptions) -> Result<(), Error> {
        let inner = &self.locks.inner;
        let plan = inner.plan("lock watch", Effect::Read, options);
        let request = LockWatchRequest {
            namespace: self.locks.namespace.to_string(),
            name: self.name.clone(),
        };
        let stream = inner.engine.open_lock_watch(&plan, request).await?;
        self.stream = Some(Box::new(stream));
        Ok(())
    }
}
