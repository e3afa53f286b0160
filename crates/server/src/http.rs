//! The HTTP port: `/livez` (the process runs), `/startupz` (it is part of its cluster), `/readyz` (it can
//! serve: a linearizable read came back in time, and it is not stopping), `/metrics`, and the dashboard.

use crate::access::touches::{Touch, What};
use crate::access::{Access, Denied, Shown};
use crate::connections::{ConnectionState, Door};
use crate::dashboard::{self, Dashboard};
use crate::exposition::{self, Exposition, Scraped};
use crate::metrics::Counters;
use crate::tls;
use axum::Extension;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use quorate_consensus::Replica;
use quorate_consensus::io;
use quorate_state::{AccessAction, AccessService};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected as _;
use tower::ServiceExt as _;
use tracing_appender::non_blocking::ErrorCounter;

/// Probes and scrapers; each has a connection or two.
const CONNECTIONS_MAX: usize = 256;
/// How long a client may take for the head of its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// Bytes buffered of one request's head.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long the read behind `/readyz` may take: below the timeout of usual probes.
const READY_TIMEOUT: Duration = Duration::from_millis(900);

/// What the handlers know of the node. They answer before it is part of a cluster.
#[derive(Clone)]
pub(crate) struct Probes(Arc<Known>);

struct Known {
    /// Set once the node is part of its cluster.
    replica: Arc<OnceLock<Replica>>,
    /// When the node begins to stop.
    stopping: CancellationToken,
    counters: Arc<Counters>,
    exposition: Exposition,
    /// Set once it is known that, and how, callers are asked who they are.
    access: OnceLock<Access>,
    /// Whether they are.
    asks: bool,
    /// Names that this port is reached by, beside addresses in numbers and localhost.
    hosts: Vec<String>,
    /// Set once there are services for it to ask.
    dashboard: RwLock<Option<Arc<Dashboard>>>,
}

impl Default for Probes {
    fn default() -> Self {
        Self::new(None, false, Vec::new())
    }
}

impl Probes {
    /// Of a node that is starting; `dropped_lines` counts those of this process's log. If it `asks` callers
    /// who they are, there are no metrics before it can; if it does not, the dashboard is only for those
    /// who reach it under one of these hosts, or by an address in numbers.
    pub(crate) fn new(dropped_lines: Option<ErrorCounter>, asks: bool, hosts: Vec<String>) -> Self {
        let (replica, counters) = (Arc::<OnceLock<Replica>>::default(), Arc::default());
        let stopping = CancellationToken::new();
        let exposition = Exposition::new(Scraped {
            counters: Arc::clone(&counters),
            replica: Arc::clone(&replica),
            stopping: stopping.clone(),
            dropped_lines,
        });
        let (access, dashboard) = (OnceLock::new(), RwLock::default());
        Self(Arc::new(Known {
            replica,
            stopping,
            counters,
            exposition,
            access,
            asks,
            hosts,
            dashboard,
        }))
    }

    /// What this node counts.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    /// The node is part of its cluster.
    pub(crate) fn started(&self, replica: Replica) {
        // A node starts once, so there is no other replica in there.
        let _ = self.0.replica.set(replica);
    }

    /// How callers are asked who they are.
    pub(crate) fn asks(&self, access: Access) {
        // As above.
        drop(self.0.access.set(access));
    }

    /// There are services for the dashboard to ask.
    pub(crate) fn shows(&self, dashboard: Arc<Dashboard>) {
        *self.0.dashboard.write().unwrap_or_else(PoisonError::into_inner) = Some(dashboard);
    }

