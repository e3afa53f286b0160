//! The unary services: answers, failures, limits and nonsense.

use crate::fixture::{Fixture, get, seen, set};
use bytes::Bytes;
use quorate_proto::metadata::LEADER;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::{peer, v1};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Request};

#[tokio::test]
async fn writes_reads_and_conditions() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let written = kv.set(set(b"k", b"v")).await.unwrap().into_inner();
    assert_eq!(written.version, 1);
    let answer = kv.get(get(b"k")).await.unwrap();
    let answer = answer.into_inner();
    let entry = answer.entry.unwrap();
    assert_eq!((&entry.value[..], entry.version), (&b"v"[..], 1));
    assert!(answer.revision >= written.revision);
    assert_eq!(kv.get(get(b"absent")).await.unwrap().into_inner().entry, None);

    // A condition that fails says which version there is; for an absent key there is none.
    let expect = Some(v1::set_request::Expect::IfVersion(9));
    let status = kv.set(v1::SetRequest { expect, ..set(b"k", b"w") }).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "CONDITION_FAILED", "not_applied"));
    assert_eq!(status.metadata().get("quorate-version").unwrap(), "1");
    let status = kv.set(v1::SetRequest { expect, ..set(b"absent", b"w") }).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.metadata().get("quorate-version").is_none());

    // The same idempotency key has one effect, and another request under it is refused.
    let origin =
        Some(v1::Origin { idempotency_key: Bytes::from_static(b"once"), ..Default::default() });
    let add = |by| v1::IncrementRequest {
        origin: origin.clone(),
        key: Bytes::from_static(b"n"),
        by,
        ..Default::default()
    };
    for _ in 0..3 {
        assert_eq!(kv.increment(add(5)).await.unwrap().into_inner().value, 5);
    }
    let status = kv.increment(add(6)).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "REQUEST_MISMATCH", "not_applied"));
    let status = kv
        .increment(v1::IncrementRequest {
            key: Bytes::from_static(b"k"),
            by: 1,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "NOT_A_NUMBER", "not_applied"));
    fixture.server.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn every_answer_names_the_leader() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    // Behind it, the leader is known.
    kv.set(set(b"k", b"v")).await.unwrap();
    let answer = kv.get(get(b"k")).await.unwrap();
    assert_eq!(answer.metadata().get(LEADER).unwrap(), "node-1:8811");
    let status = kv.get(get(b"")).await.unwrap_err();
    assert_eq!(status.metadata().get(LEADER).unwrap(), "node-1:8811");
}

#[tokio::test]
async fn what_is_past_a_limit_is_refused_with_a_reason_and_not_applied() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let refused = async |kv: &mut KvServiceClient<Channel>, request| {
        let status = kv.set(request).await.unwrap_err();
        let (code, reason, outcome) = seen(&status);
        assert_eq!((code, outcome), (Code::InvalidArgument, "not_applied"), "{status:?}");
        assert!(!status.message().is_empty());
        reason.to_owned()
    };
    assert_eq!(refused(&mut kv, set(b"", b"v")).await, "KEY_EMPTY");
    assert_eq!(refused(&mut kv, set(&[b'k'; 1025], b"v")).await, "KEY_TOO_LONG");
    let large = vec![0; (1 << 20) + 1];
    assert_eq!(refused(&mut kv, set(b"k", &large)).await, "VALUE_TOO_LARGE");
    // This one the gRPC library refuses, before our code sees it.
    let huge = vec![0; 3 << 20];
    assert_eq!(refused(&mut kv, set(b"k", &huge)).await, "REQUEST_TOO_LARGE");
    // And what is just within goes through, on the same connection.
    kv.set(set(&[b'k'; 1024], &large[..1 << 20])).await.unwrap();
    let back = kv.get(get(&[b'k'; 1024])).await.unwrap().into_inner();
    assert_eq!(back.entry.unwrap().value.len(), 1 << 20);
}

