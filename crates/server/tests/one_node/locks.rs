//! Locks and sessions through the services: who gets a lock, in which order, and what callers that
//! go away mean for it.

mod transactions;
mod waits;

use crate::fixture::{Fixture, get, seen, set};
use crate::pipeline::{Pipe, call, error, none_open};
use crate::txn::{add, read, results, txn, write};
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::kv_service_client::KvServiceClient;
use quorate_proto::v1::lock_service_client::LockServiceClient;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::session_service_client::SessionServiceClient;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;
use quorate_proto::v1::txn_result::Result as Came;
use quorate_proto::v1::txn_service_client::TxnServiceClient;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test waits.
const LONG_MS: u64 = 600_000;

/// A client with a session.
#[derive(Clone)]
struct Caller {
    locks: LockServiceClient<Channel>,
    session_id: u64,
}

impl Caller {
    async fn new(fixture: &Fixture) -> Self {
        Self::with_ttl(fixture, 60_000).await
    }

    async fn with_ttl(fixture: &Fixture, ttl_ms: u64) -> Self {
        let channel = fixture.channel().await;
        let open = v1::OpenRequest { ttl_ms, ..Default::default() };
        let opened = SessionServiceClient::new(channel.clone()).open(open).await.unwrap();
        let session_id = opened.into_inner().session_id;
        Self { locks: LockServiceClient::new(channel), session_id }
    }

    fn asks(&self, name: &str, sequence: u64, wait_ms: u64) -> v1::LockAcquireRequest {
        let session_id = self.session_id;
        v1::LockAcquireRequest {
            origin: Some(v1::Origin { session_id, sequence, floor: 1, ..Default::default() }),
            name: name.to_owned(),
            ttl_ms: LONG_MS,
            wait_ms,
            ..Default::default()
        }
    }

    async fn acquire(&self, request: v1::LockAcquireRequest) -> Result<u64, Status> {
        let got = tokio::time::timeout(PATIENCE, self.locks.clone().acquire(request)).await;
        Ok(got.expect("it is answered in time")?.into_inner().fencing_token)
    }

    /// A call that goes on beside the test.
    fn spawn(&self, request: v1::LockAcquireRequest) -> JoinHandle<Result<u64, Status>> {
        let caller = self.clone();
        tokio::spawn(async move { caller.acquire(request).await })
    }

    async fn release(&self, name: &str, fencing_token: u64) -> bool {
        let release =
            v1::LockReleaseRequest { name: name.to_owned(), fencing_token, ..Default::default() };
        self.locks.clone().release(release).await.unwrap().into_inner().released
    }

    async fn renew(&self, name: &str, fencing_token: u64) -> Result<u64, Status> {
        let renew =
            v1::LockRenewRequest { name: name.to_owned(), fencing_token, ..Default::default() };
        Ok(self.locks.clone().renew(renew).await?.into_inner().ttl_ms)
    }

    async fn inspect(&self, name: &str) -> v1::LockEntry {
        let inspect = v1::LockInspectRequest { name: name.to_owned(), ..Default::default() };
        self.locks.clone().inspect(inspect).await.unwrap().into_inner().lock.unwrap()
    }

    async fn cancel(&self, sequence: u64) -> bool {
        let session_id = self.session_id;
        let cancel = v1::LockCancelRequest { session_id, sequence, ..Default::default() };
        self.locks.clone().cancel(cancel).await.unwrap().into_inner().cancelled
    }

    async fn close_session(&self, fixture: &Fixture) -> bool {
        let close = v1::CloseRequest { session_id: self.session_id, ..Default::default() };
        let mut sessions = SessionServiceClient::new(fixture.channel().await);
        sessions.close(close).await.unwrap().into_inner().closed
    }

    /// Waits until so many wait for it, those that are passed over included.
    async fn waiters(&self, name: &str, count: u64) {
        until(async || self.inspect(name).await.waiters == count).await;
    }
}

async fn until(mut so: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("it comes to that in time");
}

