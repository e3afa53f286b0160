//! A stand-in for `quorate serve`, so that the process cluster can be tested without the broker: it
//! takes the same arguments, serves `ClusterService`, and the lowest node that listens leads.

use quorate_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use quorate_proto::v1::{
    BackupPiece, BackupRequest, ChangeMemberRequest, ChangeMemberResponse, CountersRequest,
    CountersResponse, HashStateRequest, HashStateResponse, InviteRequest, InviteResponse,
    JoinRequest, JoinResponse, MembersRequest, MembersResponse, StatusRequest, StatusResponse,
    TransferLeaderRequest, TransferLeaderResponse,
};
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tonic::{Request, Response, Status};

/// Its arguments, as one text.
const ARGUMENTS: &str = "FAKE_NODE_ARGUMENTS";
/// The checksum it answers.
pub(super) const CHECKSUM: &str = "FAKE_NODE_CHECKSUM";
/// If set, a thread of it panics.
pub(super) const PANIC: &str = "FAKE_NODE_PANIC";
/// If this file exists, it removes it and ends, as if its port were taken.
pub(super) const PORT_TAKEN: &str = "FAKE_NODE_PORT_TAKEN";

/// Writes a program to `path` that runs [`serve`] in this test's executable.
pub(super) fn write_program(path: &std::path::Path) {
    let test = std::env::current_exe().unwrap();
    let (_, module) = module_path!().split_once("::").unwrap();
    let program = format!(
        "#!/bin/sh\nexport {ARGUMENTS}=\"$*\"\n\
         exec '{}' --exact {module}::serve --ignored --nocapture --test-threads 1\n",
        test.display()
    );
    // By another process: a file that this one has open for writing can't be executed, and a child
    // that another test is just forking would have it open as well.
    let mut shell = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

struct FakeNode {
    peers: Vec<(u64, SocketAddr)>,
    checksum: u64,
}

#[tonic::async_trait]
impl ClusterService for FakeNode {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        for (id, peer) in &self.peers {
            if TcpStream::connect(peer).await.is_ok() {
                let leader_id = Some(*id);
                return Ok(Response::new(StatusResponse {
                    term: *id,
                    leader_id,
                    ..Default::default()
                }));
            }
        }
        Err(Status::unavailable("nobody listens"))
    }

    async fn invite(&self, _: Request<InviteRequest>) -> Result<Response<InviteResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn change_member(
        &self,
        _: Request<ChangeMemberRequest>,
    ) -> Result<Response<ChangeMemberResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn members(
        &self,
        _: Request<MembersRequest>,
    ) -> Result<Response<MembersResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn hash_state(
        &self,
        _: Request<HashStateRequest>,
    ) -> Result<Response<HashStateResponse>, Status> {
        let checksum = self.checksum;
        Ok(Response::new(HashStateResponse { applied: Some(7), checksum, digest: 1 }))
    }

    async fn counters(
        &self,
        _: Request<CountersRequest>,
    ) -> Result<Response<CountersResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    async fn transfer_leader(
        &self,
        _: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        Err(Status::unimplemented("not needed"))
    }

    type BackupStream = futures::stream::Pending<Result<BackupPiece, Status>>;

    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("not needed"))
    }
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "what it prints goes to its log")]
#[ignore = "not a test: the process that stands in for a node, started by the tests beside it"]
async fn serve() {
    let arguments = std::env::var(ARGUMENTS).expect("started by a test");
    let arguments: Vec<_> = arguments.split(' ').collect();
    assert_eq!(arguments[0], "serve");
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| *argument == flag).expect(flag);
        arguments[at + 1]
    };
    if let Ok(taken) = std::env::var(PORT_TAKEN)
        && std::fs::remove_file(taken).is_ok()
    {
        println!("could not listen on {}: Address already in use", value("--peer-listen"));
        std::process::exit(1);
    }
    if std::env::var_os(PANIC).is_some() {
        let _ = std::thread::spawn(|| panic!("planted")).join();
    }
    let peers = value("--initial-cluster").split(',').map(|peer| {
        let (id, addr) = peer.split_once('=').unwrap();
        (id.parse().unwrap(), addr.parse().unwrap())
    });
    let peers: Vec<(u64, SocketAddr)> = peers.collect();
    let id: u64 = value("--node-id").parse().unwrap();
    let peer_listen: SocketAddr = value("--peer-listen").parse().unwrap();
    assert!(peers.contains(&(id, peer_listen)));
    std::fs::create_dir_all(value("--data-dir")).unwrap();
    let _peer = TcpListener::bind(peer_listen).unwrap();
    let _http = TcpListener::bind(value("--http-listen")).unwrap();
    let checksum = std::env::var(CHECKSUM).map_or(1, |text| text.parse().unwrap());

    let mut terminated = signal(SignalKind::terminate()).unwrap();
    tonic::transport::Server::builder()
        .add_service(ClusterServiceServer::new(FakeNode { peers, checksum }))
        .serve_with_shutdown(value("--client-listen").parse().unwrap(), async move {
            terminated.recv().await;
        })
        .await
        .unwrap();
}
