//! Transactions: all or nothing, on conditions, and without an entry when they only read.

use crate::consumers::{Worker, open};
use crate::fixture::{Fixture, get, seen, set};
use crate::pipeline::{Pipe, call, error};
use crate::queues::{Queue, job};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_proto::v1::pipeline_answer::Answer;
use quorate_proto::v1::pipeline_call::Request as Call;
use quorate_proto::v1::txn_condition::Condition;
use quorate_proto::v1::txn_operation::Operation;
use quorate_proto::v1::txn_result::Result as Came;
use quorate_proto::v1::txn_service_client::TxnServiceClient;
use std::time::Duration;
use tonic::{Code, Request};

pub(crate) fn txn(
    conditions: Vec<Condition>,
    then: Vec<Operation>,
    otherwise: Vec<Operation>,
) -> v1::TxnRequest {
    let steps = |steps: Vec<Operation>| {
        steps.into_iter().map(|step| v1::TxnOperation { operation: Some(step) }).collect()
    };
    let conditions =
        conditions.into_iter().map(|asked| v1::TxnCondition { condition: Some(asked) }).collect();
    v1::TxnRequest {
        conditions,
        then: steps(then),
        otherwise: steps(otherwise),
        ..Default::default()
    }
}

pub(crate) fn read(key: &str) -> Operation {
    Operation::KvGet(v1::TxnKvGet { key: key.to_owned().into() })
}

pub(crate) fn write(key: &str, value: &str) -> Operation {
    Operation::KvSet(v1::TxnKvSet {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    })
}

pub(crate) fn add(key: &str, by: i64) -> Operation {
    Operation::KvIncrement(v1::TxnKvIncrement { key: key.to_owned().into(), by })
}

fn absent(key: &str) -> Condition {
    Condition::KvAbsent(v1::TxnKvAbsent { key: key.to_owned().into() })
}

fn version(key: &str, version: u64) -> Condition {
    Condition::KvVersion(v1::TxnKvVersion { key: key.to_owned().into(), version })
}

pub(crate) fn results(answer: &v1::TxnResponse) -> Vec<Came> {
    answer.results.iter().map(|result| result.result.clone().unwrap()).collect()
}

/// Value and version of what was read, if it is there.
fn found(result: &Came) -> Option<(&[u8], u64)> {
    let Came::KvGet(got) = result else { panic!("{result:?}") };
    got.entry.as_ref().map(|entry| (&entry.value[..], entry.version))
}

