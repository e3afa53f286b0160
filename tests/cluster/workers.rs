//! `quorate queue work`: commands that do jobs, and what becomes of those when workers or nodes die.

use crate::jobs::{pull, push, stats, text, wait_for_stats};
use crate::running::{PATIENCE, Running, nodes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_client::Client;
use quorate_client::queue::NewJob;
use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Quorate, alone, http_get, say, send, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Runs until it is ended.
const ENDLESS: &str = "echo begun; while :; do sleep 0.1; done";

fn work(quorate: &Quorate, options: &str, script: &str) -> Running {
    Running::script(quorate, "queue work", options, script)
}

/// A process that nobody waits for any more: it is ended with the test.
struct LeftBehind(i32);

impl Drop for LeftBehind {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(self.0), Signal::SIGKILL);
    }
}

/// Streams of consumers, on all nodes.
async fn consumers(cluster: &ProcessCluster) -> u64 {
    let mut open = 0;
    for id in cluster.live_ids() {
        let (_, page) = http_get(cluster.http_addr(id), "/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix("quorate_consumers "));
        open += line.and_then(|count| count.parse::<u64>().ok()).expect("it is counted");
    }
    open
}

#[tokio::test]
async fn a_command_does_jobs_and_its_status_says_how_that_went() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    quorate.run("queue update q --backoff 0s --attempts 2").await.expect(0);
    let ok = push(&quorate, "q ok").await;
    let bad = push(&quorate, "q bad").await;
    // The second attempt of the bad one is its last.
    let script = "read payload; echo $payload $QUORATE_JOB_ID $QUORATE_JOB_ATTEMPT $QUORATE_QUEUE; \
                  [ $payload = ok ] || { echo first >&2; echo no disk >&2; exit 7; }";
    let mut running = work(&quorate, "q --max-jobs 3", script);
    let lines = [running.line().await, running.line().await, running.line().await];
    assert_eq!(lines, [format!("ok {ok} 1 q"), format!("bad {bad} 1 q"), format!("bad {bad} 2 q")]);
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    let done: Value = serde_json::from_str(&rest).expect("it is JSON");
    assert_eq!(done, json!({ "done": 1, "failed": 2, "lost": 0, "handed_back": 0, "unknown": 0 }));
    assert!(said.contains("no disk") && said.contains("exit status 7"), "{said}");
    let letter = quorate.run(&format!("queue get q {bad} -o json")).await.expect(0).json();
    assert_eq!(text(&letter, "death_cause"), "attempts");
    assert_eq!(text(&letter["failures"][1], "error"), "exit status 7: no disk");
    assert_eq!(quorate.run("session list -o json").await.expect(0).text(), "");

    // One that can't be run costs no attempt.
    push(&quorate, "q x").await;
    for (command, status) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        quorate.run(&format!("queue work q -- {command}")).await.expect(status);
        assert_eq!(stats(&quorate, "q").await["ready"], 1);
    }
    let job = pull(&quorate, "q").await.remove(0);
    assert_eq!(job["attempt"], 1);
    let (id, lease) = (text(&job, "id"), text(&job, "lease"));
    quorate.run(&format!("queue ack q {id} --lease {lease}")).await.expect(0);

    // It is kept for as long as it takes, also when it is the last one that was wanted.
    quorate.run("queue update q --visibility 3s").await.expect(0);
    push(&quorate, "q long").await;
    let script = "echo begun; sleep 7; echo done";
    let mut running = work(&quorate, "q --max-jobs 1 --grace 1s", script);
    assert_eq!(running.line().await, "begun");
    assert_eq!(running.line().await, "done");
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"done\":1"), "{rest}");
    assert_eq!(stats(&quorate, "q").await["lapsed"], 0);
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_command_is_ended_with_its_worker_its_job_or_its_queue() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;

    // A signal lets it finish; a second one does not.
    push(&quorate, "q slow").await;
    let mut running = work(&quorate, "q", "echo begun; sleep 1; echo done");
    assert_eq!(running.line().await, "begun");
    send(&running.child, Signal::SIGTERM);
    assert_eq!(running.line().await, "done");
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"done\":1"), "{rest}");
    // Its job goes back when it has stopped, and not before.
    let gone = cluster.directory().join("gone");
    let slow = push(&quorate, "q slow").await;
    let script = format!("trap 'sleep 2; touch {}; exit' TERM; {ENDLESS}", gone.display());
    let mut running = work(&quorate, "q", &script);
    assert_eq!(running.line().await, "begun");
    send(&running.child, Signal::SIGINT);
    running.says("quorate: stopping; jobs that run have 30s").await;
    send(&running.child, Signal::SIGINT);
    let job = pull(&quorate, "q --wait 20s").await.remove(0);
    assert!(gone.exists(), "it was given to another while it ran");
    assert_eq!((text(&job, "id"), &job["attempt"]), (&slow[..], &json!(1)), "no attempt");
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"handed_back\":1"), "{rest} {said}");
    quorate.run(&format!("queue cancel q {slow}")).await.expect(0);

    // Likewise when its grace is over.
    let slow = push(&quorate, "q slow").await;
    let mut running = work(&quorate, "q --grace 500ms", "echo begun; exec sleep 600");
    assert_eq!(running.line().await, "begun");
    send(&running.child, Signal::SIGTERM);
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"handed_back\":1"), "{rest} {said}");
    quorate.run(&format!("queue cancel q {slow}")).await.expect(0);

    // One that was cancelled is ended, with all it has started.
    let id = push(&quorate, "q endless").await;
    let mut running = work(&quorate, "q", "trap 'echo told' TERM; echo begun; sleep 600");
    assert_eq!(running.line().await, "begun");
    quorate.run(&format!("queue cancel q {id}")).await.expect(0);
    assert_eq!(running.line().await, "told");
    send(&running.child, Signal::SIGTERM);
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"lost\":1"), "{rest}");

    // A queue that is deleted ends its workers, and what they do for it.
    push(&quorate, "q last").await;
    let mut running = work(&quorate, "q", &format!("trap 'echo told; exit' TERM; {ENDLESS}"));
    assert_eq!(running.line().await, "begun");
    quorate.run("queue delete q").await.expect(0);
    assert_eq!(running.line().await, "told");
    let (status, _, said) = running.ended().await;
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("QUEUE_UNKNOWN"), "{said}");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn what_a_command_leaves_behind_does_not_hold_up_its_end() {
    let _alone = alone().await;
    let (cluster, quorate) = nodes(1).await;
    // More than a pipe takes, and nobody reads it.
    let payload = vec![b'x'; 1 << 20];
    quorate.run_apart("queue|push|q|-", Some(&payload)).await.expect(0);
    let script = "exec 3<&0; sleep 600 <&3 >/dev/null & echo $!";
    let begun = Instant::now();
    let mut running = work(&quorate, "q --max-jobs 1", script);
    let _left = LeftBehind(running.line().await.parse().expect("it is a process"));
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"done\":1"), "{rest}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn the_jobs_of_a_worker_that_is_killed_are_done_by_others() {
    /// Its session can't have ended by then: of its 10 s a third may have passed when it is killed.
    const LONG_BEFORE: Duration = Duration::from_secs(5);
    let _alone = alone().await;
    let (cluster, quorate) = nodes(3).await;
    quorate.run("queue update q --visibility 12h --backoff 0s").await.expect(0);
    let delivered = push(&quorate, "q delivered").await;
    // It has room for another one.
    let script = "echo $$; exec sleep 600";
    let mut victim = work(&quorate, "q --session-ttl 10s --parallel 2", script);
    let _left = LeftBehind(victim.line().await.parse().expect("it is a process"));
    let killed = Instant::now();
    send(&victim.child, Signal::SIGKILL);
    victim.child.wait().await.expect("its end can be waited for");
    wait_until("its stream ends", LONG_BEFORE, || async { consumers(&cluster).await == 0 }).await;
    // What it had not been given is elsewhere at once, and does not wait for its session.
    let undelivered = push(&quorate, "q undelivered").await;
    let job = pull(&quorate, "q --wait 10s").await.remove(0);
    assert!(killed.elapsed() < LONG_BEFORE, "{:?}", killed.elapsed());
    assert_eq!((text(&job, "id"), &job["attempt"]), (&undelivered[..], &json!(1)));
    // What it had is elsewhere when its session has ended, long before the lease would.
    let job = pull(&quorate, "q --wait 40s").await.remove(0);
    assert_eq!((text(&job, "id"), &job["attempt"]), (&delivered[..], &json!(2)));
    let took = killed.elapsed();
    assert!(took > LONG_BEFORE && took < Duration::from_secs(40), "{took:?}");

    // Without a session it is the lease that counts.
    quorate.run("queue update brief --visibility 1s --backoff 0s").await.expect(0);
    let id = push(&quorate, "brief x").await;
    assert_eq!(pull(&quorate, "brief").await.len(), 1);
    let job = pull(&quorate, "brief --wait 20s").await.remove(0);
    assert_eq!((text(&job, "id"), &job["attempt"]), (&id[..], &json!(2)));
    assert_eq!(stats(&quorate, "brief").await["lapsed"], 1);
    cluster.logs().assert_no_panics();
}

