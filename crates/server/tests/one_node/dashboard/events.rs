//! What moves by itself.

use super::get;
use crate::access::{ADMIN, asking, auth, made, rule, token};
use crate::fixture::Fixture;
use quorate_proto::v1;
use quorate_proto::v1::AuthAction::Read;
use quorate_proto::v1::AuthScope::Cluster;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::time::timeout;

/// Streams that a node has at once.
const STREAMS_MAX: usize = 32;
const PATIENCE: Duration = Duration::from_secs(10);

async fn follow(fixture: &Fixture, token: &str) -> DuplexStream {
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    fixture.http_sent(&request).await
}

/// Reads until it has come so often, or the end.
async fn until(far: &mut DuplexStream, word: &str, times: usize) -> (String, bool) {
    let mut read = String::new();
    let mut buffer = vec![0; 64 << 10];
    while read.matches(word).count() < times {
        let count = timeout(PATIENCE, far.read(&mut buffer)).await.expect("it is silent").unwrap();
        if count == 0 {
            return (read, true);
        }
        read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    (read, false)
}

#[tokio::test]
async fn a_page_is_told_every_second_until_its_token_is_revoked() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    token(&mut admin, "looks", vec![rule(Cluster, Read, "*")]).await;
    let looks = made(&mut admin, "looks", None).await;
    let mut page = follow(&fixture, &looks.token).await;
    let (read, over) = until(&mut page, "event: tick", 2).await;
    assert!(!over && read.starts_with("HTTP/1.1 200"), "{read}");
    assert!(read.contains("content-type: text/event-stream"), "{read}");
    assert!(read.contains("event: overview\ndata: {"), "{read}");
    assert!(read.contains("\"node_id\":\"1\""), "{read}");

    let token_id = looks.token_id.clone();
    admin.revoke_token(v1::RevokeTokenRequest { token_id }).await.unwrap();
    let ended = timeout(Duration::from_secs(2), until(&mut page, "never", 1)).await;
    assert!(ended.expect("it goes on after its token was revoked").1);
}

#[tokio::test]
async fn so_many_pages_and_no_more() {
    let fixture = asking().await;
    let mut pages = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut page = follow(&fixture, ADMIN).await;
        until(&mut page, "200 OK", 1).await;
        pages.push(page);
    }
    let answer = get(&fixture, "events", Some(ADMIN)).await;
    assert_eq!(answer.refusal(), (429, "TOO_MANY_STREAMS".to_owned()));
    // One that is closed makes room, once its end was noticed.
    pages.pop();
    let again = async {
        loop {
            let mut page = follow(&fixture, ADMIN).await;
            if until(&mut page, "HTTP/1.1", 1).await.0.contains("200 OK") {
                return page;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.expect("its place was not given back");
}