#[tokio::test]
async fn every_condition_and_operation_works_in_both_branches() {
    let fixture = Fixture::start().await;
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let mut kv = fixture.kv().await;
    kv.set(set(b"a", b"1")).await.unwrap();
    kv.set(set(b"gone", b"x")).await.unwrap();

    let value = |value: &str| {
        Condition::KvValue(v1::TxnKvValue { key: "a".into(), value: value.to_owned().into() })
    };
    let exists = Condition::KvExists(v1::TxnKvExists { key: "a".into() });
    let brief = Operation::KvSet(v1::TxnKvSet {
        key: "brief".into(),
        value: "v".into(),
        ttl_ms: Some(60_000),
        expect: Some(v1::txn_kv_set::Expect::IfAbsent(true)),
    });
    let delete = Operation::KvDelete(v1::TxnKvDelete { key: "gone".into(), if_version: Some(1) });
    let half = Operation::KvIncrementFloat(v1::TxnKvIncrementFloat { key: "f".into(), by: 0.5 });
    let request = txn(
        vec![version("a", 1), absent("b"), exists, value("1")],
        vec![
            read("a"),
            write("b", "new"),
            brief,
            read("brief"),
            delete,
            add("a", 41),
            half,
            read("a"),
        ],
        vec![],
    );
    let answer = client.commit(request.clone()).await.unwrap().into_inner();
    assert_eq!((answer.succeeded, answer.failed_condition), (true, None));
    let all = results(&answer);
    assert_eq!(found(&all[0]), Some((&b"1"[..], 1)));
    assert_eq!(all[1], Came::KvSet(v1::TxnKvSetResult { version: 1 }));
    assert_eq!(all[2], Came::KvSet(v1::TxnKvSetResult { version: 1 }));
    let Came::KvGet(got) = &all[3] else { panic!("{all:?}") };
    let entry = got.entry.as_ref().unwrap();
    assert_eq!((entry.remaining_ttl_ms, entry.mod_revision), (Some(60_000), answer.revision));
    assert_eq!(all[4], Came::KvDelete(v1::TxnKvDeleteResult { deleted: true }));
    assert_eq!(all[5], Came::KvIncrement(v1::TxnKvIncrementResult { value: 42, version: 2 }));
    let sum = v1::TxnKvIncrementFloatResult { value: 0.5, version: 1 };
    assert_eq!(all[6], Came::KvIncrementFloat(sum));
    assert_eq!(found(&all[7]), Some((&b"42"[..], 2)));
    assert_eq!(all.len(), 8);
    // Everybody sees it, and of all keys the same moment.
    for key in [&b"a"[..], b"b", b"brief", b"f"] {
        let entry = kv.get(get(key)).await.unwrap().into_inner().entry.unwrap();
        assert_eq!(entry.mod_revision, answer.revision, "{key:?}");
    }
    assert_eq!(kv.get(get(b"gone")).await.unwrap().into_inner().entry, None);

    // Now its first condition does not hold: the other branch happens, and that is no error.
    let otherwise = vec![read("a"), add("refused", 1)];
    let otherwise = txn(vec![], vec![], otherwise).otherwise;
    let answer = client.commit(v1::TxnRequest { otherwise, ..request }).await.unwrap().into_inner();
    assert_eq!((answer.succeeded, answer.failed_condition), (false, Some(0)));
    let all = results(&answer);
    assert_eq!(found(&all[0]), Some((&b"42"[..], 2)));
    assert_eq!(all[1], Came::KvIncrement(v1::TxnKvIncrementResult { value: 1, version: 1 }));
    // Without such a branch too, and the first that fails is named.
    let asked = txn(vec![version("a", 2), value("1"), absent("a")], vec![add("a", 1)], vec![]);
    let answer = client.commit(asked).await.unwrap().into_inner();
    assert_eq!((answer.succeeded, answer.failed_condition), (false, Some(1)));
    assert!(answer.results.is_empty() && answer.revision > 0);
    fixture.server.shutdown(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_refusal_in_the_middle_names_its_place_and_changes_nothing() {
    let fixture = Fixture::start().await;
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let mut kv = fixture.kv().await;
    kv.set(set(b"name", b"no number")).await.unwrap();
    let expects = Operation::KvDelete(v1::TxnKvDelete { key: "name".into(), if_version: Some(9) });
    let full = vec![add("max", i64::MAX), add("max", 1)];
    for (then, place, expected) in [
        (
            vec![write("new", "v"), add("name", 1)],
            "then[1]: ",
            (Code::FailedPrecondition, "NOT_A_NUMBER"),
        ),
        ([vec![write("new", "v")], full].concat(), "then[2]: ", (Code::OutOfRange, "OVERFLOW")),
        (
            vec![write("new", "v"), expects],
            "then[1]: ",
            (Code::FailedPrecondition, "CONDITION_FAILED"),
        ),
        (
            vec![write("new", "v"), write("", "v")],
            "then[1]: ",
            (Code::InvalidArgument, "KEY_EMPTY"),
        ),
    ] {
        let status = client.commit(txn(vec![], then.clone(), vec![])).await.unwrap_err();
        assert!(status.message().starts_with(place), "{status:?}");
        assert_eq!(seen(&status), (expected.0, expected.1, "not_applied"));
        // As the branch that is not chosen it does no harm, unless no state could make it right.
        let fits = client.commit(txn(vec![], vec![read("name")], then)).await;
        assert_eq!(fits.is_ok(), expected.1 != "KEY_EMPTY", "{fits:?}");
        for key in [&b"new"[..], b"max"] {
            assert_eq!(kv.get(get(key)).await.unwrap().into_inner().entry, None);
        }
    }
    let name = kv.get(get(b"name")).await.unwrap().into_inner().entry.unwrap();
    assert_eq!(name.version, 1);
}

#[tokio::test]
async fn a_transaction_past_a_bound_is_refused_whole() {
    let fixture = Fixture::start().await;
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let mut kv = fixture.kv().await;
    let many = |count| vec![add("n", 1); count];
    let limit = (Code::ResourceExhausted, "LIMIT_EXCEEDED", "not_applied");
    for request in [
        txn(vec![], many(129), vec![]),
        txn(vec![], many(1), many(129)),
        txn(vec![absent("x"); 129], many(1), vec![]),
        // These only read, so they are refused by another place.
        txn(vec![], vec![read("n"); 129], vec![]),
        txn(vec![absent("x"); 129], vec![], vec![]),
    ] {
        let status = client.commit(request).await.unwrap_err();
        assert_eq!(seen(&status), limit);
        assert!(status.message().contains("129") && status.message().contains("128"), "{status:?}");
    }
    let empty = client.commit(txn(vec![], vec![], vec![])).await.unwrap_err();
    assert_eq!(seen(&empty), (Code::InvalidArgument, "INVALID", "not_applied"));
    assert_eq!(kv.get(get(b"n")).await.unwrap().into_inner().entry, None);
    let request = txn(vec![absent("x"); 128], many(128), many(128));
    let answer = client.commit(request).await.unwrap().into_inner();
    let last = Came::KvIncrement(v1::TxnKvIncrementResult { value: 128, version: 128 });
    assert_eq!(results(&answer)[127], last);

    // What it reads: 1 MiB together, in one answer.
    let half = vec![7; 512 << 10];
    for key in [&b"half-1"[..], b"half-2"] {
        kv.set(set(key, &half)).await.unwrap();
    }
    kv.set(set(b"one", b"1")).await.unwrap();
    let two = vec![read("half-1"), read("half-2")];
    for also in [vec![], vec![add("mark", 1)]] {
        let fits = [also.clone(), two.clone()].concat();
        let answer = client.commit(txn(vec![], fits, vec![])).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), also.len() + 2);
        let three = [also.clone(), two.clone(), vec![read("one")]].concat();
        let status = client.commit(txn(vec![], three, vec![])).await.unwrap_err();
        assert_eq!(seen(&status), limit);
        let place = format!("then[{}]: ", also.len() + 2);
        assert!(status.message().starts_with(&place), "{status:?}");
    }
    let mark = kv.get(get(b"mark")).await.unwrap().into_inner().entry.unwrap();
    assert_eq!(mark.value, "1", "the one that was refused has marked nothing");
}

