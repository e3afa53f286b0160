//! The standard health service (`grpc.health.v1`): SERVING as long as `/readyz` says ok, for the
//! node as a whole and for each service alike, because all of them live from the same log.

use super::status::not_applied;
use super::{Deadline, descriptors};
use crate::http::Probes;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::time::Duration;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How often a watched node is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Service {
    probes: Probes,
    /// Their full names; the empty one stands for the node.
    services: Vec<String>,
}

impl Service {
    pub(super) fn new(probes: Probes) -> Self {
        let mut services = descriptors::services();
        services.push(String::new());
        Self { probes, services }
    }
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        if !self.services.contains(&request.get_ref().service) {
            return Err(not_applied(
                Code::NotFound,
                "UNKNOWN_SERVICE",
                // Without the name that was asked for: it may be long, and its caller knows it.
                format!(
                    "there is no such service; there are {}, and the empty name for the whole node",
                    self.services.join(" ").trim_end()
                ),
            ));
        }
        Ok(Response::new(answer(look(&self.probes, deadline.remaining()).await)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // The protocol wants a watched service that does not exist to be waited for.
        let known = self.services.contains(&request.get_ref().service);
        let watch = Watch { probes: self.probes.clone(), known, told: None };
        let changes = futures::stream::unfold(watch, |mut watch| async move {
            let status = watch.next().await?;
            Some((Ok(answer(status)), watch))
        });
        Ok(Response::new(changes.boxed()))
    }
}

/// What one watcher was told.
struct Watch {
    probes: Probes,
    known: bool,
    told: Option<ServingStatus>,
}

impl Watch {
    /// The next change; none once the node stops, so that nobody has to wait for the stream's end.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let stops = self.probes.is_stopping();
            let status = match self.known {
                true => look(&self.probes, Duration::MAX).await,
                false => ServingStatus::ServiceUnknown,
            };
            if self.told != Some(status) {
                self.told = Some(status);
                return Some(status);
            }
            if stops {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_EVERY) => {}
                () = self.probes.stopped() => {}
            }
        }
    }
}

async fn look(probes: &Probes, within: Duration) -> ServingStatus {
    match probes.ready(within).await {
        Ok(()) => ServingStatus::Serving,
        Err(_) => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
