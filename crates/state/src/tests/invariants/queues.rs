//! The checker finds each relation of queues broken: one planted fault each.

use super::Plant;
use crate::keys::{self, Clock, DeadlineKind};
use crate::rows::{self, ConsumerRow, JobRow, JobState, QueueCountsRow, QueuesMetaRow, Wants};
use crate::testing::GROUP;
use crate::tests::group::Group;
use crate::{
    Attachment, Command, ConsumerAttach, ConsumerId, DeadLetters, Dedupe, Delay, Era, JobId,
    JobLease, LeasedJob, MemoryTables, NewJob, QueueAck, QueueChange, QueueId, QueueNack,
    QueuePurge, QueuePush, QueueUpdate, Rate, Read, Repeats, SchedulePut, SessionId, Txn, Verdict,
    codec, invariants,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const QUEUE: QueueId = QueueId(1);
/// Of the jobs that were purged, and of those that are there now.
const OLD: Era = Era(2);
const ERA: Era = Era(4);
const OLD_JOB: JobId = JobId(3);
const CONSUMER: ConsumerId = ConsumerId(5);
/// Put off after a failure, so noted.
const FAILED: JobId = JobId(6);
/// The first one of its group, worked on.
const LEASED: JobId = JobId(7);
const DONE: JobId = JobId(12);
/// Ready, and nobody has room.
const READY: JobId = JobId(20);

fn queue() -> String {
    "q".to_owned()
}

fn push(queue: &str, job: NewJob) -> Command {
    Command::QueuePush(QueuePush { queue: queue.to_owned(), jobs: vec![job] })
}

/// A queue with a consumer, jobs in each state, and a job of an era before; another one that goes on
/// later, because of its rate; and a schedule.
fn sound() -> MemoryTables {
    let mut group = Group::new();
    let change = QueueChange {
        keep_done_ms: Some(1_000),
        dead_letters: Some(DeadLetters::Discard),
        ..QueueChange::default()
    };
    let limited =
        QueueChange { rate: Some(Rate { jobs: 1, per_ms: 1_000 }), ..QueueChange::default() };
    let grouped = || NewJob { group: Some("g".into()), ..NewJob::default() };
    let attach = |queue: &str, window| {
        let (queue, attachment) = (queue.to_owned(), Attachment::default());
        let (consumer, session) = (None, None);
        Command::ConsumerAttach(ConsumerAttach { queue, consumer, session, window, attachment })
    };
    let dedupe = Some(Dedupe { key: "k".into(), window_ms: None });
    group.stamp.lease_ms = 100;
    group.stamp.wall_ms = 100;
    for command in [
        Command::QueueUpdate(QueueUpdate { queue: queue(), change }),
        push("q", NewJob { ttl_ms: Some(1_000), ..NewJob::default() }),
        Command::QueuePurge(QueuePurge { queue: queue() }),
        attach("q", 2),
        push("q", NewJob { dedupe, ..NewJob::default() }),
        push("q", grouped()),
        push("q", grouped()),
        push("q", NewJob { delay: Delay::For { ms: 500 }, ..NewJob::default() }),
        push("q", NewJob::default()),
        Command::QueueUpdate(QueueUpdate { queue: "r".to_owned(), change: limited }),
        attach("r", 2),
        push("r", NewJob::default()),
        push("r", NewJob::default()),
        Command::SchedulePut(SchedulePut {
            name: "s".to_owned(),
            queue: queue(),
            job: NewJob::default(),
            repeats: Repeats::Every { ms: 1_000 },
            next_wall_ms: None,
        }),
    ] {
        group.own(vec![command]);
    }
    let of = |id, lease| LeasedJob { queue: queue(), id, lease: JobLease(lease) };
    let verdict = Verdict::Retry { delay_ms: Some(500) };
    group.own(vec![Command::QueueNack(QueueNack {
        job: of(FAILED, 1),
        verdict,
        error: "why".to_owned(),
    })]);
    group.own(vec![Command::QueueAck(QueueAck { job: of(DONE, 4) })]);
    group.own(vec![push("q", NewJob::default()), push("q", NewJob::default())]);
    group.check();
    group.tables
}

fn change<T: Serialize + DeserializeOwned>(
    tables: &mut MemoryTables,
    key: &[u8],
    change: impl FnOnce(&mut T),
) {
    let bytes = tables.get(key).unwrap().expect("the row is there");
    let mut row: T = rows::decode("row", &bytes).unwrap();
    change(&mut row);
    tables.put(key, &codec::encode(&row));
}

fn change_job(tables: &mut MemoryTables, id: JobId, with: impl FnOnce(&mut JobRow)) {
    change(tables, &keys::job(GROUP, ERA, id), with);
}

#[test]
fn sound_tables_have_what_the_faults_change() {
    let tables = sound();
    let state = |id| {
        let row = tables.get(&keys::job(GROUP, ERA, id)).unwrap().unwrap();
        rows::decode::<JobRow>("job row", &row).unwrap().state
    };
    assert_eq!(state(FAILED), JobState::Delayed);
    assert!(matches!(state(LEASED), JobState::Leased { consumer: Some(CONSUMER), .. }));
    assert!(matches!(state(DONE), JobState::Done { .. }));
    assert_eq!(state(READY), JobState::Ready);
    assert!(tables.get(&keys::job(GROUP, OLD, OLD_JOB)).unwrap().is_some());
}

fn deadline(at_ms: u64, kind: DeadlineKind, key: &[u8]) -> Vec<u8> {
    keys::deadline(GROUP, Clock::Lease, at_ms, kind, key)
}

#[test]
fn planted_faults_are_found() {
    let faults: [(&str, Plant); 24] = [
        ("queue q counts", |t| {
            change(t, &keys::queue_counts(GROUP, QUEUE), |row: &mut QueueCountsRow| {
                row.jobs.ready += 1;
            });
        }),
        ("queue q counts", |t| {
            change(t, &keys::queue_counts(GROUP, QUEUE), |row: &mut QueueCountsRow| {
                row.jobs.body_bytes += 1;
            });
        }),
        ("jobs counted", |t| {
            change(t, &keys::queues_meta(GROUP), |row: &mut QueuesMetaRow| row.jobs += 1);
        }),
        ("schedules counted", |t| {
            change(t, &keys::queues_meta(GROUP), |row: &mut QueuesMetaRow| row.schedules += 1);
        }),
        ("pushed in the future", |t| {
            change(t, &keys::queues_meta(GROUP), |row: &mut QueuesMetaRow| row.id = READY.0 - 1);
        }),
        ("have counts", |t| t.delete(&keys::queue_counts(GROUP, QUEUE))),
        // Two queues with the same jobs.
        ("has the row", |t| {
            let row = t.get(&keys::queue(GROUP, "", "q")).unwrap().unwrap();
            t.put(&keys::queue(GROUP, "", "copy"), &row);
        }),
        ("is no queue's", |t| {
            let row = t.get(&keys::job(GROUP, ERA, READY)).unwrap().unwrap();
            t.delete(&keys::job(GROUP, ERA, READY));
            t.put(&keys::job(GROUP, Era(9), READY), &row);
        }),
        ("have the bodies", |t| t.delete(&keys::job_body(GROUP, READY))),
        ("have the bodies", |t| {
            let body = t.get(&keys::job_body(GROUP, READY)).unwrap().unwrap();
            t.put(&keys::job_body(GROUP, JobId(9_999)), &body);
        }),
        // The same one in two eras.
        ("have the bodies", |t| {
            let row = t.get(&keys::job(GROUP, ERA, READY)).unwrap().unwrap();
            t.put(&keys::job(GROUP, OLD, READY), &row);
        }),
        ("there are notes on", |t| t.delete(&keys::job_note(GROUP, FAILED))),
        ("there are notes on", |t| change_job(t, FAILED, |row| row.noted = false)),
        ("there are notes on", |t| change_job(t, READY, |row| row.noted = true)),
        ("consumer 5 has the row", |t| {
            change(t, &keys::consumer(GROUP, CONSUMER), |row: &mut ConsumerRow| {
                row.queue = QueueId(99);
            });
        }),
        ("consumer 5 has the row", |t| {
            change(t, &keys::consumer(GROUP, CONSUMER), |row: &mut ConsumerRow| {
                row.session = Some(SessionId(99));
            });
        }),
        ("lies ready", |t| {
            change(t, &keys::consumer(GROUP, CONSUMER), |row: &mut ConsumerRow| {
                row.wants = Wants::Window(3);
            });
        }),
        // What comes next in a group is held up by the one before, and no other.
        ("lies ready", |t| {
            change_job(t, READY, |row| row.group = None);
            change_job(t, LEASED, |row| {
                let JobState::Leased { consumer, .. } = &mut row.state else { unreachable!() };
                *consumer = None;
            });
        }),
        ("is missing", |t| {
            let key = keys::job(GROUP, ERA, LEASED);
            t.delete(&deadline(30_100, DeadlineKind::Job, &key));
        }),
        ("belongs to nothing", |t| {
            let key = keys::job(GROUP, ERA, READY);
            t.put(&deadline(30_100, DeadlineKind::Job, &key), b"");
        }),
        // The queue with a rate would not go on.
        ("is missing", |t| {
            t.delete(&deadline(1_100, DeadlineKind::Queue, &keys::queue(GROUP, "", "r")));
        }),
        ("belongs to nothing", |t| {
            t.put(&deadline(1_100, DeadlineKind::Queue, &keys::queue(GROUP, "", "q")), b"");
        }),
        ("those that have a deadline", |t| {
            t.delete(&deadline(101, DeadlineKind::OldEra, &keys::old_era(GROUP, OLD)));
        }),
        ("a deadline of old eras names", |t| {
            t.put(&deadline(102, DeadlineKind::OldEra, &keys::old_era(GROUP, OLD)), b"");
        }),
    ];
    for (expected, plant) in faults {
        let mut tables = sound();
        plant(&mut tables);
        let error = invariants::check(&tables, GROUP).unwrap_err().to_string();
        let expected = expected.replace("queue q", &format!("queue {QUEUE}"));
        assert!(error.contains(&expected), "expected {expected:?}, found: {error}");
    }
}