#[tokio::test]
async fn a_repetition_has_one_effect() {
    let fixture = Fixture::start().await;
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let origin =
        Some(v1::Origin { idempotency_key: Bytes::from_static(b"once"), ..Default::default() });
    let by = |n| v1::TxnRequest {
        origin: origin.clone(),
        ..txn(vec![absent("n")], vec![add("n", n)], vec![add("m", 1)])
    };
    let first = client.commit(by(5)).await.unwrap().into_inner();
    assert!(first.succeeded);
    // By now its condition does not hold; the answer is that of the first.
    assert_eq!(client.commit(by(5)).await.unwrap().into_inner(), first);
    let status = client.commit(by(6)).await.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "REQUEST_MISMATCH", "not_applied"));
    let all = client.commit(txn(vec![], vec![read("n"), read("m")], vec![])).await.unwrap();
    let all = results(&all.into_inner());
    assert_eq!((found(&all[0]), found(&all[1])), (Some((&b"5"[..], 1)), None));
}

fn push(queue: &str, payloads: &[&str]) -> Operation {
    let jobs = payloads.iter().map(|payload| job(payload)).collect();
    Operation::QueuePush(v1::TxnQueuePush { queue: queue.to_owned(), jobs })
}

fn ack(queue: &str, job: &v1::DeliveredJob) -> Operation {
    let (queue, job_id, lease) = (queue.to_owned(), job.job_id, job.lease);
    Operation::QueueAck(v1::TxnQueueAck { queue, job_id, lease })
}

