//! How a client is set up.

use crate::Error;
use crate::call::Engine;
use crate::client::{Client, Inner};
use crate::credentials::{Credentials, Tls};
use crate::dial::{Dial, Tcp};
use crate::nodes::{self, NODES_MAX, Nodes, Routing};
use crate::pool::Pool;
use crate::random::Random;
use crate::retry::{Budget, RetryBudget};
use crate::session;
use crate::trace::{Contexts, TraceContext};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest a call may take. Far below the ten minutes for which the cluster remembers an
/// idempotency key, so that no retry comes after it was forgotten. What waits in the cluster takes
/// its wait longer: locks are waited for by a session's sequence, which is not forgotten, and a pull
/// whose key is becomes another pull; what the first was given comes again when its leases end.
pub(crate) const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Settings of a [`Client`]; see [`Client::builder`].
#[derive(Clone)]
#[must_use = "settings do nothing until `connect` is called"]
pub struct Options {
    endpoints: Vec<String>,
    namespace: String,
    request_timeout: Duration,
    attempt_timeout: Duration,
    connect_timeout: Duration,
    session_ttl: Duration,
    one_shot: bool,
    unary: bool,
    routing: Routing,
    retry_budget: RetryBudget,
    dial: Arc<dyn Dial>,
    tls: Option<Tls>,
    token: Option<String>,
    seed: Option<u64>,
    contexts: Contexts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            namespace: String::new(),
            request_timeout: Duration::from_secs(5),
            attempt_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            session_ttl: Duration::from_secs(30),
            one_shot: false,
            unary: false,
            routing: Routing::default(),
            retry_budget: RetryBudget::default(),
            dial: Arc::new(Tcp),
            tls: None,
            token: None,
            seed: None,
            contexts: Contexts::default(),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("endpoints", &self.endpoints)
            .field("namespace", &self.namespace)
            .field("request_timeout", &self.request_timeout)
            .field("attempt_timeout", &self.attempt_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("session_ttl", &self.session_ttl)
            .field("one_shot", &self.one_shot)
            .field("unary", &self.unary)
            .field("routing", &self.routing)
            .field("retry_budget", &self.retry_budget)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .field("seed", &self.seed)
            .field("contexts", &self.contexts)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// Nodes to begin with, each `host:port`; 1 to 64. One is enough if it is up; the others are
    /// learnt from it. They are asked in random order.
    pub fn endpoints<A: Into<String>>(mut self, endpoints: impl IntoIterator<Item = A>) -> Self {
        self.endpoints = endpoints.into_iter().map(Into::into).collect();
        self
    }

    /// The namespace of the handles that name none; default: the empty one.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long a call may take in all, retries included, unless it names a time itself. Default:
    /// 5 s; at most 5 min.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long one node may be silent before the request is sent to another one. Default: 1 s. It
    /// doubles, up to 8 times as long, while waiting turns out to be in vain, and so does the time for
    /// a dial: many clients that give up on a cluster with too much to do would be what keeps it so.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// How long one dial may take. Default: 1 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a session outlives its client, 1 s to 1 h. Default: 30 s.
    pub fn session_ttl(mut self, ttl: Duration) -> Self {
        self.session_ttl = ttl;
        self
    }

    /// For programs that make a call or two and end: each mutation carries an idempotency key of
    /// its own instead of a session's sequence, so no session is opened. Retries are as safe.
    pub fn one_shot(mut self, one_shot: bool) -> Self {
        self.one_shot = one_shot;
        self
    }

    /// Sends each call on its own instead of in a pipeline with the others: for comparisons, and for
    /// proxies that don't pass streams on. Default: false.
    pub fn unary(mut self, unary: bool) -> Self {
        self.unary = unary;
        self
    }

    /// Which nodes requests go to. Default: the leader.
    pub fn routing(mut self, routing: Routing) -> Self {
        self.routing = routing;
        self
    }

    /// How many retries all calls of this client may make together.
    pub fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.retry_budget = budget;
        self
    }

