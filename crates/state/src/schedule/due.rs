//! Pushes the job of a schedule that is due; the sweep calls it with the deadline gone already.

use super::{find, write};
use crate::keys::{self, Key};
use crate::queue;
use crate::scope::{Failure, Scope};
use crate::{Event, Fatal, QueuePush, Repeats};

/// A queue that is full misses this time, and counts it.
pub(crate) fn apply(scope: &mut Scope<'_>, key: &[u8]) -> Result<(), Fatal> {
    let (Some(Key::Schedule { namespace, name }), Some(mut row)) =
        (keys::parse(scope.group, key), find(scope, key)?)
    else {
        return Err(Fatal::Invariant(format!("a deadline names the schedule {key:02x?}")));
    };
    let Some(due_ms) = row.next_wall_ms.take() else {
        return Err(Fatal::Invariant(format!("schedule {name:?} is due and has no time")));
    };
    let now_ms = scope.meta.stamp.wall_ms;
    let push = QueuePush { queue: row.queue.clone(), jobs: vec![row.job.clone()] };
    match queue::push::push_all(scope, namespace, &push) {
        Ok(_) => row.pushed += 1,
        Err(Failure::Rejected(_)) => row.refused += 1,
        Err(Failure::Fatal(fatal)) => return Err(fatal),
    }
    row.last_wall_ms = Some(now_ms);
    match row.repeats {
        // The next one that is still to come, in the same rhythm.
        Repeats::Every { ms } => {
            let missed = now_ms.saturating_sub(due_ms) / ms.max(1);
            row.next_wall_ms = Some(due_ms.saturating_add(ms.saturating_mul(missed + 1)));
        }
        Repeats::Cron { .. } => {
            row.asks = true;
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            scope.events.push(Event::ScheduleDue { namespace, name });
        }
    }
    write(scope, key, &row);
    Ok(())
}
