//! Somebody consumes a queue from now on, or goes on elsewhere.

use super::{At, consumers, dispatch, find, make, may_make};
use crate::limits::{CONSUMER_WINDOW_MAX, CONSUMERS_MAX};
use crate::rows::{self, ConsumerRow, PullState, Wants};
use crate::scope::{Failure, Scope, at_most};
use crate::{ConsumerAttach, ConsumerId, Event, Outcome, Rejection, session};

/// Where it was before, if it still is, hears that it went on elsewhere.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    attach: &ConsumerAttach,
) -> Result<Outcome, Failure> {
    check_window(attach.window)?;
    match attach.consumer {
        Some(id) => again(scope, namespace, id, attach),
        None => begin(scope, namespace, attach),
    }
}

pub(super) fn check_window(window: u32) -> Result<(), Rejection> {
    at_most("jobs of one consumer", window.into(), CONSUMER_WINDOW_MAX.into())
}

fn begin(
    scope: &mut Scope<'_>,
    namespace: &str,
    attach: &ConsumerAttach,
) -> Result<Outcome, Failure> {
    may_make(scope, namespace, &attach.queue)?;
    at_most("consumers", scope.queues.consumers.len() as u64 + 1, CONSUMERS_MAX)?;
    if let Some(session) = attach.session {
        session::may_own(scope, session, 1 + u64::from(attach.window))?;
    }
    let (at, _) = make(scope, namespace, &attach.queue);
    let row = ConsumerRow {
        queue: at.id,
        session: attach.session,
        attachment: Some(attach.attachment),
        wants: Wants::Window(attach.window),
    };
    let consumer = consumers::add(scope, row);
    dispatch(scope, at.id)?;
    Ok(Outcome::ConsumerAttach { consumer, held: Vec::new() })
}

fn again(
    scope: &mut Scope<'_>,
    namespace: &str,
    id: ConsumerId,
    attach: &ConsumerAttach,
) -> Result<Outcome, Failure> {
    let At { id: queue, .. } = find(scope, namespace, &attach.queue)?;
    let gone = || Failure::Rejected(Rejection::ConsumerGone(id));
    let of = scope.queues.consumers.get(&id).ok_or_else(gone)?;
    let (before, held) = (of.row.clone(), of.held);
    if before.queue != queue || before.session != attach.session {
        return Err(gone());
    }
    match before.wants {
        Wants::Window(window) => {
            if let Some(session) = before.session {
                let more = attach.window.saturating_sub(window.max(held));
                session::may_own(scope, session, more.into())?;
            }
            if let Some(attachment) = before.attachment
                && attachment != attach.attachment
            {
                scope.events.push(Event::ConsumerLeft { consumer: id, attachment });
            }
            let held = consumers::held_by(scope, id).into_iter().map(|(_, job)| job).collect();
            consumers::reschedule(scope, id, |row| {
                row.attachment = Some(attach.attachment);
                row.wants = Wants::Window(attach.window);
            })?;
            dispatch(scope, queue)?;
            Ok(Outcome::ConsumerAttach { consumer: id, held })
        }
        // A repetition of a pull takes its place; what it was answered is in its row.
        Wants::Pull { state, .. } => {
            let again = Outcome::ConsumerAttach { consumer: id, held: Vec::new() };
            let waits_on_until_ms = match state {
                PullState::TimedOut => return Ok(again),
                PullState::Left { wait_until_ms }
                    if !rows::is_live(Some(wait_until_ms), scope.lease_ms()) =>
                {
                    consumers::answer(scope, id, PullState::TimedOut)?;
                    return Ok(again);
                }
                PullState::Left { wait_until_ms } => Some(wait_until_ms),
                PullState::Waiting | PullState::Answered(_) => None,
            };
            consumers::reschedule(scope, id, |row| {
                row.attachment = Some(attach.attachment);
                if let (Wants::Pull { until_ms, state, .. }, Some(wait_until_ms)) =
                    (&mut row.wants, waits_on_until_ms)
                {
                    (*until_ms, *state) = (wait_until_ms, PullState::Waiting);
                }
            })?;
            scope.events.push(Event::PullChanged { consumer: id });
            dispatch(scope, queue)?;
            Ok(again)
        }
    }
}
