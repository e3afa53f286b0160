//! Who gets which job.

use super::{Name, Pull, Queues, State, Wants, assigned};
use crate::{AssignedJob, DeathCause, Stamp};

impl Queues {
    /// Whoever is to get the next job of a queue.
    pub(super) fn turn(&self, now: Stamp, name: &Name) -> Option<u64> {
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
    pub(super) fn take(&mut self, now: Stamp, name: &Name) -> Option<u64> {
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

    pub(super) fn lease(
        &mut self,
        now: Stamp,
        name: &Name,
        id: u64,
        consumer: Option<u64>,
    ) -> AssignedJob {
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

    pub(super) fn take_many(
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
    pub(in super::super) fn dispatch(&mut self, now: Stamp) {
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
            let Some(name) = first.map(|(name, _)| name.clone()) else {
                return self.end_closed();
            };
            while let Some(consumer) = self.turn(now, &name)
                && let Some(id) = self.take(now, &name)
            {
                self.queue(&name).cursor = consumer;
                self.give(now, &name, id, consumer);
            }
        }
    }

    pub(super) fn give(&mut self, now: Stamp, name: &Name, id: u64, to: u64) {
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
}