/// Commands that were put into the log so far; ticks are none.
async fn commands(fixture: &Fixture) -> u64 {
    let mut cluster = ClusterServiceClient::new(fixture.channel().await);
    let all = cluster.counters(v1::CountersRequest::default()).await.unwrap().into_inner();
    let mut counters = all.counters.into_iter();
    counters.find(|counter| counter.name == "commands_proposed").unwrap().value
}

/// Waits until so many commands were put into the log, which one look at a lock says are applied.
async fn commands_reach(fixture: &Fixture, caller: &Caller, count: u64) {
    until(async || commands(fixture).await >= count).await;
    caller.inspect("anything").await;
}

fn token(answer: &Answer) -> u64 {
    let Answer::LockAcquire(granted) = answer else { panic!("{answer:?}") };
    granted.fencing_token
}

#[tokio::test]
async fn a_lock_passes_on_in_the_order_of_the_requests() {
    let fixture = Fixture::start().await;
    let (a, b, c) =
        (Caller::new(&fixture).await, Caller::new(&fixture).await, Caller::new(&fixture).await);
    let mut pipe = Pipe::open(&fixture).await;
    let first = a.acquire(a.asks("l", 1, LONG_MS)).await.unwrap();
    // Held: not for who does not wait.
    let status = b.acquire(b.asks("l", 1, 0)).await.unwrap_err();
    assert_eq!(seen(&status), (Code::FailedPrecondition, "LOCK_HELD", "not_applied"));
    pipe.send(vec![call(1, Call::LockAcquire(b.asks("l", 2, 0)))]).await;
    let refused = pipe.answers(1).await;
    assert_eq!(error(&refused[0].1).reason, "LOCK_HELD");

    // One through the pipeline, one as a call of its own, and the pipeline again.
    pipe.send(vec![call(2, Call::LockAcquire(b.asks("l", 3, LONG_MS)))]).await;
    a.waiters("l", 1).await;
    let second_call = c.spawn(c.asks("l", 1, LONG_MS));
    a.waiters("l", 2).await;
    pipe.send(vec![call(3, Call::LockAcquire(b.asks("l", 4, LONG_MS)))]).await;
    a.waiters("l", 3).await;

    assert!(a.release("l", first).await);
    let answers = pipe.answers(1).await;
    assert_eq!(answers[0].0, 2);
    let second = token(&answers[0].1);
    let Answer::LockAcquire(granted) = &answers[0].1 else { panic!("{answers:?}") };
    assert!(granted.waited && granted.ttl_ms == LONG_MS && second > first, "{granted:?}");
    assert!(!second_call.is_finished());
    // A release in the pipeline too, while calls of it wait.
    let release =
        v1::LockReleaseRequest { name: "l".into(), fencing_token: second, ..Default::default() };
    pipe.send(vec![call(4, Call::LockRelease(release))]).await;
    let answers = pipe.answers(1).await;
    assert!(matches!(&answers[0].1, Answer::LockRelease(done) if done.released), "{answers:?}");
    let third = second_call.await.unwrap().unwrap();
    assert!(third > second);
    assert!(c.release("l", third).await);
    let answers = pipe.answers(1).await;
    assert_eq!(answers[0].0, 3);
    let fourth = token(&answers[0].1);
    assert!(fourth > third);
    // Once is enough.
    assert!(b.release("l", fourth).await && !b.release("l", fourth).await);
    assert_eq!(a.inspect("l").await, v1::LockEntry { name: "l".into(), ..Default::default() });
}

