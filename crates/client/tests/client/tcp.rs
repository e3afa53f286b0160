//! The real dialer, on loopback.

use crate::fake::Fake;
use quorate_client::{Client, Error, Tcp};
use quorate_proto::v1::kv_service_server::KvServiceServer;
use quorate_proto::v1::session_service_server::SessionServiceServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

#[tokio::test]
async fn a_closed_port_and_an_open_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let open = listener.local_addr().expect("bound").to_string();
    let closed = {
        let unused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        unused.local_addr().expect("bound").to_string()
    };
    let fake = Fake::start(1);
    let node = Arc::clone(&fake.nodes[0]);
    let server = Server::builder()
        .add_service(KvServiceServer::from_arc(Arc::clone(&node)))
        .add_service(SessionServiceServer::from_arc(node))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);

    let endpoints = || Client::builder().dial(Tcp);
    // The members are not served here: a client gets along without them.
    let client = endpoints().endpoints([&closed, &open].map(String::as_str)).connect();
    let kv = client.expect("good options").kv();
    for expected in 1..=20 {
        assert_eq!(kv.increment("k", 1).await.expect("the open one answers").value, expected);
    }

    let client = endpoints().endpoints([closed.as_str()]).connect().expect("good options");
    let error = client.kv().get("k").timeout(Duration::from_millis(200)).await;
    let error = error.expect_err("nobody listens");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.message().contains(&closed), "{error}");
    assert!(error.message().to_lowercase().contains("refused"), "{error}");
    server.abort();
}
