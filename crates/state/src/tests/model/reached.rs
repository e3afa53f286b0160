//! What the random requests came to, and what the events told.

use crate::limits::PEEK_MAX;
use crate::query::{self, CacheFreshness, JobFilter, JobList, PullStanding};
use crate::testing::GROUP;
use crate::{
    Applied, BuildEnd, CacheBuildAnswer, DeathCause, Event, FencingToken, HeldLock, JobFate,
    MemoryTables, Operated, Outcome, QueueTotals, Rejection, TransactionStep,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What the random requests must come to, or they show nothing.
pub(super) const REACHED: [&str; 46] = [
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
    "cache hit",
    "build granted",
    "build busy",
    "filled",
    "build failed",
    "build given up",
    "build lapsed",
    "build revoked",
    "filled too late",
    "filled what was invalidated",
    "touched",
    "not there to touch",
    "entries deleted by a pattern",
    "pattern goes on",
    "evicted",
    "cache full",
    "cache full in a transaction",
    "stale",
    "invalidated and not swept",
    "a tag outlives its entries",
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
            Outcome::TransactionFailed { rejection: Rejection::CacheFull { .. }, .. } => {
                "cache full in a transaction"
            }
            Outcome::CacheBuild { answer: CacheBuildAnswer::Hit { .. } } => "cache hit",
            Outcome::CacheBuild { answer: CacheBuildAnswer::Granted { .. } } => "build granted",
            Outcome::CacheBuild { answer: CacheBuildAnswer::Busy { .. } } => "build busy",
            Outcome::CacheFill { .. } => "filled",
            Outcome::CacheTouch { found: true, .. } => "touched",
            Outcome::CacheTouch { found: false, .. } => "not there to touch",
            Outcome::CacheDeletePattern { cursor: Some(_), .. } => "pattern goes on",
            Outcome::CacheDeletePattern { deleted: 1.., .. } => "entries deleted by a pattern",
            Outcome::CacheEvict { evicted: 1.. } => "evicted",
            Outcome::Rejected(Rejection::CacheFull { .. }) => "cache full",
            Outcome::Rejected(Rejection::BuildLeaseLost { lease, .. }) => {
                let ends = |event: &Event| {
                    matches!(event, Event::CacheBuildEnded { lease: of, end, .. }
                        if of == lease && *end == BuildEnd::Revoked)
                };
                // Nothing else that the entry did can have ended it.
                let other = |event: &Event| {
                    matches!(event, Event::CacheChanged { .. } | Event::CachePatternDeleted { .. })
                };
                match applied.events.iter().any(ends) && !applied.events.iter().any(other) {
                    true => "filled what was invalidated",
                    false => "filled too late",
                }
            }
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
            Event::CacheBuildEnded { end: BuildEnd::Failed(_), .. } => "build failed",
            Event::CacheBuildEnded { end: BuildEnd::GivenUp, .. } => "build given up",
            Event::CacheBuildEnded { end: BuildEnd::Lapsed, .. } => "build lapsed",
            Event::CacheBuildEnded { end: BuildEnd::Revoked, .. } => "build revoked",
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
    let of_cache = of_cache(tables);
    of_outcomes
        .chain(of_events)
        .chain(of_queues)
        .chain(waits)
        .chain(expired)
        .chain(of_cache)
        .collect()
}

fn of_cache(tables: &MemoryTables) -> Vec<&'static str> {
    let mut reached = Vec::new();
    let freshness = ["a", "b", "ab"].iter().filter_map(|key| {
        query::cache_get(tables, GROUP, "", key.as_bytes()).unwrap().map(|item| item.freshness)
    });
    if freshness.into_iter().any(|of| matches!(of, CacheFreshness::Stale { .. })) {
        reached.push("stale");
    }
    // What is gone by its time was swept with the entry, because it is so few.
    let all = query::cache_candidates(tables, GROUP, None, usize::MAX).unwrap().candidates;
    if all.iter().any(|candidate| candidate.dead) {
        reached.push("invalidated and not swept");
    }
    let usage = query::cache_usage(tables, GROUP).unwrap();
    if usage.entries == 0 && usage.tags > 0 {
        reached.push("a tag outlives its entries");
    }
    reached
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
