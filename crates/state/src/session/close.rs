//! Closes a session at its owner's wish.

use crate::scope::Scope;
use crate::{Outcome, SessionClose, session};

/// Closing what is not open is no error: the owner may be repeating itself, or be late.
pub(crate) fn apply(scope: &mut Scope<'_>, close: &SessionClose) -> Outcome {
    Outcome::SessionClose { closed: session::end(scope, close.id).is_some() }
}
