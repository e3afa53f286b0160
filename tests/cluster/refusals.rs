//! What queues refuse, and what becomes of jobs that nobody settles.

use crate::jobs::{pull, push, stats, text, wait_for_stats};
use crate::running::nodes;
use quorate_tests::processes::alone;
use serde_json::json;

#[tokio::test]
async fn what_is_wrong_with_a_command_is_said() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    for (line, says) in [
        ("push q x --delay -5s", "-5s is negative"),
        ("nack q 1 --lease 1 --delay -5s", "-5s is negative"),
        ("push q x --ttl 0s", "no time at all"),
        ("push q x --priority 256", "256"),
        ("pull q --count 129", "1..=128"),
        ("update q --jobs-max 0", "1..=5000000"),
        ("work q --parallel 0 -- true", "1..=1000"),
        ("ack q 0 --lease 1", "0"),
    ] {
        quorate.run(&format!("queue {line}")).await.expect(2).expect_stderr(says);
    }
    for line in ["push q x --delay 367d", "push q x --ttl 367d", "update q --visibility 500ms"] {
        quorate.run(&format!("queue {line}")).await.expect(1);
    }
    let long = "d".repeat(256);
    quorate.run(&format!("queue push q x --dedupe-key {long}")).await.expect(1);
    quorate.run(&format!("queue push q x --group {long}")).await.expect(1);
    quorate.run("queue stats q").await.expect(3).expect_stderr("QUEUE_UNKNOWN");

    // To the byte.
    let mut payload = vec![b'x'; 1 << 20];
    quorate.run_apart("queue|push|q|-", Some(&payload)).await.expect(0);
    payload.push(b'x');
    let refused = quorate.run_apart("queue|push|q|-|-o|json", Some(&payload)).await.expect(1);
    let error = refused.error_json();
    assert!(text(&error, "error").contains("1048576"), "{error}");
    // Of lines those before it are there.
    let lines = [b"one\n".to_vec(), payload].concat();
    let refused = quorate.run_apart("queue|push|lines|--lines", Some(&lines)).await.expect(2);
    refused.expect_stderr("longer than 1048576 bytes");
    assert_eq!(stats(&quorate, "q").await["pushed"], 1);

    // A header name and value at a time, 64 of them.
    let headers = |count: usize| "|--header|a=b".repeat(count);
    quorate.run_apart(&format!("queue|push|q|x{}", headers(64)), None).await.expect(0);
    quorate.run_apart(&format!("queue|push|q|x{}", headers(65)), None).await.expect(1);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let id = push(&quorate, "q x").await;
    for line in [
        "get none 1",
        "ack none 1 --lease 1",
        "nack none 1 --lease 1",
        "extend none 1 --lease 1 --for 1m",
        "progress none 1 --lease 1 0.5",
        "cancel none 1",
        "list none",
        "peek none",
        "redrive none",
        "stats none",
    ] {
        let refused = quorate.run(&format!("queue {line} -o json")).await.expect(3);
        assert_eq!(refused.error_json()["reason"], "QUEUE_UNKNOWN", "{line}");
    }
    for line in [
        "ack q 999 --lease 1",
        "nack q 999 --lease 1",
        "extend q 999 --lease 1 --for 1m",
        "progress q 999 --lease 1 0.5",
    ] {
        let refused = quorate.run(&format!("queue {line} -o json")).await.expect(3);
        assert_eq!(refused.error_json()["reason"], "JOB_UNKNOWN", "{line}");
    }
    quorate.run("queue get q 999").await.expect(3).expect_stderr("has no job 999");
    quorate.run("queue cancel q 999").await.expect(3);
    // Nothing is to be done then.
    let purged = quorate.run("queue purge none -o json").await.expect(0).json();
    assert_eq!(purged["purged"], 0);
    // One that nobody has.
    let refused = quorate.run(&format!("queue ack q {id} --lease 1 -o json")).await.expect(4);
    assert_eq!(refused.error_json()["reason"], "JOB_LEASE_LOST");
    // Dead letters outlive their queue.
    let job = pull(&quorate, "q").await.remove(0);
    let lease = text(&job, "lease");
    quorate.run(&format!("queue nack q {id} --lease {lease} --dead")).await.expect(0);
    quorate.run("queue delete q").await.expect(0);
    quorate.run(&format!("queue get q {id}")).await.expect(3).expect_stderr("QUEUE_UNKNOWN");
    let letter = quorate.run(&format!("queue get q.dead {id} -o json")).await.expect(0).json();
    assert_eq!((text(&letter, "from_queue"), text(&letter, "death_cause")), ("q", "rejected"));
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_job_is_settled_once_and_in_time() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let ack = async |id: &str, lease: &str| {
        quorate.run(&format!("queue ack q {id} --lease {lease} -o json")).await
    };
    // Long enough to extend a lease before it ends, on a slow machine, too.
    quorate.run("queue update q --visibility 3s --attempts 2 --backoff 0s").await.expect(0);

    // Too late; who has it now is not disturbed.
    let id = push(&quorate, "q x").await;
    let first = pull(&quorate, "q").await.remove(0);
    let second = pull(&quorate, "q --wait 20s").await.remove(0);
    assert_eq!((text(&second, "id"), &second["attempt"]), (&id[..], &json!(2)));
    assert_ne!(text(&first, "lease"), text(&second, "lease"));
    let extended = format!("queue extend q {id} --lease {} --for 1m", text(&second, "lease"));
    quorate.run(&extended).await.expect(0);
    let late = ack(&id, text(&first, "lease")).await.expect(4).error_json();
    assert_eq!(late["reason"], "JOB_LEASE_LOST");
    ack(&id, text(&second, "lease")).await.expect(0);

    // Who never says anything is given it so often, and then it is a dead letter.
    let id = push(&quorate, "q silent").await;
    for attempt in 1..=2 {
        let job = pull(&quorate, "q --wait 20s").await.remove(0);
        assert_eq!((text(&job, "id"), &job["attempt"]), (&id[..], &json!(attempt)));
    }
    wait_for_stats(&quorate, "q", |figures| figures["died"] == 1).await;
    assert_eq!(pull(&quorate, "q").await.len(), 0);
    let letter = quorate.run(&format!("queue get q {id} -o json")).await.expect(0).json();
    assert_eq!((text(&letter, "queue"), text(&letter, "death_cause")), ("q.dead", "attempts"));
    let attempts: Vec<_> = letter["failures"].as_array().expect("they are kept").iter().collect();
    assert_eq!(attempts.len(), 2, "{letter}");
    assert_eq!(stats(&quorate, "q").await["lapsed"], 3);

    // A second time, also of one that is kept.
    quorate.run("queue update q --visibility 1m --keep-done 1h").await.expect(0);
    let id = push(&quorate, "q kept").await;
    let job = pull(&quorate, "q").await.remove(0);
    ack(&id, text(&job, "lease")).await.expect(0);
    let shown = quorate.run(&format!("queue get q {id} -o json")).await.expect(0).json();
    assert_eq!(text(&shown, "state"), "done");
    let again = ack(&id, text(&job, "lease")).await.expect(3).error_json();
    assert_eq!(again["reason"], "JOB_UNKNOWN");
    assert_eq!(stats(&quorate, "q").await["acked"], 2);
    cluster.logs().assert_no_panics();
}
