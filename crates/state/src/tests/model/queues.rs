//! A naive queue: every question is answered by looking through all jobs and consumers there are.

use super::too_much;
use crate::query::{JobBody, JobFilter, JobItem, JobList, JobStanding, PullStanding, QueueItem};
use crate::testing::GROUP;
use crate::{
    AssignedJob, Attachment, Command, ConsumerAttach, ConsumerId, DeadLetters, DeathCause, Delay,
    Era, JobCounts, JobFailure, JobFate, JobId, JobLease, JobProgress, LeasedJob, MemoryTables,
    NewJob, NodeId, Outcome, PushedJob, QueueChange, QueueOptions, QueueTotals, Redriven,
    Rejection, Revision, SessionId, Stamp, Verdict, WhenFull, codec, query,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Name = (String, String);

#[derive(Clone, Default)]
pub(super) struct Queues {
    id: u64,
    lease: u64,
    queues: BTreeMap<Name, Queue>,
    consumers: BTreeMap<u64, Consumer>,
    /// By queue and key.
    dedupe: BTreeMap<(u64, Vec<u8>), (JobId, u64)>,
    /// When what was purged is deleted.
    purged: Vec<u64>,
}

#[derive(Clone)]
struct Queue {
    id: u64,
    era: u64,
    options: QueueOptions,
    paused: bool,
    cursor: u64,
    jobs: BTreeMap<u64, Job>,
    totals: QueueTotals,
}

/// What is due: whether by the wall clock, when, the kind of its deadline, ids, and a name.
type Due = (bool, u64, u8, Vec<u64>, Vec<u8>);

#[derive(Clone)]
struct Job {
    new: NewJob,
    state: State,
    ready_ms: u64,
    attempts: u32,
    pushed_wall_ms: u64,
    expires_ms: Option<u64>,
    order: u64,
    from: Option<String>,
    failures: Vec<JobFailure>,
    death: Option<DeathCause>,
    progress: Option<JobProgress>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Ready,
    Delayed,
    Until(u64),
    Leased { lease: u64, consumer: Option<u64>, until_ms: u64 },
    Done(u64),
}

#[derive(Clone)]
struct Consumer {
    queue: Name,
    session: Option<SessionId>,
    attachment: Option<Attachment>,
    wants: Wants,
}

#[derive(Clone)]
enum Wants {
    Window(u32),
    Pull { count: u32, until_ms: u64, state: Pull },
}

#[derive(Clone, PartialEq)]
enum Pull {
    Waiting,
    Answered(Vec<AssignedJob>),
    TimedOut,
    /// It waits on until then when its caller comes back.
    Left(u64),
}

/// Now, and the command.
pub(super) type When = (Stamp, Revision);

impl Queues {
    fn next(&mut self) -> u64 {
        self.id += 1;
        self.id
    }

    /// What is due at the beginning of an entry, in the order of the deadlines.
    pub(super) fn pass_time(&mut self, now: Stamp) {
        let mut due: Vec<Due> = Vec::new();
        for queue in self.queues.values() {
            for (id, job) in &queue.jobs {
                let (wall, at_ms) = match job.state {
                    State::Ready => match job.expires_ms {
                        Some(at_ms) => (false, at_ms),
                        None => continue,
                    },
                    State::Delayed => (false, job.ready_ms.min(job.expires_ms.unwrap_or(u64::MAX))),
                    State::Until(at_ms) => (true, at_ms),
                    State::Leased { until_ms, .. } | State::Done(until_ms) => (false, until_ms),
                };
                due.push((wall, at_ms, 4, vec![queue.era, *id], Vec::new()));
            }
        }
        for (id, consumer) in &self.consumers {
            if let Wants::Pull { until_ms, .. } = consumer.wants {
                due.push((false, until_ms, 5, vec![*id], Vec::new()));
            }
        }
        due.retain(|(wall, at_ms, ..)| *at_ms <= if *wall { now.wall_ms } else { now.lease_ms });
        due.sort();
        for (wall, at_ms, kind, ids, _) in due {
            match kind {
                4 => self.job_due(now, wall, at_ms, ids[0], ids[1]),
                _ => self.consumer_due(now, at_ms, ids[0]),
            }
        }
        self.dedupe.retain(|_, (_, until_ms)| *until_ms > now.lease_ms);
        self.purged.retain(|at_ms| *at_ms > now.lease_ms);
    }

    fn job_due(&mut self, now: Stamp, wall: bool, at_ms: u64, era: u64, id: u64) {
        let found = self.queues.iter().find(|(_, queue)| queue.era == era);
        let Some(name) = found.map(|(name, _)| name.clone()) else { return };
        let Some(job) = self.queues[&name].jobs.get(&id).cloned() else { return };
        let expired = job.expires_ms.is_some_and(|at_ms| at_ms <= now.lease_ms);
        // Not if it moved on meanwhile, in this very sweep.
        let still = match job.state {
            State::Ready => !wall && job.expires_ms == Some(at_ms),
            State::Delayed => {
                !wall && job.ready_ms.min(job.expires_ms.unwrap_or(u64::MAX)) == at_ms
            }
            State::Until(until_ms) => wall && until_ms == at_ms,
            State::Leased { until_ms, .. } | State::Done(until_ms) => !wall && until_ms == at_ms,
        };
        if !still {
            return;
        }
        match job.state {
            State::Done(_) => {
                self.queue(&name).jobs.remove(&id);
            }
            State::Leased { .. } => {
                self.queue(&name).totals.lapsed += 1;
                self.failed(now, &name, id, "", Some(0));
            }
            _ if expired => self.die(now, &name, id, DeathCause::Expired),
            _ => {
                let job = self.job(&name, id);
                if let State::Until(_) = job.state {
                    job.ready_ms = now.lease_ms;
                }
                job.state = State::Ready;
            }
        }
        self.dispatch(now);
    }

    fn consumer_due(&mut self, now: Stamp, at_ms: u64, id: u64) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let Wants::Pull { until_ms, state, .. } = &mut consumer.wants else { return };
        if *until_ms != at_ms {
            return;
        }
        if *state == Pull::Waiting {
            (*state, *until_ms) = (Pull::TimedOut, now.lease_ms + 30_000);
        } else {
            self.consumers.remove(&id);
        }
    }

    fn queue(&mut self, name: &Name) -> &mut Queue {
        self.queues.get_mut(name).unwrap()
    }

    fn job(&mut self, name: &Name, id: u64) -> &mut Job {
        self.queue(name).jobs.get_mut(&id).unwrap()
    }

    fn make(&mut self, name: &Name) -> bool {
        let is_for_dead_letters = name.1.ends_with(".dead");
        self.make_for(name, is_for_dead_letters)
    }

    fn make_for(&mut self, name: &Name, dead_letters: bool) -> bool {
        if self.queues.contains_key(name) {
            return false;
        }
        let mut options = QueueOptions::default();
        if dead_letters {
            options.attempts_max = 0;
            options.dead_letters = DeadLetters::Discard;
            options.jobs_max = 100_000;
            options.when_full = WhenFull::DropOldest;
        }
        let (id, era) = (self.next(), self.next());
        let (jobs, totals) = Default::default();
        let queue = Queue { id, era, options, paused: false, cursor: 0, jobs, totals };
        self.queues.insert(name.clone(), queue);
        true
    }

    fn known(&self, namespace: &str, queue: &str) -> Result<Name, Rejection> {
        check(queue)?;
        let name = (namespace.to_owned(), queue.to_owned());
        match self.queues.contains_key(&name) {
            true => Ok(name),
            false => Err(Rejection::QueueUnknown { queue: queue.to_owned() }),
        }
    }

    pub(super) fn length(&self, namespace: &str, queue: &str) -> Result<u64, Rejection> {
        check(queue)?;
        let name = (namespace.to_owned(), queue.to_owned());
        Ok(self.queues.get(&name).map_or(0, Queue::length))
    }

    /// How many jobs a consumer has.
    fn held(&self, id: u64) -> Vec<(Name, u64, AssignedJob)> {
        let mut held = Vec::new();
        for (name, queue) in &self.queues {
            for (job_id, job) in &queue.jobs {
                if let State::Leased { lease, consumer: Some(consumer), .. } = job.state
                    && consumer == id
                {
                    held.push((name.clone(), *job_id, assigned(queue.era, *job_id, lease, job)));
                }
            }
        }
        held
    }

    /// Whoever is to get the next job of a queue.
    fn turn(&self, now: Stamp, name: &Name) -> Option<u64> {
        let cursor = self.queues[name].cursor;
        let free = self.consumers.iter().filter(|(id, consumer)| {
            consumer.queue == *name
                && consumer.attachment.is_some()
                && match &consumer.wants {
                    Wants::Window(window) => self.held(**id).len() < *window as usize,
                    Wants::Pull { until_ms, state, .. } => {
                        *state == Pull::Waiting && *until_ms > now.lease_ms
                    }
                }
        });
        let places = free.map(|(id, consumer)| match consumer.wants {
            Wants::Window(_) => (self.held(*id).len(), *id <= cursor, *id),
            Wants::Pull { .. } => (0, *id <= cursor, *id),
        });
        places.min().map(|(_, _, id)| id)
    }

    /// The next job of a queue, if it may be delivered; those that are too old die on the way.
    fn take(&mut self, now: Stamp, name: &Name) -> Option<u64> {
        loop {
            let queue = &self.queues[name];
            let ready = queue.jobs.iter().filter(|(_, job)| {
                job.state == State::Ready
                    && job.new.group.as_ref().is_none_or(|group| {
                        queue.jobs.values().all(|other| {
                            other.new.group.as_ref() != Some(group)
                                || matches!(other.state, State::Done(_))
                                || other.order >= job.order
                        })
                    })
            });
            let next = ready.min_by_key(|(id, job)| (255 - job.new.priority, job.ready_ms, **id));
            let (id, expires_ms) = next.map(|(id, job)| (*id, job.expires_ms))?;
            let leased =
                queue.jobs.values().filter(|job| matches!(job.state, State::Leased { .. }));
            let parallel_max = queue.options.parallel_max as usize;
            if queue.paused || parallel_max > 0 && leased.count() >= parallel_max {
                return None;
            }
            if expires_ms.is_none_or(|at_ms| at_ms > now.lease_ms) {
                return Some(id);
            }
            self.die(now, name, id, DeathCause::Expired);
        }
    }

    fn lease(&mut self, now: Stamp, name: &Name, id: u64, consumer: Option<u64>) -> AssignedJob {
        self.lease += 1;
        let lease = self.lease;
        let queue = self.queue(name);
        queue.totals.delivered += 1;
        let until_ms = now.lease_ms + queue.options.visibility_ms;
        let era = queue.era;
        let job = self.job(name, id);
        job.attempts += 1;
        job.state = State::Leased { lease, consumer, until_ms };
        assigned(era, id, lease, job)
    }

    fn take_many(
        &mut self,
        now: Stamp,
        name: &Name,
        count: u32,
        mut jobs: Vec<AssignedJob>,
    ) -> Vec<AssignedJob> {
        while jobs.len() < count as usize
            && let Some(id) = self.take(now, name)
        {
            jobs.push(self.lease(now, name, id, None));
        }
        jobs
    }

    /// In all queues; those that were made first come first.
    fn dispatch(&mut self, now: Stamp) {
        loop {
            let due = self.queues.iter().filter(|(name, queue)| {
                let leased = queue.counts().leased;
                let parallel_max = u64::from(queue.options.parallel_max);
                !queue.paused
                    && (parallel_max == 0 || leased < parallel_max)
                    && !queue.deliverable().is_empty()
                    && self.turn(now, name).is_some()
            });
            let first = due.min_by_key(|(_, queue)| queue.id);
            let Some(name) = first.map(|(name, _)| name.clone()) else { return };
            while let Some(consumer) = self.turn(now, &name)
                && let Some(id) = self.take(now, &name)
            {
                self.queue(&name).cursor = consumer;
                self.give(now, &name, id, consumer);
            }
        }
    }

    fn give(&mut self, now: Stamp, name: &Name, id: u64, to: u64) {
        match self.consumers[&to].wants {
            Wants::Window(_) => {
                self.lease(now, name, id, Some(to));
            }
            Wants::Pull { count, .. } => {
                let first = self.lease(now, name, id, None);
                let jobs = self.take_many(now, name, count, vec![first]);
                let consumer = self.consumers.get_mut(&to).unwrap();
                let (until_ms, state) = (now.lease_ms + 30_000, Pull::Answered(jobs));
                consumer.wants = Wants::Pull { count, until_ms, state };
            }
        }
    }

    fn failed(
        &mut self,
        now: Stamp,
        name: &Name,
        id: u64,
        error: &str,
        delay_ms: Option<u64>,
    ) -> JobFate {
        self.note_failure(now, name, id, error);
        let options = self.queues[name].options.clone();
        let job = self.job(name, id);
        if options.attempts_max > 0 && job.attempts >= options.attempts_max {
            self.die(now, name, id, DeathCause::Attempts);
            return JobFate::Dead;
        }
        if job.expires_ms.is_some_and(|at_ms| at_ms <= now.lease_ms) {
            self.die(now, name, id, DeathCause::Expired);
            return JobFate::Dead;
        }
        let delay_ms = delay_ms.unwrap_or_else(|| {
            let doubled = 1_u64 << if options.backoff.exponential { job.attempts - 1 } else { 0 };
            let whole = (options.backoff.base_ms * doubled).min(options.backoff.cap_ms);
            let jitter = u64::from(options.backoff.jitter_permille) + 1;
            whole - whole * (codec::fingerprint(&(JobId(id), job.attempts)) % jitter) / 1_000
        });
        job.ready_ms = now.lease_ms + delay_ms;
        if delay_ms == 0 {
            job.state = State::Ready;
            return JobFate::Ready;
        }
        job.state = State::Delayed;
        JobFate::Delayed { delay_ms }
    }

    fn note_failure(&mut self, now: Stamp, name: &Name, id: u64, error: &str) {
        let job = self.job(name, id);
        let (attempt, error) = (job.attempts, error.to_owned());
        job.failures.push(JobFailure { attempt, wall_ms: now.wall_ms, error });
        if job.failures.len() > 10 {
            job.failures.remove(0);
        }
        job.progress = None;
    }

    fn die(&mut self, now: Stamp, name: &Name, id: u64, cause: DeathCause) {
        let queue = self.queue(name);
        queue.totals.died += 1;
        let mut job = queue.jobs.remove(&id).unwrap();
        let to = match &queue.options.dead_letters {
            DeadLetters::Own => format!("{}.dead", name.1),
            DeadLetters::To(to) if *to != name.1 => to.clone(),
            _ => return,
        };
        let to = (name.0.clone(), to);
        self.make_for(&to, true);
        job.death = Some(cause);
        job.progress = None;
        job.state = State::Ready;
        job.ready_ms = now.lease_ms;
        job.attempts = 0;
        job.expires_ms = None;
        job.from = Some(name.1.clone());
        self.make_room(&to, 1);
        self.put_in(&to, id, job);
    }

    fn put_in(&mut self, name: &Name, id: u64, mut job: Job) {
        if job.new.group.is_some() {
            job.order = self.next();
        }
        let queue = self.queue(name);
        queue.totals.pushed += 1;
        queue.jobs.insert(id, job);
    }

    fn make_room(&mut self, name: &Name, jobs: u64) {
        if self.queues[name].options.when_full == WhenFull::Reject {
            return;
        }
        for _ in 0..jobs * 2 {
            let queue = &self.queues[name];
            if queue.length() + jobs <= queue.options.jobs_max {
                return;
            }
            let Some(id) = queue.oldest() else { return };
            let queue = self.queue(name);
            queue.jobs.remove(&id);
            queue.totals.dropped += 1;
        }
    }

    fn leased(&self, now: Stamp, namespace: &str, asked: &LeasedJob) -> Result<Name, Rejection> {
        let name = self.known(namespace, &asked.queue)?;
        let (queue, id, lease) = (asked.queue.clone(), asked.id, asked.lease);
        match self.queues[&name].jobs.get(&id.0).map(|job| job.state) {
            None | Some(State::Done(_)) => Err(Rejection::JobUnknown { queue, id }),
            Some(State::Leased { lease: newest, until_ms, .. })
                if newest == lease.0 && until_ms > now.lease_ms =>
            {
                Ok(name)
            }
            _ => Err(Rejection::JobLeaseLost { id, lease }),
        }
    }

    pub(super) fn execute(
        &mut self,
        (now, revision): When,
        namespace: &str,
        sessions: &BTreeSet<SessionId>,
        command: &Command,
    ) -> Result<Outcome, Rejection> {
        let outcome = match command {
            Command::QueuePush(push) => {
                check(&push.queue)?;
                let name = (namespace.to_owned(), push.queue.clone());
                let pushed = self.push(now, &name, &push.jobs)?;
                Outcome::QueuePush { jobs: pushed, revision }
            }
            Command::QueuePull(pull) => {
                let asked = &pull.request;
                check(&asked.queue)?;
                if asked.count == 0 {
                    return Err(invalid("the pull asks for 0 jobs; ask for 1 or more"));
                }
                if asked.count > 128 {
                    return Err(too_much("jobs of one pull", asked.count.into(), 128));
                }
                let name = (namespace.to_owned(), asked.queue.clone());
                self.make(&name);
                let jobs = self.take_many(now, &name, asked.count, Vec::new());
                self.dispatch(now);
                if !jobs.is_empty() || asked.wait_ms == 0 {
                    return Ok(Outcome::QueuePull { jobs, revision });
                }
                let until_ms = now.lease_ms + asked.wait_ms;
                let wants = Wants::Pull { count: asked.count, until_ms, state: Pull::Waiting };
                let (session, attachment) = (None, Some(pull.attachment));
                let id = self.next();
                self.consumers.insert(id, Consumer { queue: name, session, attachment, wants });
                Outcome::QueuePullWaits { consumer: ConsumerId(id) }
            }
            Command::ConsumerAttach(attach) => {
                return self.attach(now, namespace, sessions, attach);
            }
            Command::ConsumerDetach(detach) => {
                self.detach(now, detach.consumer.0, detach.attachment, detach.delivered.0);
                Outcome::Done
            }
            Command::ConsumerDetachNode(detach) => {
                self.detach_node(now, detach.node);
                Outcome::ConsumerDetachNode { more: false }
            }
            Command::ConsumerResize(resize) => {
                if resize.window > 1_000 {
                    return Err(too_much("jobs of one consumer", resize.window.into(), 1_000));
                }
                let gone = Rejection::ConsumerGone(resize.consumer);
                let consumer =
                    self.consumers.get_mut(&resize.consumer.0).ok_or_else(|| gone.clone())?;
                if consumer.attachment != Some(resize.attachment) {
                    return Err(gone);
                }
                let Wants::Window(window) = &mut consumer.wants else { return Err(gone) };
                *window = resize.window;
                self.dispatch(now);
                Outcome::Done
            }
            Command::QueueAck(ack) => {
                let name = self.leased(now, namespace, &ack.job)?;
                let queue = self.queue(&name);
                queue.totals.acked += 1;
                match queue.options.keep_done_ms {
                    0 => drop(queue.jobs.remove(&ack.job.id.0)),
                    keep_ms => {
                        let until_ms = now.lease_ms + keep_ms;
                        queue.jobs.get_mut(&ack.job.id.0).unwrap().state = State::Done(until_ms);
                    }
                }
                self.dispatch(now);
                Outcome::QueueAck { revision }
            }
            Command::QueueNack(nack) => {
                let name = self.leased(now, namespace, &nack.job)?;
                let id = nack.job.id.0;
                let fate = match nack.verdict {
                    Verdict::Return => self.hand_back(now, &name, id),
                    Verdict::Retry { delay_ms } => {
                        self.queue(&name).totals.nacked += 1;
                        self.failed(now, &name, id, &nack.error, delay_ms)
                    }
                    Verdict::Dead => {
                        self.queue(&name).totals.nacked += 1;
                        self.note_failure(now, &name, id, &nack.error);
                        self.die(now, &name, id, DeathCause::Rejected);
                        JobFate::Dead
                    }
                };
                self.dispatch(now);
                Outcome::QueueNack { fate, revision }
            }
            Command::QueueExtend(extend) => {
                if extend.for_ms == Some(0) {
                    return Err(invalid(
                        "the extension is 0 ms; give 1 ms or more, or nack the job to give it back",
                    ));
                }
                let name = self.leased(now, namespace, &extend.job)?;
                let lease_ms =
                    extend.for_ms.unwrap_or_else(|| self.queues[&name].options.visibility_ms);
                if let State::Leased { until_ms, .. } = &mut self.job(&name, extend.job.id.0).state
                {
                    *until_ms = now.lease_ms + lease_ms;
                }
                Outcome::QueueExtend { lease_ms, revision }
            }
            Command::QueueProgress(progress) => {
                let name = self.leased(now, namespace, &progress.job)?;
                let (permille, note) = (progress.permille, progress.note.clone());
                let progressed = JobProgress { permille, note, wall_ms: now.wall_ms };
                self.job(&name, progress.job.id.0).progress = Some(progressed);
                Outcome::Done
            }
            Command::QueueCancel(cancel) => {
                let name = self.known(namespace, &cancel.queue)?;
                let queue = self.queue(&name);
                let state = queue.jobs.get(&cancel.id.0).map(|job| job.state);
                let cancelled = state.is_some_and(|state| !matches!(state, State::Done(_)));
                let was_leased = matches!(state, Some(State::Leased { .. }));
                if cancelled {
                    queue.jobs.remove(&cancel.id.0);
                    queue.totals.cancelled += 1;
                    self.dispatch(now);
                }
                Outcome::QueueCancel { cancelled, was_leased, revision }
            }
            Command::QueueUpdate(update) => {
                check(&update.queue)?;
                if update.change.dead_letters == Some(DeadLetters::To(update.queue.clone())) {
                    let text = "can't take its own dead letters; name another one";
                    return Err(invalid(&format!("queue {:?} {text}", update.queue)));
                }
                let name = (namespace.to_owned(), update.queue.clone());
                let created = self.make(&name);
                if let Some(DeadLetters::To(to)) = &update.change.dead_letters {
                    self.make_for(&(namespace.to_owned(), to.clone()), true);
                }
                change(&mut self.queue(&name).options, &update.change);
                self.dispatch(now);
                Outcome::QueueUpdate { created, revision }
            }
            Command::QueuePause(pause) => {
                check(&pause.queue)?;
                let name = (namespace.to_owned(), pause.queue.clone());
                let created = self.make(&name);
                self.queue(&name).paused = pause.paused;
                self.dispatch(now);
                Outcome::QueueUpdate { created, revision }
            }
            Command::QueuePurge(purge) => match self.known(namespace, &purge.queue) {
                Err(Rejection::QueueUnknown { .. }) => {
                    Outcome::QueuePurge { found: false, jobs: 0, revision }
                }
                Err(rejection) => return Err(rejection),
                Ok(name) => {
                    let era = self.next();
                    let queue = self.queue(&name);
                    queue.era = era;
                    let jobs = std::mem::take(&mut queue.jobs);
                    let jobs = self.purge(&jobs, now);
                    Outcome::QueuePurge { found: true, jobs, revision }
                }
            },
            Command::QueueDelete(delete) => match self.known(namespace, &delete.queue) {
                Err(Rejection::QueueUnknown { .. }) => {
                    Outcome::QueuePurge { found: false, jobs: 0, revision }
                }
                Err(rejection) => return Err(rejection),
                Ok(name) => {
                    let jobs = self.queues.remove(&name).unwrap().jobs;
                    let jobs = self.purge(&jobs, now);
                    self.consumers.retain(|_, consumer| consumer.queue != name);
                    Outcome::QueuePurge { found: true, jobs, revision }
                }
            },
            Command::QueueRedrive(redrive) => {
                let name = self.known(namespace, &redrive.queue)?;
                let (moved, cursor) = self.redrive(now, &name, &redrive.which)?;
                Outcome::QueueRedrive { moved, cursor, revision }
            }
            other => panic!("{other:?} is no command of queues"),
        };
        Ok(outcome)
    }

    fn push(
        &mut self,
        now: Stamp,
        name: &Name,
        jobs: &[NewJob],
    ) -> Result<Vec<PushedJob>, Rejection> {
        for job in jobs {
            if job.ttl_ms == Some(0) {
                return Err(invalid(
                    "the job's ttl is 0 ms; give 1 ms or more, or none to keep it until it is done",
                ));
            }
        }
        let queue = self.queues.get(name);
        let of = queue.map(|queue| queue.id);
        let mut keys = BTreeSet::new();
        let fresh = jobs.iter().filter(|job| match &job.dedupe {
            None => true,
            Some(dedupe) => {
                let known = of.and_then(|of| self.dedupe.get(&(of, dedupe.key.to_vec())));
                known.is_none_or(|(_, until_ms)| *until_ms <= now.lease_ms)
                    && keys.insert(dedupe.key.clone())
            }
        });
        let fresh = fresh.count() as u64;
        let (length, droppable) = queue.map_or((0, 0), |queue| {
            let all = queue.deliverable().len() as u64;
            (queue.length(), all)
        });
        let made = QueueOptions::default();
        let dead = name.1.ends_with(".dead");
        let limit = queue
            .map_or(if dead { 100_000 } else { made.jobs_max }, |queue| queue.options.jobs_max);
        let drops = queue.map_or(dead, |queue| queue.options.when_full == WhenFull::DropOldest);
        let over = (length + fresh).saturating_sub(limit.max(length));
        let full = match drops {
            false => length + fresh > limit,
            true => fresh > limit || over > droppable,
        };
        if fresh > 0 && full {
            return Err(Rejection::QueueFull { queue: name.1.clone(), limit });
        }
        self.make(name);
        self.make_room(name, fresh);
        let of = self.queues[name].id;
        let mut pushed = Vec::new();
        for new in jobs {
            if let Some(dedupe) = &new.dedupe
                && let Some((id, until_ms)) = self.dedupe.get(&(of, dedupe.key.to_vec())).copied()
                && until_ms > now.lease_ms
            {
                self.queue(name).totals.duplicates += 1;
                pushed.push(PushedJob { id, duplicate: true });
                continue;
            }
            let id = self.next();
            if let Some(dedupe) = &new.dedupe {
                let window_ms =
                    dedupe.window_ms.unwrap_or_else(|| self.queues[name].options.dedupe_window_ms);
                let until_ms = now.lease_ms + window_ms;
                self.dedupe.insert((of, dedupe.key.to_vec()), (JobId(id), until_ms));
            }
            let (state, ready_ms) = match new.delay {
                Delay::For { ms } if ms > 0 => (State::Delayed, now.lease_ms + ms),
                Delay::Until { wall_ms } if wall_ms > now.wall_ms => {
                    (State::Until(wall_ms), now.lease_ms)
                }
                _ => (State::Ready, now.lease_ms),
            };
            let job = Job {
                new: new.clone(),
                state,
                ready_ms,
                attempts: 0,
                pushed_wall_ms: now.wall_ms,
                expires_ms: new.ttl_ms.map(|ttl_ms| now.lease_ms + ttl_ms),
                order: 0,
                from: None,
                failures: Vec::new(),
                death: None,
                progress: None,
            };
            self.put_in(name, id, job);
            pushed.push(PushedJob { id: JobId(id), duplicate: false });
        }
        self.dispatch(now);
        Ok(pushed)
    }

    fn attach(
        &mut self,
        now: Stamp,
        namespace: &str,
        sessions: &BTreeSet<SessionId>,
        attach: &ConsumerAttach,
    ) -> Result<Outcome, Rejection> {
        if attach.window > 1_000 {
            return Err(too_much("jobs of one consumer", attach.window.into(), 1_000));
        }
        let attachment = Some(attach.attachment);
        let Some(id) = attach.consumer else {
            check(&attach.queue)?;
            if let Some(session) = attach.session
                && !sessions.contains(&session)
            {
                return Err(Rejection::SessionExpired(session));
            }
            let queue = (namespace.to_owned(), attach.queue.clone());
            self.make(&queue);
            let id = self.next();
            let (session, wants) = (attach.session, Wants::Window(attach.window));
            self.consumers.insert(id, Consumer { queue, session, attachment, wants });
            self.dispatch(now);
            return Ok(Outcome::ConsumerAttach { consumer: ConsumerId(id), held: Vec::new() });
        };
        let name = self.known(namespace, &attach.queue)?;
        let gone = Rejection::ConsumerGone(id);
        let consumer = self.consumers.get(&id.0).ok_or_else(|| gone.clone())?;
        if consumer.queue != name || consumer.session != attach.session {
            return Err(gone);
        }
        let held = self.held(id.0).into_iter().map(|(_, _, job)| job).collect();
        let consumer = self.consumers.get_mut(&id.0).unwrap();
        match &mut consumer.wants {
            Wants::Window(window) => {
                *window = attach.window;
                consumer.attachment = attachment;
            }
            Wants::Pull { state: Pull::TimedOut, .. } => {}
            Wants::Pull { until_ms, state: state @ Pull::Left(_), .. } => {
                let Pull::Left(wait_until_ms) = *state else { unreachable!() };
                if wait_until_ms > now.lease_ms {
                    (*until_ms, *state) = (wait_until_ms, Pull::Waiting);
                    consumer.attachment = attachment;
                } else {
                    (*until_ms, *state) = (now.lease_ms + 30_000, Pull::TimedOut);
                }
            }
            Wants::Pull { .. } => consumer.attachment = attachment,
        }
        self.dispatch(now);
        Ok(Outcome::ConsumerAttach { consumer: id, held })
    }

    fn detach(&mut self, now: Stamp, id: u64, attachment: Attachment, delivered: u64) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        if consumer.attachment != Some(attachment) {
            return;
        }
        let name = consumer.queue.clone();
        let undelivered = match &consumer.wants {
            Wants::Window(_) => self.held(id).into_iter().map(|(_, _, job)| job).collect(),
            Wants::Pull { state: Pull::Answered(jobs), .. } => jobs.clone(),
            Wants::Pull { .. } => Vec::new(),
        };
        let is_pull = matches!(self.consumers[&id].wants, Wants::Pull { .. });
        for AssignedJob { id, lease, .. } in undelivered {
            let under = self.queues[&name].jobs.get(&id.0).map(|job| job.state);
            let still = matches!(under, Some(State::Leased { lease: l, .. }) if l == lease.0);
            if still && (is_pull || lease.0 > delivered) {
                self.hand_back(now, &name, id.0);
            }
        }
        self.leave(now, id);
        self.dispatch(now);
    }

    fn leave(&mut self, now: Stamp, id: u64) {
        let consumer = self.consumers.get_mut(&id).unwrap();
        consumer.attachment = None;
        let window = match &mut consumer.wants {
            Wants::Window(window) => *window,
            Wants::Pull { until_ms, state, .. } => {
                let keep_ms = now.lease_ms + 30_000;
                let wait_until_ms = match state {
                    Pull::Waiting => *until_ms,
                    Pull::Answered(_) => keep_ms,
                    Pull::TimedOut | Pull::Left(_) => return,
                };
                (*until_ms, *state) = (keep_ms, Pull::Left(wait_until_ms));
                return;
            }
        };
        if consumer.session.is_none() || window == 0 && self.held(id).is_empty() {
            self.forget(id);
        }
    }

    /// What it had stays leased, to nobody.
    fn forget(&mut self, id: u64) {
        self.consumers.remove(&id);
    }

    fn detach_node(&mut self, now: Stamp, node: NodeId) {
        for id in self.consumers.keys().copied().collect::<Vec<_>>() {
            let consumer = &self.consumers[&id];
            let there = consumer.attachment.is_some_and(|at| at.node == node);
            let over = matches!(
                consumer.wants,
                Wants::Pull { state: Pull::Answered(_) | Pull::TimedOut, .. }
            );
            if there && !over {
                self.leave(now, id);
            }
        }
    }

    fn hand_back(&mut self, now: Stamp, name: &Name, id: u64) -> JobFate {
        let job = self.job(name, id);
        job.attempts -= 1;
        if job.expires_ms.is_some_and(|at_ms| at_ms <= now.lease_ms) {
            self.die(now, name, id, DeathCause::Expired);
            return JobFate::Dead;
        }
        job.state = State::Ready;
        JobFate::Ready
    }

    pub(super) fn session_ended(&mut self, now: Stamp, session: SessionId) {
        let of = self.consumers.iter().filter(|(_, of)| of.session == Some(session));
        let mut freed = Vec::new();
        for id in of.map(|(id, _)| *id).collect::<Vec<_>>() {
            freed.extend(self.held(id));
            self.forget(id);
        }
        for (name, job, _) in freed {
            self.queue(&name).totals.lapsed += 1;
            self.failed(now, &name, job, "the worker's session ended", Some(0));
        }
        self.dispatch(now);
    }

    fn redrive(
        &mut self,
        now: Stamp,
        to: &Name,
        which: &Redriven,
    ) -> Result<(u64, Option<JobId>), Rejection> {
        let queue = &self.queues[to];
        let dead = match &queue.options.dead_letters {
            DeadLetters::Own => format!("{}.dead", to.1),
            DeadLetters::To(dead) => dead.clone(),
            DeadLetters::Discard => return Ok((0, None)),
        };
        let limit = queue.options.jobs_max;
        let room = match queue.options.when_full {
            WhenFull::Reject => limit.saturating_sub(queue.length()),
            WhenFull::DropOldest => u64::MAX,
        };
        let from = (to.0.clone(), dead);
        let Some(letters) = self.queues.get(&from) else { return Ok((0, None)) };
        let goes = |job: &Job| {
            job.from.as_ref() == Some(&to.1)
                && !matches!(job.state, State::Leased { .. } | State::Done(_))
        };
        let (mut ids, mut cursor) = (Vec::new(), None);
        match which {
            Redriven::Jobs(asked) => {
                let asked: BTreeSet<u64> = asked.iter().map(|id| id.0).collect();
                ids.extend(asked.into_iter().filter(|id| letters.jobs.get(id).is_some_and(goes)));
            }
            Redriven::After { after, jobs_max } => {
                let most = (*jobs_max).min(1_000).min(room.max(1)).max(1);
                let mut passed = None;
                for (id, job) in &letters.jobs {
                    if after.is_some_and(|after| *id <= after.0) {
                        continue;
                    }
                    if ids.len() as u64 == most {
                        cursor = passed.map(JobId);
                        break;
                    }
                    passed = Some(*id);
                    if goes(job) {
                        ids.push(*id);
                    }
                }
            }
        }
        if room == 0 && !ids.is_empty() {
            return Err(Rejection::QueueFull { queue: to.1.clone(), limit });
        }
        ids.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        for id in &ids {
            let mut job = self.queue(&from).jobs.remove(id).unwrap();
            job.state = State::Ready;
            job.ready_ms = now.lease_ms;
            job.attempts = 0;
            job.from = None;
            job.death = None;
            self.make_room(to, 1);
            self.put_in(to, *id, job);
        }
        self.dispatch(now);
        Ok((ids.len() as u64, cursor))
    }

    /// They are deleted with the next entry in which time went on. What is due of them already,
    /// because it came up in the sweep of this one, is looked at in the next one.
    fn purge(&mut self, jobs: &BTreeMap<u64, Job>, now: Stamp) -> u64 {
        let due = jobs.values().filter_map(deadline).filter(|at_ms| *at_ms <= now.lease_ms);
        self.purged.extend(due);
        self.purged.push(now.lease_ms + 1);
        jobs.len() as u64
    }

    pub(super) fn deadlines(&self) -> Vec<u64> {
        let jobs = self.queues.values().flat_map(|queue| queue.jobs.values());
        let of_jobs = jobs.filter_map(deadline);
        let of_pulls = self.consumers.values().filter_map(|consumer| match consumer.wants {
            Wants::Window(_) => None,
            Wants::Pull { until_ms, .. } => Some(until_ms),
        });
        let of_keys = self.dedupe.values().map(|(_, until_ms)| *until_ms);
        of_jobs.chain(of_pulls).chain(of_keys).chain(self.purged.iter().copied()).collect()
    }

    /// What a reader sees is what is here.
    pub(super) fn compare(&self, tables: &MemoryTables, now: Stamp) -> Result<(), TestCaseError> {
        let left = |at_ms: u64| at_ms.saturating_sub(now.lease_ms);
        for namespace in ["", "a"] {
            for name in ["q", "r", "q.dead", "r.dead"] {
                let of = (namespace.to_owned(), name.to_owned());
                let found = query::queue(tables, GROUP, namespace, name).unwrap();
                prop_assert_eq!(&found, &self.shown(&of, now), "queue {:?}", &of);
                let list = JobList {
                    filter: JobFilter::All,
                    after: None,
                    items_max: usize::MAX,
                    bodies: true,
                    bytes_max: usize::MAX,
                };
                let found = query::jobs(tables, GROUP, namespace, name, &list).unwrap();
                let expected = self.queues.get(&of).map(|queue| {
                    let jobs = queue.jobs.iter();
                    jobs.map(|(id, job)| job.shown(*id, left)).collect::<Vec<_>>()
                });
                prop_assert_eq!(found.map(|page| page.jobs), expected, "jobs of {:?}", &of);
            }
        }
        for id in 1..=self.id {
            let found = query::pull(tables, GROUP, ConsumerId(id)).unwrap();
            let expected = self.consumers.get(&id).and_then(|consumer| match &consumer.wants {
                Wants::Window(_) => None,
                Wants::Pull { state, .. } => Some(match state {
                    Pull::Waiting => PullStanding::Waiting(consumer.attachment),
                    Pull::Answered(jobs) => {
                        PullStanding::Answered(jobs.clone(), consumer.attachment)
                    }
                    Pull::TimedOut => PullStanding::TimedOut,
                    Pull::Left(_) => PullStanding::Waiting(None),
                }),
            });
            prop_assert_eq!(found, expected, "pull {}", id);
        }
        Ok(())
    }

    fn shown(&self, name: &Name, now: Stamp) -> Option<QueueItem> {
        let queue = self.queues.get(name)?;
        let dead = match &queue.options.dead_letters {
            DeadLetters::Own => self.queues.get(&(name.0.clone(), format!("{}.dead", name.1))),
            DeadLetters::To(to) => self.queues.get(&(name.0.clone(), to.clone())),
            DeadLetters::Discard => None,
        };
        let oldest = queue.deliverable().iter().map(|id| queue.jobs[id].ready_ms).min();
        Some(QueueItem {
            paused: queue.paused,
            options: queue.options.clone(),
            jobs: queue.counts(),
            dead: dead.map_or(0, Queue::length),
            totals: queue.totals,
            oldest_ready_age_ms: oldest.map(|at_ms| now.lease_ms - at_ms),
        })
    }
}

