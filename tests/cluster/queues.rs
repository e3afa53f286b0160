//! The task queue on the command line.

use crate::jobs::{pull, push, stats, text, wait_for_stats};
use crate::running::nodes;
use quorate_tests::processes::alone;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_job_is_pushed_pulled_and_settled() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    // Nothing is there, and nothing is made by looking.
    for line in ["stats q", "peek q", "list q", "cancel q 1", "redrive q"] {
        quorate.run(&format!("queue {line}")).await.expect(3).expect_stderr("QUEUE_UNKNOWN");
    }
    quorate.run("queue delete q").await.expect(3);
    assert_eq!(quorate.run("queue queues -o json").await.expect(0).text(), "");
    assert_eq!(quorate.run("queue pull q").await.expect(0).text(), "");

    let first = push(&quorate, "q one --header a=b --content-type text/plain --group g").await;
    let urgent = push(&quorate, "q two --priority 9").await;
    assert_ne!(first, urgent);
    let next = quorate.run("queue peek q --count 2 -o json").await.expect(0).json_lines();
    assert_eq!((text(&next[0], "id"), text(&next[1], "id")), (&urgent[..], &first[..]));

    let jobs = pull(&quorate, "q --count 5").await;
    assert_eq!(jobs.len(), 2);
    let ids: Vec<_> = jobs.iter().map(|job| text(job, "id")).collect();
    assert_eq!(ids, [&urgent[..], &first[..]]);
    let job = &jobs[1];
    assert_eq!((&job["attempt"], text(job, "payload")), (&json!(1), "one"));
    assert_eq!(job["headers"], json!([{ "name": "a", "value": "b" }]));
    assert_eq!((text(job, "content_type"), text(job, "group")), ("text/plain", "g"));
    let left = job["lease_ms"].as_u64().expect("it is a number");
    assert!((20_000..=30_000).contains(&left), "{job}");
    let lease = text(job, "lease").to_owned();
    assert!(lease.parse::<u64>().is_ok());

    // Who works on it, and how far that is, can be seen.
    quorate.run(&format!("queue progress q {first} --lease {lease} 0.25 begun")).await.expect(0);
    let extended =
        quorate.run(&format!("queue extend q {first} --lease {lease} --for 10m -o json")).await;
    assert_eq!(extended.expect(0).json()["lease_ms"], 600_000);
    let shown = quorate.run(&format!("queue get q {first} -o json")).await.expect(0).json();
    assert_eq!((text(&shown, "state"), text(&shown, "lease")), ("leased", &lease[..]));
    assert_eq!((&shown["progress"]["fraction"], text(&shown, "payload")), (&json!(0.25), "one"));
    assert!(shown["lease_ms"].as_u64().is_some_and(|ms| ms > 500_000), "{shown}");
    let seen = quorate.run(&format!("queue get q {first}")).await.expect(0).text();
    assert!(seen.contains("25.0 %") && seen.contains("begun"), "{seen}");

    // Only under the lease, and only once.
    for word in ["ack", "nack", "extend"] {
        let wrong = quorate.run(&format!("queue {word} q {first} --lease 999999 -o json")).await;
        assert_eq!(wrong.expect(4).error_json()["reason"], "JOB_LEASE_LOST", "{word}");
        let none = quorate.run(&format!("queue {word} q 999999 --lease {lease} -o json")).await;
        assert_eq!(none.expect(3).error_json()["reason"], "JOB_UNKNOWN", "{word}");
    }
    let acked = quorate.run(&format!("queue ack q {first} --lease {lease} -o json")).await;
    assert_eq!(acked.expect(0).json(), json!({ "id": first, "acked": true }));
    let again = quorate.run(&format!("queue ack q {first} --lease {lease} -o json")).await;
    assert_eq!(again.expect(3).error_json()["reason"], "JOB_UNKNOWN");
    quorate.run(&format!("queue get q {first}")).await.expect(3);

    // Handed back, it is as if it had not been delivered; then it fails, waits, and is given up.
    let lease = text(&jobs[0], "lease");
    let back =
        quorate.run(&format!("queue nack q {urgent} --lease {lease} --return -o json")).await;
    assert_eq!(text(&back.expect(0).json(), "state"), "ready");
    let job = pull(&quorate, "q").await.remove(0);
    assert_eq!(job["attempt"], 1);
    let lease = text(&job, "lease");
    let line = format!("queue nack q {urgent} --lease {lease} --delay 300ms --error oh -o json");
    let nacked = quorate.run(&line).await.expect(0).json();
    assert_eq!((text(&nacked, "state"), &nacked["delay_ms"]), ("delayed", &json!(300)));
    let job = pull(&quorate, "q --wait 20s").await.remove(0);
    assert_eq!((text(&job, "id"), &job["attempt"]), (&urgent[..], &json!(2)));
    let lease = text(&job, "lease");
    let dead = quorate.run(&format!("queue nack q {urgent} --lease {lease} --dead -o json")).await;
    assert_eq!(text(&dead.expect(0).json(), "state"), "dead");
    let letter = quorate.run(&format!("queue get q {urgent} -o json")).await.expect(0).json();
    assert_eq!((text(&letter, "queue"), text(&letter, "from_queue")), ("q.dead", "q"));
    assert_eq!(
        (text(&letter, "death_cause"), text(&letter["failures"][0], "error")),
        ("rejected", "oh")
    );
    let redriven = quorate.run(&format!("queue redrive q {urgent} -o json")).await.expect(0).json();
    assert_eq!(redriven["moved"], 1);
    let job = pull(&quorate, "q").await.remove(0);
    assert_eq!((text(&job, "id"), &job["attempt"]), (&urgent[..], &json!(1)));
    let cancelled = quorate.run(&format!("queue cancel q {urgent} -o json")).await.expect(0).json();
    assert_eq!((&cancelled["cancelled"], &cancelled["was_leased"]), (&json!(true), &json!(true)));
    quorate.run(&format!("queue cancel q {urgent}")).await.expect(3);

    let figures = stats(&quorate, "q").await;
    for (name, count) in [
        ("ready", 0),
        ("delayed", 0),
        ("leased", 0),
        ("dead", 0),
        ("pushed", 3),
        ("acked", 1),
        ("nacked", 2),
        ("died", 1),
        ("cancelled", 1),
        ("delivered", 5),
    ] {
        assert_eq!(figures[name], count, "{name}: {figures}");
    }
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn what_is_said_of_a_push_is_heeded() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    // To the byte, also what is no text.
    quorate.run_apart("queue|push|q|-", Some(&[0xff, 0, b'\n'])).await.expect(0);
    let job = pull(&quorate, "q").await.remove(0);
    assert_eq!(text(&job, "payload_base64"), "/wAK");
    assert!(job.get("payload").is_none());

    let id = push(&quorate, "q a --dedupe-key k --dedupe-window 1h").await;
    let same = quorate.run("queue push q b --dedupe-key k -o json").await.expect(0);
    assert_eq!(same.json()["id"], json!(id));
    assert_eq!(same.json()["duplicate"], true);
    same.expect_stderr("duplicate");
    assert_eq!(push(&quorate, "q c --dedupe-key k").await, id);

    push(&quorate, "later a --delay 1h").await;
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    let tomorrow = tomorrow.duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs();
    push(&quorate, &format!("later b --not-before {tomorrow}")).await;
    let far = quorate.run("queue push later b --not-before 2999-01-01T00:00:00Z").await.expect(1);
    far.expect_stderr("the limit is 31622400000");
    push(&quorate, "later c --not-before 1000").await;
    let figures = stats(&quorate, "later").await;
    assert_eq!((&figures["ready"], &figures["delayed"]), (&json!(1), &json!(2)));
    let listed = quorate.run("queue list later --state delayed -o json").await.expect(0).text();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.contains(&format!("\"not_before_unix_ms\":{tomorrow}000")), "{listed}");
    push(&quorate, "brief a --ttl 1ms --delay 50ms").await;
    wait_for_stats(&quorate, "brief", |figures| figures["died"] == 1).await;

    // A line each, in batches.
    let lines: String = (0..1_000).map(|number| format!("line {number}\n")).collect();
    let pushed = quorate.run_apart("queue|push|many|--lines|-o|json", Some(lines.as_bytes())).await;
    assert_eq!(pushed.expect(0).json(), json!({ "pushed": 1_000 }));
    assert_eq!(stats(&quorate, "many").await["ready"], 1_000);
    let jobs = pull(&quorate, "many --count 3").await;
    let payloads: Vec<_> = jobs.iter().map(|job| text(job, "payload")).collect();
    assert_eq!(payloads, ["line 0", "line 1", "line 2"]);
    let listed = quorate.run("queue list many -o json --payloads").await.expect(0).text();
    assert_eq!(listed.lines().count(), 1_000);
    assert_eq!(quorate.run("queue list many --limit 5").await.expect(0).text().lines().count(), 6);

    // A guard that does not hold keeps it out.
    let refused = quorate.run("queue push guarded a --guard l:7 -o json").await.expect(4);
    assert_eq!(refused.error_json()["reason"], "LOCK_LOST");
    for (line, says) in [
        ("push q", "PAYLOAD"),
        ("push q p --delay 5", "5s"),
        ("push q p --not-before tomorrow", "2026-01-31T18:30:00Z"),
        ("pull q --wait 2h", "1h"),
        ("ack q 1", "--lease"),
        ("update q --rate 5", "100/1s"),
        ("work q", "CMD"),
    ] {
        quorate.run(&format!("queue {line}")).await.expect(2).expect_stderr(says);
    }
    for (bytes, says) in [(508, "the limit is 507"), (513, "QUEUE_NAME")] {
        let long = "n".repeat(bytes);
        quorate.run(&format!("queue push {long} x")).await.expect(1).expect_stderr(says);
    }
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_queue_is_made_changed_paused_purged_and_deleted() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    let line = "queue update q --visibility 1m --attempts 2 --backoff 1s..2m --jitter 50 \
                --dead-to letters --keep-done 1h --jobs-max 3 --when-full reject --parallel-max 1 \
                --rate 100/1s --dedupe-window 2m -o json";
    assert_eq!(quorate.run(line).await.expect(0).json()["created"], true);
    let figures = stats(&quorate, "q").await;
    let expected = json!({
        "visibility_ms": 60_000,
        "attempts_max": 2,
        "backoff": {
            "exponential": true, "base_ms": 1_000, "cap_ms": 120_000, "jitter_permille": 500,
        },
        "dead_letters": "letters",
        "keep_done_ms": 3_600_000,
        "jobs_max": 3,
        "when_full": "reject",
        "parallel_max": 1,
        "rate": { "jobs": 100, "per_ms": 1_000 },
        "dedupe_window_ms": 120_000,
    });
    assert_eq!(figures["options"], expected);
    let again = quorate.run("queue update q --rate off --dead-discard -o json").await.expect(0);
    assert_eq!(again.json()["created"], false);
    let options = &stats(&quorate, "q").await["options"];
    assert_eq!((&options["rate"], &options["dead_letters"]), (&Value::Null, &Value::Null));
    assert_eq!(options["attempts_max"], 2, "what is not named stays");

    for payload in ["a", "b", "c"] {
        push(&quorate, &format!("q {payload}")).await;
    }
    let full = quorate.run("queue push q d -o json").await.expect(1).error_json();
    assert_eq!(full["reason"], "QUEUE_FULL");
    // Or the oldest of the lowest priority makes room.
    quorate.run("queue update dropping --jobs-max 3 --when-full drop-oldest").await.expect(0);
    for payload in ["urgent --priority 9", "old", "young", "new", "newest --priority 1"] {
        push(&quorate, &format!("dropping {payload}")).await;
    }
    let left = pull(&quorate, "dropping --count 9").await;
    let left: Vec<_> = left.iter().map(|job| text(job, "payload")).collect();
    assert_eq!(left, ["urgent", "newest", "new"]);
    let figures = stats(&quorate, "dropping").await;
    assert_eq!((&figures["dropped"], &figures["pushed"]), (&json!(2), &json!(5)), "{figures}");
    assert_eq!(figures["options"]["when_full"], "drop-oldest");
    quorate.run("queue delete dropping").await.expect(0);
    quorate.run("queue pause q").await.expect(0);
    assert_eq!(pull(&quorate, "q --count 9").await.len(), 0);
    quorate.run("queue resume q").await.expect(0);
    assert_eq!(pull(&quorate, "q --count 9").await.len(), 1, "one at once");

    push(&quorate, "other x").await;
    let table = quorate.run("queue queues").await.expect(0).text();
    let names: Vec<_> = table.lines().skip(1).filter_map(|row| row.split(' ').next()).collect();
    assert_eq!(names, ["letters", "other", "q"], "{table}");
    let listed = quorate.run("queue queues o* -o json").await.expect(0).json();
    assert_eq!((text(&listed, "queue"), &listed["ready"]), ("other", &json!(1)));
    let seen = quorate.run("queue stats q").await.expect(0).text();
    assert!(seen.contains("visibility 1m, 2 attempts, backoff 1s doubling to 2m"), "{seen}");

    // Again and again: not on a terminal, so a line each.
    let watched =
        quorate.run("queue stats q --watch --every 100ms --count 3").await.expect(0).text();
    assert_eq!(watched.lines().count(), 3, "{watched}");
    assert!(!watched.contains('\u{1b}') && watched.contains("acked 0.0/s"), "{watched}");
    let watched = quorate.run("queue stats q --watch --every 100ms --count 2 -o json").await;
    let watched = watched.expect(0).json_lines();
    assert_eq!(watched[1]["per_second"]["pushed"], 0.0);

    let purged = quorate.run("queue purge q -o json").await.expect(0).json();
    assert_eq!(purged["purged"], 3);
    push(&quorate, "q e").await;
    let deleted = quorate.run("queue delete q -o json").await.expect(0).json();
    assert_eq!((&deleted["deleted"], &deleted["jobs"]), (&json!(true), &json!(1)));
    quorate.run("queue stats q").await.expect(3);
    cluster.logs().assert_no_panics();
}
