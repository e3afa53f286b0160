//! What the page of metrics shows of the state, of the ports and of the process.

use crate::fixture::Fixture;
use quorate_proto::v1;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use tonic::transport::Channel;

/// The page, and the value of a metric on it by its name with its labels.
struct Page(String);

impl Page {
    async fn of(node: &Fixture) -> Self {
        Self(node.http("/metrics").await)
    }

    fn find(&self, name: &str) -> Option<f64> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    fn get(&self, name: &str) -> f64 {
        self.find(name).unwrap_or_else(|| panic!("{name} is not in\n{}", self.0))
    }
}

async fn push(
    queues: &mut QueueServiceClient<Channel>,
    namespace: &str,
    queue: &str,
    count: usize,
) {
    let job = v1::NewJob { payload: b"p".to_vec().into(), ..Default::default() };
    let asked = v1::PushRequest {
        namespace: namespace.to_owned(),
        queue: queue.to_owned(),
        jobs: vec![job; count],
        ..Default::default()
    };
    queues.push(asked).await.unwrap();
}

#[tokio::test]
async fn queues_are_shown_with_what_happens_in_them() {
    let node = Fixture::start().await;
    let mut queues = QueueServiceClient::new(node.channel().await);
    push(&mut queues, "", "mail", 3).await;
    push(&mut queues, "shop", "a\"b", 1).await;
    let page = Page::of(&node).await;
    let of = |metric: &str, queue: &str, label: &str| {
        page.get(&format!("quorate_queue_{metric}{{namespace={queue}{label}}}"))
    };
    let (mail, other) = ("\"\",queue=\"mail\"", "\"shop\",queue=\"a\\\"b\"");
    assert_eq!(of("jobs", mail, ",state=\"ready\""), 3.0);
    assert_eq!(of("jobs", mail, ",state=\"leased\""), 0.0);
    assert_eq!(of("jobs", other, ",state=\"ready\""), 1.0);
    assert_eq!(of("events_total", mail, ",event=\"pushed\""), 3.0);
    assert_eq!(of("events_total", mail, ",event=\"acked\""), 0.0);
    assert_eq!(of("dead_letters", mail, ""), 0.0);
    assert!(of("oldest_ready_age_seconds", mail, "") >= 0.0);
    assert_eq!(page.get("quorate_queues_not_shown"), 0.0);

    // One job is taken, and given up.
    let asked = v1::PullRequest { queue: "mail".to_owned(), count: 1, ..Default::default() };
    let taken = queues.pull(asked).await.unwrap().into_inner().jobs.remove(0);
    let nack = v1::NackRequest {
        queue: "mail".to_owned(),
        job_id: taken.job_id,
        lease: taken.lease,
        verdict: v1::NackVerdict::Dead.into(),
        ..Default::default()
    };
    queues.nack(nack).await.unwrap();
    let page = Page::of(&node).await;
    let event = |event: &str| {
        page.get(&format!("quorate_queue_events_total{{namespace={mail},event=\"{event}\"}}"))
    };
    assert_eq!((event("delivered"), event("nacked"), event("died")), (1.0, 1.0, 1.0));
    assert_eq!(page.get(&format!("quorate_queue_dead_letters{{namespace={mail}}}")), 1.0);
    let dead = "quorate_queue_jobs{namespace=\"\",queue=\"mail.dead\",state=\"ready\"}";
    assert_eq!(page.get(dead), 1.0);
}

#[tokio::test]
async fn so_many_queues_are_shown_and_the_others_are_counted() {
    let node = Fixture::start().await;
    let mut queues = QueueServiceClient::new(node.channel().await);
    for number in 0..102 {
        push(&mut queues, "", &format!("q{number}"), if number == 101 { 2 } else { 1 }).await;
    }
    let page = Page::of(&node).await;
    assert_eq!(page.get("quorate_queues_not_shown"), 2.0);
    let shown = page.0.lines().filter(|line| line.starts_with("quorate_queue_dead_letters{"));
    assert_eq!(shown.count(), 100);
    let ready = |queue: &str| {
        page.find(&format!(
            "quorate_queue_jobs{{namespace=\"\",queue=\"{queue}\",state=\"ready\"}}"
        ))
    };
    // Those with most jobs; of the others the first by name.
    assert_eq!((ready("q101"), ready("q98"), ready("q99")), (Some(2.0), None, None));
}

#[tokio::test]
async fn locks_sessions_and_members_are_counted() {
    let node = Fixture::start().await;
    let mut sessions = SessionServiceClient::new(node.channel().await);
    let opened = sessions.open(v1::OpenRequest { ttl_ms: 30_000, ..Default::default() });
    let session_id = opened.await.unwrap().into_inner().session_id;
    let mut locks = LockServiceClient::new(node.channel().await);
    let origin =
        |sequence| Some(v1::Origin { session_id, sequence, floor: 1, ..Default::default() });
    let acquire = |name: &str, sequence, wait_ms| v1::LockAcquireRequest {
        origin: origin(sequence),
        name: name.to_owned(),
        ttl_ms: 30_000,
        wait_ms,
        ..Default::default()
    };
    locks.acquire(acquire("a", 1, 0)).await.unwrap();
    locks.acquire(acquire("b", 2, 0)).await.unwrap();
    let mut waits = locks.clone();
    let waiting = acquire("b", 3, 60_000);
    let waiting = tokio::spawn(async move { waits.acquire(waiting).await });
    let page = loop {
        let page = Page::of(&node).await;
        if page.get("quorate_lock_waiters") > 0.0 {
            break page;
        }
        assert!(!waiting.is_finished(), "it waits");
        tokio::task::yield_now().await;
    };
    assert_eq!(page.get("quorate_lock_waiters"), 1.0);
    assert_eq!(page.get("quorate_locks_held"), 2.0);
    assert_eq!(page.get("quorate_sessions"), 1.0);
    for of in ["locks", "sessions"] {
        assert_eq!(page.get(&format!("quorate_counted_in_part{{of=\"{of}\"}}")), 0.0);
    }
    assert_eq!(page.get("quorate_members{kind=\"voter\"}"), 1.0);
    assert_eq!(page.get("quorate_members{kind=\"learner\"}"), 0.0);
    assert_eq!(page.get("quorate_member_plans"), 0.0);
    waiting.abort();
}

#[tokio::test]
async fn limits_readiness_and_the_process_are_shown() {
    let node = Fixture::start_with(|options| {
        options.connections_max = 77;
        options.streams_per_connection_max = 55;
    })
    .await;
    push(&mut QueueServiceClient::new(node.channel().await), "", "q", 1).await;
    let page = Page::of(&node).await;
    assert_eq!(page.get("quorate_ready"), 1.0);
    assert_eq!(page.get("quorate_connections_max{port=\"client\"}"), 77.0);
    assert_eq!(page.get("quorate_streams_per_connection_max"), 55.0);
    // It leads, and was elected before anybody could see another.
    assert_eq!(page.get("quorate_raft_elections_total"), 0.0);
    assert_eq!(page.get("quorate_disk_full_refused_total"), 0.0);
    assert!(page.get("process_resident_memory_bytes") > 1_048_576.0);
    let (open, most) = (page.get("process_open_fds"), page.get("process_max_fds"));
    assert!(open > 0.0 && open < most, "{open} of {most}");
    assert!(page.get("process_cpu_seconds_total") > 0.0);
    // No certificate, and no directory: neither is made up.
    assert!(!page.0.contains("quorate_tls_certificate_expires_timestamp_seconds{"));
    assert!(!page.0.contains("quorate_disk_free_bytes "));
}
