//! The way of an `Acquire`: one log entry, and then, if the lock is held, a wait for news of the
//! ticket from what this node applies.
//!
//! The wait is a task of its own, because it has something to do when its caller goes away: say so
//! in the log (`LockDetach`), so that nothing is granted to nobody. It notices when it was taken for
//! gone itself, and says that it is there (`LockAttach`).

use super::{Context, Deadline, Refused, say};
use crate::news::{Listener, Topic};
use crate::wire;
use quorate_proto::v1;
use quorate_state::query::{self, TicketStanding};
use quorate_state::{Attachment, Command, Envelope, LockAttach, LockDetach, Outcome, TicketId};
use tokio::sync::oneshot;

type Answer = Result<v1::LockAcquireResponse, Refused>;

/// Takes a lock or waits for it.
///
/// # Cancel safety
/// When the future is dropped the waiter is detached. It keeps its place for a repetition.
pub(super) async fn acquire(
    context: &Context,
    request: v1::LockAcquireRequest,
    deadline: Deadline,
) -> Answer {
    let attachment = context.attachment();
    let envelope = wire::lock::acquire(request, attachment)?;
    let (reply, answer) = oneshot::channel();
    let call = Call { context: context.of_caller(), attachment, deadline };
    context.calls_that_wait.spawn(call.run(envelope, reply));
    answer.await.unwrap_or_else(|_| Err(Refused::Mismatched("no answer".to_owned())))
}

struct Call {
    context: Context,
    attachment: Attachment,
    deadline: Deadline,
}

/// What a wait came to.
enum Waited {
    /// This is its answer.
    Answered(Answer),
    /// Its caller is gone, or has to ask again.
    Over(Answer),
}

impl Call {
    async fn run(self, envelope: Envelope, mut reply: oneshot::Sender<Answer>) {
        let remaining = self.deadline.remaining();
        let ticket = match self.context.proposed(envelope.clone(), remaining).await {
            Ok(committed) => match self.at_once(committed.outcome) {
                Ok(answer) => {
                    let _ = reply.send(answer);
                    return;
                }
                Err(ticket) => ticket,
            },
            Err(failure) => {
                let unknown = failure.unknown;
                let _ = reply.send(Err(failure.into()));
                // A place may have been taken for a call that does not wait any more.
                if unknown && let Some(ticket) = self.find(envelope).await {
                    self.detach(ticket).await;
                }
                return;
            }
        };
        match self.wait(ticket, &mut reply).await {
            Waited::Answered(answer) => {
                let granted = answer.is_ok();
                // A grant that nobody takes in goes back.
                if reply.send(answer).is_err() && granted {
                    self.detach(ticket).await;
                }
            }
            Waited::Over(answer) => {
                let _ = reply.send(answer);
                self.detach(ticket).await;
            }
        }
    }

    /// The answer to a request that need not wait, or its ticket.
    fn at_once(&self, outcome: Outcome) -> Result<Answer, TicketId> {
        let group = self.context.replica.group();
        match outcome {
            Outcome::LockAcquire { token, ttl_ms, revision } => {
                Ok(Ok(wire::lock::granted(token, ttl_ms, revision, false, group)))
            }
            Outcome::LockQueued { ticket } => Err(ticket),
            other => Ok(Err(wire::unexpected(other))),
        }
    }

    async fn wait(&self, ticket: TicketId, reply: &mut oneshot::Sender<Answer>) -> Waited {
        let listener: Listener = self.context.news.listen(Topic::Ticket(ticket));
        let group = self.context.replica.group();
        let mut attached = false;
        loop {
            let view = self.context.replica.stale();
            let standing = match query::ticket(&*view.tables, group, ticket) {
                Ok(standing) => standing,
                Err(fatal) => return Waited::Over(Err(fatal.into())),
            };
            drop(view);
            match standing {
                // It was granted to an earlier call of the same caller, which may be about to give
                // it back for want of one. Afterwards that frees nothing.
                Some(TicketStanding::Granted { attachment: at, .. })
                    if !attached && at != Some(self.attachment) =>
                {
                    if let Err(refused) = self.attach(ticket).await {
                        return Waited::Over(Err(refused));
                    }
                    attached = true;
                    continue;
                }
                // To a later one: its caller has gone there.
                Some(TicketStanding::Granted { attachment: at, .. })
                    if at != Some(self.attachment) =>
                {
                    return Waited::Over(Err(Refused::StillWaiting));
                }
                Some(TicketStanding::Granted { token, ttl_ms, revision, .. }) => {
                    let granted = wire::lock::granted(token, ttl_ms, revision, true, group);
                    return Waited::Answered(Ok(granted));
                }
                Some(TicketStanding::TimedOut) => {
                    return Waited::Answered(Err(Refused::WaitTimeout));
                }
                // Gone; or the leader was faster, and this node has not applied the request yet.
                None => match self.is_gone(ticket).await {
                    Ok(true) => return Waited::Answered(Err(Refused::WaitCancelled)),
                    Ok(false) => continue,
                    Err(refused) => return Waited::Over(Err(refused)),
                },
                // Once it was here, another place means that its caller has gone there.
                Some(TicketStanding::Waiting(at))
                    if at.is_none() || (!attached && at != Some(self.attachment)) =>
                {
                    if let Err(refused) = self.attach(ticket).await {
                        return Waited::Over(Err(refused));
                    }
                    attached = true;
                    continue;
                }
                Some(TicketStanding::Waiting(_)) => attached = true,
            }
            tokio::select! {
                () = listener.news() => {}
                () = reply.closed() => return Waited::Over(Err(Refused::StillWaiting)),
                () = tokio::time::sleep_until(self.deadline.at()) => {
                    return Waited::Over(Err(Refused::StillWaiting));
                }
                () = self.context.stop.cancelled() => {
                    return Waited::Over(Err(Refused::StillWaiting));
                }
            }
        }
    }

    /// Whether a ticket is gone, as soon as this node has applied the request that it is of.
    async fn is_gone(&self, ticket: TicketId) -> Result<bool, Refused> {
        let group = self.context.replica.group();
        let revision = quorate_state::Revision(ticket.0);
        self.context.replica.wait_applied(revision, self.deadline.remaining()).await?;
        let view = self.context.replica.stale();
        Ok(query::ticket(&*view.tables, group, ticket)?.is_none())
    }

    /// Says that the call waits here. A repetition of a request takes its place this way, and so
    /// does a call whose node was taken for unreachable.
    async fn attach(&self, ticket: TicketId) -> Result<(), Refused> {
        let attach = LockAttach { ticket, attachment: self.attachment };
        let committed = self
            .context
            .proposed(
                say::own(Command::LockAttach(attach)),
                self.deadline.remaining().min(say::SAY),
            )
            .await?;
        let index = committed.index;
        // This node's own view must have it, or it would be said again.
        self.context.replica.wait_index(index, self.deadline.remaining()).await?;
        Ok(())
    }

    /// Says that the call is over.
    async fn detach(&self, ticket: TicketId) {
        let detach = Command::LockDetach(LockDetach { calls: vec![(ticket, self.attachment)] });
        say::until_applied(&self.context, detach).await;
    }

    /// The ticket of a request whose fate is open: asked again it has the same answer.
    async fn find(&self, envelope: Envelope) -> Option<TicketId> {
        let found = say::find(&self.context, envelope).await?;
        self.at_once(found.outcome).err()
    }
}
