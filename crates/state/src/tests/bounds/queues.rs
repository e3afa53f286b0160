//! What queues may hold, and what one entry may do in them.

use crate::limits::{
    CONSUMER_DETACH_PER_ENTRY_MAX, CONSUMER_WINDOW_MAX, CONSUMERS_MAX, DEDUPE_KEYS_MAX,
    DELIVERIES_PER_ENTRY_MAX, ENTRY_COMMANDS_MAX, JOB_FAILURES_MAX, JOBS_PER_CALL_MAX, PEEK_MAX,
    PULL_BODY_BYTES_MAX, PURGE_PER_ENTRY_MAX, QUEUES_MAX, REDRIVE_PER_ENTRY_MAX, REDRIVE_STEPS_MAX,
    SESSION_OWNED_MAX,
};
use crate::session::each_row;
use crate::testing::GROUP;
use crate::tests::group::Group;
use crate::{
    Attachment, Command, ConsumerAttach, ConsumerDetachNode, ConsumerId, ConsumerResize, Dedupe,
    Event, JobId, JobLease, LeasedJob, NewJob, NodeId, Outcome, PullRequest, QueueChange,
    QueueNack, QueueOptions, QueuePause, QueuePull, QueuePurge, QueuePush, QueueRedrive,
    QueueUpdate, Redriven, Rejection, SessionId, Verdict, keys, query,
};
use bytes::Bytes;

const AT: Attachment = Attachment { node: NodeId(1), call: 1 };

fn queue() -> String {
    "q".to_owned()
}

impl Group {
    fn push(&mut self, queue: &str, count: usize) {
        let mut left = count;
        while left > 0 {
            let jobs = vec![NewJob::default(); left.min(JOBS_PER_CALL_MAX)];
            left -= jobs.len();
            let push = Command::QueuePush(QueuePush { queue: queue.to_owned(), jobs });
            let pushed = self.own(vec![push]);
            assert!(matches!(pushed.outcomes[0], Outcome::QueuePush { .. }), "{pushed:?}");
        }
    }

