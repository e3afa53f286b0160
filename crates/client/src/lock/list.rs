//! `lock list`: the locks there are.

use super::{LockState, Locks};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use crate::paged::paged;
use bytes::Bytes;
use futures::Stream;
use quorate_proto::v1::{KeySelector, LockListRequest, key_selector::Select};

/// A list of locks to be asked for.
#[derive(Clone, Debug)]
#[must_use = "a request is sent when its stream is polled"]
pub struct LockList {
    locks: Locks,
    pattern: Bytes,
    options: CallOptions,
}

impl LockList {
    pub(super) fn new(locks: Locks, pattern: &[u8]) -> Self {
        let pattern = Bytes::copy_from_slice(pattern);
        Self { locks, pattern, options: CallOptions::default() }
    }

    /// The locks, in the order of their names; page after page, each as it is then.
    pub fn stream(self) -> impl Stream<Item = Result<LockState, Error>> + Send + use<> {
        paged(move |cursor| {
            let list = self.clone();
            async move { list.page(cursor).await }
        })
    }

    async fn page(&self, cursor: String) -> Result<(Vec<LockState>, String), Error> {
        let plan = self.locks.inner.plan("lock list", Effect::Read, &self.options);
        let request = || LockListRequest {
            namespace: self.locks.namespace.to_string(),
            selector: Some(KeySelector { select: Some(Select::Pattern(self.pattern.clone())) }),
            cursor: cursor.clone(),
            ..Default::default()
        };
        let answer = self.locks.inner.read(&plan, request).await?;
        Ok((answer.locks.into_iter().map(LockState::from).collect(), answer.cursor))
    }
}
