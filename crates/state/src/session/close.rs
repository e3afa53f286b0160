//! Closes a session at its owner's wish.

use crate::scope::Scope;
use crate::{Fatal, Outcome, SessionClose, session};

/// Closing what is not open is no error: the owner may be repeating itself, or be late.
pub(crate) fn apply(scope: &mut Scope<'_>, close: &SessionClose) -> Result<Outcome, Fatal> {
    Ok(Outcome::SessionClose { closed: session::end(scope, close.id)?.is_some() })
}
