//! Schedules: jobs that are pushed again and again, by the replicated wall clock.
//!
//! The entry that finds one due pushes its job, so there is one job for each time, whoever leads.
//! Times that passed while nobody led, or the clock stood, count as one.

pub(crate) mod delete;
pub(crate) mod due;
pub(crate) mod next;
pub(crate) mod put;

use crate::keys::{self, Clock, DeadlineKind};
use crate::queue;
use crate::rows::{self, ScheduleRow};
use crate::scope::Scope;
use crate::{Fatal, Rejection, Txn as _, codec, expiry};

fn check_name(name: &str) -> Result<(), Rejection> {
    if name.is_empty() {
        return Err(Rejection::Invalid(
            "the schedule's name is empty; name one of 1 byte or more".to_owned(),
        ));
    }
    // They are as long as those of queues, so that a queue's can be its schedule's.
    queue::check_name(name)
}

fn find(scope: &Scope<'_>, key: &[u8]) -> Result<Option<ScheduleRow>, Fatal> {
    rows::find(&scope.txn, "schedule row", key)
}

fn write(scope: &mut Scope<'_>, key: &[u8], row: &ScheduleRow) {
    if let Some(at_ms) = row.next_wall_ms {
        expiry::schedule(scope, Clock::Wall, at_ms, DeadlineKind::Schedule, key);
    }
    scope.txn.put(key, &codec::encode(row));
}

fn unschedule(scope: &mut Scope<'_>, key: &[u8], row: &ScheduleRow) {
    if let Some(at_ms) = row.next_wall_ms {
        expiry::unschedule(scope, Clock::Wall, at_ms, DeadlineKind::Schedule, key);
    }
}

/// The key of a schedule in a namespace that was checked.
fn key(scope: &Scope<'_>, namespace: &str, name: &str) -> Vec<u8> {
    keys::schedule(scope.group, namespace, name)
}