    /// The services are no more. They know this, so each would keep the other for ever, and the node's
    /// tables with it.
    pub(crate) fn shows_no_more(&self) {
        *self.0.dashboard.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn dashboard(&self) -> Option<Arc<Dashboard>> {
        self.0.dashboard.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a request is for this node by a name that no other site can have. Where callers are asked
    /// who they are that is nothing to look at: what they show is kept by the browser for one name alone.
    pub(crate) fn is_own_host(&self, host: Option<&HeaderValue>) -> bool {
        let Some(host) = host.and_then(|host| host.to_str().ok()) else { return self.0.asks };
        let name = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        self.0.asks
            || name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.0.hosts.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The node begins to stop.
    pub(crate) fn stopping(&self) {
        self.0.stopping.cancel();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled()
    }

    /// Resolves when the node begins to stop.
    pub(crate) async fn stopped(&self) {
        self.0.stopping.cancelled().await;
    }

    /// Whether a caller may see how the node is, beyond whether it lives: names are told there.
    fn may_look(
        &self,
        headers: &HeaderMap,
        connection: &ConnectionState,
    ) -> Result<(), Box<Response>> {
        if !self.0.asks {
            return Ok(());
        }
        let Some(access) = self.0.access.get() else {
            let why = "the node is starting, and can't ask yet who you are\n";
            return Err(Box::new((StatusCode::SERVICE_UNAVAILABLE, why).into_response()));
        };
        let touch = Touch {
            service: AccessService::Cluster,
            action: AccessAction::Read,
            namespace: "",
            what: What::All,
        };
        let (status, why) = match access.admit(&Shown::of(headers, Some(connection))) {
            Ok(grant) if grant.allows(&touch) => return Ok(()),
            Ok(grant) => {
                self.0.counters.denials.forbidden.count();
                let name = &grant.name;
                let why =
                    format!("{name} may not see this; it needs a role with read for cluster\n");
                (StatusCode::FORBIDDEN, why)
            }
            Err(Denied::Unknown(why)) => {
                self.0.counters.denials.unauthenticated.count();
                (StatusCode::UNAUTHORIZED, format!("{why}\n"))
            }
            Err(Denied::Forbidden(why) | Denied::Unable(why)) => {
                (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
            }
        };
        Err(Box::new((status, [(header::WWW_AUTHENTICATE, "Bearer")], why).into_response()))
    }

    /// Whether the node can serve now, as far as that can be told `within` this time; the error
    /// says why not.
    pub(crate) async fn ready(&self, within: Duration) -> Result<(), String> {
        if self.is_stopping() {
            return Err("the node is stopping".to_owned());
        }
        match self.0.replica.get() {
            None => Err("the node is starting; its log says what it waits for".to_owned()),
            Some(replica) => match replica.read(READY_TIMEOUT.min(within)).await {
                Ok(_) => Ok(()),
                Err(failure) => Err(failure.to_string()),
            },
        }
    }
}

/// Serves until `stop`; what is under way then is finished.
pub(crate) async fn serve(
    incoming: io::Incoming,
    tls: Option<tls::Shown>,
    probes: Probes,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .route("/metrics", get(metrics))
        .merge(dashboard::router())
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "not found; there are /ui/, /livez, /readyz, /startupz and /metrics\n",
            )
        })
        .with_state(probes.clone());
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let tasks = TaskTracker::new();
    let counted = Arc::clone(&probes.counters().http);
    let mut incoming =
        Door { name: "http", max: CONNECTIONS_MAX, counted, tls, callers: None }.open(incoming);
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            accepted = incoming.next() => match accepted {
                Some(Ok(connection)) => connection,
                Some(Err(_)) => continue,
                None => break,
            },
        };
        let (builder, stop) = (builder.clone(), stop.clone());
        let (router, state) = (router.clone(), connection.connect_info());
        let service = service_fn(move |mut request: Request<Incoming>| {
            // Whose connection it is, for who is asked who he is.
            request.extensions_mut().insert(Arc::clone(&state));
            router.clone().oneshot(request)
        });
        tasks.spawn(async move {
            let mut served = pin!(builder.serve_connection(TokioIo::new(connection), service));
            let result = tokio::select! {
                result = served.as_mut() => result,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "http connection failed");
            }
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn ready(State(probes): State<Probes>) -> (StatusCode, String) {
    match probes.ready(READY_TIMEOUT).await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn started(State(probes): State<Probes>) -> (StatusCode, &'static str) {
    match probes.0.replica.get() {
        Some(_) => (StatusCode::OK, "ok\n"),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "starting; the node's log says what it waits for\n")
        }
    }
}

async fn metrics(
    State(probes): State<Probes>,
    Extension(connection): Extension<Arc<ConnectionState>>,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = probes.may_look(&headers, &connection) {
        return *refusal;
    }
    // It reads tables and files.
    let text = tokio::task::spawn_blocking(move || probes.0.exposition.text()).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
        Err(panic) => {
            tracing::error!(%panic, "no page of metrics could be made");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use quorate_consensus::io::Connection;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(request: &[u8], probes: Probes) -> String {
        let (near, mut far) = tokio::io::duplex(4096);
        let incoming = futures::stream::iter([Ok(Connection::new(near))]).boxed();
        let serving = tokio::spawn(serve(incoming, None, probes, CancellationToken::new()));
        far.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        serving.await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(path: &str) -> Vec<u8> {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn a_starting_or_stopping_node_lives_but_is_not_ready() {
        let probes = Probes::default();
        assert!(ask(&get("/livez"), probes.clone()).await.starts_with("HTTP/1.1 200"));
        let answer = ask(&get("/readyz"), probes.clone()).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("starting"), "{answer}");
        probes.stopping();
        let answer = ask(&get("/readyz"), probes.clone()).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("stopping"), "{answer}");
        assert!(ask(&get("/etc/passwd"), probes).await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn garbage_is_answered_or_closed_and_nothing_more() {
        for garbage in [
            &b"\x00\xff\xfe garbage \r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[b'A'; 100_000],
        ] {
            let (near, mut far) = tokio::io::duplex(256 << 10);
            let incoming = futures::stream::iter([Ok(Connection::new(near))]).boxed();
            let serving =
                tokio::spawn(serve(incoming, None, Probes::default(), CancellationToken::new()));
            far.write_all(garbage).await.unwrap();
            far.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = far.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
            serving.await.expect("the server did not panic");
        }
    }
}
