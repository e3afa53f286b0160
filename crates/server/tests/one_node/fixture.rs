//! A node in this process, and clients of it.

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use quorate_consensus::io::{Connection, Dialer, Incoming};
use quorate_consensus::{Node, NodeOptions, SnapshotRule, SystemClock, Timing};
use quorate_proto::metadata::{OUTCOME, REASON};
use quorate_proto::v1;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_server::{Server, ServerOptions};
use quorate_state::limits::Limits;
use quorate_state::{FeatureLevel, GroupId, NodeId};
use quorate_storage::Stores;
use quorate_storage::memory::{DiskModel, MemoryDisk};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// There is nobody to dial.
struct Nobody;

impl Dialer for Nobody {
    fn dial(&self, _: String) -> BoxFuture<'static, io::Result<Connection>> {
        Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }
}

pub(crate) struct Fixture {
    pub(crate) disk: MemoryDisk,
    pub(crate) server: Server,
    connect: mpsc::Sender<Connection>,
    connect_http: mpsc::Sender<Connection>,
}

/// Connections, and a way to make them.
fn port() -> (mpsc::Sender<Connection>, Incoming) {
    let (connect, connections) = mpsc::channel(16);
    let incoming = futures::stream::unfold(connections, |mut connections| async move {
        let connection: Connection = connections.recv().await?;
        Some((Ok(connection), connections))
    });
    (connect, incoming.boxed())
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Started with other options than the usual ones.
    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerOptions)) -> Self {
        Self::start_on(DiskModel::immediate(), change).await
    }

    /// Started on another disk.
    pub(crate) async fn start_on(disk: DiskModel, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let disk = MemoryDisk::new(disk);
        let node = Node::start(NodeOptions {
            node: NodeId(1),
            uuid: 7,
            cluster_id: None,
            joins: None,
            initial_cluster: BTreeMap::from([(NodeId(1), "node-1:8812".to_owned())]),
            peer_addr: "node-1:8812".to_owned(),
            client_addr: "node-1:8811".to_owned(),
            http_addr: String::new(),
            stores: Stores::memory(&disk, GroupId(0)).unwrap(),
            dialer: Arc::new(Nobody),
            incoming: futures::stream::pending().boxed(),
            timing: Timing::default(),
            snapshots: SnapshotRule::default(),
            wall: Arc::new(SystemClock),
            limits: Limits::default(),
            insecure: true,
            feature_level_max: FeatureLevel::NEWEST,
            joined: Box::new(|_| Ok(())),
            left: Box::new(|| Ok(())),
        })
        .await
        .unwrap();
        let ((connect, clients), (connect_http, http)) = (port(), port());
        let mut options =
            ServerOptions { http_incoming: Some(http), ..ServerOptions::new(node, clients) };
        change(&mut options);
        let server = Server::start(options);
        Self { disk, server, connect, connect_http }
    }

    pub(crate) async fn raw(&self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(256 << 10);
        self.connect.send(Connection::new(near)).await.unwrap();
        far
    }

    /// The same, from an address.
    pub(crate) async fn raw_from(&self, address: &str) -> DuplexStream {
        let (near, far) = tokio::io::duplex(256 << 10);
        let connection = Connection::new(near).coming_from(address.parse().unwrap());
        self.connect.send(connection).await.unwrap();
        far
    }

    pub(crate) async fn channel(&self) -> Channel {
        Self::channel_over(self.raw().await).await
    }

    pub(crate) async fn channel_from(&self, address: &str) -> Channel {
        Self::channel_over(self.raw_from(address).await).await
    }

    async fn channel_over(io: DuplexStream) -> Channel {
        let mut io = Some(TokioIo::new(io));
        let connector = tower::service_fn(move |_| {
            std::future::ready(
                io.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)),
            )
        });
        Endpoint::from_static("http://node-1").connect_with_connector(connector).await.unwrap()
    }

    /// The answer to a GET on the HTTP port, head and body.
    pub(crate) async fn http(&self, path: &str) -> String {
        self.http_as(path, None).await
    }

    /// The same, by somebody who shows a token.
    pub(crate) async fn http_as(&self, path: &str, token: Option<&str>) -> String {
        let shown = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let shown = shown.unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{shown}connection: close\r\n\r\n");
        let mut far = self.http_sent(&request).await;
        let mut answer = Vec::new();
        far.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// A connection to the HTTP port on which a request was sent.
    pub(crate) async fn http_sent(&self, request: &str) -> DuplexStream {
        let (near, mut far) = tokio::io::duplex(256 << 10);
        self.connect_http.send(Connection::new(near)).await.unwrap();
        far.write_all(request.as_bytes()).await.unwrap();
        far
    }

    pub(crate) async fn kv(&self) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.channel().await)
    }
}

pub(crate) fn set(key: &[u8], value: &[u8]) -> v1::SetRequest {
    v1::SetRequest {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        ..Default::default()
    }
}

pub(crate) fn get(key: &[u8]) -> v1::GetRequest {
    v1::GetRequest { key: Bytes::copy_from_slice(key), ..Default::default() }
}

/// (code, reason, outcome) as a client sees them.
pub(crate) fn seen(status: &Status) -> (Code, &str, &str) {
    let word = |name| status.metadata().get(name).map_or("", |value| value.to_str().unwrap());
    (status.code(), word(REASON), word(OUTCOME))
}
