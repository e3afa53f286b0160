//! The task queue: what changes something goes through the log, reads through a barrier unless they
//! may be stale; jobs are handed out by `queue_pull` and `queue_consume`.

use super::{Context, Deadline, Refused, blocking, queue_consume, queue_pull};
use crate::access::guard::Guard;
use crate::trace::{self, Parent};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::queue_service_server::QueueService;
use quorate_state::{Rejection, query};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of what is in the jobs of a peek.
const PEEK_BYTES: u64 = 1 << 20;

pub(super) struct Service(pub(super) Context);

/// Proposes what a request becomes, and answers what its outcome becomes.
macro_rules! mutate {
    ($self:ident, $request:ident, $becomes:expr, $answer:expr) => {{
        let deadline = Deadline::of($request.metadata());
        let envelope = $becomes($request.into_inner()).map_err(Refused::from)?;
        let outcome = $self.0.propose(envelope, deadline).await?;
        Ok(Response::new($answer(outcome, $self.0.replica.group())?))
    }};
}

/// Answers a read.
macro_rules! read {
    ($self:ident, $request:ident, $read:ident) => {{
        let deadline = Deadline::of($request.metadata());
        Ok(Response::new($self.$read($request.into_inner(), deadline).await?))
    }};
}

#[tonic::async_trait]
impl QueueService for Service {
    async fn push(
        &self,
        request: Request<v1::PushRequest>,
    ) -> Result<Response<v1::PushResponse>, Status> {
        let parent = Parent::of(request.metadata().as_ref());
        let becomes = |mut asked| {
            trace::into_jobs(&mut asked, parent.as_ref());
            wire::queue::push(asked, &self.0.limits)
        };
        mutate!(self, request, becomes, wire::queue::pushed)
    }

    type ConsumeStream = queue_consume::Deliveries;

    async fn consume(
        &self,
        request: Request<Streaming<v1::ConsumeRequest>>,
    ) -> Result<Response<queue_consume::Deliveries>, Status> {
        let places = queue_consume::places(&self.0.consumers, request.extensions())?;
        let guard = request.extensions().get::<Arc<Guard>>().cloned();
        Ok(Response::new(queue_consume::start(&self.0, request.into_inner(), places, guard)))
    }

    async fn pull(
        &self,
        request: Request<v1::PullRequest>,
    ) -> Result<Response<v1::PullResponse>, Status> {
        let deadline = Deadline::of_wait(request.metadata(), request.get_ref().wait_ms);
        Ok(Response::new(queue_pull::pull(&self.0, request.into_inner(), deadline).await?))
    }

    async fn ack(
        &self,
        request: Request<v1::AckRequest>,
    ) -> Result<Response<v1::AckResponse>, Status> {
        mutate!(self, request, wire::queue::ack, wire::queue::acked)
    }

    async fn nack(
        &self,
        request: Request<v1::NackRequest>,
    ) -> Result<Response<v1::NackResponse>, Status> {
        mutate!(self, request, wire::queue::nack, wire::queue::nacked)
    }

    async fn extend(
        &self,
        request: Request<v1::ExtendRequest>,
    ) -> Result<Response<v1::ExtendResponse>, Status> {
        mutate!(self, request, wire::queue::extend, wire::queue::extended)
    }

    async fn progress(
        &self,
        request: Request<v1::ProgressRequest>,
    ) -> Result<Response<v1::ProgressResponse>, Status> {
        mutate!(self, request, wire::queue::progress, wire::queue::progressed)
    }

    async fn peek(
        &self,
        request: Request<v1::PeekRequest>,
    ) -> Result<Response<v1::PeekResponse>, Status> {
        read!(self, request, peeked)
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        read!(self, request, job)
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        read!(self, request, jobs)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        mutate!(self, request, wire::queue::cancel, wire::queue::cancelled)
    }

    async fn stats(
        &self,
        request: Request<v1::StatsRequest>,
    ) -> Result<Response<v1::StatsResponse>, Status> {
        read!(self, request, counted)
    }

    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        read!(self, request, queues)
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::PauseResponse>, Status> {
        mutate!(self, request, wire::queue::pause, wire::queue::paused)
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        mutate!(self, request, wire::queue::resume, wire::queue::resumed)
    }

    async fn purge(
        &self,
        request: Request<v1::PurgeRequest>,
    ) -> Result<Response<v1::PurgeResponse>, Status> {
        mutate!(self, request, wire::queue::purge, wire::queue::purged)
    }

    async fn redrive(
        &self,
        request: Request<v1::RedriveRequest>,
    ) -> Result<Response<v1::RedriveResponse>, Status> {
        mutate!(self, request, wire::queue::redrive, wire::queue::redriven)
    }

    async fn update_queue(
        &self,
        request: Request<v1::UpdateQueueRequest>,
    ) -> Result<Response<v1::UpdateQueueResponse>, Status> {
        mutate!(self, request, wire::queue::update, wire::queue::updated)
    }

