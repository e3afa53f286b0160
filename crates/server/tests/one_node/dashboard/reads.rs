//! Who may see what, and what is told to whom else.

use super::{filled, get, pushed, send};
use crate::access::{ADMIN, asking, auth, rule, token};
use crate::fixture::Fixture;
use quorate_proto::v1::AuthAction::{Admin, Publish, Read};
use quorate_proto::v1::AuthScope::{Cluster, Kv, Queue};

#[tokio::test]
async fn each_call_is_judged_as_the_one_it_stands_for() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    let nothing = token(&mut admin, "nothing", vec![]).await;
    let keys = token(&mut admin, "keys", vec![rule(Kv, Read, "*")]).await;
    let looks = token(&mut admin, "looks", vec![rule(Cluster, Read, "*")]).await;
    let reads = ["queues", "locks", "cache", "bus", "keys", "sessions", "series", "events"];
    for path in reads.iter().chain(&["whoami", "overview"]) {
        for (shown, reason) in [(None, "UNAUTHENTICATED"), (Some("x"), "UNAUTHENTICATED")] {
            let answer = get(&fixture, path, shown).await;
            assert_eq!(answer.refusal(), (401, reason.to_owned()), "{path}");
            assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
            assert!(answer.json().get("outcome").is_none(), "it changes nothing");
        }
    }
    for path in reads {
        let answer = get(&fixture, path, Some(&nothing)).await;
        assert_eq!(answer.refusal(), (403, "FORBIDDEN".to_owned()), "{path}");
    }
    for path in ["whoami", "overview"] {
        assert_eq!(get(&fixture, path, Some(&nothing)).await.status, 200, "{path}");
    }
    assert_eq!(get(&fixture, "keys", Some(&keys)).await.status, 200);
    assert_eq!(get(&fixture, "keys/YQ", Some(&keys)).await.refusal().0, 404);
    assert_eq!(get(&fixture, "queues", Some(&keys)).await.status, 403);
    for path in ["series", "sessions"] {
        assert_eq!(get(&fixture, path, Some(&looks)).await.status, 200, "{path}");
    }
    let who = get(&fixture, "whoami", Some(&keys)).await.json();
    assert_eq!(who["may"]["kv"]["read"], true);
    assert_eq!(who["may"]["queue"]["read"], false);
    assert_eq!(who["may"]["admin"], false);
    assert_eq!(who["roles"][0], "keys");
    let who = get(&fixture, "whoami?namespace=other", Some(&keys)).await.json();
    assert_eq!(who["may"]["kv"]["read"], false, "its rule is of the default namespace");
    assert_eq!(get(&fixture, "whoami", Some(ADMIN)).await.json()["may"]["admin"], true);
}

#[tokio::test]
async fn buttons_are_where_the_name_allows_them() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    let rules =
        vec![rule(Queue, Read, "*"), rule(Queue, Publish, "*"), rule(Queue, Admin, "shop.*")];
    let shop = token(&mut admin, "shop", rules).await;
    let push = |queue: &'static str| {
        let body = quorate_proto::v1::PushRequest {
            queue: queue.to_owned(),
            jobs: vec![quorate_proto::v1::NewJob::default()],
            ..Default::default()
        };
        let (fixture, shop) = (&fixture, shop.clone());
        async move {
            let bearer = crate::access::Bearer(shop);
            let channel = fixture.channel().await;
            quorate_proto::v1::queue_service_client::QueueServiceClient::with_interceptor(
                channel, bearer,
            )
            .push(body)
            .await
            .unwrap();
        }
    };
    push("shop.orders").await;
    push("other").await;
    let queues = get(&fixture, "queues", Some(&shop)).await.json()["queues"].take();
    let may: Vec<(&str, bool)> = queues
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| (queue["queue"].as_str().unwrap(), queue["may_admin"].as_bool().unwrap()))
        .collect();
    assert_eq!(may, [("other", false), ("shop.orders", true)]);
}

