//! The pipeline: many calls on one stream (`pipeline.proto`), worked on together.
//!
//! Everything happens when the connection asks for the next message (`work.rs`): then requests are
//! taken, commands go to the lane as one batch, reads wait for one barrier, and whatever is known by
//! then is one message. So a client that does not read its answers is not worked for either, and
//! nothing queues up for it but what its credit allows. Here is the watchman over such clients.

mod answers;
mod calls;
mod reads;
mod work;

use super::Context;
use crate::access::guard::Guard;
use crate::limits::{Caller, Share};
use futures::Stream;
use quorate_proto::v1::pipeline_service_server::PipelineService;
use quorate_proto::v1::{PipelineRequest, PipelineResponse};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use work::Work;

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl PipelineService for Service {
    type OpenStream = Pipeline;

    async fn open(
        &self,
        request: Request<Streaming<PipelineRequest>>,
    ) -> Result<Response<Pipeline>, Status> {
        let guard = request.extensions().get::<Arc<Guard>>().cloned();
        let share = request.extensions().get::<Arc<Caller>>().cloned().map(Share::new);
        let (context, requests) = (self.0.of_caller(), request.into_inner());
        Ok(Response::new(Pipeline::start(context, requests, guard, share)))
    }
}

/// The answers of one stream. What it holds is in reach of a watchman, who takes it away from a
/// client that does not read.
pub(super) struct Pipeline {
    shared: Arc<Mutex<Watched>>,
    slow_reader_max: Duration,
}

struct Watched {
    /// None once it is over.
    work: Option<Work>,
    /// When a message was handed over; none once the next one was asked for. The connection asks
    /// again as soon as the client has room for more.
    handed_over: Option<Instant>,
}

impl Pipeline {
    fn start(
        context: Context,
        requests: Streaming<PipelineRequest>,
        guard: Option<Arc<Guard>>,
        share: Option<Share>,
    ) -> Self {
        let slow_reader_max = context.slow_reader_max;
        let work = Some(Work::new(context, requests, guard, share));
        let shared = Arc::new(Mutex::new(Watched { work, handed_over: None }));
        let watched = Arc::downgrade(&shared);
        // Ends a round after the stream is gone.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(slow_reader_max / 2).await;
                let Some(watched) = watched.upgrade() else { return };
                let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let since = watched.handed_over.map_or(Duration::ZERO, |at| at.elapsed());
                if since >= slow_reader_max
                    && let Some(work) = watched.work.take()
                {
                    work.cut();
                    return;
                }
            }
        });
        Self { shared, slow_reader_max }
    }
}

impl Stream for Pipeline {
    type Item = Result<PipelineResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut watched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        watched.handed_over = None;
        let Some(work) = &mut watched.work else {
            return Poll::Ready(Some(Err(slow_reader(self.slow_reader_max))));
        };
        let next = work.poll_next(cx);
        match &next {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => watched.handed_over = Some(Instant::now()),
            Poll::Ready(Some(Err(_)) | None) => watched.work = None,
        }
        next
    }
}

fn slow_reader(max: Duration) -> Status {
    // Of all calls that are unanswered at its end nobody knows the fate: it has no outcome.
    super::status::ended(
        tonic::Code::ResourceExhausted,
        "SLOW_READER",
        format!(
            "answers have waited for {max:?} without being read; read them while calls are under way"
        ),
    )
}
