//! The HTTP port: `/livez` (the process runs) and `/readyz` (it can serve: a linearizable read came
//! back in time, and it is not stopping).

use crate::connections;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use futures::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use quorate_consensus::Replica;
use quorate_consensus::io::Incoming;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
#[derive(Clone, Default)]
pub(crate) struct Probes(Arc<Known>);

#[derive(Default)]
struct Known {
    /// Set once the node is part of its cluster.
    replica: OnceLock<Replica>,
    /// Set when the node begins to stop.
    stopping: AtomicBool,
}

impl Probes {
    /// The node is part of its cluster.
    pub(crate) fn started(&self, replica: Replica) {
        // A node starts once, so there is no other replica in there.
        let _ = self.0.replica.set(replica);
    }

    /// The node begins to stop.
    pub(crate) fn stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the node can serve now; the error says why not.
    async fn ready(&self) -> Result<(), String> {
        if self.0.stopping.load(Ordering::Relaxed) {
            return Err("the node is stopping".to_owned());
        }
        match self.0.replica.get() {
            None => Err("the node is starting; its log says what it waits for".to_owned()),
            Some(replica) => match replica.read(READY_TIMEOUT).await {
                Ok(_) => Ok(()),
                Err(failure) => Err(failure.to_string()),
            },
        }
    }
}

/// Serves until `stop`; what is under way then is finished.
pub(crate) async fn serve(incoming: Incoming, probes: Probes, stop: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "not found; there are /livez and /readyz\n"))
        .with_state(probes);
    let service = TowerToHyperService::new(router);
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let tasks = TaskTracker::new();
    let mut incoming = pin!(connections::bounded(incoming, CONNECTIONS_MAX, "http"));
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            accepted = incoming.next() => match accepted {
                Some(Ok(connection)) => connection,
                Some(Err(_)) => continue,
                None => break,
            },
        };
        let (builder, service, stop) = (builder.clone(), service.clone(), stop.clone());
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
    match probes.ready().await {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
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
        let serving = tokio::spawn(serve(incoming, probes, CancellationToken::new()));
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
                tokio::spawn(serve(incoming, Probes::default(), CancellationToken::new()));
            far.write_all(garbage).await.unwrap();
            far.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ = far.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
            serving.await.expect("the server did not panic");
        }
    }
}
