//! What becomes of a job whose attempt failed, or for which there is no room.

use super::{Job, Name, Queues, State};
use crate::{DeadLetters, DeathCause, JobFailure, JobFate, JobId, Stamp, WhenFull, codec};

impl Queues {
    pub(super) fn failed(
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

    pub(super) fn note_failure(&mut self, now: Stamp, name: &Name, id: u64, error: &str) {
        let job = self.job(name, id);
        let (attempt, error) = (job.attempts, error.to_owned());
        job.failures.push(JobFailure { attempt, wall_ms: now.wall_ms, error });
        if job.failures.len() > 10 {
            job.failures.remove(0);
        }
        job.progress = None;
    }

    pub(super) fn die(&mut self, now: Stamp, name: &Name, id: u64, cause: DeathCause) {
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

    pub(super) fn put_in(&mut self, name: &Name, id: u64, mut job: Job) {
        if job.new.group.is_some() {
            job.order = self.next();
        }
        let queue = self.queue(name);
        queue.totals.pushed += 1;
        queue.jobs.insert(id, job);
    }

    pub(super) fn make_room(&mut self, name: &Name, jobs: u64) {
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

    pub(super) fn hand_back(&mut self, now: Stamp, name: &Name, id: u64) -> JobFate {
        let job = self.job(name, id);
        job.attempts -= 1;
        if job.expires_ms.is_some_and(|at_ms| at_ms <= now.lease_ms) {
            self.die(now, name, id, DeathCause::Expired);
            return JobFate::Dead;
        }
        job.progress = None;
        job.state = State::Ready;
        JobFate::Ready
    }
}