/// Its credit is used up by large jobs while it stands still: some are on their way to it, most are
/// not.
#[tokio::test]
async fn what_a_killed_consumer_was_not_sent_is_with_others_at_once() {
    const CREDIT: usize = 100;
    const VISIBILITY: Duration = Duration::from_secs(6);
    /// What is promised; it takes a tenth of that.
    const AT_ONCE: Duration = Duration::from_secs(1);
    let _alone = alone().await;
    let (cluster, quorate) = nodes(3).await;
    quorate.run("queue update q --visibility 6s --backoff 0s").await.expect(0);
    let mut victim = work(&quorate, "q --parallel 100 --session-ttl 1m", "cat > /dev/null");
    wait_until("it consumes", PATIENCE, || async { consumers(&cluster).await == 1 }).await;
    send(&victim.child, Signal::SIGSTOP);
    let client = Client::builder().endpoints(cluster.endpoints()).connect().expect("a client");
    let queues = client.queue();
    let pushed = Instant::now();
    for _ in 0..4 {
        let jobs = (0..CREDIT / 4).map(|_| NewJob::new(vec![b'x'; 64 << 10]));
        queues.push_many("q", jobs).await.expect("they are pushed");
    }
    wait_for_stats(&quorate, "q", |figures| figures["leased"] == CREDIT).await;
    let killed = Instant::now();
    send(&victim.child, Signal::SIGKILL);
    victim.child.wait().await.expect("its end can be waited for");

    let mut consumer = queues.consume("q", 100).start().await.expect("another one");
    let (mut at_once, mut later) = (Vec::new(), Vec::new());
    // Nobody waits for their answers before all have come: what is measured is how they come.
    let mut acks = JoinSet::new();
    while at_once.len() + later.len() < CREDIT {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let job = next.expect("all of them come").expect("it goes on").expect("the queue is there");
        match job.attempt() {
            1 => at_once.push(killed.elapsed()),
            2 => later.push((pushed.elapsed(), killed.elapsed())),
            more => panic!("attempt {more}"),
        }
        acks.spawn(job.ack());
    }
    while let Some(acked) = acks.join_next().await {
        acked.expect("no ack panics").expect("it is done");
    }
    let all_at_once = at_once.iter().max().expect("most were not sent");
    let (first_later, _) = later.first().expect("some were sent");
    let (_, all_later) = later.last().expect("some were sent");
    say(format!(
        "{} were not sent, and with another one within {all_at_once:?}; {} were, the first came {first_later:?} \
         after the push, the last {all_later:?} after the kill",
        at_once.len(),
        later.len(),
    ));
    assert!(at_once.len() >= CREDIT / 2, "{} were not sent", at_once.len());
    assert!(*all_at_once < AT_ONCE, "{all_at_once:?}");
    // Their leases count from when they were given, which is after their push.
    assert!(*first_later >= VISIBILITY, "{first_later:?}");
    assert!(*all_later < VISIBILITY + Duration::from_secs(10), "{all_later:?}");
    consumer.close().await;
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_worker_goes_on_when_its_node_is_killed() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    let go = cluster.directory().join("go");
    let script = format!(
        "read payload; echo $payload; [ $payload != long ] || \
         {{ while [ ! -e {} ]; do sleep 0.1; done; echo long is done; }}",
        go.display()
    );
    let mut running = work(&quorate, "q --parallel 4", &script);
    push(&quorate, "q first").await;
    assert_eq!(running.line().await, "first");
    push(&quorate, "q long").await;
    assert_eq!(running.line().await, "long");
    let leader = cluster.leader().await.expect("one leads");
    cluster.kill(leader).await.expect("it can be killed");
    for payload in ["second", "third"] {
        push(&quorate, &format!("q {payload} --timeout 20s")).await;
        assert_eq!(running.line().await, payload);
    }
    // What it was doing when its node died is its own still, and is done once.
    std::fs::write(&go, "").expect("the directory takes a file");
    assert_eq!(running.line().await, "long is done");
    wait_for_stats(&quorate, "q", |figures| figures["acked"] == 4).await;
    let figures = stats(&quorate, "q").await;
    assert_eq!((&figures["delivered"], &figures["lapsed"]), (&json!(4), &json!(0)), "{figures}");
    send(&running.child, Signal::SIGTERM);
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"done\":4") && rest.contains("\"lost\":0"), "{rest}");
    cluster.logs().assert_no_panics();
}

