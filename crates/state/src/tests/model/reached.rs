//! What the random requests came to, and what the events told.

use crate::limits::PEEK_MAX;
use crate::query::{self, JobFilter, JobList, PullStanding};
use crate::testing::GROUP;
use crate::{
    Applied, DeathCause, Event, FencingToken, HeldLock, JobFate, MemoryTables, Operated, Outcome,
    QueueTotals, Rejection, TransactionStep,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What the random requests must come to, or they show nothing.
pub(super) const REACHED: [&str; 26] = [
    "push",
    "duplicate",
    "full",
    "pull",
    "pull answered later",
    "pull timed out",
    "assigned at once",
    "assigned by an ack",
    "came back with jobs",
    "waited in its group",
    "withdrawn",
    "left",
    "ack",
    "ack too late",
    "ack of nothing",
    "nack ready",
    "nack delayed",
    "nack dead",
    "expired",
    "lapsed",
    "dropped",
    "purged",
    "redriven",
    "push in a transaction",
    "ack in a transaction",
    "push taken back",
];

pub(super) fn reached(tables: &MemoryTables, applied: &Applied) -> Vec<&'static str> {
    let of_outcomes = applied.outcomes.iter().filter_map(|outcome| {
        Some(match outcome {
            Outcome::QueuePush { jobs, .. } if jobs.iter().any(|job| job.duplicate) => "duplicate",
            Outcome::QueuePush { .. } => "push",
            Outcome::QueuePull { jobs, .. } if !jobs.is_empty() => "pull",
            Outcome::ConsumerAttach { held, .. } if !held.is_empty() => "came back with jobs",
            Outcome::QueueAck { .. } => "ack",
            Outcome::QueueNack { fate: JobFate::Ready, .. } => "nack ready",
            Outcome::QueueNack { fate: JobFate::Delayed { .. }, .. } => "nack delayed",
            Outcome::QueueNack { fate: JobFate::Dead, .. } => "nack dead",
            Outcome::QueuePurge { jobs: 1.., .. } => "purged",
            Outcome::QueueRedrive { moved: 1.., .. } => "redriven",
            Outcome::Transaction { operated, .. } => {
                let is_push = |one: &Operated| matches!(one, Operated::QueuePush { .. });
                match operated.contains(&Operated::QueueAck) {
                    true => "ack in a transaction",
                    false if operated.iter().any(is_push) => "push in a transaction",
                    false => return None,
                }
            }
            // A push was taken back, or the number would be the first of all.
            Outcome::TransactionFailed {
                step: TransactionStep::Then(1..),
                rejection: Rejection::JobUnknown { .. } | Rejection::JobLeaseLost { .. },
            } => "push taken back",
            Outcome::Rejected(Rejection::QueueFull { .. }) => "full",
            Outcome::Rejected(Rejection::JobLeaseLost { .. }) => "ack too late",
            Outcome::Rejected(Rejection::JobUnknown { .. }) => "ack of nothing",
            _ => return None,
        })
    });
    let acks = applied.outcomes.iter().any(|outcome| matches!(outcome, Outcome::QueueAck { .. }));
    let of_events = applied.events.iter().filter_map(|event| {
        Some(match event {
            Event::JobAssigned { .. } if acks => "assigned by an ack",
            Event::JobAssigned { .. } => "assigned at once",
            Event::JobWithdrawn { .. } => "withdrawn",
            Event::ConsumerLeft { .. } => "left",
            Event::PullChanged { consumer } => {
                match query::pull(tables, GROUP, *consumer).unwrap()? {
                    PullStanding::Answered(..) => "pull answered later",
                    PullStanding::TimedOut => "pull timed out",
                    PullStanding::Waiting(_) => return None,
                }
            }
            _ => return None,
        })
    });
    let of_queues = ["q", "r"].iter().filter_map(|name| {
        let queue = query::queue(tables, GROUP, "", name).unwrap()?;
        Some(match queue.totals {
            QueueTotals { dropped: 1.., .. } => "dropped",
            QueueTotals { lapsed: 1.., .. } => "lapsed",
            _ => return None,
        })
    });
    let expired = ["q", "r", "q.dead", "r.dead"].iter().any(|name| {
        let (items_max, bytes_max) = (usize::MAX, usize::MAX);
        let (filter, after, bodies) = (JobFilter::All, None, false);
        let list = JobList { filter, after, items_max, bodies, bytes_max };
        let page = query::jobs(tables, GROUP, "", name, &list).unwrap().unwrap_or_default();
        page.jobs.iter().any(|job| job.death == Some(DeathCause::Expired))
    });
    let expired = expired.then_some("expired");
    let waits = ["q", "r"].iter().any(|name| {
        let Some(queue) = query::queue(tables, GROUP, "", name).unwrap() else { return false };
        let next = query::peek(tables, GROUP, "", name, PEEK_MAX, u64::MAX).unwrap().unwrap();
        next.len() < PEEK_MAX && (next.len() as u64) < queue.jobs.ready
    });
    let waits = waits.then_some("waited in its group");
    of_outcomes.chain(of_events).chain(of_queues).chain(waits).chain(expired).collect()
}

/// What listeners know of locks who believe every event: it has to be what the tables hold.
#[derive(Default)]
pub(super) struct Told(BTreeMap<FencingToken, HeldLock>);

impl Told {
    pub(super) fn hear(
        &mut self,
        events: &[Event],
        tables: &MemoryTables,
    ) -> Result<(), TestCaseError> {
        for event in events {
            match event.clone() {
                Event::LockGranted { namespace, name, token, .. } => {
                    let before = self.0.insert(token, HeldLock { namespace, name, token });
                    prop_assert_eq!(before, None, "granted twice");
                }
                Event::LockFreed { namespace, name, token } => {
                    let before = self.0.remove(&token);
                    prop_assert_eq!(before, Some(HeldLock { namespace, name, token }));
                }
                _ => {}
            }
        }
        let leases = query::lock_leases(tables, GROUP).unwrap();
        let held: BTreeMap<_, _> =
            leases.into_iter().map(|lease| (lease.held.token, lease.held)).collect();
        prop_assert_eq!(&self.0, &held);
        Ok(())
    }
}
