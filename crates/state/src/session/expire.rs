//! Ends sessions whose lease the leader saw run out.

use crate::limits::EXPIRE_PER_ENTRY_MAX;
use crate::scope::{Failure, Scope, within};
use crate::{Outcome, SessionExpire, queue, session};

/// Ids that are no longer open are passed over: their owner was faster, or an older leader was.
/// Once the entry has deleted as many rows as it may, the sessions that are left stay open.
pub(crate) fn apply(scope: &mut Scope<'_>, expire: &SessionExpire) -> Result<Outcome, Failure> {
    within("sessions to expire at once", expire.ids.len(), EXPIRE_PER_ENTRY_MAX as u64)?;
    let mut settled = 0;
    for &id in &expire.ids {
        // A session may have a thousand rows; one is ended in any case, or it would live for ever.
        if settled > 0 && scope.allowance.session_rows == 0 {
            break;
        }
        let rows = session::end(scope, id)?.unwrap_or(0);
        scope.allowance.session_rows = scope.allowance.session_rows.saturating_sub(rows);
        settled += 1;
    }
    queue::dispatch_due(scope)?;
    Ok(Outcome::SessionExpire { settled })
}