    /// One by one of many, as many as fit in an entry.
    fn each(&mut self, commands: impl Iterator<Item = Command>) {
        let commands: Vec<Command> = commands.collect();
        for some in commands.chunks(ENTRY_COMMANDS_MAX) {
            for outcome in self.own(some.to_vec()).outcomes {
                assert!(!matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
            }
        }
    }

    fn one(&mut self, command: Command) -> Outcome {
        self.own(vec![command]).outcomes.remove(0)
    }

    fn rows_of_jobs(&self) -> usize {
        let mut rows = 0;
        each_row(&self.tables, GROUP, keys::table::JOB, |_, _| {
            rows += 1;
            Ok(())
        })
        .unwrap();
        rows
    }

    fn pulled(&mut self, count: usize) -> Vec<(JobId, JobLease)> {
        leased(&self.one(pull(count)))
    }
}

fn attach(queue: &str, window: u32, session: Option<SessionId>) -> Command {
    let (queue, consumer) = (queue.to_owned(), None);
    Command::ConsumerAttach(ConsumerAttach { queue, consumer, session, window, attachment: AT })
}

fn resize(consumer: ConsumerId, window: u32) -> Command {
    Command::ConsumerResize(ConsumerResize { consumer, attachment: AT, window })
}

fn attached(outcome: &Outcome) -> ConsumerId {
    match outcome {
        Outcome::ConsumerAttach { consumer, .. } => *consumer,
        other => panic!("{other:?}"),
    }
}

fn pull(count: usize) -> Command {
    let count = u32::try_from(count).unwrap();
    let request = PullRequest { queue: queue(), count, wait_ms: 0 };
    Command::QueuePull(QueuePull { request, attachment: AT })
}

fn leased(outcome: &Outcome) -> Vec<(JobId, JobLease)> {
    match outcome {
        Outcome::QueuePull { jobs, .. } => jobs.iter().map(|job| (job.id, job.lease)).collect(),
        other => panic!("{other:?}"),
    }
}

fn nack((id, lease): (JobId, JobLease), verdict: Verdict) -> Command {
    let job = LeasedJob { queue: queue(), id, lease };
    Command::QueueNack(QueueNack { job, verdict, error: String::new() })
}

fn pause(paused: bool) -> Command {
    Command::QueuePause(QueuePause { queue: queue(), paused })
}

fn update(queue: String, change: QueueChange) -> Command {
    Command::QueueUpdate(QueueUpdate { queue, change })
}

fn limit_of(outcome: &Outcome) -> (&str, u64, u64) {
    match outcome {
        Outcome::Rejected(Rejection::LimitExceeded { what, actual, limit }) => {
            (what, *actual, *limit)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_entry_delivers_so_many_jobs() {
    let mut group = Group::new();
    group.own(vec![pause(true)]);
    let count = DELIVERIES_PER_ENTRY_MAX + 100;
    group.push("q", count + 50);
    let consumers = count.div_ceil(CONSUMER_WINDOW_MAX as usize);
    group.each((0..consumers).map(|_| attach("q", CONSUMER_WINDOW_MAX, None)));
    let given = |events: &[Event]| {
        events.iter().filter(|event| matches!(event, Event::JobAssigned { .. })).count()
    };
    let entry = group.own(vec![pause(false), pull(10)]);
    assert_eq!(given(&entry.events), DELIVERIES_PER_ENTRY_MAX);
    // Who asks gets one at least: that nothing is ready would not be true.
    assert_eq!(leased(&entry.outcomes[1]).len(), 1);
    group.check();
    group.stamp.lease_ms += 1;
    let entry = group.own(vec![Command::Tick]);
    assert_eq!(given(&entry.events), 149, "{:?}", entry.outcomes);
    group.check();
}

#[test]
fn one_entry_deletes_so_many_purged_jobs() {
    let mut group = Group::new();
    let count = 2 * PURGE_PER_ENTRY_MAX + 1;
    group.push("q", count);
    group.push("other", 3);
    group.own(vec![Command::QueuePurge(QueuePurge { queue: queue() })]);
    for left in [PURGE_PER_ENTRY_MAX + 4, 4, 3, 3] {
        group.stamp.lease_ms += 1;
        group.own(vec![Command::Tick]);
        assert_eq!(group.rows_of_jobs(), left);
        group.check();
    }
}

#[test]
fn so_many_dedupe_keys_are_remembered() {
    let mut group = Group::new();
    let push = |key: &'static [u8]| {
        let dedupe = Some(Dedupe { key: Bytes::from_static(key), window_ms: None });
        let jobs = vec![NewJob { dedupe, ..NewJob::default() }];
        Command::QueuePush(QueuePush { queue: queue(), jobs })
    };
    group.each([push(b"a"), push(b"b"), push(b"a")].into_iter());
    group.check();
    group.machine.pretend_dedupe_keys(DEDUPE_KEYS_MAX);
    let refused = group.one(push(b"c"));
    let expected = ("dedupe keys in all queues", DEDUPE_KEYS_MAX + 1, DEDUPE_KEYS_MAX);
    assert_eq!(limit_of(&refused), expected);
    // What is known already, and what has none, takes no place.
    group.each([push(b"b")].into_iter());
    group.push("q", 1);
    group.machine.pretend_dedupe_keys(2);
    group.check();
    group.stamp.lease_ms += QueueOptions::default().dedupe_window_ms;
    group.own(vec![Command::Tick]);
    group.check();
}

/// All jobs of `q` are dead letters then.
fn letters(group: &mut Group, count: usize) {
    group.push("q", count);
    for _ in 0..count.div_ceil(JOBS_PER_CALL_MAX) {
        let jobs = group.pulled(JOBS_PER_CALL_MAX);
        group.each(jobs.into_iter().map(|job| nack(job, Verdict::Dead)));
    }
}

fn redrive(after: Option<JobId>, jobs_max: u64) -> Command {
    let which = Redriven::After { after, jobs_max };
    Command::QueueRedrive(QueueRedrive { queue: queue(), which })
}

fn moved(outcome: &Outcome) -> (u64, Option<JobId>) {
    match outcome {
        Outcome::QueueRedrive { moved, cursor, .. } => (*moved, *cursor),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_entry_puts_so_many_letters_back() {
    let mut group = Group::new();
    let most = REDRIVE_PER_ENTRY_MAX;
    letters(&mut group, usize::try_from(most).unwrap() + 200);
    let outcomes = group.own(vec![redrive(None, 900), redrive(None, 500), redrive(None, 9)]);
    let outcomes: Vec<_> = outcomes.outcomes.iter().map(moved).collect();
    assert_eq!(outcomes[0].0, 900);
    assert_eq!(outcomes[1].0, most - 900);
    assert_eq!(outcomes[2].0, 1, "each command gets somewhere");
    group.check();
}

#[test]
fn one_entry_looks_at_so_many_letters() {
    let mut group = Group::new();
    // Letters that nobody sent there: all of them are passed over.
    group.push("q.dead", REDRIVE_STEPS_MAX + 10);
    let outcomes = group.own(vec![pause(false), redrive(None, 9), redrive(None, 9)]).outcomes;
    let ((none, Some(first)), (no, Some(second))) = (moved(&outcomes[1]), moved(&outcomes[2]))
    else {
        panic!("{outcomes:?}")
    };
    assert_eq!((none, no), (0, 0));
    // The ids of the queue and of its era come first.
    assert_eq!(first, JobId(2 + REDRIVE_STEPS_MAX as u64));
    assert_eq!(second, JobId(3), "each command gets somewhere");
    assert_eq!(moved(&group.one(redrive(Some(first), 9))), (0, None));
}

#[test]
fn one_entry_detaches_so_many_consumers() {
    let mut group = Group::new();
    group.each((0..=CONSUMER_DETACH_PER_ENTRY_MAX).map(|_| attach("q", 1, None)));
    let detach = || Command::ConsumerDetachNode(ConsumerDetachNode { node: AT.node });
    for expected in [true, false] {
        let outcome = group.one(detach());
        assert!(
            matches!(outcome, Outcome::ConsumerDetachNode { more } if more == expected),
            "{outcome:?}"
        );
        group.check();
    }
}

#[test]
fn a_group_has_so_many_queues() {
    let mut group = Group::new();
    let none = QueueChange::default;
    group.each((2..QUEUES_MAX).map(|number| update(format!("q{number}"), none())));
    // A queue of dead letters comes with it, so there is not enough room for both.
    let letters = |to: &str| QueueChange {
        dead_letters: Some(crate::DeadLetters::To(to.to_owned())),
        ..none()
    };
    group.each([update(queue(), none())].into_iter());
    let refused = group.one(update("r".to_owned(), letters("s")));
    assert_eq!(limit_of(&refused), ("queues", QUEUES_MAX + 1, QUEUES_MAX));
    group.each([update("r".to_owned(), letters("q"))].into_iter());
    for command in [update("s".to_owned(), none()), update(queue(), letters("s"))] {
        let refused = group.one(command);
        assert_eq!(limit_of(&refused), ("queues", QUEUES_MAX + 1, QUEUES_MAX));
    }
    group.check();
}

#[test]
fn a_group_has_so_many_consumers() {
    let mut group = Group::new();
    group.each((0..CONSUMERS_MAX).map(|_| attach("q", 1, None)));
    let wait = PullRequest { queue: queue(), count: 1, wait_ms: 1 };
    let wait = Command::QueuePull(QueuePull { request: wait, attachment: AT });
    for command in [attach("q", 1, None), wait] {
        let refused = group.one(command);
        assert_eq!(limit_of(&refused), ("consumers", CONSUMERS_MAX + 1, CONSUMERS_MAX));
    }
    // A pull that does not wait takes no place.
    assert_eq!(group.pulled(1), []);
}

#[test]
fn a_session_has_what_its_consumers_hold_and_may_hold() {
    let mut group = Group::new();
    let session = Some(group.session(0));
    let whole = u64::from(CONSUMER_WINDOW_MAX) + 1;
    let count = SESSION_OWNED_MAX / whole;
    let attach = |group: &mut Group| group.one(attach("q", CONSUMER_WINDOW_MAX, session));
    let consumers: Vec<_> = (0..count).map(|_| attached(&attach(&mut group))).collect();
    let refused = |outcome: &Outcome| {
        assert_eq!(limit_of(outcome).1, count * whole + whole);
    };
    refused(&attach(&mut group));
    group.push("q", consumers.len() * CONSUMER_WINDOW_MAX as usize);
    // Windows that are made smaller take nothing back, and what is held counts.
    group.each(consumers.iter().map(|consumer| resize(*consumer, 0)));
    refused(&attach(&mut group));
    // So what was theirs may be theirs again.
    group.each(consumers.iter().map(|consumer| resize(*consumer, CONSUMER_WINDOW_MAX)));
    refused(&attach(&mut group));
    group.check();
}

#[test]
fn a_pull_answers_so_many_bytes() {
    let mut group = Group::new();
    let half = usize::try_from(PULL_BODY_BYTES_MAX / 2).unwrap();
    let job = NewJob { payload: Bytes::from(vec![0; half + 1]), ..NewJob::default() };
    for _ in 0..3 {
        let push = QueuePush { queue: queue(), jobs: vec![job.clone()] };
        group.own(vec![Command::QueuePush(push)]);
    }
    assert_eq!(group.pulled(3).len(), 2);
    assert_eq!(group.pulled(3).len(), 1);
}

#[test]
fn what_is_shown_of_a_queue_and_of_a_job_is_bounded() {
    let mut group = Group::new();
    group.push("q", PEEK_MAX + 5);
    let peeked = query::peek(&group.tables, GROUP, "", "q", usize::MAX, u64::MAX).unwrap().unwrap();
    assert_eq!(peeked.len(), PEEK_MAX);

    let change = QueueChange { attempts_max: Some(0), ..QueueChange::default() };
    group.each([update(queue(), change)].into_iter());
    // The same one each time: it is ready again at once, and has the lowest id.
    let attempts = JOB_FAILURES_MAX + 3;
    let mut id = JobId(0);
    for _ in 0..attempts {
        let job = group.pulled(1)[0];
        id = job.0;
        group.each([nack(job, Verdict::Retry { delay_ms: Some(0) })].into_iter());
    }
    let (_, item) = query::job(&group.tables, GROUP, "", "q", id).unwrap().unwrap();
    let remembered: Vec<u32> = item.failures.iter().map(|failure| failure.attempt).collect();
    assert_eq!(remembered, (4..=13).collect::<Vec<u32>>());
}
