//! The sessions of a cluster, for those who look after it.

use crate::Error;
use crate::call::Effect;
use crate::client::{CallOptions, Inner};
use crate::paged::paged;
use futures::Stream;
use quorate_proto::v1::{CloseRequest, ListSessionsRequest, SessionEntry};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Sessions, of this client and of others. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its id; larger than that of every session opened before.
    pub id: u64,
    /// How long it lives without a keep-alive.
    pub ttl: Duration,
    /// Locks it holds or waits for.
    pub locks: u64,
    /// Keys that end with it.
    pub keys: u64,
}

impl From<SessionEntry> for SessionInfo {
    fn from(entry: SessionEntry) -> Self {
        let SessionEntry { session_id, ttl_ms, locks, keys } = entry;
        Self { id: session_id, ttl: Duration::from_millis(ttl_ms), locks, keys }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(crate) fn new(inner: Arc<Inner>, namespace: Arc<str>) -> Self {
        Self { inner, namespace }
    }

    /// All open sessions, oldest first; page after page, each as it is then.
    pub fn list(&self) -> impl Stream<Item = Result<SessionInfo, Error>> + Send + use<> {
        let sessions = self.clone();
        paged(move |after| {
            let sessions = sessions.clone();
            async move { sessions.page(after).await }
        })
    }

    /// Ends a session: the locks it holds pass on, and its keys are deleted. Whoever it belongs to
    /// learns of it with its next request. Answers whether it was open.
    ///
    /// # Errors
    /// As a mutation. Doing it again does no harm.
    pub async fn close(&self, id: u64) -> Result<bool, Error> {
        let plan = self.inner.plan("session close", Effect::Read, &CallOptions::default());
        let request = || CloseRequest { session_id: id, namespace: self.namespace.to_string() };
        Ok(self.inner.read(&plan, request).await?.closed)
    }

    async fn page(&self, after: u64) -> Result<(Vec<SessionInfo>, u64), Error> {
        let plan = self.inner.plan("session list", Effect::Read, &CallOptions::default());
        let request = || ListSessionsRequest {
            namespace: self.namespace.to_string(),
            after_session_id: after,
            ..Default::default()
        };
        let answer = self.inner.read(&plan, request).await?;
        let last = answer.sessions.last().map(|session| session.session_id);
        let page = answer.sessions.into_iter().map(SessionInfo::from).collect();
        Ok((page, last.filter(|_| answer.more).unwrap_or(0)))
    }
}