#[tokio::test]
async fn a_method_that_does_not_exist_says_so() {
    let fixture = Fixture::start().await;
    // The private service is not offered on the client port.
    let mut client = peer::peer_service_client::PeerServiceClient::new(fixture.channel().await);
    let status =
        client.probe(peer::ProbeRequest { from_node: 2, ..Default::default() }).await.unwrap_err();
    assert_eq!(seen(&status), (Code::Unimplemented, "UNIMPLEMENTED", "not_applied"));
}

#[tokio::test]
async fn an_answer_comes_before_the_callers_deadline() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    kv.set(set(b"k", b"v")).await.unwrap();
    // A revision that nobody will write in time.
    let mut request = Request::new(v1::GetRequest { min_revision: 1 << 50, ..get(b"k") });
    request.set_timeout(Duration::from_millis(400));
    let sent = Instant::now();
    let status = kv.get(request).await.unwrap_err();
    assert!(sent.elapsed() >= Duration::from_millis(300), "it gave up early");
    // The client's own timeout would have made another status, without a reason.
    assert_eq!(seen(&status).0, Code::Unavailable, "{status:?}");
    assert_eq!(seen(&status).2, "not_applied", "{status:?}");
    assert!(!seen(&status).1.is_empty(), "{status:?}");
}

#[tokio::test]
async fn time_passes_for_a_node_alone() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    kv.set(v1::SetRequest { ttl_ms: Some(1_200), ..set(b"k", b"v") }).await.unwrap();
    // A quorum of one acknowledges nothing to anybody, and yet its clock must go on.
    let gone = async {
        while kv.get(get(b"k")).await.unwrap().into_inner().entry.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let begun = Instant::now();
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the key expires");
    assert!(begun.elapsed() >= Duration::from_millis(600), "it expired early");
}

#[tokio::test]
async fn a_disk_that_is_almost_full_takes_only_what_frees_room() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    kv.set(set(b"k", b"v")).await.unwrap();
    fixture.disk.set_free_bytes(1 << 20);
    let refused = async {
        loop {
            if let Err(status) = kv.set(set(b"k", b"w")).await {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(seen(&status), (Code::ResourceExhausted, "DISK_FULL", "not_applied"));
    assert!(kv.get(get(b"k")).await.unwrap().into_inner().entry.is_some());
    let page = fixture.http("/metrics").await;
    assert!(page.contains("quorate_disk_full_refused_total 1\n"), "{page}");
    let delete = v1::DeleteRequest { key: "k".into(), ..Default::default() };
    assert!(kv.delete(delete).await.unwrap().into_inner().deleted);
    fixture.disk.set_free_bytes(u64::MAX);
    let taken = async {
        while kv.set(set(b"k", b"v")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
}

#[tokio::test]
async fn sessions_open_live_and_close() {
    let fixture = Fixture::start().await;
    let mut sessions = SessionServiceClient::new(fixture.channel().await);
    let opened = sessions
        .open(v1::OpenRequest { ttl_ms: 5_000, ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(opened.ttl_ms, 5_000);
    let session_id = opened.session_id;
    let namespace = String::new();
    let keep = v1::KeepAliveRequest { session_id, namespace: namespace.clone() };
    assert_eq!(sessions.keep_alive(keep.clone()).await.unwrap().into_inner().ttl_ms, 5_000);

    // A numbered request that is repeated has one effect.
    let mut kv = fixture.kv().await;
    let origin = Some(v1::Origin { session_id, sequence: 1, floor: 1, ..Default::default() });
    let add =
        v1::IncrementRequest { origin, key: Bytes::from_static(b"n"), by: 1, ..Default::default() };
    for _ in 0..2 {
        assert_eq!(kv.increment(add.clone()).await.unwrap().into_inner().value, 1);
    }

    let close = v1::CloseRequest { session_id, namespace };
    assert!(sessions.close(close.clone()).await.unwrap().into_inner().closed);
    assert!(!sessions.close(close).await.unwrap().into_inner().closed);
    let status = sessions.keep_alive(keep).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "SESSION_EXPIRED", "not_applied"));
    let status = kv.increment(add).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "SESSION_EXPIRED", "not_applied"));
}

#[tokio::test]
async fn the_cluster_is_shown() {
    let fixture = Fixture::start().await;
    fixture.kv().await.set(set(b"k", b"v")).await.unwrap();
    let mut cluster = ClusterServiceClient::new(fixture.channel().await);
    let status = cluster.status(v1::StatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.leader_id, status.answered_by), (Some(1), 1));
    assert!(!status.cluster_id.is_empty());
    let [node] = &status.nodes[..] else { panic!("{:?}", status.nodes) };
    assert_eq!((node.role(), node.healthy), (v1::Role::Leader, true));
    assert!(status.limits.iter().any(|limit| limit.name == "key_bytes_max" && limit.value == 1024));

    let members = cluster.members(v1::MembersRequest::default()).await.unwrap().into_inner();
    let [member] = &members.members[..] else { panic!("{:?}", members.members) };
    assert_eq!((member.node_id, &*member.client_addr, member.voter), (1, "node-1:8811", true));

    let hash = cluster.hash_state(v1::HashStateRequest::default()).await.unwrap().into_inner();
    assert!(hash.applied.is_some());

    let elsewhere = v1::StatusRequest { group_id: 7 };
    let status = cluster.status(elsewhere).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "UNKNOWN_GROUP", "not_applied"));
    let nobody = v1::TransferLeaderRequest::default();
    let status = cluster.transfer_leader(nobody).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "NO_OTHER_VOTER", "not_applied"));
}

