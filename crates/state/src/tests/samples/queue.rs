//! Samples of the task queue's formats.

use crate::keys::{self, Clock, DeadlineKind};
use crate::rows::{
    Bucket, ConsumerRow, DedupeRow, JobBodyRow, JobGroup, JobNoteRow, JobRow, JobState, OldEraRow,
    PullState, QueueCountsRow, QueueRow, QueuesMetaRow, ScheduleRow, Wants,
};
use crate::{
    AssignedJob, Attachment, Backoff, Command, Condition, ConsumerAttach, ConsumerDetach,
    ConsumerDetachNode, ConsumerId, ConsumerResize, DeadLetters, DeathCause, Dedupe, Delay, Era,
    GroupId, JobCounts, JobFailure, JobFate, JobId, JobLease, JobProgress, LeasedJob, NewJob,
    NodeId, Operated, Operation, Outcome, PullRequest, PushedJob, QueueAck, QueueCancel,
    QueueChange, QueueDelete, QueueExtend, QueueId, QueueNack, QueueOptions, QueuePause,
    QueueProgress, QueuePull, QueuePurge, QueuePush, QueueRedrive, QueueTotals, QueueUpdate, Rate,
    Redriven, Rejection, Repeats, Revision, ScheduleDelete, ScheduleId, ScheduleNext, SchedulePut,
    SessionId, Transaction, Verdict, WhenFull, codec,
};

fn queue() -> String {
    "queue".to_owned()
}

fn attachment() -> Attachment {
    Attachment { node: NodeId(3), call: 1 << 60 }
}

fn backoff() -> Backoff {
    Backoff { exponential: true, base_ms: 1_000, cap_ms: 300_000, jitter_permille: 200 }
}

fn cron() -> Repeats {
    Repeats::Cron { text: "0 6 * * *".to_owned(), zone: "Europe/Berlin".to_owned() }
}

pub(super) fn commands() -> Vec<Command> {
    let leased = || LeasedJob { queue: queue(), id: JobId(300), lease: JobLease(70_000) };
    let job = |delay| NewJob {
        payload: "payload".into(),
        content_type: "text/plain".to_owned(),
        headers: vec![("name".to_owned(), "value".into())],
        priority: 9,
        delay,
        ttl_ms: Some(60_000),
        group: Some("group".into()),
        dedupe: Some(Dedupe { key: "key".into(), window_ms: Some(1_000) }),
    };
    let attach = |consumer, session| {
        let (window, attachment) = (300, attachment());
        Command::ConsumerAttach(ConsumerAttach {
            queue: queue(),
            consumer,
            session,
            window,
            attachment,
        })
    };
    let nack =
        |verdict| Command::QueueNack(QueueNack { job: leased(), verdict, error: "why".to_owned() });
    let update = |dead_letters, when_full| {
        let change = QueueChange {
            visibility_ms: Some(30_000),
            attempts_max: Some(5),
            backoff: Some(backoff()),
            dead_letters: Some(dead_letters),
            keep_done_ms: Some(1),
            jobs_max: Some(1_000_000),
            when_full: Some(when_full),
            parallel_max: Some(3),
            rate: Some(Rate { jobs: 10, per_ms: 1_000 }),
            dedupe_window_ms: Some(300_000),
        };
        Command::QueueUpdate(QueueUpdate { queue: queue(), change })
    };
    let put = |repeats, next_wall_ms| {
        let (name, job) = ("schedule".to_owned(), job(Delay::None));
        Command::SchedulePut(SchedulePut { name, queue: queue(), job, repeats, next_wall_ms })
    };
    vec![
        Command::QueuePush(QueuePush {
            queue: queue(),
            jobs: vec![
                NewJob::default(),
                job(Delay::For { ms: 500 }),
                job(Delay::Until { wall_ms: 1_700_000_000_000 }),
            ],
        }),
        Command::QueuePull(QueuePull {
            request: PullRequest { queue: queue(), count: 128, wait_ms: 10_000 },
            attachment: attachment(),
        }),
        attach(None, None),
        attach(Some(ConsumerId(7)), Some(SessionId(4096))),
        Command::ConsumerDetach(ConsumerDetach {
            consumer: ConsumerId(7),
            attachment: attachment(),
            delivered: JobLease(70_000),
        }),
        Command::ConsumerDetachNode(ConsumerDetachNode { node: NodeId(2) }),
        Command::ConsumerResize(ConsumerResize {
            consumer: ConsumerId(7),
            attachment: attachment(),
            window: 0,
        }),
        Command::QueueAck(QueueAck { job: leased() }),
        nack(Verdict::Retry { delay_ms: None }),
        nack(Verdict::Retry { delay_ms: Some(500) }),
        nack(Verdict::Dead),
        nack(Verdict::Return),
        Command::QueueExtend(QueueExtend { job: leased(), for_ms: Some(60_000) }),
        Command::QueueProgress(QueueProgress {
            job: leased(),
            permille: 500,
            note: "half".to_owned(),
        }),
        Command::QueueCancel(QueueCancel { queue: queue(), id: JobId(300) }),
        update(DeadLetters::Own, WhenFull::Reject),
        update(DeadLetters::To("letters".to_owned()), WhenFull::DropOldest),
        update(DeadLetters::Discard, WhenFull::DropOldest),
        Command::QueueUpdate(QueueUpdate { queue: queue(), change: QueueChange::default() }),
        Command::QueuePause(QueuePause { queue: queue(), paused: true }),
        Command::QueuePurge(QueuePurge { queue: queue() }),
        Command::QueueDelete(QueueDelete { queue: queue() }),
        Command::QueueRedrive(QueueRedrive {
            queue: queue(),
            which: Redriven::Jobs(vec![JobId(300)]),
        }),
        Command::QueueRedrive(QueueRedrive {
            queue: queue(),
            which: Redriven::After { after: Some(JobId(300)), jobs_max: 1_000 },
        }),
        put(Repeats::Every { ms: 60_000 }, None),
        put(cron(), Some(1_700_000_000_000)),
        Command::ScheduleNext(ScheduleNext {
            name: "schedule".to_owned(),
            id: ScheduleId(300),
            next_wall_ms: Some(1_700_000_000_000),
        }),
        Command::ScheduleDelete(ScheduleDelete { name: "schedule".to_owned() }),
    ]
}

