//! `quorate txn`: the document, the answer, the exit statuses.

use crate::jobs::{pull, stats, text};
use crate::running::nodes;
use quorate_tests::processes::{Ended, alone};
use serde_json::{Value, json};
use std::ffi::OsString;

#[tokio::test]
async fn a_document_becomes_a_transaction_and_its_outcome_a_document() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(3).await;
    let run = async |line: &str| -> Ended { quorate.run(line).await };
    let txn = async |line: &str, document: &str| -> Ended {
        let line: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        quorate.run_with(&line, Some(document.as_bytes())).await
    };
    run("kv set a 1 --namespace shop").await.expect(0);
    run("kv set c x --namespace shop").await.expect(0);

    let document = r#"{
        "conditions": [
            {"key": "a", "is": "version", "version": 1},
            {"key": "b", "is": "absent"},
            {"key": "c", "is": "exists"},
            {"key": "c", "is": "value", "value": "x"}
        ],
        "then": [
            {"op": "get", "key": "a"},
            {"op": "set", "key": "b", "value_base64": "/w==", "ttl": "30s"},
            {"op": "delete", "key": "c"},
            {"op": "increment", "key": "a", "by": 41},
            {"op": "increment-float", "key": "f", "by": 0.5},
            {"op": "get", "key": "none"}
        ],
        "otherwise": [{"op": "get", "key": "b"}, {"op": "increment", "key": "lost", "by": -1}]
    }"#;
    let file = cluster.directory().join("transaction.json");
    std::fs::write(&file, document).expect("the directory takes a file");
    let line = format!("txn {} --namespace shop -o json", file.display());
    let answer = run(&line).await.expect(0).json();
    assert_eq!(answer["succeeded"], true);
    assert_eq!(answer.get("failed_condition"), None);
    assert!(answer["revision"].as_u64().is_some_and(|revision| revision < 1 << 53));
    let results = answer["results"].as_array().expect("results are a list");
    let read = &results[0];
    assert_eq!((&read["op"], &read["key"]), (&json!("get"), &json!("a")));
    assert_eq!((&read["found"], &read["value"]), (&json!(true), &json!("1")));
    assert_eq!(read["version"], 1);
    assert_eq!(
        results[1..],
        [
            json!({ "op": "set", "key": "b", "version": 1 }),
            json!({ "op": "delete", "key": "c", "deleted": true }),
            json!({ "op": "increment", "key": "a", "value": 42, "version": 2 }),
            json!({ "op": "increment-float", "key": "f", "value": 0.5, "version": 1 }),
            json!({ "op": "get", "key": "none", "found": false }),
        ]
    );

    // By now its first condition does not hold. The answer is there all the same.
    for output in ["table", "json"] {
        let refused = run(&format!("txn {} --namespace shop -o {output}", file.display())).await;
        let refused = refused.expect(4);
        let answer: Value = refused.json();
        assert_eq!((&answer["succeeded"], &answer["failed_condition"]), (&json!(false), &json!(0)));
        let read = &answer["results"][0];
        assert_eq!((&read["key"], &read["value_base64"]), (&json!("b"), &json!("/w==")));
        assert!(read["remaining_ttl_ms"].as_u64().is_some_and(|ms| (1..=30_000).contains(&ms)));
        assert_eq!(answer["results"][1]["op"], "increment");
        assert!(refused.stderr.contains("conditions[0]"), "{refused:?}");
    }
    assert_eq!(run("kv get lost --namespace shop").await.expect(0).text(), "-2");

    // What is refused names its place, and nothing of it happened.
    let halfway = r#"{"then": [{"op": "set", "key": "new", "value": "v"}, {"op": "increment", "key": "b", "by": 1}]}"#;
    let refused = txn("txn - --namespace shop -o json", halfway).await.expect(1);
    assert!(refused.stdout.is_empty(), "{refused:?}");
    let error = refused.error_json();
    assert_eq!(error["reason"], "NOT_A_NUMBER");
    assert!(error["error"].as_str().is_some_and(|text| text.starts_with("then[1]: ")), "{error}");
    run("kv get new --namespace shop").await.expect(3);

    // A document that is none is refused before anything is sent.
    for (document, says) in [
        ("{\n  \"then\": [{\"op\": \"get\"", "line 2"),
        (r#"{"then": [{"op": "get", "kye": "a"}]}"#, "`kye`"),
        (r#"{"otherwise": [{"op": "get"}]}"#, "otherwise[0]: key is missing"),
    ] {
        txn("txn -", document).await.expect(2).expect_stderr(says);
    }
    txn("txn -", "{}").await.expect(1).expect_stderr("TXN_EMPTY");
    run("txn /none/at/all.json").await.expect(1).expect_stderr("/none/at/all.json");
    let help = run("txn --help").await.expect(0).text();
    assert!(help.contains("\"otherwise\"") && help.contains("Example"), "{help}");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_transaction_takes_locks_that_outlive_the_command() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let txn = async |document: &str| -> Ended {
        quorate.run_apart("txn|-|-o|json", Some(document.as_bytes())).await
    };
    let sessions = async || quorate.run("session list -o json").await.expect(0).text();

    let both = r#"{
        "conditions": [{"lock": "ann", "is": "free"}],
        "then": [
            {"op": "acquire", "lock": "ann", "ttl": "20s"},
            {"op": "acquire", "lock": "bob", "shared": true},
            {"op": "set", "key": "k", "value": "1"}
        ],
        "otherwise": [{"op": "get", "key": "k"}]
    }"#;
    let taken = txn(both).await.expect(0).json();
    let number = |value: &Value| value.as_u64().expect("it is a number below 2^53");
    let (ann, bob) = (number(&taken["results"][0]["token"]), number(&taken["results"][1]["token"]));
    let session = number(&taken["session"]);
    let expected = [
        json!({ "op": "acquire", "lock": "ann", "token": ann, "ttl_ms": 20_000 }),
        json!({ "op": "acquire", "lock": "bob", "token": bob, "ttl_ms": 30_000 }),
        json!({ "op": "set", "key": "k", "version": 1 }),
    ];
    assert_eq!(taken["results"].as_array().map(|all| &all[..]), Some(&expected[..]));
    // Its session has the longest ttl of its locks, and is there for whoever knows the tokens.
    let listed: Value = serde_json::from_str(sessions().await.trim()).expect("there is one");
    assert_eq!(listed, json!({ "session": session, "ttl_ms": 30_000, "locks": 2, "keys": 0 }));
    let shown = quorate.run("lock inspect bob -o json").await.expect(0).json();
    assert_eq!(
        (&shown["holders"][0]["token"], &shown["holders"][0]["mode"]),
        (&json!(bob), &json!("shared"))
    );
    quorate.run(&format!("lock renew ann --token {ann}")).await.expect(0);

    // Neither one that takes the other branch nor one that is refused leaves a session behind.
    let other = txn(both).await.expect(4).json();
    assert_eq!((other["succeeded"].as_bool(), other.get("session")), (Some(false), None));
    let refused =
        txn(r#"{"then": [{"op": "acquire", "lock": "c"}, {"op": "acquire", "lock": "ann"}]}"#);
    let refused = refused.await.expect(4).error_json();
    assert_eq!(refused["reason"], "LOCK_HELD");
    assert!(
        refused["error"].as_str().is_some_and(|text| text.starts_with("then[1]: ")),
        "{refused}"
    );
    let listed: Value = serde_json::from_str(sessions().await.trim()).expect("there is one");
    assert_eq!(listed["session"], session);

    // Given back in the step that writes; by the token, in no session.
    let done = format!(
        r#"{{"conditions": [{{"lock": "ann", "is": "held", "token": {ann}}}],
            "then": [{{"op": "set", "key": "k", "value": "2"}},
                     {{"op": "release", "lock": "ann", "token": {ann}}},
                     {{"op": "release", "lock": "bob", "token": {ann}}}]}}"#
    );
    let answer = txn(&done).await.expect(0).json();
    let expected = [
        json!({ "op": "release", "lock": "ann", "released": true }),
        json!({ "op": "release", "lock": "bob", "released": false }),
    ];
    assert_eq!(answer["results"].as_array().map(|all| &all[1..]), Some(&expected[..]));
    assert_eq!(answer.get("session"), None);
    txn(&done).await.expect(4).expect_stderr("conditions[0]");
    assert_eq!(quorate.run("kv get k").await.expect(0).text(), "2");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_transaction_pushes_and_acknowledges_jobs_with_what_else_it_does() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let txn = async |document: Value| -> Ended {
        let document = document.to_string();
        quorate.run_apart("txn|-|-o|json", Some(document.as_bytes())).await
    };
    let order = json!({
        "conditions": [
            { "key": "order/17", "is": "absent" },
            { "queue": "orders", "is": "at-most", "jobs": 0 },
        ],
        "then": [
            { "op": "set", "key": "order/17", "value": "tea" },
            { "op": "push", "queue": "orders", "payload": "17" },
            { "op": "push", "queue": "orders", "payload_base64": "/w==" },
        ],
        "otherwise": [{ "op": "push", "queue": "again", "payload": "17" }],
    });
    let answer = txn(order.clone()).await.expect(0).json();
    let pushed = &answer["results"][1];
    assert_eq!((text(pushed, "op"), text(pushed, "queue")), ("push", "orders"));
    assert_eq!(pushed["duplicate"], false);
    // The other branch pushes, too.
    let answer = txn(order).await.expect(4).json();
    assert_eq!(answer["failed_condition"], 0);
    assert_eq!(stats(&quorate, "again").await["ready"], 1);
    let jobs = pull(&quorate, "orders --count 9").await;
    assert_eq!((jobs.len(), text(&jobs[0], "payload")), (2, "17"));
    assert_eq!(text(&jobs[1], "payload_base64"), "/w==");
    let full = json!({
        "conditions": [{ "queue": "orders", "is": "at-most", "jobs": 1 }],
        "then": [{ "op": "push", "queue": "orders", "payload": "18" }],
    });
    assert_eq!(txn(full).await.expect(4).json()["failed_condition"], 0);

    let (id, lease) = (text(&jobs[0], "id"), text(&jobs[0], "lease"));
    let done = |key: &str, lease: &str| {
        json!({ "then": [
            { "op": "set", "key": key, "value": "poured" },
            { "op": "ack", "queue": "orders", "job": id, "lease": lease },
        ] })
    };
    // Under another lease nothing of it happens.
    let refused = txn(done("result/17", "999999")).await.expect(4).error_json();
    assert_eq!(refused["reason"], "JOB_LEASE_LOST");
    assert!(text(&refused, "error").starts_with("then[1]: "), "{refused}");
    quorate.run("kv get result/17").await.expect(3);
    let answer = txn(done("result/17", lease)).await.expect(0).json();
    assert_eq!(answer["results"][1], json!({ "op": "ack", "queue": "orders" }));
    assert_eq!(quorate.run("kv get result/17").await.expect(0).text(), "poured");
    let again = txn(done("result/18", lease)).await.expect(3).error_json();
    assert_eq!(again["reason"], "JOB_UNKNOWN");
    quorate.run("kv get result/18").await.expect(3);
    assert_eq!(stats(&quorate, "orders").await["acked"], 1);
    cluster.logs().assert_no_panics();
}
