//! Ends sessions whose lease the leader saw run out.

use crate::limits::EXPIRE_PER_ENTRY_MAX;
use crate::scope::{Failure, Scope, within};
use crate::{Outcome, SessionExpire, session};

/// Ids that are no longer open are passed over: their owner was faster, or an older leader was.
pub(crate) fn apply(scope: &mut Scope<'_>, expire: &SessionExpire) -> Result<Outcome, Failure> {
    within("sessions to expire at once", expire.ids.len(), EXPIRE_PER_ENTRY_MAX as u64)?;
    for &id in &expire.ids {
        session::end(scope, id);
    }
    Ok(Outcome::Done)
}