/// What a transaction does with queues.
pub(super) fn transaction() -> Command {
    let job = LeasedJob { queue: queue(), id: JobId(300), lease: JobLease(70_000) };
    Command::Transaction(Transaction {
        conditions: vec![Condition::QueueJobs { queue: queue(), at_most: 300 }],
        then: vec![
            Operation::QueuePush(QueuePush { queue: queue(), jobs: vec![NewJob::default()] }),
            Operation::QueueAck(QueueAck { job }),
        ],
        otherwise: Vec::new(),
    })
}

pub(super) fn transacted() -> Outcome {
    let jobs = vec![PushedJob { id: JobId(300), duplicate: false }];
    Outcome::Transaction {
        failed_condition: None,
        operated: vec![Operated::QueuePush { jobs }, Operated::QueueAck],
        revision: Revision((77 << 12) | 3),
    }
}

pub(super) fn name_of_command(command: &Command) -> &'static str {
    match command {
        Command::QueuePush(_) => "queue_push",
        Command::QueuePull(_) => "queue_pull",
        Command::ConsumerAttach(_) => "consumer_attach",
        Command::ConsumerDetach(_) => "consumer_detach",
        Command::ConsumerDetachNode(_) => "consumer_detach_node",
        Command::ConsumerResize(_) => "consumer_resize",
        Command::QueueAck(_) => "queue_ack",
        Command::QueueNack(_) => "queue_nack",
        Command::QueueExtend(_) => "queue_extend",
        Command::QueueProgress(_) => "queue_progress",
        Command::QueueCancel(_) => "queue_cancel",
        Command::QueueUpdate(_) => "queue_update",
        Command::QueuePause(_) => "queue_pause",
        Command::QueuePurge(_) => "queue_purge",
        Command::QueueDelete(_) => "queue_delete",
        Command::QueueRedrive(_) => "queue_redrive",
        Command::SchedulePut(_) => "schedule_put",
        Command::ScheduleNext(_) => "schedule_next",
        Command::ScheduleDelete(_) => "schedule_delete",
        other => panic!("{other:?} has its name elsewhere"),
    }
}

fn assigned() -> AssignedJob {
    AssignedJob { era: Era(2), id: JobId(300), lease: JobLease(70_000), attempt: 1 }
}

pub(super) fn outcomes() -> Vec<Outcome> {
    let revision = Revision((77 << 12) | 3);
    let nack = |fate| Outcome::QueueNack { fate, revision };
    vec![
        Outcome::QueuePush { jobs: vec![PushedJob { id: JobId(300), duplicate: true }], revision },
        Outcome::QueuePull { jobs: vec![assigned()], revision },
        Outcome::QueuePullWaits { consumer: ConsumerId(7) },
        Outcome::ConsumerAttach { consumer: ConsumerId(7), held: vec![assigned()] },
        Outcome::ConsumerDetachNode { more: true },
        Outcome::QueueAck { revision },
        nack(JobFate::Ready),
        nack(JobFate::Delayed { delay_ms: 500 }),
        nack(JobFate::Dead),
        Outcome::QueueExtend { lease_ms: 30_000, revision },
        Outcome::QueueCancel { cancelled: true, was_leased: false, revision },
        Outcome::QueueUpdate { created: true, revision },
        Outcome::QueuePurge { found: true, jobs: 300, revision },
        Outcome::QueueRedrive { moved: 3, cursor: Some(JobId(300)), revision },
        Outcome::SchedulePut { created: true, next_wall_ms: Some(1_700_000_000_000), revision },
        Outcome::ScheduleDelete { deleted: true, revision },
    ]
}