impl Queue {
    fn length(&self) -> u64 {
        self.jobs.values().filter(|job| !matches!(job.state, State::Done(_))).count() as u64
    }

    /// Ready, and the first of their groups.
    fn deliverable(&self) -> Vec<u64> {
        let all = self.jobs.iter().filter(|(_, job)| {
            job.state == State::Ready
                && self.jobs.values().all(|other| {
                    job.new.group.is_none()
                        || other.new.group != job.new.group
                        || matches!(other.state, State::Done(_))
                        || other.order >= job.order
                })
        });
        all.map(|(id, _)| *id).collect()
    }

    fn oldest(&self) -> Option<u64> {
        let key = |id: &u64| (self.jobs[id].new.priority, self.jobs[id].ready_ms, *id);
        self.deliverable().into_iter().min_by_key(key)
    }

    fn counts(&self) -> JobCounts {
        let mut counts = JobCounts::default();
        for job in self.jobs.values() {
            if let State::Done(_) = job.state {
                counts.done += 1;
                continue;
            }
            counts.body_bytes += job.new.payload.len() as u64;
            match job.state {
                State::Ready => counts.ready += 1,
                State::Leased { .. } => counts.leased += 1,
                _ => counts.delayed += 1,
            }
        }
        counts
    }
}

impl Job {
    fn shown(&self, id: u64, left: impl Fn(u64) -> u64) -> JobItem {
        JobItem {
            id: JobId(id),
            standing: match self.state {
                State::Ready => JobStanding::Ready,
                State::Delayed => JobStanding::Delayed { for_ms: left(self.ready_ms) },
                State::Until(wall_ms) => JobStanding::DelayedUntil { wall_ms },
                State::Leased { lease, consumer, until_ms } => JobStanding::Leased {
                    lease: JobLease(lease),
                    consumer: consumer.map(ConsumerId),
                    for_ms: left(until_ms),
                },
                State::Done(until_ms) => JobStanding::Done { for_ms: left(until_ms) },
            },
            priority: self.new.priority,
            attempts: self.attempts,
            pushed_wall_ms: self.pushed_wall_ms,
            remaining_ttl_ms: self.expires_ms.map(left),
            group: self.new.group.clone(),
            from: self.from.clone(),
            death: self.death,
            failures: self.failures.clone(),
            progress: self.progress.clone(),
            body: Some(JobBody { payload: self.new.payload.clone(), ..JobBody::default() }),
        }
    }
}

