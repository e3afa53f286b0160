//! Says when a schedule is due next.

use super::{check_name, find, key, write};
use crate::scope::{Failure, Scope};
use crate::{Outcome, ScheduleNext};

/// One that was replaced, deleted, or told already is passed over.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    next: &ScheduleNext,
) -> Result<Outcome, Failure> {
    check_name(&next.name)?;
    let key = key(scope, namespace, &next.name);
    if let Some(mut row) = find(scope, &key)?
        && row.id == next.id
        && row.asks
    {
        row.asks = false;
        // A time that passed meanwhile is due at once, which is with the next entry.
        let soonest_ms = scope.meta.stamp.wall_ms.saturating_add(1);
        row.next_wall_ms = next.next_wall_ms.map(|at_ms| at_ms.max(soonest_ms));
        write(scope, &key, &row);
    }
    Ok(Outcome::Done)
}