#[tokio::test]
async fn a_worker_is_told_what_it_lost_while_it_was_cut_off() {
    let _alone = alone().await;
    let (mut cluster, quorate) = nodes(3).await;
    // Its extensions would notice after three minutes.
    quorate.run("queue update q --visibility 10m").await.expect(0);
    let lost = push(&quorate, "q lost").await;
    push(&quorate, "q kept").await;
    let script = format!("read payload; trap \"echo $payload is ended; exit\" TERM; {ENDLESS}");
    let mut running = work(&quorate, "q --parallel 2 --session-ttl 1m", &script);
    assert_eq!([running.line().await, running.line().await], ["begun", "begun"]);
    send(&running.child, Signal::SIGSTOP);
    let leader = cluster.leader().await.expect("one leads");
    cluster.kill(leader).await.expect("it can be killed");
    cluster.wait_ready().await.expect("another one leads");
    let cancelled = quorate.run(&format!("queue cancel q {lost} --timeout 20s -o json")).await;
    assert_eq!(cancelled.expect(0).json()["was_leased"], true);
    send(&running.child, Signal::SIGCONT);
    assert_eq!(running.line().await, "lost is ended");
    // The other one runs on.
    send(&running.child, Signal::SIGTERM);
    running.says("quorate: stopping; jobs that run have 30s").await;
    assert_eq!(stats(&quorate, "q").await["leased"], 1);
    send(&running.child, Signal::SIGTERM);
    assert_eq!(running.line().await, "kept is ended");
    let (status, rest, said) = running.ended().await;
    assert_eq!(status, 0, "{said}");
    assert!(rest.contains("\"lost\":1") && rest.contains("\"handed_back\":1"), "{rest}");
    cluster.logs().assert_no_panics();
}