    async fn delete_queue(
        &self,
        request: Request<v1::DeleteQueueRequest>,
    ) -> Result<Response<v1::DeleteQueueResponse>, Status> {
        mutate!(self, request, wire::queue::delete, wire::queue::deleted)
    }

    async fn put_schedule(
        &self,
        request: Request<v1::PutScheduleRequest>,
    ) -> Result<Response<v1::PutScheduleResponse>, Status> {
        let becomes = |asked| wire::queue::put_schedule(asked, &self.0.limits);
        mutate!(self, request, becomes, wire::queue::schedule_put)
    }

    async fn delete_schedule(
        &self,
        request: Request<v1::DeleteScheduleRequest>,
    ) -> Result<Response<v1::DeleteScheduleResponse>, Status> {
        mutate!(self, request, wire::queue::delete_schedule, wire::queue::schedule_deleted)
    }

    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        read!(self, request, schedules)
    }
}

/// What a read of a queue that does not exist is told.
fn unknown(queue: String) -> Refused {
    Refused::Rejected(Rejection::QueueUnknown { queue })
}

impl Service {
    pub(super) async fn peeked(
        &self,
        request: v1::PeekRequest,
        deadline: Deadline,
    ) -> Result<v1::PeekResponse, Refused> {
        let (of, count) = wire::queue::peek(request)?;
        let view = self.0.view(of.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let jobs =
            blocking(|| query::peek(tables, group, &of.namespace, &of.queue, count, PEEK_BYTES))?;
        let jobs = jobs.ok_or_else(|| unknown(of.queue))?;
        let revision = query::revision(tables, group)?.0;
        let jobs = jobs.into_iter().map(wire::queue::job).collect();
        Ok(v1::PeekResponse { jobs, revision, group_id: group.0 })
    }

    pub(super) async fn job(
        &self,
        request: v1::GetJobRequest,
        deadline: Deadline,
    ) -> Result<v1::GetJobResponse, Refused> {
        let (of, id) = wire::queue::get_job(request)?;
        let view = self.0.view(of.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let found = query::job(tables, group, &of.namespace, &of.queue, id)?;
        let revision = query::revision(tables, group)?.0;
        let (queue, job) = match found {
            Some((queue, item)) => (queue, Some(wire::queue::job(item))),
            None if query::queue(tables, group, &of.namespace, &of.queue)?.is_none() => {
                return Err(unknown(of.queue));
            }
            None => (String::new(), None),
        };
        Ok(v1::GetJobResponse { job, queue, revision, group_id: group.0 })
    }

    pub(super) async fn jobs(
        &self,
        request: v1::ListJobsRequest,
        deadline: Deadline,
    ) -> Result<v1::ListJobsResponse, Refused> {
        let (of, list) = wire::queue::list_jobs(request)?;
        let view = self.0.view(of.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let page = blocking(|| query::jobs(tables, group, &of.namespace, &of.queue, &list))?;
        let page = page.ok_or_else(|| unknown(of.queue))?;
        Ok(wire::queue::listed_jobs(page, query::revision(tables, group)?, group))
    }

    pub(super) async fn counted(
        &self,
        request: v1::StatsRequest,
        deadline: Deadline,
    ) -> Result<v1::StatsResponse, Refused> {
        let of = wire::queue::stats(request)?;
        let view = self.0.view(of.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let item = query::queue(tables, group, &of.namespace, &of.queue)?;
        let item = item.ok_or_else(|| unknown(of.queue.clone()))?;
        let info = Some(wire::queue::info(of.queue, item));
        let revision = query::revision(tables, group)?.0;
        Ok(v1::StatsResponse { info, revision, group_id: group.0 })
    }

    pub(super) async fn queues(
        &self,
        request: v1::ListQueuesRequest,
        deadline: Deadline,
    ) -> Result<v1::ListQueuesResponse, Refused> {
        let list = wire::queue::list_queues(request)?;
        let view = self.0.view(list.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let (selection, after) = (&list.selection, list.after.as_deref());
        let page = blocking(|| {
            query::queues(tables, group, &list.namespace, selection, after, list.limit)
        })?;
        Ok(wire::queue::listed_queues(page, query::revision(tables, group)?, group))
    }

    pub(super) async fn schedules(
        &self,
        request: v1::ListSchedulesRequest,
        deadline: Deadline,
    ) -> Result<v1::ListSchedulesResponse, Refused> {
        let list = wire::queue::list_schedules(request)?;
        let view = self.0.view(list.fresh, deadline).await?;
        let (tables, group) = (&*view.tables, self.0.replica.group());
        let (selection, after) = (&list.selection, list.after.as_deref());
        let page = blocking(|| {
            query::schedules(tables, group, &list.namespace, selection, after, list.limit)
        })?;
        Ok(wire::queue::listed_schedules(page, query::revision(tables, group)?, group))
    }
}
