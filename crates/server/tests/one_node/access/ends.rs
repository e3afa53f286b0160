//! What becomes of streams when who may do what changes under them; and what is told to whom.

use super::{ADMIN, AuthClient, Bearer, asking, auth, made, rule, token};
use crate::fixture::{Fixture, seen, set};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::bus_service_client::BusServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use v1::AuthAction::{Consume, Read, Write};
use v1::AuthScope::{Any, Bus, Kv};

/// The bound that is promised.
const CUT_OFF_MAX: Duration = Duration::from_secs(1);

async fn watch(fixture: &Fixture, token: &str) -> Streaming<v1::WatchResponse> {
    let mut kv =
        KvServiceClient::with_interceptor(fixture.channel().await, Bearer(token.to_owned()));
    let prefix = v1::key_selector::Select::Prefix(Bytes::from_static(b"own/"));
    let selectors = vec![v1::KeySelector { select: Some(prefix) }];
    let asked = v1::WatchRequest { selectors, ..Default::default() };
    let mut stream = kv.watch(asked).await.unwrap().into_inner();
    stream.message().await.unwrap().expect("it begins");
    stream
}

/// How a stream ends, which it does in time.
async fn end<T>(mut stream: Streaming<T>) -> Status {
    let until = Instant::now() + CUT_OFF_MAX;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, stream.message()).await.expect("it goes on for more than a second") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended without a word"),
            Err(status) => return status,
        }
    }
}

async fn revoke(admin: &mut AuthClient, made: &v1::CreateTokenResponse) {
    let token_id = made.token_id.clone();
    assert!(
        admin.revoke_token(v1::RevokeTokenRequest { token_id }).await.unwrap().into_inner().revoked
    );
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked_and_no_other_does() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    token(&mut admin, "reader", vec![rule(Kv, Read, "own/*")]).await;
    let (going, staying) =
        (made(&mut admin, "reader", None).await, made(&mut admin, "reader", None).await);
    let (gone, mut stays) =
        (watch(&fixture, &going.token).await, watch(&fixture, &staying.token).await);
    revoke(&mut admin, &going).await;
    let status = end(gone).await;
    assert_eq!(seen(&status), (Code::Unauthenticated, "UNAUTHENTICATED", "unknown"));
    let mut kv =
        KvServiceClient::with_interceptor(fixture.channel().await, Bearer(ADMIN.to_owned()));
    kv.set(set(b"own/a", b"1")).await.unwrap();
    loop {
        if !stays.message().await.unwrap().expect("it goes on").events.is_empty() {
            break;
        }
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_role_does_not_allow_it_any_more() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    let reader = token(&mut admin, "reader", vec![rule(Kv, Read, "own/*")]).await;
    let stream = watch(&fixture, &reader).await;
    // A change that leaves it what it needs.
    token(&mut admin, "reader", vec![rule(Any, Read, "own/*"), rule(Kv, Write, "x")]).await;
    let mut bus =
        BusServiceClient::with_interceptor(fixture.channel().await, Bearer(reader.clone()));
    let asked =
        v1::BusSubscribeRequest { patterns: vec!["own/*".to_owned()], ..Default::default() };
    let status = bus.subscribe(asked.clone()).await.unwrap_err();
    assert_eq!(seen(&status), (Code::PermissionDenied, "FORBIDDEN", "not_applied"));
    assert!(status.message().contains("consume in bus"), "{}", status.message());

    token(&mut admin, "reader", vec![rule(Bus, Consume, "own/*")]).await;
    let status = end(stream).await;
    assert_eq!(seen(&status), (Code::PermissionDenied, "FORBIDDEN", "unknown"));
    bus.subscribe(asked).await.expect("it has what it needs now");
}

#[tokio::test]
async fn a_stream_ends_when_the_time_of_its_token_is_over() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    token(&mut admin, "reader", vec![rule(Kv, Read, "own/*")]).await;
    let short = made(&mut admin, "reader", Some(1_000)).await;
    let mut stream = watch(&fixture, &short.token).await;
    let ended = timeout(Duration::from_secs(3), async {
        loop {
            if let Err(status) = stream.message().await {
                return status;
            }
        }
    });
    assert_eq!(ended.await.expect("it ends").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn metrics_are_for_those_who_may_look_and_probes_for_everybody() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    let looks = token(&mut admin, "looks", vec![rule(v1::AuthScope::Cluster, Read, "*")]).await;
    let other = token(&mut admin, "other", vec![rule(Kv, Read, "*")]).await;
    for path in ["/livez", "/readyz", "/startupz"] {
        assert!(fixture.http(path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    for (token, status) in
        [(None, "401"), (Some("x"), "401"), (Some(&*other), "403"), (Some(&*looks), "200")]
    {
        let answer = fixture.http_as("/metrics", token).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{token:?}: {answer}");
    }
    // Over gRPC as well, and counted by why.
    auth(&fixture, "x").await.who_am_i(v1::WhoAmIRequest::default()).await.unwrap_err();
    let page = fixture.http_as("/metrics", Some(&looks)).await;
    for (kind, count) in [("unauthenticated", 3), ("forbidden", 1)] {
        let line = format!("quorate_denied_total{{kind=\"{kind}\"}} {count}\n");
        assert!(page.contains(&line), "{line} is not in\n{page}");
    }
}
