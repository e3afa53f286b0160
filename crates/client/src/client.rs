//! The client itself: what its handles share, and how a mutation gets the name that makes its
//! repetitions harmless.

use crate::call::{Effect, Engine, Plan};
use crate::failure::Failure;
use crate::lock::LockGuard;
use crate::method::Method;
use crate::options::REQUEST_TIMEOUT_MAX;
use crate::session::SessionCell;
use crate::{
    Auth, Bus, Cache, Cluster, Error, KeyValue, Locks, Options, Queue, Sessions, Transaction,
};
use bytes::Bytes;
use quorate_proto::v1::Origin;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Namespaces in which one client may change things: each has a session to keep alive.
const SESSIONS_MAX: usize = 256;
/// Bytes of a namespace's name.
const NAMESPACE_BYTES_MAX: usize = 255;
/// Bytes of an idempotency key. An empty one would be none: the call would be repeated without a
/// name, and could have its effect twice.
const IDEMPOTENCY_KEY_BYTES: std::ops::RangeInclusive<usize> = 1..=64;
/// A node is given at least this long to answer: it answers 50 ms before the deadline it is given.
const ATTEMPT_TIMEOUT_MIN: Duration = Duration::from_millis(200);
/// Sessions one call may lose before it is sent. One is bad luck; more is a cluster in trouble.
const SESSIONS_LOST_MAX: u32 = 3;
/// How long closing may wait for each session; what is left ends with its ttl.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A client of one cluster. Clones are cheap and share connections, sessions and what was learnt;
/// the background work ends when the last clone and the last handle are dropped.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    namespace: Arc<str>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("nodes", &self.nodes())
            .field("leader", &self.leader())
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Settings with their defaults; end with [`Options::connect`].
    pub fn builder() -> Options {
        Options::default()
    }

    /// Makes a client; the same as [`Options::connect`].
    ///
    /// # Errors
    /// See [`Options::connect`].
    pub fn connect(options: Options) -> Result<Self, Error> {
        options.connect()
    }

    /// Key-value, in the client's namespace.
    #[must_use]
    pub fn kv(&self) -> KeyValue {
        KeyValue::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// Key-value, in another namespace.
    #[must_use]
    pub fn kv_in(&self, namespace: impl Into<String>) -> KeyValue {
        KeyValue::new(Arc::clone(&self.inner), namespace.into().into())
    }

    /// The cache, in the client's namespace.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// The cache, in another namespace.
    #[must_use]
    pub fn cache_in(&self, namespace: impl Into<String>) -> Cache {
        Cache::new(Arc::clone(&self.inner), namespace.into().into())
    }

    /// A transaction over keys of the client's namespace; see [`Transaction`].
    pub fn txn(&self) -> Transaction {
        Transaction::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// A transaction over keys of another namespace.
    pub fn txn_in(&self, namespace: impl Into<String>) -> Transaction {
        Transaction::new(Arc::clone(&self.inner), namespace.into().into())
    }

    /// Locks, in the client's namespace.
    #[must_use]
    pub fn locks(&self) -> Locks {
        Locks::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// Locks, in another namespace.
    #[must_use]
    pub fn locks_in(&self, namespace: impl Into<String>) -> Locks {
        Locks::new(Arc::clone(&self.inner), namespace.into().into())
    }

    /// Task queues, in the client's namespace.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// Task queues, in another namespace.
    #[must_use]
    pub fn queue_in(&self, namespace: impl Into<String>) -> Queue {
        Queue::new(Arc::clone(&self.inner), namespace.into().into())
    }

    /// The message bus, in the client's namespace.
    #[must_use]
    pub fn bus(&self) -> Bus {
        Bus::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// The message bus, in another namespace.
    #[must_use]
    pub fn bus_in(&self, namespace: impl Into<String>) -> Bus {
        Bus::new(Arc::clone(&self.inner), namespace.into().into())
    }

    /// Whether its connections are encrypted, and nodes show who they are.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.inner.engine.is_encrypted()
    }

    /// Who may do what in the cluster: tokens, roles, and names in certificates.
    #[must_use]
    pub fn auth(&self) -> Auth {
        Auth::new(Arc::clone(&self.inner))
    }

    /// Sessions of the client's namespace, of this client and of others.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        Sessions::new(Arc::clone(&self.inner), Arc::clone(&self.namespace))
    }

    /// The cluster itself: status, members, leadership.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(Arc::clone(&self.inner))
    }

    /// Addresses of the nodes known so far.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.inner.engine.nodes().addresses()
    }

    /// Address of the leader, as last heard.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        self.inner.engine.nodes().leader().map(str::to_owned)
    }

    /// Ends the sessions of all namespaces now instead of a ttl after the last handle is dropped.
    /// Wait for your calls first: one that is on its way may fail as [`Error::Indeterminate`]. A
    /// later mutation opens a new session.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when a session could not be closed within 2 s; it then ends with its
    /// ttl.
    pub async fn close(&self) -> Result<(), Error> {
        let cells: Vec<_> = self.inner.cells().values().cloned().collect();
        let deadline = Instant::now() + CLOSE_DEADLINE;
        let closing = cells.iter().map(|cell| cell.close(&self.inner.engine, deadline));
        for closed in futures::future::join_all(closing).await {
            closed?;
        }
        Ok(())
    }

    pub(crate) fn new(inner: Inner, namespace: String) -> Self {
        Self { inner: Arc::new(inner), namespace: namespace.into() }
    }
}