    /// How connections are made. Default: [`Tcp`].
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.dial = Arc::new(dial);
        self
    }

    /// Encrypts connections, and checks that nodes are who they say. Default: neither.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Shows this token with each request, as `quorate auth token create` printed it. Without
    /// [`Options::tls`] whoever is on the way can read it.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Asks this in which span each call is made, as it is made, and sends that along, for nodes that trace
    /// and for whoever consumes what is pushed or published; none: in no span. With `opentelemetry` that is
    /// what its propagator says of `Context::current()`. Default: no call is made in a span.
    pub fn trace_context(
        mut self,
        now: impl Fn() -> Option<TraceContext> + Send + Sync + 'static,
    ) -> Self {
        self.contexts = Contexts::from_fn(now);
        self
    }

    /// Makes every random choice repeatable, idempotency keys included. Only for simulations: two
    /// clients of one cluster with the same seed would take each other's requests for retries.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks the settings and makes a client. Nothing is sent, and no connection is made, until
    /// the first call. Files for TLS are read.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the reason `BAD_OPTION`, naming the setting.
    pub fn connect(self) -> Result<Client, Error> {
        self.check()?;
        let random = self.seed.map_or_else(Random::from_os, Random::seeded);
        let mut seeds = self.endpoints;
        seeds.sort();
        seeds.dedup();
        let nodes = Nodes::new(seeds, self.routing, &random);
        let credentials = self.token.as_deref().map(Credentials::token).transpose()?;
        let secure = self.tls.is_some();
        let dial: Arc<dyn Dial> = match self.tls {
            Some(tls) => Arc::new(tls.over(self.dial)?),
            None => self.dial,
        };
        let engine = Engine::new(
            Pool::new(dial, secure, credentials.unwrap_or_default(), self.connect_timeout),
            random,
            Budget::new(self.retry_budget),
            self.attempt_timeout,
            self.unary,
            nodes,
            self.contexts,
        );
        Ok(Client::new(
            Inner::new(engine, self.request_timeout, self.session_ttl, self.one_shot),
            self.namespace,
        ))
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::bad_option(message));
        if self.endpoints.is_empty() {
            return refuse("no endpoints were given; name at least one node as host:port".into());
        }
        if self.endpoints.len() > NODES_MAX {
            let count = self.endpoints.len();
            return refuse(format!("{count} endpoints were given, the limit is {NODES_MAX}"));
        }
        if let Some(bad) = self.endpoints.iter().find(|addr| !nodes::is_address(addr)) {
            return refuse(format!(
                "endpoint {bad:?} is not host:port; write it like 127.0.0.1:8811, without a scheme"
            ));
        }
        let times = [
            ("request_timeout", self.request_timeout, REQUEST_TIMEOUT_MAX),
            ("attempt_timeout", self.attempt_timeout, REQUEST_TIMEOUT_MAX),
            ("connect_timeout", self.connect_timeout, REQUEST_TIMEOUT_MAX),
        ];
        for (name, value, most) in times {
            if value.is_zero() || value > most {
                return refuse(format!(
                    "{name} is {value:?}; it must be above 0 and at most {most:?}"
                ));
            }
        }
        let (least, most) = (session::TTL_MIN, session::TTL_MAX);
        if !(least..=most).contains(&self.session_ttl) {
            let ttl = self.session_ttl;
            return refuse(format!("session_ttl is {ttl:?}; it must be {least:?} to {most:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_work_is_refused_and_named() {
        let good = || Client::builder().endpoints(["localhost:8811"]);
        assert!(good().connect().is_ok());
        let cases = [
            (Client::builder(), "no endpoints"),
            (good().endpoints(["http://localhost:8811"]), "http://localhost:8811"),
            (good().endpoints(vec!["a:1"; 65]), "65 endpoints"),
            (good().request_timeout(Duration::ZERO), "request_timeout"),
            (good().request_timeout(Duration::from_secs(301)), "request_timeout"),
            (good().session_ttl(Duration::from_millis(999)), "session_ttl"),
        ];
        for (options, named) in cases {
            let error = options.connect().expect_err("refused");
            assert_eq!(error.reason(), "BAD_OPTION");
            assert!(error.message().contains(named), "{error}");
        }
    }
}
