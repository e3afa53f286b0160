//! Who comes and goes.

use super::super::too_much;
use super::{Consumer, Pull, Queues, State, Wants, check};
use crate::{
    AssignedJob, Attachment, ConsumerAttach, ConsumerId, NodeId, Outcome, Rejection, SessionId,
    Stamp,
};
use std::collections::BTreeSet;

impl Queues {
    pub(super) fn attach(
        &mut self,
        now: Stamp,
        namespace: &str,
        sessions: &BTreeSet<SessionId>,
        attach: &ConsumerAttach,
    ) -> Result<Outcome, Rejection> {
        if attach.window > 1_000 {
            return Err(too_much("jobs of one consumer", attach.window.into(), 1_000));
        }
        let attachment = Some(attach.attachment);
        let Some(id) = attach.consumer else {
            check(&attach.queue)?;
            if let Some(session) = attach.session
                && !sessions.contains(&session)
            {
                return Err(Rejection::SessionExpired(session));
            }
            let queue = (namespace.to_owned(), attach.queue.clone());
            self.make(&queue);
            let id = self.next();
            let (session, wants) = (attach.session, Wants::Window(attach.window));
            self.consumers.insert(id, Consumer { queue, session, attachment, wants });
            self.dispatch(now);
            return Ok(Outcome::ConsumerAttach { consumer: ConsumerId(id), held: Vec::new() });
        };
        let name = self.known(namespace, &attach.queue)?;
        let gone = Rejection::ConsumerGone(id);
        let consumer = self.consumers.get(&id.0).ok_or_else(|| gone.clone())?;
        if consumer.queue != name || consumer.session != attach.session {
            return Err(gone);
        }
        let held = self.held(id.0).into_iter().map(|(_, _, job)| job).collect();
        let consumer = self.consumers.get_mut(&id.0).unwrap();
        match &mut consumer.wants {
            Wants::Window(window) => {
                *window = attach.window;
                consumer.attachment = attachment;
            }
            Wants::Pull { state: Pull::TimedOut, .. } => {}
            Wants::Pull { until_ms, state: state @ Pull::Left(_), .. } => {
                let Pull::Left(wait_until_ms) = *state else { unreachable!() };
                if wait_until_ms > now.lease_ms {
                    (*until_ms, *state) = (wait_until_ms, Pull::Waiting);
                    consumer.attachment = attachment;
                } else {
                    (*until_ms, *state) = (now.lease_ms + 30_000, Pull::TimedOut);
                }
            }
            Wants::Pull { .. } => consumer.attachment = attachment,
        }
        self.dispatch(now);
        Ok(Outcome::ConsumerAttach { consumer: id, held })
    }

    pub(super) fn detach(&mut self, now: Stamp, id: u64, attachment: Attachment, delivered: u64) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        if consumer.attachment != Some(attachment) {
            return;
        }
        let name = consumer.queue.clone();
        let undelivered = match &consumer.wants {
            Wants::Window(_) => self.held(id).into_iter().map(|(_, _, job)| job).collect(),
            Wants::Pull { state: Pull::Answered(jobs), .. } => jobs.clone(),
            Wants::Pull { .. } => Vec::new(),
        };
        let is_pull = matches!(self.consumers[&id].wants, Wants::Pull { .. });
        for AssignedJob { id, lease, .. } in undelivered {
            let under = self.queues[&name].jobs.get(&id.0).map(|job| job.state);
            let still = matches!(under, Some(State::Leased { lease: l, .. }) if l == lease.0);
            if still && (is_pull || lease.0 > delivered) {
                self.hand_back(now, &name, id.0);
            }
        }
        self.leave(now, id);
        self.dispatch(now);
    }

    pub(super) fn leave(&mut self, now: Stamp, id: u64) {
        let consumer = self.consumers.get_mut(&id).unwrap();
        consumer.attachment = None;
        let window = match &mut consumer.wants {
            Wants::Window(window) => *window,
            Wants::Pull { until_ms, state, .. } => {
                let keep_ms = now.lease_ms + 30_000;
                let wait_until_ms = match state {
                    Pull::Waiting => *until_ms,
                    Pull::Answered(_) => keep_ms,
                    Pull::TimedOut | Pull::Left(_) => return,
                };
                (*until_ms, *state) = (keep_ms, Pull::Left(wait_until_ms));
                return;
            }
        };
        if consumer.session.is_none() || window == 0 && self.held(id).is_empty() {
            self.forget(id);
        }
    }

    /// Whoever wants nothing, has nothing and is nowhere has ended.
    pub(super) fn end_closed(&mut self) {
        let closed = self.consumers.iter().filter(|(id, of)| {
            of.attachment.is_none()
                && matches!(of.wants, Wants::Window(0))
                && self.held(**id).is_empty()
        });
        for id in closed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    /// What it had stays leased, to nobody.
    pub(super) fn forget(&mut self, id: u64) {
        self.consumers.remove(&id);
    }

    pub(super) fn detach_node(&mut self, now: Stamp, node: NodeId) {
        for id in self.consumers.keys().copied().collect::<Vec<_>>() {
            let consumer = &self.consumers[&id];
            let there = consumer.attachment.is_some_and(|at| at.node == node);
            let over = matches!(
                consumer.wants,
                Wants::Pull { state: Pull::Answered(_) | Pull::TimedOut, .. }
            );
            if there && !over {
                self.leave(now, id);
            }
        }
    }

    /// [`Self::dispatch`] follows, once for all that end together.
    pub(in super::super) fn session_ended(&mut self, now: Stamp, session: SessionId) {
        let of = self.consumers.iter().filter(|(_, of)| of.session == Some(session));
        let mut freed = Vec::new();
        for id in of.map(|(id, _)| *id).collect::<Vec<_>>() {
            freed.extend(self.held(id));
            self.forget(id);
        }
        for (name, job, _) in freed {
            self.queue(&name).totals.lapsed += 1;
            self.failed(now, &name, job, "the worker's session ended", Some(0));
        }
    }
}