/// The outbox: what a job is about and the job; and what came of it together with its end.
#[tokio::test]
async fn jobs_are_pushed_and_done_together_with_what_is_written() {
    let fixture = Fixture::start().await;
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let mut kv = fixture.kv().await;
    let queue = Queue::of(&fixture, "orders").await;
    let mut worker = Worker::open(&fixture, open("orders", 10)).await;
    let few =
        |at_most| Condition::QueueJobs(v1::TxnQueueJobs { queue: "orders".to_owned(), at_most });
    let then = vec![write("order", "new"), push("orders", &["a", "b"])];
    let answer = client.commit(txn(vec![few(0)], then, vec![])).await.unwrap().into_inner();
    let Came::QueuePush(pushed) = &results(&answer)[1] else { panic!("{answer:?}") };
    let pushed: Vec<_> = pushed.jobs.iter().map(|job| (job.job_id, job.duplicate)).collect();
    let jobs = worker.jobs(2).await;
    let got: Vec<_> = jobs.iter().map(|job| (job.job_id, false)).collect();
    assert_eq!((&got, jobs[0].attempt), (&pushed, 1));

    let then = vec![ack("orders", &jobs[0]), write("order", "half"), push("orders", &["c"])];
    let answer = client.commit(txn(vec![], then, vec![])).await.unwrap().into_inner();
    assert_eq!(results(&answer)[0], Came::QueueAck(v1::TxnQueueAckResult {}));
    let more = worker.jobs(1).await;
    assert_eq!(more[0].payload, "c");

    // A job that is done, and one whose lease was another's: nothing of these happens.
    let stale = v1::DeliveredJob { lease: jobs[1].lease + 1_000, ..jobs[1].clone() };
    for lost in [&jobs[0], &stale] {
        let then = vec![
            write("order", "lost"),
            ack("orders", &more[0]),
            push("orders", &["lost"]),
            ack("orders", lost),
        ];
        let status = client.commit(txn(vec![], then, vec![])).await.unwrap_err();
        assert!(status.message().starts_with("then[3]: "), "{status:?}");
        assert_eq!(seen(&status).2, "not_applied");
        let expected = match std::ptr::eq(lost, &jobs[0]) {
            true => (Code::NotFound, "JOB_UNKNOWN"),
            false => (Code::FailedPrecondition, "JOB_LEASE_LOST"),
        };
        assert_eq!((seen(&status).0, seen(&status).1), expected);
    }
    let order = kv.get(get(b"order")).await.unwrap().into_inner().entry.unwrap();
    assert_eq!((&order.value[..], order.version), (&b"half"[..], 2));
    let info = queue.stats().await;
    let totals = info.totals.unwrap();
    assert_eq!((info.ready, info.leased, totals.pushed, totals.acked), (0, 2, 3, 1));
    // Too many jobs for this one: the other branch.
    let asked = txn(vec![few(1)], vec![push("orders", &["d"])], vec![ack("orders", &jobs[1])]);
    let answer = client.commit(asked).await.unwrap().into_inner();
    assert_eq!((answer.succeeded, answer.failed_condition), (false, Some(0)));
    queue.ack(&more[0]).await.unwrap();
    assert_eq!(queue.stats().await.totals.unwrap().acked, 3);
}

/// Entries that the node has proposed so far.
async fn entries_proposed(fixture: &Fixture) -> u64 {
    let mut client = ClusterServiceClient::new(fixture.channel().await);
    let counters = client.counters(v1::CountersRequest::default()).await.unwrap().into_inner();
    let all = counters.counters;
    let entries = all.iter().find(|counter| counter.name == "entries_proposed");
    entries.unwrap_or_else(|| panic!("{all:?}")).value
}

