//! What a reader is to see.

use super::{Job, Name, Pull, Queue, Queues, State, Wants};
use crate::query::{JobBody, JobFilter, JobItem, JobList, JobStanding, PullStanding, QueueItem};
use crate::testing::GROUP;
use crate::{ConsumerId, DeadLetters, JobId, JobLease, MemoryTables, Stamp, query};
use proptest::prelude::*;

impl Queues {
    /// What a reader sees is what is here.
    pub(in super::super) fn compare(
        &self,
        tables: &MemoryTables,
        now: Stamp,
    ) -> Result<(), TestCaseError> {
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

    pub(super) fn shown(&self, name: &Name, now: Stamp) -> Option<QueueItem> {
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

impl Job {
    pub(super) fn shown(&self, id: u64, left: impl Fn(u64) -> u64) -> JobItem {
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