#[tokio::test]
async fn garbage_on_the_client_port_harms_nobody() {
    let fixture = Fixture::start().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame_too_long = [&preface[..], &[0xff; 64]].concat();
    let half = &preface[..10];
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &frame_too_long, half, b""] {
        let mut io = fixture.raw().await;
        io.write_all(garbage).await.unwrap();
        io.shutdown().await.unwrap();
        // Closed, whatever was answered.
        let mut answer = Vec::new();
        let _ = io.read_to_end(&mut answer).await;
    }
    // A message that is no protobuf, in a request that is otherwise right.
    let mut raw = tonic::client::Grpc::new(fixture.channel().await);
    raw.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/quorate.v1.KvService/Set");
    let codec = tonic_prost_codec();
    let message = v1::GetRequest {
        // Field 1 of a SetRequest is text, too, but must be UTF-8: field 2 has a wrong wire type.
        key: Bytes::from_static(&[0xff; 16]),
        ..Default::default()
    };
    let status = raw.unary(Request::new(message), path, codec).await.unwrap_err();
    assert_eq!(seen(&status).1, "MALFORMED", "{status:?}");
    assert_eq!(seen(&status).2, "not_applied", "{status:?}");

    fixture.kv().await.set(set(b"k", b"v")).await.unwrap();
}

/// Encodes what `Get` takes and decodes what `Set` answers.
fn tonic_prost_codec() -> tonic_prost::ProstCodec<v1::GetRequest, v1::SetResponse> {
    tonic_prost::ProstCodec::default()
}

#[tokio::test]
async fn shutting_down_answers_what_is_under_way_and_refuses_the_rest() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    kv.set(set(b"k", b"v")).await.unwrap();
    let mut waiting = kv.clone();
    let pending = tokio::spawn(async move {
        let mut request = Request::new(v1::GetRequest { min_revision: 1 << 50, ..get(b"k") });
        request.set_timeout(Duration::from_millis(1_000));
        waiting.get(request).await
    });
    // It is under way once the connection has taken another request after it.
    tokio::task::yield_now().await;
    kv.get(get(b"k")).await.unwrap();
    fixture.server.shutdown(Duration::from_secs(10)).await;
    let status = pending.await.unwrap().unwrap_err();
    assert_eq!(seen(&status).2, "not_applied", "cut off rather than answered: {status:?}");
    assert!(kv.get(get(b"k")).await.is_err());
}