#[tokio::test]
async fn what_only_reads_proposes_no_entry_and_is_as_fresh_as_asked() {
    let fixture = Fixture::start().await;
    let mut client = TxnServiceClient::new(fixture.channel().await);
    let mut kv = fixture.kv().await;
    let written = kv.set(set(b"a", b"v")).await.unwrap().into_inner();
    // The node publishes its address on its own account, and nothing else.
    let mut cluster = ClusterServiceClient::new(fixture.channel().await);
    let published = async {
        while cluster.members(v1::MembersRequest::default()).await.unwrap().into_inner().members[0]
            .client_addr
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), published).await.unwrap();
    let before = entries_proposed(&fixture).await;
    let mut pipe = Pipe::open(&fixture).await;
    for round in 0..20 {
        let request = || txn(vec![absent("b")], vec![read("a"), read("b")], vec![read("c")]);
        for (consistency, min_revision) in [(0, 0), (1, written.revision), (2, 0)] {
            let request = v1::TxnRequest { consistency, min_revision, ..request() };
            let answer = client.commit(request).await.unwrap().into_inner();
            assert!(answer.succeeded && answer.revision >= written.revision);
            let all = results(&answer);
            assert_eq!((found(&all[0]), found(&all[1])), (Some((&b"v"[..], 1)), None));
        }
        pipe.send(vec![call(round, Call::TxnCommit(request()))]).await;
        let answers = pipe.answers(1).await;
        assert!(matches!(&answers[0].1, Answer::TxnCommit(answer) if answer.succeeded));
    }
    assert_eq!(entries_proposed(&fixture).await, before);
    client.commit(txn(vec![absent("b")], vec![add("n", 1)], vec![])).await.unwrap();
    assert_eq!(entries_proposed(&fixture).await, before + 1);
    // Also one of whose branches only the one that is not chosen writes.
    client.commit(txn(vec![], vec![read("a")], vec![add("n", 1)])).await.unwrap();
    assert_eq!(entries_proposed(&fixture).await, before + 2);

    // A revision that nobody will write in time.
    let far = v1::TxnRequest { min_revision: 1 << 50, ..txn(vec![], vec![read("a")], vec![]) };
    let mut request = Request::new(far);
    request.set_timeout(Duration::from_millis(400));
    let status = client.commit(request).await.unwrap_err();
    assert_eq!((status.code(), seen(&status).2), (Code::Unavailable, "not_applied"), "{status:?}");
}

#[tokio::test]
async fn a_pipeline_makes_transactions_in_order_and_keeps_its_messages_small() {
    let fixture = Fixture::start().await;
    let mut kv = fixture.kv().await;
    kv.set(set(b"large", &vec![7; 512 << 10])).await.unwrap();
    let mut pipe = Pipe::open(&fixture).await;
    // Half of them with a large answer.
    let calls = (0..60).map(|id| {
        let then = match id {
            0..30 => vec![add("n", 1), read("large")],
            _ => vec![add("n", 1)],
        };
        call(id, Call::TxnCommit(txn(vec![], then, vec![])))
    });
    pipe.send(calls.collect()).await;
    for (id, answer) in pipe.answers(60).await {
        let Answer::TxnCommit(answer) = answer else { panic!("{answer:?}") };
        let value = i64::try_from(id).unwrap() + 1;
        let version = id + 1;
        let expected = Came::KvIncrement(v1::TxnKvIncrementResult { value, version });
        assert_eq!(results(&answer)[0], expected);
    }
    assert!(pipe.largest < 1 << 20, "a message of {} bytes", pipe.largest);

    // What only reads, and what is refused.
    let large = |id| call(id, Call::TxnCommit(txn(vec![], vec![read("large")], vec![])));
    pipe.send((0..20).map(large).collect()).await;
    pipe.answers(20).await;
    assert!(pipe.largest < 1 << 20, "a message of {} bytes", pipe.largest);
    pipe.send(vec![call(1, Call::TxnCommit(txn(vec![], vec![add("large", 1)], vec![])))]).await;
    let answers = pipe.answers(1).await;
    let refused = error(&answers[0].1);
    assert_eq!((&*refused.reason, refused.outcome()), ("NOT_A_NUMBER", v1::Outcome::NotApplied));
    assert!(refused.message.starts_with("then[0]: "), "{refused:?}");

    // Steps that take no memory yet, and would.
    let request =
        v1::TxnRequest { then: vec![v1::TxnOperation::default(); 100_000], ..Default::default() };
    pipe.send(vec![call(2, Call::TxnCommit(request))]).await;
    assert_eq!(pipe.ended().await.code(), Code::InvalidArgument);
}
