//! The way of a `Pull`: one log entry, and then, if nothing was ready, a wait for news of it from
//! what this node applies. What is in the jobs is read from this node's tables when the answer is
//! made.
//!
//! The wait is a task of its own, because it has something to do when its caller goes away: say so
//! in the log (`ConsumerDetach`), so that no job is given to nobody, and what was is ready again. It
//! notices when it was taken for gone itself, and says that it is there (`ConsumerAttach`).

use super::{Context, Deadline, Refused, say};
use crate::news::Topic;
use crate::wire;
use quorate_consensus::{Committed, Failure};
use quorate_proto::v1;
use quorate_state::query::{self, PullStanding};
use quorate_state::{
    AssignedJob, Attachment, Caller, Command, ConsumerAttach, ConsumerDetach, ConsumerId, Envelope,
    JobLease, LeasedJob, LogIndex, Outcome, QueueNack, Rejection, Revision, Verdict,
};
use tokio::sync::oneshot;

/// Jobs that a pull was given, as this node has applied it.
#[derive(Debug)]
pub(super) struct Taken {
    jobs: Vec<AssignedJob>,
    revision: Revision,
}

type Answer = Result<Taken, Refused>;

/// Takes jobs or waits for them.
///
/// # Cancel safety
/// When the future is dropped what it waited for, or was given, goes to others. A pull that waited
/// keeps its place for a repetition.
pub(super) async fn pull(
    context: &Context,
    request: v1::PullRequest,
    deadline: Deadline,
) -> Result<v1::PullResponse, Refused> {
    take(context, request, deadline).await?.read(context)
}

/// As [`pull`], without what is in the jobs, which may be much.
pub(super) async fn take(
    context: &Context,
    request: v1::PullRequest,
    deadline: Deadline,
) -> Answer {
    let attachment = context.attachment();
    let queue = request.queue.clone();
    let envelope = wire::queue::pull(request, attachment)?;
    let namespace = envelope.namespace.clone();
    let (reply, answer) = oneshot::channel();
    let call = Call { context: context.of_caller(), namespace, queue, attachment, deadline };
    context.calls_that_wait.spawn(call.run(envelope, reply));
    answer.await.unwrap_or_else(|_| Err(Refused::Mismatched("no answer".to_owned())))
}

/// What a pull took that did not wait, once this node has applied it.
pub(super) async fn taken(context: &Context, committed: Committed, deadline: Deadline) -> Answer {
    match committed.outcome {
        Outcome::QueuePull { jobs, revision } => {
            applied(context, committed.index, deadline).await?;
            Ok(Taken { jobs, revision })
        }
        other => Err(wire::unexpected(other)),
    }
}

async fn applied(context: &Context, index: LogIndex, deadline: Deadline) -> Result<(), Failure> {
    // Whatever keeps this node from it, the jobs may be taken.
    let waited = context.replica.wait_index(index, deadline.remaining()).await;
    waited.map_err(|failure| Failure { unknown: true, ..failure })
}

impl Taken {
    fn nothing(context: &Context) -> Answer {
        let view = context.replica.stale();
        let revision = query::revision(&*view.tables, context.replica.group())?;
        Ok(Self { jobs: Vec::new(), revision })
    }

    /// The answer. A job whose lease has ended meanwhile is not in it.
    pub(super) fn read(&self, context: &Context) -> Result<v1::PullResponse, Refused> {
        let (view, group) = (context.replica.stale(), context.replica.group());
        let now = query::clocks(&*view.tables, group)?;
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for job in &self.jobs {
            if let Some(item) = query::delivery(&*view.tables, group, now, job)? {
                jobs.push(wire::queue::delivered(job, item));
            }
        }
        Ok(wire::queue::pulled(jobs, self.revision, group))
    }
}

