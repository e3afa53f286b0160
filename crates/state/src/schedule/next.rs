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
        row.next_wall_ms = next.next_wall_ms;
        write(scope, &key, &row);
    }
    Ok(Outcome::Done)
}