#[tokio::test]
async fn what_is_asked_for_is_what_is_told() {
    let fixture = Fixture::start().await;
    let _held = filled(&fixture).await;
    pushed(&fixture, "reports", &[&[b'x'; 5000]]).await;
    let queues = get(&fixture, "queues?prefix=re", None).await.json();
    assert_eq!(queues["queues"].as_array().unwrap().len(), 1);
    let page = get(&fixture, "queues?limit=1", None).await.json();
    assert_eq!(page["queues"][0]["queue"], "emails");
    let cursor = page["cursor"].as_str().unwrap();
    let page = get(&fixture, &format!("queues?limit=1&cursor={cursor}"), None).await.json();
    assert_ne!(page["queues"][0]["queue"], "emails");

    let jobs = get(&fixture, "queues/reports/jobs", None).await.json();
    assert_eq!(jobs["jobs"][0]["payload_bytes"], 5000);
    assert_eq!(
        jobs["jobs"][0]["payload_b64"].as_str().unwrap().len(),
        4096_usize.div_ceil(3) * 4 - 2
    );
    assert_eq!(jobs["jobs"][0]["headers"][0]["value"], serde_json::Value::Null);
    let dead = get(&fixture, "queues/emails/jobs?state=dead", None).await.json();
    assert_eq!(dead["jobs"][0]["failures"][0]["error"], "no such address");
    assert_eq!(dead["jobs"][0]["death_cause"], "rejected");
    let none = get(&fixture, "queues/reports/jobs?state=dead", None).await.json();
    assert_eq!(none["jobs"], serde_json::json!([]), "those of another queue are not its own");

    let lock = get(&fixture, "locks/report", None).await.json()["lock"].take();
    let left = lock["holders"][0]["remaining_ms"].as_u64().expect("the leader knows it");
    assert!(left > 0 && left <= 60_000, "{left}");
    let sessions = get(&fixture, "sessions", None).await.json();
    assert!(sessions["sessions"][0]["remaining_ms"].as_u64().unwrap() <= 60_000);
    let bus = get(&fixture, "bus", None).await.json();
    assert_eq!(bus["channels"][0]["is_pattern"], true);
    let value = get(&fixture, "keys/YS9i?bytes_max=2", None).await.json();
    assert_eq!((&value["value_b64"], &value["value_bytes"]), (&"aGU".into(), &5.into()));

    for (path, reason) in
        [("queues/none", "QUEUE_UNKNOWN"), ("keys/eno", "KEY_UNKNOWN"), ("nothing", "NOT_FOUND")]
    {
        assert_eq!(get(&fixture, path, None).await.refusal(), (404, reason.to_owned()), "{path}");
    }
    for path in ["keys/%2F", "keys?prefix=a&pattern=b", "queues?limit=x", "queues/q/jobs?state=x"] {
        assert_eq!(get(&fixture, path, None).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn no_other_site_has_a_part_in_it() {
    let fixture = Fixture::start().await;
    for (method, path, status) in [
        ("GET", "/", 302),
        ("GET", "/ui", 308),
        ("GET", "/ui/", 200),
        ("GET", "/ui/app.js", 200),
        ("GET", "/ui/API.md", 404),
        ("GET", "/ui/..%2Fapp.js", 404),
        ("GET", "/api/v1/whoami", 200),
        ("GET", "/api/v1/none", 404),
        ("OPTIONS", "/api/v1/queues", 405),
        ("DELETE", "/api/v1/queues/a", 405),
        ("POST", "/ui/app.js", 405),
    ] {
        let answer = send(&fixture, method, path, &[("origin", "http://evil")], None).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(
            answer.head.contains("content-security-policy: default-src 'self'; base-uri 'none'"),
            "{}",
            answer.head
        );
        assert!(
            answer.head.contains("cross-origin-resource-policy: same-origin"),
            "{}",
            answer.head
        );
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
        assert_eq!(answer.head.contains("no-store"), path.starts_with("/api/"), "{}", answer.head);
    }
    let file = send(&fixture, "GET", "/ui/app.css", &[], None).await;
    let etag = file.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = send(&fixture, "GET", "/ui/app.css", &[("if-none-match", etag)], None).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
}

#[tokio::test]
async fn a_node_that_asks_nobody_answers_under_its_own_name_only() {
    let fixture = Fixture::start().await;
    for (host, status) in [
        ("127.0.0.1:8813", 200),
        ("[::1]:8813", 200),
        ("10.0.0.1", 200),
        ("LocalHost:1", 200),
        ("evil.example:8813", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ] {
        let answer = send(&fixture, "GET", "/api/v1/whoami", &[("host", host)], None).await;
        assert_eq!(answer.status, status, "{host}");
    }
    // Where everybody is asked, what he shows is kept by the browser for one name alone.
    let asking = asking().await;
    let answer = send(&asking, "GET", "/api/v1/whoami", &[("host", "quorate.example")], None).await;
    assert_eq!(answer.status, 401);
}
