//! A naive queue: every question is answered by looking through all jobs and consumers there are.

mod compare;
mod consumers;
mod dispatch;
mod due;
mod fate;
mod push;

use super::too_much;
use crate::{
    AssignedJob, Attachment, Command, ConsumerId, DeadLetters, DeathCause, Era, JobCounts,
    JobFailure, JobFate, JobId, JobLease, JobProgress, LeasedJob, NewJob, Outcome, QueueChange,
    QueueOptions, QueueTotals, Rejection, Revision, SessionId, Stamp, Verdict, WhenFull,
};
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

    /// They are deleted with the next entry in which time went on. What is due of them already,
    /// because it came up in the sweep of this one, is looked at in the next one.
    fn purge(&mut self, jobs: &BTreeMap<u64, Job>, now: Stamp) -> u64 {
        let due = jobs.values().filter_map(deadline).filter(|at_ms| *at_ms <= now.lease_ms);
        self.purged.extend(due);
        self.purged.push(now.lease_ms + 1);
        self.end_closed();
        jobs.len() as u64
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

impl Job {}

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