/// How a mutation is told from its repetitions.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// By a sequence of the namespace's session.
    Session,
    /// By a key made up for it.
    Key(Bytes),
    /// Not at all.
    Anonymous,
}

/// Settings of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) identity: Option<Identity>,
    /// The lock that a mutation depends on.
    pub(crate) guard: Option<LockGuard>,
}

/// What the handles share.
pub(crate) struct Inner {
    pub(crate) engine: Arc<Engine>,
    pub(crate) request_timeout: Duration,
    session_ttl: Duration,
    /// Whether mutations have keys instead of a session, and nothing is bound to one.
    pub(crate) one_shot: bool,
    pub(crate) cache: crate::cache::Shared,
    /// By namespace. Dropped with the last handle, which ends the keep-alives.
    cells: Mutex<BTreeMap<String, Arc<SessionCell>>>,
}

impl Inner {
    pub(crate) fn new(
        engine: Engine,
        request_timeout: Duration,
        session_ttl: Duration,
        one_shot: bool,
    ) -> Self {
        let engine = Arc::new(engine);
        let cache = crate::cache::Shared::default();
        Self { engine, request_timeout, session_ttl, one_shot, cache, cells: Mutex::default() }
    }

    /// The plan of a call that begins now.
    pub(crate) fn plan(&self, what: &'static str, effect: Effect, options: &CallOptions) -> Plan {
        let timeout = options.timeout.unwrap_or(self.request_timeout).min(REQUEST_TIMEOUT_MAX);
        // What may be repeated leaves time for a second node when the first one says nothing.
        let attempt_timeout = match effect {
            Effect::Read | Effect::Once => {
                self.engine.attempt_timeout.min((timeout / 2).max(ATTEMPT_TIMEOUT_MIN))
            }
            Effect::EachTime => self.engine.attempt_timeout,
        };
        Plan { what, effect, deadline: Instant::now() + timeout, attempt_timeout, only: None }
    }

    /// Makes a call that changes nothing.
    pub(crate) async fn read<M: Method>(
        &self,
        plan: &Plan,
        request: impl FnMut() -> M,
    ) -> Result<M::Answer, Error> {
        Ok(self.engine.call(plan, request).await?)
    }

    /// Makes a call that has one effect, however often it is sent.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have its effect. Its sequence is given up: once every earlier
    /// mutation of the session is finished and a later one has arrived, the cluster refuses the
    /// dropped one. A call named by a key, or not at all, has no such end.
    pub(crate) async fn mutate<M: Method>(
        &self,
        what: &'static str,
        namespace: &str,
        options: &CallOptions,
        request: impl Fn(Origin) -> M,
    ) -> Result<M::Answer, Error> {
        self.mutate_waiting(what, namespace, options, Duration::ZERO, request).await
    }

