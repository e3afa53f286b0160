//! What the pages change.

use super::{Holder, filled, get, key, killed, press, pushed, send};
use crate::access::{ADMIN, asking, auth, rule, token};
use crate::fixture::Fixture;
use quorate_proto::v1;
use quorate_proto::v1::AuthAction::Read;
use quorate_proto::v1::AuthScope::{Lock, Queue};
use serde_json::json;

async fn queue(fixture: &Fixture, name: &str) -> serde_json::Value {
    get(fixture, &format!("queues/{name}"), None).await.json()["queue"].take()
}

#[tokio::test]
async fn a_queue_is_paused_emptied_and_its_dead_letters_go_back() {
    let fixture = Fixture::start().await;
    pushed(&fixture, "e/mails", &[b"1", b"2", b"3"]).await;
    killed(&fixture, "e/mails").await;
    killed(&fixture, "e/mails").await;
    let at = "e%2Fmails";
    let does = |action: &'static str, number: u8, body: &'static str| {
        let (fixture, path) = (&fixture, format!("queues/{at}/{action}"));
        async move { press(fixture, &path, at, &key(number), None, body).await }
    };
    assert_eq!(does("pause", 1, "{}").await.status, 200);
    assert_eq!(queue(&fixture, at).await["paused"], true);
    assert_eq!(does("resume", 2, "{}").await.status, 200);
    assert_eq!(queue(&fixture, at).await["paused"], false);

    let dead = get(&fixture, &format!("queues/{at}/jobs?state=dead"), None).await.json();
    let first = dead["jobs"][0]["job_id"].as_str().unwrap();
    let body = json!({"job_ids": [first]}).to_string();
    let path = format!("queues/{at}/redrive");
    let redriven = press(&fixture, &path, at, &key(3), None, &body).await.json();
    assert_eq!(redriven["moved"], 1, "{redriven}");
    let again = press(&fixture, &path, at, &key(3), None, &body).await.json();
    assert_eq!(again, redriven, "the same press has one effect");
    let redriven = does("redrive", 4, r#"{"cursor": null}"#).await.json();
    assert_eq!((&redriven["moved"], &redriven["cursor"]), (&json!(1), &json!(null)));
    assert_eq!(queue(&fixture, at).await["ready"], 3);

    let purged = does("purge", 5, "{}").await.json();
    assert_eq!(purged["purged"], 3, "{purged}");
    for (body, reason) in [("", "INVALID"), (r#"{"job_ids": ["x"]}"#, "INVALID"), ("[1", "INVALID")]
    {
        let answer = press(&fixture, &path, at, &key(6), None, body).await;
        assert_eq!(answer.refusal(), (400, reason.to_owned()), "{body}");
        assert_eq!(answer.json()["outcome"], "not_applied");
    }
}

#[tokio::test]
async fn a_queue_that_there_is_not_is_not_made() {
    let fixture = Fixture::start().await;
    for action in ["pause", "resume", "purge", "redrive"] {
        let path = format!("queues/none/{action}");
        let answer = press(&fixture, &path, "none", &key(1), None, "{}").await;
        assert_eq!(answer.refusal(), (404, "QUEUE_UNKNOWN".to_owned()), "{action}");
        assert_eq!(answer.json()["outcome"], "not_applied");
    }
    assert_eq!(get(&fixture, "queues", None).await.json()["queues"], json!([]));
}

#[tokio::test]
async fn only_a_page_of_this_node_changes_anything() {
    let fixture = Fixture::start().await;
    pushed(&fixture, "q", &[b"1"]).await;
    let key = key(1);
    let whole = [
        ("content-type", "application/json"),
        ("x-quorate-confirm", "q"),
        ("idempotency-key", key.as_str()),
    ];
    // As a form of another site would send it, and each time with one thing missing.
    for missing in 0..=whole.len() {
        let headers: Vec<_> = whole
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != missing)
            .map(|(_, one)| *one)
            .collect();
        let answer = send(&fixture, "POST", "/api/v1/queues/q/purge", &headers, Some("{}")).await;
        let expected = if missing == whole.len() { 200 } else { 400 };
        assert_eq!(answer.status, expected, "without {missing}: {answer:?}");
        assert_eq!(queue(&fixture, "q").await["ready"], u8::from(expected != 200));
    }
    let mut crossing = whole.to_vec();
    crossing.push(("sec-fetch-site", "cross-site"));
    let answer = send(&fixture, "POST", "/api/v1/queues/q/purge", &crossing, Some("{}")).await;
    assert_eq!(answer.refusal(), (403, "CROSS_SITE".to_owned()));
    let large = format!("{}{{}}", " ".repeat(70_000));
    let answer = send(&fixture, "POST", "/api/v1/queues/q/purge", &whole, Some(&large)).await;
    assert_eq!(answer.refusal(), (400, "REQUEST_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn who_may_not_administer_changes_nothing() {
    let fixture = asking().await;
    let mut admin = auth(&fixture, ADMIN).await;
    let reads =
        token(&mut admin, "reads", vec![rule(Queue, Read, "*"), rule(Lock, Read, "*")]).await;
    for (path, name, body) in [
        ("queues/q/pause", "q", "{}"),
        ("queues/q/purge", "q", "{}"),
        ("queues/q/redrive", "q", "{}"),
        ("locks/l/force-release", "l", r#"{"fencing_tokens": [1]}"#),
    ] {
        let answer = press(&fixture, path, name, &key(1), Some(&reads), body).await;
        assert_eq!(answer.refusal(), (403, "FORBIDDEN".to_owned()), "{path}");
        assert_eq!(answer.json()["outcome"], "not_applied", "{path}");
        let answer = press(&fixture, path, name, &key(1), None, body).await;
        assert_eq!(answer.refusal(), (401, "UNAUTHENTICATED".to_owned()), "{path}");
    }
    let release = r#"{"fencing_tokens": [1]}"#;
    let answer = press(&fixture, "locks/l/force-release", "l", &key(2), Some(ADMIN), release).await;
    assert_eq!(answer.json()["released"], 0);
}

#[tokio::test]
async fn a_lock_is_taken_from_those_who_were_seen_and_nobody_else() {
    let fixture = Fixture::start().await;
    let _held = filled(&fixture).await;
    let (mut one, mut two) = (Holder::open(&fixture).await, Holder::open(&fixture).await);
    let first = one.acquire("shared", v1::LockMode::Shared).await;
    let second = two.acquire("shared", v1::LockMode::Shared).await;
    let path = "locks/shared/force-release";
    let body = json!({"fencing_tokens": [first, 1_000_000]}).to_string();
    let answer = press(&fixture, path, "shared", &key(1), None, &body).await.json();
    assert_eq!(answer["released"], 1, "{answer}");
    let again = press(&fixture, path, "shared", &key(1), None, &body).await.json();
    assert_eq!(again["released"], 1, "the same press has one effect, and the same answer");
    let lock = get(&fixture, "locks/shared", None).await.json()["lock"].take();
    let holders = lock["holders"].as_array().unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0]["fencing_token"], second, "who was not named keeps it");
    for body in [r#"{"fencing_tokens": []}"#, "{}", r#"{"fencing_tokens": ["a"]}"#] {
        let answer = press(&fixture, path, "shared", &key(2), None, body).await;
        assert_eq!(answer.status, 400, "{body}");
    }
}