#[tokio::test]
async fn a_renewal_keeps_a_lock_and_costs_no_log_entry() {
    let fixture = Fixture::start().await;
    let a = Caller::new(&fixture).await;
    let before = commands(&fixture).await;
    let brief = |sequence| v1::LockAcquireRequest { ttl_ms: 600, ..a.asks("l", sequence, 0) };
    let held = a.acquire(brief(1)).await.unwrap();
    assert_eq!(commands(&fixture).await, before + 1, "an acquire is one command");
    let mut pipe = Pipe::open(&fixture).await;
    let begun = Instant::now();
    let mut id = 0;
    while begun.elapsed() < Duration::from_millis(1_800) {
        assert_eq!(a.renew("l", held).await.unwrap(), 600);
        id += 1;
        let renew =
            v1::LockRenewRequest { name: "l".into(), fencing_token: held, ..Default::default() };
        pipe.send(vec![call(id, Call::LockRenew(renew))]).await;
        let answers = pipe.answers(1).await;
        assert!(matches!(&answers[0].1, Answer::LockRenew(left) if left.ttl_ms == 600));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(a.inspect("l").await.holders[0].fencing_token, held, "three times its ttl");
    assert_eq!(commands(&fixture).await, before + 1, "renewals are none");
    assert!(a.release("l", held).await);
    assert_eq!(commands(&fixture).await, before + 2, "a release is one command");
    let status = a.renew("l", held).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "LOCK_LOST", "not_applied"));

    // Without renewals it is over.
    let held = a.acquire(brief(2)).await.unwrap();
    let begun = Instant::now();
    until(async || a.inspect("l").await.holders.is_empty()).await;
    assert!(begun.elapsed() >= Duration::from_millis(500), "after {:?}", begun.elapsed());
    let status = a.renew("l", held).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "LOCK_LOST", "not_applied"));
}

#[tokio::test]
async fn a_write_is_refused_when_its_guard_is_lost() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let a = Caller::new(&fixture).await;
    let held = a.acquire(a.asks("l", 1, 0)).await.unwrap();
    let guarded = |fencing_token, value: &'static [u8]| {
        let guard = Some(v1::LockGuard { name: "l".into(), fencing_token });
        v1::SetRequest {
            origin: Some(v1::Origin { guard, ..Default::default() }),
            ..set(b"k", value)
        }
    };
    let refused = async |kv: &mut KvServiceClient<Channel>, token| {
        let status = kv.set(guarded(token, b"late")).await.unwrap_err();
        assert_eq!(seen(&status), (Code::FailedPrecondition, "LOCK_LOST", "not_applied"));
    };
    kv.set(guarded(held, b"in time")).await.unwrap();
    refused(&mut kv, held + 1).await;
    assert!(a.release("l", held).await);
    refused(&mut kv, held).await;
    let newer = a.acquire(a.asks("l", 2, 0)).await.unwrap();
    refused(&mut kv, held).await;
    let mut pipe = Pipe::open(&fixture).await;
    pipe.send(vec![
        call(1, Call::KvSet(guarded(held, b"late"))),
        call(2, Call::KvSet(guarded(newer, b"newer"))),
    ])
    .await;
    for (id, answer) in pipe.answers(2).await {
        match id {
            1 => assert_eq!(error(&answer).reason, "LOCK_LOST"),
            _ => assert!(matches!(answer, Answer::KvSet(_)), "{answer:?}"),
        }
    }
    let entry = kv.get(get(b"k")).await.unwrap().into_inner().entry.unwrap();
    assert_eq!((&entry.value[..], entry.version), (&b"newer"[..], 2));

    // Force takes it from whoever has it.
    let force = v1::LockForceReleaseRequest { name: "l".into(), ..Default::default() };
    let taken = a.locks.clone().force_release(force).await.unwrap().into_inner().released;
    assert_eq!(taken, 1);
    refused(&mut kv, newer).await;
}

#[tokio::test]
async fn what_a_session_owns_ends_with_it() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    let (a, b) = (Caller::new(&fixture).await, Caller::with_ttl(&fixture, 5_000).await);
    a.acquire(a.asks("l", 1, 0)).await.unwrap();
    let owned = |session_id| v1::Origin { session_id, sequence: 2, floor: 1, ..Default::default() };
    let origin = Some(owned(a.session_id));
    kv.set(v1::SetRequest { ephemeral: true, origin, ..set(b"here", b"a") }).await.unwrap();
    let waiting = b.spawn(b.asks("l", 1, LONG_MS));
    a.waiters("l", 1).await;

    let mut sessions = SessionServiceClient::new(fixture.channel().await);
    let list = |after_session_id, limit| v1::ListSessionsRequest {
        after_session_id,
        limit,
        ..Default::default()
    };
    let all = sessions.list_sessions(list(0, 0)).await.unwrap().into_inner();
    let shown = |session_id, ttl_ms, keys| v1::SessionEntry { session_id, ttl_ms, locks: 1, keys };
    let expected = [shown(a.session_id, 60_000, 1), shown(b.session_id, 5_000, 0)];
    assert_eq!(all.sessions, expected);
    assert!(!all.more);
    let page = sessions.list_sessions(list(0, 1)).await.unwrap().into_inner();
    assert_eq!((&page.sessions[..], page.more), (&expected[..1], true));
    let page = sessions.list_sessions(list(a.session_id, 1)).await.unwrap().into_inner();
    assert_eq!((&page.sessions[..], page.more), (&expected[1..], false));

    assert!(a.close_session(&fixture).await);
    waiting.await.unwrap().unwrap();
    assert_eq!(a.inspect("l").await.holders[0].session_id, b.session_id);
    assert_eq!(kv.get(get(b"here")).await.unwrap().into_inner().entry, None);
    assert!(!a.close_session(&fixture).await);
    let all = sessions.list_sessions(list(0, 0)).await.unwrap().into_inner();
    assert_eq!(all.sessions, expected[1..]);
}

