//! Changes how many jobs a consumer may have unacknowledged.

use super::{consumers, dispatch};
use crate::rows::Wants;
use crate::scope::{Failure, Scope};
use crate::{ConsumerResize, Outcome, Rejection, session};

/// A smaller window takes nothing back: it fills up again once enough was acknowledged.
pub(crate) fn apply(scope: &mut Scope<'_>, resize: &ConsumerResize) -> Result<Outcome, Failure> {
    let id = resize.consumer;
    super::attach::check_window(resize.window)?;
    let gone = || Failure::Rejected(Rejection::ConsumerGone(id));
    let of = scope.queues.consumers.get(&id).ok_or_else(gone)?;
    let (row, held) = (&of.row, of.held);
    let Wants::Window(window) = row.wants else { return Err(gone()) };
    if row.attachment != Some(resize.attachment) {
        return Err(gone());
    }
    let (queue, session) = (row.queue, row.session);
    if let Some(session) = session {
        let more = resize.window.saturating_sub(window.max(held));
        session::may_own(scope, session, more.into())?;
    }
    consumers::reschedule(scope, id, |row| row.wants = Wants::Window(resize.window))?;
    dispatch(scope, queue)?;
    Ok(Outcome::Done)
}