    /// As [`Inner::mutate`], for what may be answered so much later than anything else.
    pub(crate) async fn mutate_waiting<M: Method>(
        &self,
        what: &'static str,
        namespace: &str,
        options: &CallOptions,
        wait: Duration,
        request: impl Fn(Origin) -> M,
    ) -> Result<M::Answer, Error> {
        let guard = options.guard.as_ref().map(LockGuard::to_wire);
        let request = |origin: Origin| request(Origin { guard: guard.clone(), ..origin });
        let by_client = || match self.one_shot {
            true => Identity::Key(self.engine.random.key().to_vec().into()),
            false => Identity::Session,
        };
        match options.identity.clone().unwrap_or_else(by_client) {
            Identity::Session => {
                let plan = self.plan(what, Effect::Once, options);
                let until_sent = plan.deadline;
                self.mutate_in_session(&plan.waiting(wait), until_sent, namespace, request).await
            }
            Identity::Key(key) => {
                if !IDEMPOTENCY_KEY_BYTES.contains(&key.len()) {
                    return Err(Error::InvalidArgument {
                        reason: "IDEMPOTENCY_KEY_LENGTH".to_owned(),
                        message: format!(
                            "the idempotency key of this {what} has {} bytes; it must have 1 to 64",
                            key.len()
                        ),
                    });
                }
                let plan = self.plan(what, Effect::Once, options).waiting(wait);
                let origin = Origin { idempotency_key: key, ..Origin::default() };
                Ok(self.engine.call(&plan, || request(origin.clone())).await?)
            }
            Identity::Anonymous => {
                let plan = self.plan(what, Effect::EachTime, options).waiting(wait);
                Ok(self.engine.call(&plan, || request(Origin::default())).await?)
            }
        }
    }

    async fn mutate_in_session<M: Method>(
        &self,
        plan: &Plan,
        until_sent: Instant,
        namespace: &str,
        request: impl Fn(Origin) -> M,
    ) -> Result<M::Answer, Error> {
        let cell = self.cell(namespace)?;
        let mut sessions_lost = 0;
        loop {
            let ticket = cell.ticket(&self.engine, plan.what, until_sent).await?;
            let answer = self.engine.call(plan, || request(ticket.origin())).await;
            let failure: Failure = match answer {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !failure.is_session_lost() {
                return Err(failure.into());
            }
            ticket.session_is_lost();
            sessions_lost += 1;
            // Sent again under a new session, a request that had its effect would have it twice.
            if failure.maybe_applied || sessions_lost >= SESSIONS_LOST_MAX {
                return Err(failure.into());
            }
        }
    }

    pub(crate) fn cell(&self, namespace: &str) -> Result<Arc<SessionCell>, Error> {
        let mut cells = self.cells();
        if let Some(cell) = cells.get(namespace) {
            return Ok(Arc::clone(cell));
        }
        if namespace.len() > NAMESPACE_BYTES_MAX {
            return Err(Error::InvalidArgument {
                reason: "NAMESPACE_TOO_LONG".to_owned(),
                message: format!(
                    "the namespace has {} bytes, the limit is {NAMESPACE_BYTES_MAX}",
                    namespace.len()
                ),
            });
        }
        if cells.len() >= SESSIONS_MAX {
            return Err(Error::ResourceExhausted {
                reason: "TOO_MANY_NAMESPACES".to_owned(),
                message: format!(
                    "this client has sessions in {SESSIONS_MAX} namespaces, which is the limit; \
                     use another client, or idempotency keys"
                ),
            });
        }
        let cell = Arc::new(SessionCell::new(namespace.to_owned(), self.session_ttl));
        cells.insert(namespace.to_owned(), Arc::clone(&cell));
        Ok(cell)
    }

    fn cells(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<SessionCell>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