#[tokio::test]
async fn sessions_are_kept_alive_on_a_stream() {
    let fixture = Fixture::start().await;
    let (a, b) = (Caller::with_ttl(&fixture, 1_000).await, Caller::with_ttl(&fixture, 2_000).await);
    let mut sessions = SessionServiceClient::new(fixture.channel().await);
    let (requests, outgoing) = mpsc::channel(16);
    let stream = sessions.keep_alive_stream(ReceiverStream::new(outgoing)).await.unwrap();
    let mut answers = stream.into_inner();
    let keep = |caller: &Caller| v1::KeepAliveRequest {
        session_id: caller.session_id,
        ..Default::default()
    };
    let before = commands(&fixture).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        requests.send(keep(&a)).await.unwrap();
        requests.send(keep(&b)).await.unwrap();
        let mut kept = Vec::new();
        for _ in 0..2 {
            let answer = answers.message().await.unwrap().unwrap();
            kept.push((answer.session_id, answer.ttl_ms));
        }
        kept.sort_unstable();
        assert_eq!(kept, [(a.session_id, 1_000), (b.session_id, 2_000)]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(commands(&fixture).await, before, "it costs no log entry");
    assert!(a.close_session(&fixture).await);
    requests.send(keep(&a)).await.unwrap();
    requests.send(keep(&b)).await.unwrap();
    let status = loop {
        match answers.message().await {
            Ok(Some(answer)) => assert_eq!(answer.session_id, b.session_id),
            Ok(None) => panic!("it ended without a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(seen(&status), (Code::NotFound, "SESSION_EXPIRED", "not_applied"));
}

#[tokio::test]
async fn a_watch_tells_whenever_a_lock_passes_on() {
    let fixture = Fixture::start().await;
    let (a, b) = (Caller::new(&fixture).await, Caller::new(&fixture).await);
    let request = v1::LockWatchRequest { name: "l".into(), ..Default::default() };
    let mut watch = a.locks.clone().watch(request).await.unwrap().into_inner();
    let mut revision = 0;
    let mut next = async || {
        let message = tokio::time::timeout(PATIENCE, watch.message()).await;
        let message = message.expect("it is told in time").unwrap().unwrap();
        assert!(message.revision >= revision);
        revision = message.revision;
        let holders = message.lock.unwrap().holders.into_iter();
        holders.map(|holder| holder.fencing_token).collect::<Vec<_>>()
    };
    assert!(next().await.is_empty());
    let first = a.acquire(a.asks("l", 1, 0)).await.unwrap();
    assert_eq!(next().await, [first]);
    // Those who wait, and other locks, are no news.
    a.acquire(a.asks("other", 2, 0)).await.unwrap();
    let waiting = b.spawn(b.asks("l", 1, LONG_MS));
    a.waiters("l", 1).await;
    assert!(a.release("l", first).await);
    let second = waiting.await.unwrap().unwrap();
    assert_eq!(next().await, [second]);
    assert!(b.close_session(&fixture).await);
    assert!(next().await.is_empty());
    // Nothing is held up by a watch when the node stops.
    fixture.server.shutdown(Duration::from_secs(10)).await;
}
