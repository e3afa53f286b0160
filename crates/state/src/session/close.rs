//! Closes a session at its owner's wish.

use crate::scope::Scope;
use crate::{Fatal, Outcome, SessionClose, queue, session};

/// Closing what is not open is no error: the owner may be repeating itself, or be late.
pub(crate) fn apply(scope: &mut Scope<'_>, close: &SessionClose) -> Result<Outcome, Fatal> {
    let closed = session::end(scope, close.id)?.is_some();
    queue::dispatch_due(scope)?;
    Ok(Outcome::SessionClose { closed })
}