pub(super) fn name_of_outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::QueuePush { .. } => "queue_push",
        Outcome::QueuePull { .. } => "queue_pull",
        Outcome::QueuePullWaits { .. } => "queue_pull_waits",
        Outcome::ConsumerAttach { .. } => "consumer_attach",
        Outcome::ConsumerDetachNode { .. } => "consumer_detach_node",
        Outcome::QueueAck { .. } => "queue_ack",
        Outcome::QueueNack { .. } => "queue_nack",
        Outcome::QueueExtend { .. } => "queue_extend",
        Outcome::QueueCancel { .. } => "queue_cancel",
        Outcome::QueueUpdate { .. } => "queue_update",
        Outcome::QueuePurge { .. } => "queue_purge",
        Outcome::QueueRedrive { .. } => "queue_redrive",
        Outcome::SchedulePut { .. } => "schedule_put",
        Outcome::ScheduleDelete { .. } => "schedule_delete",
        other => panic!("{other:?} has its name elsewhere"),
    }
}

pub(super) fn rejections() -> Vec<Rejection> {
    vec![
        Rejection::QueueFull { queue: queue(), limit: 1_000 },
        Rejection::QueueUnknown { queue: queue() },
        Rejection::JobUnknown { queue: queue(), id: JobId(300) },
        Rejection::JobLeaseLost { id: JobId(300), lease: JobLease(70_000) },
        Rejection::ConsumerGone(ConsumerId(7)),
    ]
}

