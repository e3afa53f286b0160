//! Deletes a schedule.

use super::{check_name, find, key, unschedule};
use crate::scope::{Failure, Scope};
use crate::{Outcome, ScheduleDelete, Txn as _};

/// Jobs that it pushed stay.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    delete: &ScheduleDelete,
) -> Result<Outcome, Failure> {
    check_name(&delete.name)?;
    let key = key(scope, namespace, &delete.name);
    let found = find(scope, &key)?;
    if let Some(row) = &found {
        unschedule(scope, &key, row);
        scope.txn.delete(&key);
        scope.queues.meta.schedules -= 1;
    }
    Ok(Outcome::ScheduleDelete { deleted: found.is_some(), revision: scope.revision })
}