/// When something is to be done with it, by the lease clock.
fn deadline(job: &Job) -> Option<u64> {
    match job.state {
        State::Ready => job.expires_ms,
        State::Delayed => Some(job.ready_ms.min(job.expires_ms.unwrap_or(u64::MAX))),
        State::Until(_) => None,
        State::Leased { until_ms, .. } | State::Done(until_ms) => Some(until_ms),
    }
}

fn assigned(era: u64, id: u64, lease: u64, job: &Job) -> AssignedJob {
    AssignedJob { era: Era(era), id: JobId(id), lease: JobLease(lease), attempt: job.attempts }
}

fn change(options: &mut QueueOptions, change: &QueueChange) {
    options.attempts_max = change.attempts_max.unwrap_or(options.attempts_max);
    options.keep_done_ms = change.keep_done_ms.unwrap_or(options.keep_done_ms);
    options.jobs_max = change.jobs_max.unwrap_or(options.jobs_max);
    options.parallel_max = change.parallel_max.unwrap_or(options.parallel_max);
    options.when_full = change.when_full.unwrap_or(options.when_full);
    options.visibility_ms = change.visibility_ms.unwrap_or(options.visibility_ms);
    options.backoff = change.backoff.unwrap_or(options.backoff);
    if let Some(dead_letters) = &change.dead_letters {
        options.dead_letters = dead_letters.clone();
    }
}

fn invalid(why: &str) -> Rejection {
    Rejection::Invalid(why.to_owned())
}

fn check(queue: &str) -> Result<(), Rejection> {
    match queue {
        "" => Err(invalid("the queue's name is empty; name one of 1 byte or more")),
        _ => Ok(()),
    }
}