pub(super) fn rows(group: GroupId) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let options = |dead_letters| QueueOptions {
        visibility_ms: 30_000,
        attempts_max: 5,
        backoff: backoff(),
        dead_letters,
        keep_done_ms: 60_000,
        jobs_max: 1_000_000,
        when_full: WhenFull::DropOldest,
        parallel_max: 3,
        rate: Some(Rate { jobs: 10, per_ms: 1_000 }),
        dedupe_window_ms: 300_000,
    };
    let queue_row = |dead_letters| QueueRow {
        id: QueueId(1),
        era: Era(2),
        paused: true,
        options: options(dead_letters),
    };
    let counts = QueueCountsRow {
        jobs: JobCounts { ready: 1, delayed: 2, leased: 3, done: 300, body_bytes: 70_000 },
        totals: QueueTotals {
            pushed: 1,
            duplicates: 2,
            delivered: 3,
            acked: 4,
            nacked: 5,
            lapsed: 6,
            died: 7,
            dropped: 8,
            cancelled: 300,
        },
        cursor: ConsumerId(7),
        bucket: Bucket { tokens: 10_000, at_ms: 12_345 },
        wake_ms: Some(12_346),
        next: vec![JobId(300), JobId(301)],
        oldest_ready_ms: Some(12_000),
    };
    let job = |state| JobRow {
        priority: 9,
        state,
        ready_ms: 12_345,
        attempts: 2,
        pushed_wall_ms: 1_700_000_000_000,
        expires_ms: Some(72_345),
        group: Some(JobGroup { key: "group".into(), order: 300 }),
        from: Some("queue".to_owned()),
        noted: true,
        body_bytes: 7,
    };
    let leased = JobState::Leased {
        lease: JobLease(70_000),
        consumer: Some(ConsumerId(7)),
        until_ms: 42_345,
    };
    let body = JobBodyRow {
        content_type: "text/plain",
        headers: vec![("name", b"value")],
        payload: b"payload",
    };
    let note = |death| JobNoteRow {
        failures: vec![JobFailure {
            attempt: 2,
            wall_ms: 1_700_000_000_000,
            error: "why".to_owned(),
        }],
        death: Some(death),
        progress: Some(JobProgress {
            permille: 500,
            note: "half".to_owned(),
            wall_ms: 1_700_000_000_000,
        }),
    };
    let consumer = |wants| ConsumerRow {
        queue: QueueId(1),
        session: Some(SessionId(4096)),
        attachment: Some(attachment()),
        wants,
    };
    let pull = |state| consumer(Wants::Pull { count: 128, until_ms: 42_345, state });
    let (id, era) = (JobId(300), Era(2));
    let queue_key = keys::queue(group, "ns", "queue");
    let job_key = keys::job(group, era, id);
    let consumer_key = keys::consumer(group, ConsumerId(7));
    let dedupe_key = keys::dedupe(group, QueueId(1), b"key");
    let old_era_key = keys::old_era(group, Era(3));
    let deadline = |clock, kind, key: &[u8]| keys::deadline(group, clock, 42_345, kind, key);
    let lease = Clock::Lease;
    let meta = QueuesMetaRow { id: 301, lease: JobLease(70_000), jobs: 306, schedules: 1 };
    let schedule_key = keys::schedule(group, "ns", "schedule");
    let schedule = |repeats| ScheduleRow {
        id: ScheduleId(300),
        queue: queue(),
        job: NewJob::default(),
        repeats,
        next_wall_ms: Some(1_700_000_000_000),
        asks: false,
        pushed: 300,
        refused: 1,
        last_wall_ms: Some(1_690_000_000_000),
    };
    let encoded_job = |state| codec::encode(&job(state));
    vec![
        ("queues_meta", keys::queues_meta(group), codec::encode(&meta)),
        ("queue", queue_key.clone(), codec::encode(&queue_row(DeadLetters::Own))),
        (
            "queue_letters",
            queue_key.clone(),
            codec::encode(&queue_row(DeadLetters::To("letters".to_owned()))),
        ),
        ("queue_discard", queue_key.clone(), codec::encode(&queue_row(DeadLetters::Discard))),
        ("queue_counts", keys::queue_counts(group, QueueId(1)), codec::encode(&counts)),
        ("job", job_key.clone(), encoded_job(JobState::Ready)),
        ("job_delayed", job_key.clone(), encoded_job(JobState::Delayed)),
        (
            "job_delayed_until",
            job_key.clone(),
            encoded_job(JobState::DelayedUntil { wall_ms: 1_700_000_000_000 }),
        ),
        ("job_leased", job_key.clone(), encoded_job(leased)),
        ("job_done", job_key.clone(), encoded_job(JobState::Done { until_ms: 42_345 })),
        ("job_body", keys::job_body(group, id), body.encode()),
        (
            "job_note_attempts",
            keys::job_note(group, id),
            codec::encode(&note(DeathCause::Attempts)),
        ),
        (
            "job_note_rejected",
            keys::job_note(group, id),
            codec::encode(&note(DeathCause::Rejected)),
        ),
        ("job_note_expired", keys::job_note(group, id), codec::encode(&note(DeathCause::Expired))),
        ("consumer", consumer_key.clone(), codec::encode(&consumer(Wants::Window(300)))),
        ("pull", consumer_key.clone(), codec::encode(&pull(PullState::Waiting))),
        (
            "pull_answered",
            consumer_key.clone(),
            codec::encode(&pull(PullState::Answered(vec![assigned()]))),
        ),
        ("pull_timed_out", consumer_key.clone(), codec::encode(&pull(PullState::TimedOut))),
        (
            "pull_left",
            consumer_key.clone(),
            codec::encode(&pull(PullState::Left { wait_until_ms: 3_600_000 })),
        ),
        ("dedupe", dedupe_key.clone(), codec::encode(&DedupeRow { job: id, deadline_ms: 42_345 })),
        ("old_era", old_era_key.clone(), Vec::new()),
        ("old_era_deleted", old_era_key.clone(), codec::encode(&OldEraRow { deleted: id })),
        (
            "schedule_every",
            schedule_key.clone(),
            codec::encode(&schedule(Repeats::Every { ms: 60_000 })),
        ),
        ("schedule_cron", schedule_key.clone(), codec::encode(&schedule(cron()))),
        (
            "deadline_schedule",
            deadline(Clock::Wall, DeadlineKind::Schedule, &schedule_key),
            Vec::new(),
        ),
        ("deadline_job", deadline(lease, DeadlineKind::Job, &job_key), Vec::new()),
        ("deadline_job_wall", deadline(Clock::Wall, DeadlineKind::Job, &job_key), Vec::new()),
        ("deadline_consumer", deadline(lease, DeadlineKind::Consumer, &consumer_key), Vec::new()),
        ("deadline_dedupe", deadline(lease, DeadlineKind::Dedupe, &dedupe_key), Vec::new()),
        ("deadline_queue", deadline(lease, DeadlineKind::Queue, &queue_key), Vec::new()),
        ("deadline_old_era", deadline(lease, DeadlineKind::OldEra, &old_era_key), Vec::new()),
    ]
}
