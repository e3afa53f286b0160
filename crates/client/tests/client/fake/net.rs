//! The network: which addresses answer a dial, and how connections break.

use super::node::Node;
use super::pipeline::Pipeline;
use futures::future::BoxFuture;
use quorate_client::{Dial, Io};
use quorate_proto::v1::bus_service_server::BusServiceServer;
use quorate_proto::v1::cache_service_server::CacheServiceServer;
use quorate_proto::v1::cluster_service_server::ClusterServiceServer;
use quorate_proto::v1::kv_service_server::KvServiceServer;
use quorate_proto::v1::pipeline_service_server::PipelineServiceServer;
use quorate_proto::v1::queue_service_server::QueueServiceServer;
use quorate_proto::v1::session_service_server::SessionServiceServer;
use quorate_proto::v1::txn_service_server::TxnServiceServer;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

/// Bytes a pipe holds.
const PIPE_BYTES: usize = 64 << 10;
/// Connections that wait to be accepted: more than any test dials without a pause.
const DIALS_WAITING_MAX: usize = 64;

/// What becomes of a dial.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Open,
    Refused,
    /// Neither accepted nor refused.
    BlackHole,
}

#[derive(Default)]
pub(crate) struct Net {
    hosts: Mutex<BTreeMap<String, Host>>,
}

struct Host {
    accept: mpsc::Sender<io::Result<DuplexStream>>,
    reach: Reach,
    dials: usize,
    pipes: Vec<AbortHandle>,
    /// Whether its machine is gone without a word.
    gone: watch::Sender<bool>,
}

impl Net {
    pub(crate) fn serve(&self, addr: String, node: Arc<Node>) {
        let (accept, incoming) = mpsc::channel(DIALS_WAITING_MAX);
        let server = Server::builder()
            // More than a client's window, so that no call waits for another one's stream.
            .max_concurrent_streams(4_096)
            .add_service(BusServiceServer::from_arc(Arc::clone(&node)))
            .add_service(CacheServiceServer::from_arc(Arc::clone(&node)))
            .add_service(KvServiceServer::from_arc(Arc::clone(&node)))
            .add_service(PipelineServiceServer::new(Pipeline(Arc::clone(&node))))
            .add_service(QueueServiceServer::from_arc(Arc::clone(&node)))
            .add_service(SessionServiceServer::from_arc(Arc::clone(&node)))
            .add_service(TxnServiceServer::from_arc(Arc::clone(&node)))
            .add_service(ClusterServiceServer::from_arc(node));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming).fuse()));
        let gone = watch::Sender::new(false);
        let host = Host { accept, reach: Reach::Open, dials: 0, pipes: Vec::new(), gone };
        self.hosts.lock().expect("lock").insert(addr, host);
    }

    pub(crate) fn reach(&self, addr: &str, reach: Reach) {
        self.host(addr, |host| host.reach = reach);
    }

    /// Breaks the connections to an address; new ones may be made.
    pub(crate) fn cut(&self, addr: &str) {
        self.host(addr, |host| host.pipes.drain(..).for_each(|pipe| pipe.abort()));
    }

    /// A dead process: connections broken, dials refused.
    pub(crate) fn kill(&self, addr: &str) {
        self.reach(addr, Reach::Refused);
        self.cut(addr);
    }

    /// A machine without power: nobody says that its connections are broken, and nothing comes.
    pub(crate) fn lose(&self, addr: &str) {
        self.reach(addr, Reach::BlackHole);
        self.host(addr, |host| host.gone.send_replace(true));
    }

    pub(crate) fn dials(&self, addr: &str) -> usize {
        self.host(addr, |host| host.dials)
    }

    fn host<T>(&self, addr: &str, act: impl FnOnce(&mut Host) -> T) -> T {
        act(self.hosts.lock().expect("lock").get_mut(addr).expect("a host of that name"))
    }
}

impl Dial for Net {
    fn dial(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let mut hosts = self.hosts.lock().expect("lock");
        let Some(host) = hosts.get_mut(addr) else {
            let error = io::Error::new(io::ErrorKind::NotFound, "no such host");
            return Box::pin(async move { Err(error) });
        };
        host.dials += 1;
        match host.reach {
            Reach::Refused => {
                let error = io::Error::from(io::ErrorKind::ConnectionRefused);
                Box::pin(async move { Err(error) })
            }
            Reach::BlackHole => Box::pin(std::future::pending()),
            Reach::Open => {
                // Two pipes with a pump between them: stopping the pump breaks both.
                let (client, mut left) = tokio::io::duplex(PIPE_BYTES);
                let (mut right, server) = tokio::io::duplex(PIPE_BYTES);
                let mut gone = host.gone.subscribe();
                let pump = tokio::spawn(async move {
                    let is_gone = tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut left, &mut right) => false,
                        _ = gone.wait_for(|gone| *gone) => true,
                    };
                    if is_gone {
                        // Both ends stay open.
                        std::future::pending::<()>().await;
                    }
                });
                host.pipes.push(pump.abort_handle());
                host.accept
                    .try_send(Ok(server))
                    .expect("the server accepts as long as the test runs");
                Box::pin(async move { Ok(Box::new(client) as Box<dyn Io>) })
            }
        }
    }
}
