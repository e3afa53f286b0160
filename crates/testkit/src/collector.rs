//! A collector of traces: takes what nodes send by OTLP, over gRPC or HTTP/1.1, and keeps it in a form that
//! tests ask about. One that is silent accepts connections and never says anything.

use anyhow::{Context as _, Result};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Spans that are kept; of more only the number is known.
const KEPT_MAX: usize = 100_000;
/// Bytes of one request over HTTP/1.1.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP/1.1, as protobuf.
    Http,
    /// Nothing: whoever connects waits.
    Nothing,
}

/// A running collector; gone when it is dropped.
#[derive(Debug)]
pub struct Collector {
    addr: SocketAddr,
    taken: Arc<Taken>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Taken {
    spans: Mutex<Vec<Span>>,
    count: AtomicU64,
    connections: AtomicU64,
}

/// A span, as a node sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// In hexadecimal, as in a `traceparent`.
    pub trace_id: String,
    /// As above.
    pub id: String,
    /// As above; empty: none.
    pub parent: String,
    /// Its `tracestate`.
    pub state: String,
    /// What it is of.
    pub name: String,
    /// When it began, in nanoseconds.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What is said of it, as text.
    pub attributes: BTreeMap<String, String>,
    /// What is said of the process, as text.
    pub resource: BTreeMap<String, String>,
}

impl Collector {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(speaks: Speaks) -> Result<Self> {
        Self::listen("127.0.0.1:0", speaks).await
    }

    /// Starts one there.
    ///
    /// # Errors
    /// When the address can't be had.
    pub async fn listen(addr: &str, speaks: Speaks) -> Result<Self> {
        let listener = TcpListener::bind(addr).await.context("could not listen for traces")?;
        let addr = listener.local_addr().context("could not tell the address")?;
        let taken = Arc::<Taken>::default();
        let serving = match speaks {
            Speaks::Grpc => tokio::spawn(grpc(listener, Arc::clone(&taken))),
            Speaks::Http | Speaks::Nothing => {
                tokio::spawn(accept(listener, Arc::clone(&taken), speaks))
            }
        };
        Ok(Self { addr, taken, _serving: AbortOnDropHandle::new(serving) })
    }

    /// As `OTEL_EXPORTER_OTLP_ENDPOINT` wants it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The spans so far, the first hundred thousand of them.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.taken.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many came so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.taken.count.load(Ordering::Relaxed)
    }

    /// Connections that were accepted, unless it speaks gRPC.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.taken.connections.load(Ordering::Relaxed)
    }
}

impl Taken {
    fn take(&self, request: ExportTraceServiceRequest) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for of_process in request.resource_spans {
            let resource = of_process.resource.map(|resource| text(resource.attributes));
            let resource = resource.unwrap_or_default();
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.count.fetch_add(1, Ordering::Relaxed);
                if spans.len() < KEPT_MAX {
                    spans.push(Span {
                        trace_id: hex(&span.trace_id),
                        id: hex(&span.span_id),
                        parent: hex(&span.parent_span_id),
                        state: span.trace_state,
                        name: span.name,
                        start_ns: span.start_time_unix_nano,
                        end_ns: span.end_time_unix_nano,
                        attributes: text(span.attributes),
                        resource: resource.clone(),
                    });
                }
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let value = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text.clone()),
        other => Some(format!("{other:?}")),
    };
    attributes
        .into_iter()
        .map(|attribute| {
            let value = value(&attribute).unwrap_or_default();
            (attribute.key, value)
        })
        .collect()
}

struct Service(Arc<Taken>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.take(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn grpc(listener: TcpListener, taken: Arc<Taken>) {
    let service = TraceServiceServer::new(Service(taken)).max_decoding_message_size(BODY_BYTES_MAX);
    let serving = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener));
    if let Err(error) = serving.await {
        tracing::warn!(%error, "the collector ended");
    }
}

async fn accept(listener: TcpListener, taken: Arc<Taken>, speaks: Speaks) {
    let mut kept = Vec::new();
    while let Ok((connection, _)) = listener.accept().await {
        taken.connections.fetch_add(1, Ordering::Relaxed);
        match speaks {
            Speaks::Http => drop(tokio::spawn(http(connection, Arc::clone(&taken)))),
            // It stays open, and nobody reads it.
            Speaks::Grpc | Speaks::Nothing => kept.push(connection),
        }
    }
}

/// Answers requests until the connection ends, or says something else.
async fn http(connection: TcpStream, taken: Arc<Taken>) -> Option<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut length, mut line) = (0_usize, String::new());
        connection.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let found = line.starts_with("POST /v1/traces ");
        loop {
            line.clear();
            connection.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok().filter(|length| *length <= BODY_BYTES_MAX)?;
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await.ok()?;
        let status = match ExportTraceServiceRequest::decode(&*body) {
            Ok(request) if found => {
                taken.take(request);
                "200 OK"
            }
            _ => "400 Bad Request",
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        connection.get_mut().write_all(answer.as_bytes()).await.ok()?;
    }
}