struct Call {
    context: Context,
    namespace: String,
    queue: String,
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
        let repeatable = envelope.caller != Caller::Anonymous;
        let remaining = self.deadline.remaining();
        let committed = match self.context.proposed(envelope.clone(), remaining).await {
            Ok(committed) => committed,
            Err(failure) => {
                let unknown = failure.unknown;
                let _ = reply.send(Err(failure.into()));
                // A place may have been taken for a call that does not wait any more. Nobody can
                // find it who can't ask again; it ends with its time.
                if unknown
                    && repeatable
                    && let Some(found) = say::find(&self.context, envelope).await
                    && let Outcome::QueuePullWaits { consumer } = found.outcome
                {
                    self.detach(consumer).await;
                }
                return;
            }
        };
        let Outcome::QueuePullWaits { consumer } = committed.outcome else {
            let given = match &committed.outcome {
                Outcome::QueuePull { jobs, .. } => jobs.clone(),
                _ => Vec::new(),
            };
            let answer = taken(&self.context, committed, self.deadline).await;
            let failed = answer.is_err();
            // A repetition would ask for the same jobs; nobody else ever will.
            if (reply.send(answer).is_err() || failed) && !repeatable {
                self.give_back(given).await;
            }
            return;
        };
        match self.wait(consumer, committed.index, &mut reply).await {
            Waited::Answered(answer) => {
                let given = answer.as_ref().is_ok_and(|taken| !taken.jobs.is_empty());
                if reply.send(answer).is_err() && given {
                    self.detach(consumer).await;
                }
            }
            Waited::Over(answer) => {
                let _ = reply.send(answer);
                self.detach(consumer).await;
            }
        }
    }

    async fn wait(
        &self,
        consumer: ConsumerId,
        index: LogIndex,
        reply: &mut oneshot::Sender<Answer>,
    ) -> Waited {
        let listener = self.context.news.listen(Topic::Pull(consumer));
        if let Err(failure) = applied(&self.context, index, self.deadline).await {
            return Waited::Over(Err(failure.into()));
        }
        let here = Some(self.attachment);
        let mut attached = false;
        loop {
            let standing = match self.standing(consumer) {
                Ok(standing) => standing,
                Err(refused) => return Waited::Over(Err(refused)),
            };
            match standing {
                // It was answered, or is waited for, elsewhere: by an earlier call of the same
                // caller, which may be about to give back what it got. Afterwards that has no effect.
                Some(PullStanding::Answered(_, at) | PullStanding::Waiting(at))
                    if at.is_none() || !attached && at != here =>
                {
                    if let Err(refused) = self.attach(consumer).await {
                        return Waited::Over(Err(refused));
                    }
                    attached = true;
                    continue;
                }
                // By a later one: its caller has gone there.
                Some(PullStanding::Answered(_, at)) if at != here => {
                    return Waited::Over(Err(Refused::PullWaiting));
                }
                Some(PullStanding::Answered(jobs, _)) => {
                    let nothing = Taken::nothing(&self.context);
                    return Waited::Answered(nothing.map(|taken| Taken { jobs, ..taken }));
                }
                Some(PullStanding::TimedOut) => {
                    return Waited::Answered(Taken::nothing(&self.context));
                }
                None => return Waited::Answered(self.gone()),
                Some(PullStanding::Waiting(_)) => attached = true,
            }
            tokio::select! {
                () = listener.news() => {}
                () = reply.closed() => return Waited::Over(Err(Refused::PullWaiting)),
                // None for its caller, who waits no longer; what comes now is given back.
                () = tokio::time::sleep_until(self.deadline.at()) => {
                    return Waited::Over(Taken::nothing(&self.context));
                }
                () = self.context.stop.cancelled() => {
                    return Waited::Over(Err(Refused::PullWaiting));
                }
            }
        }
    }

    fn standing(&self, consumer: ConsumerId) -> Result<Option<PullStanding>, Refused> {
        let view = self.context.replica.stale();
        Ok(query::pull(&*view.tables, self.context.replica.group(), consumer)?)
    }

    /// The answer to a pull that is known no more: its time was over long ago, or its queue went.
    fn gone(&self) -> Answer {
        let (view, group) = (self.context.replica.stale(), self.context.replica.group());
        if query::queue(&*view.tables, group, &self.namespace, &self.queue)?.is_none() {
            let queue = self.queue.clone();
            return Err(Refused::Rejected(Rejection::QueueUnknown { queue }));
        }
        Taken::nothing(&self.context)
    }

    /// Says that the call waits here. A repetition of a request takes its place this way, and so
    /// does a call whose node was taken for unreachable.
    async fn attach(&self, consumer: ConsumerId) -> Result<(), Refused> {
        let attach = ConsumerAttach {
            queue: self.queue.clone(),
            consumer: Some(consumer),
            session: None,
            window: 0,
            attachment: self.attachment,
        };
        let envelope = self.own(Command::ConsumerAttach(attach));
        let remaining = self.deadline.remaining().min(say::SAY);
        let committed = self.context.proposed(envelope, remaining).await?;
        // This node's own view must have it, or it would be said again.
        Ok(applied(&self.context, committed.index, self.deadline).await?)
    }

    /// Says that the call is over: what it was given goes back.
    async fn detach(&self, consumer: ConsumerId) {
        let (attachment, delivered) = (self.attachment, JobLease(0));
        let detach = ConsumerDetach { consumer, attachment, delivered };
        say::until_applied(&self.context, Command::ConsumerDetach(detach)).await;
    }

    /// Gives back what nobody took in.
    async fn give_back(&self, jobs: Vec<AssignedJob>) {
        let returned = jobs.into_iter().map(|AssignedJob { id, lease, .. }| {
            let job = LeasedJob { queue: self.queue.clone(), id, lease };
            let nack = QueueNack { job, verdict: Verdict::Return, error: String::new() };
            say::find(&self.context, self.own(Command::QueueNack(nack)))
        });
        futures::future::join_all(returned).await;
    }

    fn own(&self, command: Command) -> Envelope {
        Envelope { namespace: self.namespace.clone(), ..say::own(command) }
    }
}
