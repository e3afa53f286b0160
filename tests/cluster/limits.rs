//! Requests that are too large, or empty: refused at the door, in words, and harmless.

use quorate_client::Client;
use quorate_proto::metadata::{OUTCOME, REASON};
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::{GetRequest, SetRequest};
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Quorate, alone};
use std::ffi::OsString;
use tonic::Code;

const KEY_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1 << 20;

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[tokio::test]
async fn limits_hold_at_their_edge_and_say_what_they_are() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    cluster.wait_ready().await.expect("a leader is elected");
    let quorate = Quorate::of(&cluster);
    let longest = "k".repeat(KEY_BYTES_MAX);
    let largest = vec![7; VALUE_BYTES_MAX];

    // The edge itself is fine.
    quorate.run_with(&words(&["kv", "set", &longest, "-"]), Some(&largest)).await.expect(0);
    let found = quorate.run_with(&words(&["kv", "get", &longest]), None).await.expect(0);
    assert!(found.stdout == largest, "{} bytes came back", found.stdout.len());

    // Past it there is a reason, and the limit.
    let longer = format!("{longest}k");
    for command in [
        vec!["kv", "set", &longer, "v"],
        vec!["kv", "get", &longer],
        vec!["kv", "del", &longer],
        vec!["kv", "incr", &longer],
    ] {
        let refused = quorate.run_with(&words(&command), None).await.expect(1);
        refused.expect_stderr("KEY_TOO_LONG").expect_stderr("1024");
    }
    let larger = vec![7; VALUE_BYTES_MAX + 1];
    let refused = quorate.run_with(&words(&["kv", "set", "k", "-"]), Some(&larger)).await.expect(1);
    refused.expect_stderr("VALUE_TOO_LARGE").expect_stderr("1048576");
    for command in [
        vec!["kv", "set", "", "v"],
        vec!["kv", "get", ""],
        vec!["kv", "del", ""],
        vec!["kv", "incr", ""],
    ] {
        quorate.run_with(&words(&command), None).await.expect(1).expect_stderr("KEY_EMPTY");
    }
    let namespace = "n".repeat(256);
    let refused = words(&["kv", "set", "k", "v", "--namespace", &namespace]);
    quorate.run_with(&refused, None).await.expect(1).expect_stderr("NAMESPACE_TOO_LONG");
    quorate.run("kv get k").await.expect(3);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn any_grpc_client_is_told_the_same() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let follower = cluster.ids().into_iter().find(|id| *id != leader).expect("there are three");
    for id in [leader, follower] {
        let uri = format!("http://{}", cluster.client_addr(id));
        let mut raw = KvServiceClient::connect(uri).await.expect("it listens");
        let set = |key: usize, value: usize| SetRequest {
            key: vec![b'k'; key].into(),
            value: vec![b'v'; value].into(),
            ..SetRequest::default()
        };
        for (request, reason) in [
            (set(0, 1), "KEY_EMPTY"),
            (set(KEY_BYTES_MAX + 1, 1), "KEY_TOO_LONG"),
            (set(1, VALUE_BYTES_MAX + 1), "VALUE_TOO_LARGE"),
            (set(1, 3 << 20), "REQUEST_TOO_LARGE"),
            (SetRequest { ttl_ms: Some(0), ..set(1, 1) }, "INVALID_TTL"),
        ] {
            let refused = raw.set(request).await.expect_err(reason);
            let word = |name| {
                let value = refused.metadata().get(name)?;
                value.to_str().ok().map(str::to_owned)
            };
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
            assert_eq!(word(REASON).as_deref(), Some(reason), "{refused:?}");
            assert_eq!(word(OUTCOME).as_deref(), Some("not_applied"), "{refused:?}");
            assert!(!refused.message().is_empty());
        }
        // The connection is as good as before, and nothing was written.
        let get = GetRequest { key: b"k".to_vec().into(), ..GetRequest::default() };
        assert_eq!(raw.get(get).await.expect("it answers").into_inner().entry, None);
    }
    let client = Client::builder().endpoints(cluster.endpoints()).connect();
    client.expect("the options are right").kv().set("k", "v").await.expect("all is well");
    cluster.logs().assert_no_panics();
}
