//! The message bus: everything goes through the leader, nothing through the log.

use super::{Context, Deadline, Refused, bus_subscribe};
use crate::bus::Unanswered;
use crate::trace::{self, Parent};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::bus_service_server::BusService;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl BusService for Service {
    async fn publish(
        &self,
        request: Request<v1::BusPublishRequest>,
    ) -> Result<Response<v1::BusPublishResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let parent = Parent::of(request.metadata().as_ref());
        let mut publish = request.into_inner();
        trace::into_content(&mut publish.content, parent.as_ref());
        Ok(Response::new(self.published(publish, deadline).await?))
    }

    async fn publish_all(
        &self,
        request: Request<v1::BusPublishAllRequest>,
    ) -> Result<Response<v1::BusPublishAllResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let parent = Parent::of(request.metadata().as_ref());
        let mut publish = request.into_inner();
        trace::into_messages(&mut publish, parent.as_ref());
        Ok(Response::new(self.published_all(publish, deadline).await?))
    }

    type SubscribeStream = bus_subscribe::Messages;

    async fn subscribe(
        &self,
        request: Request<v1::BusSubscribeRequest>,
    ) -> Result<Response<bus_subscribe::Messages>, Status> {
        let deadline = Deadline::of(request.metadata());
        let place = bus_subscribe::place(request.extensions())?;
        let begin = wire::bus::subscribe(request.into_inner()).map_err(Refused::from)?;
        Ok(Response::new(bus_subscribe::begin(&self.0, begin, place, deadline).await?))
    }

    async fn request(
        &self,
        request: Request<v1::BusRequestRequest>,
    ) -> Result<Response<v1::BusRequestResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let parent = Parent::of(request.metadata().as_ref());
        let mut asked = request.into_inner();
        trace::into_content(&mut asked.content, parent.as_ref());
        Ok(Response::new(self.requested(asked, deadline).await?))
    }

    async fn reply(
        &self,
        request: Request<v1::BusReplyRequest>,
    ) -> Result<Response<v1::BusReplyResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.replied(request.into_inner(), deadline).await?))
    }

    async fn list_channels(
        &self,
        request: Request<v1::BusListChannelsRequest>,
    ) -> Result<Response<v1::BusListChannelsResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        Ok(Response::new(self.listed(request.into_inner(), deadline).await?))
    }
}

impl Service {
    /// On its way when this returns: what comes later goes behind it.
    pub(super) fn published(
        &self,
        request: v1::BusPublishRequest,
        deadline: Deadline,
    ) -> impl Future<Output = Result<v1::BusPublishResponse, Refused>> + Send + use<> {
        let publishing =
            wire::bus::publish(request).map(|publish| self.0.bus.publish(publish, deadline.at()));
        async move { Ok(wire::bus::published(&publishing?.await?)) }
    }

    /// Likewise.
    pub(super) fn published_all(
        &self,
        request: v1::BusPublishAllRequest,
        deadline: Deadline,
    ) -> impl Future<Output = Result<v1::BusPublishAllResponse, Refused>> + Send + use<> {
        let publishing = wire::bus::publish_all(request)
            .map(|publish| self.0.bus.publish(publish, deadline.at()));
        async move { Ok(wire::bus::published_all(&publishing?.await?)) }
    }

    pub(super) async fn requested(
        &self,
        request: v1::BusRequestRequest,
        deadline: Deadline,
    ) -> Result<v1::BusRequestResponse, Refused> {
        let publish = wire::bus::request(request)?;
        let channel = publish.channel.clone();
        match self.0.bus.request(publish, deadline.at()).await {
            Ok(content) => {
                let content = Some(wire::bus::content_public(&content));
                Ok(v1::BusRequestResponse { content })
            }
            Err(Unanswered::NoSubscribers) => Err(Refused::NoSubscribers(channel)),
            Err(Unanswered::NoReply) => Err(Refused::NoReply(channel)),
            Err(Unanswered::Failed(failure)) => Err(failure.into()),
        }
    }

    pub(super) async fn replied(
        &self,
        request: v1::BusReplyRequest,
        deadline: Deadline,
    ) -> Result<v1::BusReplyResponse, Refused> {
        let (reply_to, content) = wire::bus::reply(request)?;
        match self.0.bus.reply(reply_to, content, deadline.at()).await? {
            true => Ok(v1::BusReplyResponse {}),
            false => Err(Refused::NoRequest),
        }
    }

    pub(super) async fn listed(
        &self,
        request: v1::BusListChannelsRequest,
        deadline: Deadline,
    ) -> Result<v1::BusListChannelsResponse, Refused> {
        let list = wire::bus::list(request)?;
        Ok(wire::bus::listed(self.0.bus.list(list, deadline.at()).await?))
    }
}
