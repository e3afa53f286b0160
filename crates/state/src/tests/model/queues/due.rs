//! What becomes of jobs and consumers in their time.

use super::{Due, Pull, Queues, State, Wants, deadline};
use crate::{DeathCause, Stamp};

impl Queues {
    /// What is due at the beginning of an entry, in the order of the deadlines.
    pub(in super::super) fn pass_time(&mut self, now: Stamp) {
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

    pub(super) fn job_due(&mut self, now: Stamp, wall: bool, at_ms: u64, era: u64, id: u64) {
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

    pub(super) fn consumer_due(&mut self, now: Stamp, at_ms: u64, id: u64) {
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

    pub(in super::super) fn deadlines(&self) -> Vec<u64> {
        let jobs = self.queues.values().flat_map(|queue| queue.jobs.values());
        let of_jobs = jobs.filter_map(deadline);
        let of_pulls = self.consumers.values().filter_map(|consumer| match consumer.wants {
            Wants::Window(_) => None,
            Wants::Pull { until_ms, .. } => Some(until_ms),
        });
        let of_keys = self.dedupe.values().map(|(_, until_ms)| *until_ms);
        of_jobs.chain(of_pulls).chain(of_keys).chain(self.purged.iter().copied()).collect()
    }
}
