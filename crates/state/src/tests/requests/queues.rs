//! Random requests of the task queue: two queues and their dead letters.

use crate::{
    AssignedJob, Attachment, Backoff, Command, ConsumerAttach, ConsumerDetach, ConsumerDetachNode,
    ConsumerId, ConsumerResize, DeadLetters, Dedupe, Delay, Event, JobId, JobLease, LeasedJob,
    NewJob, NodeId, Outcome, PullRequest, QueueAck, QueueCancel, QueueChange, QueueDelete,
    QueueExtend, QueueNack, QueuePause, QueueProgress, QueuePull, QueuePurge, QueuePush,
    QueueRedrive, QueueUpdate, Redriven, SessionId, Verdict, WhenFull,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few of them at once")]
pub(super) enum What {
    Command(Command),
    /// With one of the deliveries so far.
    Job(String, JobWhat, Index),
    Attach(ConsumerAttach, Option<Index>, Option<Index>),
    Detach(Attachment, Index, Index),
    Resize(Attachment, u32, Index),
    Cancel(String, Index),
    Redrive(String, Vec<Index>),
}

#[derive(Clone, Debug)]
pub(super) enum JobWhat {
    Ack,
    Nack(Verdict),
    Extend(Option<u64>),
    Progress(u32),
}

pub(super) fn name() -> impl Strategy<Value = String> {
    let names = prop_oneof![24 => Just("q"), 4 => Just("r"), 3 => Just("q.dead"), 1 => Just("")];
    names.prop_map(str::to_owned)
}

fn attachment() -> impl Strategy<Value = Attachment> {
    (1..3u64, 0..2u64).prop_map(|(node, call)| Attachment { node: NodeId(node), call })
}

fn new_job() -> impl Strategy<Value = NewJob> {
    let delay = prop_oneof![
        6 => Just(Delay::None),
        2 => (0..6u64).prop_map(|ms| Delay::For { ms }),
        1 => (0..6u64).prop_map(|wall_ms| Delay::Until { wall_ms }),
        1 => Just(Delay::Until { wall_ms: 150_000 }),
    ];
    let ttl_ms = prop_oneof![
        6 => Just(None),
        2 => (1..6u64).prop_map(Some),
        1 => Just(Some(0)),
    ];
    let group = prop_oneof![3 => Just(None), 1 => Just(Some("g")), 1 => Just(Some("h"))];
    let dedupe = prop_oneof![
        4 => Just(None),
        1 => prop::option::of(1..5u64)
            .prop_map(|window_ms| Some(Dedupe { key: "k".into(), window_ms })),
    ];
    let payload = prop_oneof![Just("1"), Just("22")];
    let priority = prop_oneof![2 => Just(0), 1 => Just(1), 1 => Just(255)];
    (payload, priority, delay, ttl_ms, group, dedupe).prop_map(
        |(payload, priority, delay, ttl_ms, group, dedupe)| NewJob {
            payload: payload.into(),
            priority,
            delay,
            ttl_ms,
            group: group.map(Into::into),
            dedupe,
            ..NewJob::default()
        },
    )
}

pub(super) fn push() -> impl Strategy<Value = QueuePush> {
    (name(), vec(new_job(), 1..4)).prop_map(|(queue, jobs)| QueuePush { queue, jobs })
}

fn change() -> impl Strategy<Value = QueueChange> {
    let attempts_max = prop::option::of(0..3u32);
    let dead_letters = prop::option::of(prop_oneof![
        2 => Just(DeadLetters::Own),
        1 => Just(DeadLetters::To("q".to_owned())),
        1 => Just(DeadLetters::To("r".to_owned())),
        1 => Just(DeadLetters::Discard),
    ]);
    let when_full =
        prop::option::of(prop_oneof![1 => Just(WhenFull::Reject), 2 => Just(WhenFull::DropOldest)]);
    let backoff = prop::option::of((any::<bool>(), 0..4u64).prop_map(|(exponential, base_ms)| {
        Backoff { exponential, base_ms, cap_ms: 5, jitter_permille: 500 }
    }));
    let keep_done_ms = prop::option::of(prop_oneof![Just(0u64), Just(3)]);
    let jobs_max = prop::option::weighted(0.5, 1..5u64);
    let parallel_max = prop::option::weighted(0.3, 0..3u32);
    let visibility_ms = prop::option::of(Just(1_000u64));
    (
        attempts_max,
        dead_letters,
        when_full,
        backoff,
        keep_done_ms,
        jobs_max,
        parallel_max,
        visibility_ms,
    )
        .prop_map(
            |(
                attempts_max,
                dead_letters,
                when_full,
                backoff,
                keep_done_ms,
                jobs_max,
                parallel_max,
                visibility_ms,
            )| QueueChange {
                attempts_max,
                dead_letters,
                when_full,
                backoff,
                keep_done_ms,
                jobs_max,
                parallel_max,
                visibility_ms,
                ..QueueChange::default()
            },
        )
}

pub(super) fn what() -> impl Strategy<Value = What> {
    let command = |command| What::Command(command);
    let verdict = prop_oneof![
        3 => Just(Verdict::Retry { delay_ms: None }),
        1 => (0..4u64).prop_map(|ms| Verdict::Retry { delay_ms: Some(ms) }),
        1 => Just(Verdict::Dead),
        1 => Just(Verdict::Return),
    ];
    let with_job = prop_oneof![
        6 => Just(JobWhat::Ack),
        5 => verdict.prop_map(JobWhat::Nack),
        1 => prop::option::of(prop_oneof![Just(0u64), Just(2)]).prop_map(JobWhat::Extend),
        1 => (0..1_000u32).prop_map(JobWhat::Progress),
    ];
    let window = || prop_oneof![6 => 0..4u32, 1 => Just(1_001)];
    let attach = (
        name(),
        window(),
        attachment(),
        prop::option::of(any::<Index>()),
        prop::option::weighted(0.3, any::<Index>()),
    );
    prop_oneof![
        9 => push().prop_map(move |push| command(Command::QueuePush(push))),
        5 => (name(), 0..4u32, 0..5u64, attachment()).prop_map(
            move |(queue, count, wait_ms, attachment)| {
                let request = PullRequest { queue, count, wait_ms };
                command(Command::QueuePull(QueuePull { request, attachment }))
            }
        ),
        14 => (name(), with_job, any::<Index>())
            .prop_map(|(queue, what, which)| What::Job(queue, what, which)),
        5 => attach.prop_map(|(queue, window, attachment, consumer, session)| {
            let (none, of) = (None, None);
            let attach = ConsumerAttach { queue, consumer: none, session: of, window, attachment };
            What::Attach(attach, consumer, session)
        }),
        4 => (attachment(), any::<Index>(), any::<Index>())
            .prop_map(|(at, consumer, delivered)| What::Detach(at, consumer, delivered)),
        1 => (1..3u64).prop_map(move |node| {
            command(Command::ConsumerDetachNode(ConsumerDetachNode { node: NodeId(node) }))
        }),
        1 => (attachment(), window(), any::<Index>())
            .prop_map(|(at, window, which)| What::Resize(at, window, which)),
        1 => (name(), any::<Index>()).prop_map(|(queue, which)| What::Cancel(queue, which)),
        3 => (name(), change()).prop_map(move |(queue, change)| {
            command(Command::QueueUpdate(QueueUpdate { queue, change }))
        }),
        1 => (name(), any::<bool>()).prop_map(move |(queue, paused)| {
            command(Command::QueuePause(QueuePause { queue, paused }))
        }),
        1 => name().prop_map(move |queue| command(Command::QueuePurge(QueuePurge { queue }))),
        1 => name().prop_map(move |queue| command(Command::QueueDelete(QueueDelete { queue }))),
        2 => (name(), vec(any::<Index>(), 0..3))
            .prop_map(|(queue, which)| What::Redrive(queue, which)),
    ]
}

/// What became of the requests so far.
#[derive(Default)]
pub(super) struct Known {
    jobs: Vec<JobId>,
    deliveries: Vec<AssignedJob>,
    consumers: Vec<ConsumerId>,
}

impl Known {
    pub(super) fn learn(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::QueuePush { jobs, .. } => self.jobs.extend(jobs.iter().map(|job| job.id)),
            Outcome::QueuePull { jobs, .. } => self.deliveries.extend(jobs),
            Outcome::QueuePullWaits { consumer } | Outcome::ConsumerAttach { consumer, .. }
                if !self.consumers.contains(consumer) =>
            {
                self.consumers.push(*consumer);
            }
            _ => {}
        }
    }

    pub(super) fn learn_event(&mut self, event: &Event) {
        if let Event::JobAssigned { job, .. } = event {
            self.deliveries.push(*job);
        }
    }

    pub(super) fn command(&self, what: &What, sessions: &[SessionId]) -> Command {
        match what {
            What::Command(command) => command.clone(),
            What::Job(queue, what, which) => {
                // The newest ones are those that may still be valid.
                let newest = &self.deliveries[self.deliveries.len().saturating_sub(3)..];
                let (id, lease) = match newest {
                    [] => (JobId(1), JobLease(1)),
                    some => {
                        let job = which.get(some);
                        (job.id, job.lease)
                    }
                };
                let job = LeasedJob { queue: queue.clone(), id, lease };
                match what {
                    JobWhat::Ack => Command::QueueAck(QueueAck { job }),
                    JobWhat::Nack(verdict) => {
                        let (verdict, error) = (*verdict, "why".to_owned());
                        Command::QueueNack(QueueNack { job, verdict, error })
                    }
                    JobWhat::Extend(for_ms) => {
                        Command::QueueExtend(QueueExtend { job, for_ms: *for_ms })
                    }
                    JobWhat::Progress(permille) => {
                        let (permille, note) = (*permille, "note".to_owned());
                        Command::QueueProgress(QueueProgress { job, permille, note })
                    }
                }
            }
            What::Attach(attach, consumer, session) => {
                let session = session.filter(|_| !sessions.is_empty());
                Command::ConsumerAttach(ConsumerAttach {
                    consumer: consumer.map(|which| self.consumer(&which)),
                    session: session.map(|which| *which.get(sessions)),
                    ..attach.clone()
                })
            }
            What::Detach(attachment, consumer, delivered) => {
                let delivered = match &self.deliveries[..] {
                    [] => JobLease(0),
                    some => delivered.get(some).lease,
                };
                let (consumer, attachment) = (self.consumer(consumer), *attachment);
                Command::ConsumerDetach(ConsumerDetach { consumer, attachment, delivered })
            }
            What::Resize(attachment, window, consumer) => {
                let (consumer, attachment, window) =
                    (self.consumer(consumer), *attachment, *window);
                Command::ConsumerResize(ConsumerResize { consumer, attachment, window })
            }
            What::Cancel(queue, which) => {
                Command::QueueCancel(QueueCancel { queue: queue.clone(), id: self.job(which) })
            }
            What::Redrive(queue, which) => {
                let which = match &which[..] {
                    [] => Redriven::After { after: None, jobs_max: 2 },
                    [after] => Redriven::After { after: Some(self.job(after)), jobs_max: 9 },
                    some => Redriven::Jobs(some.iter().map(|which| self.job(which)).collect()),
                };
                Command::QueueRedrive(QueueRedrive { queue: queue.clone(), which })
            }
        }
    }

    /// Names the newest delivery.
    pub(super) fn name_delivered(&self, job: &mut LeasedJob) {
        if let Some(newest) = self.deliveries.last() {
            (job.id, job.lease) = (newest.id, newest.lease);
        }
    }

    /// The newest ones are those that are there.
    fn consumer(&self, which: &Index) -> ConsumerId {
        match &self.consumers[self.consumers.len().saturating_sub(4)..] {
            [] => ConsumerId(1),
            some => *which.get(some),
        }
    }

    fn job(&self, which: &Index) -> JobId {
        match &self.jobs[..] {
            [] => JobId(1),
            some => *which.get(some),
        }
    }
}
