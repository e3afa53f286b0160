//! The message bus of scripted nodes: notes what is published and answered, and sends subscriptions
//! what their scripts say.

use super::node::{Node, head};
use super::state::State;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use quorate_proto::v1::bus_service_server::BusService;
use quorate_proto::v1::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// What a node says to a subscription.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// Messages and gaps, and how far it is.
    Items(Vec<BusItem>, Option<(u64, u64)>),
    /// Nothing for so long.
    Pause(Duration),
    Fail(Status),
    /// The stream ends as if all were said.
    End,
    /// The connection breaks.
    Cut,
}

/// A message at a place in the order of all, on the channel `c`; its payload says where.
pub(crate) fn item(epoch: u64, position: u64) -> BusItem {
    let content =
        BusContent { payload: format!("{epoch}/{position}").into(), ..BusContent::default() };
    let message = BusMessage {
        channel: "c".to_owned(),
        epoch,
        sequence: position,
        position,
        content: Some(content),
        ..BusMessage::default()
    };
    BusItem { item: Some(bus_item::Item::Message(message)) }
}

pub(crate) fn gap(missed: Option<u64>) -> BusItem {
    BusItem { item: Some(bus_item::Item::Gap(BusGap { missed })) }
}

#[derive(Default)]
pub(super) struct Channels {
    published: Vec<BusPublishRequest>,
    requested: Vec<BusRequestRequest>,
    replies: Vec<BusReplyRequest>,
    scripts: VecDeque<Vec<Heard>>,
    /// Subscriptions that were begun, and where.
    begun: Vec<(String, BusSubscribeRequest)>,
    /// Streams of them that have ended.
    ended: usize,
}

impl State {
    pub(crate) fn published(&self) -> Vec<BusPublishRequest> {
        self.channels(|channels| channels.published.clone())
    }

    pub(crate) fn requested(&self) -> Vec<BusRequestRequest> {
        self.channels(|channels| channels.requested.clone())
    }

    pub(crate) fn replies(&self) -> Vec<BusReplyRequest> {
        self.channels(|channels| channels.replies.clone())
    }

    /// The next subscription, wherever it begins, is sent this; the last word is waited behind.
    pub(crate) fn script_bus(&self, heard: Vec<Heard>) {
        self.channels(|channels| channels.scripts.push_back(heard));
    }

    /// Subscriptions that were begun, and where.
    pub(crate) fn subscriptions(&self) -> Vec<(String, BusSubscribeRequest)> {
        self.channels(|channels| channels.begun.clone())
    }

    /// How many streams of subscriptions have ended.
    pub(crate) fn subscriptions_ended(&self) -> usize {
        self.channels(|channels| channels.ended)
    }
}

/// Counts the end of a stream.
struct Ends(Arc<State>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.channels(|channels| channels.ended += 1);
    }
}

#[tonic::async_trait]
impl BusService for Node {
    async fn publish(
        &self,
        request: Request<BusPublishRequest>,
    ) -> Result<Response<BusPublishResponse>, Status> {
        let head = head(&request, None, None);
        let request = request.into_inner();
        let work = move |state: &State| {
            state.channels(|channels| {
                channels.published.push(request);
                let position = channels.published.len() as u64;
                let (nodes, subscribers) = (2, 3);
                Ok(BusPublishResponse { epoch: 4, sequence: 1, nodes, subscribers, position })
            })
        };
        self.serve("publish", head, work).await
    }

    async fn publish_all(
        &self,
        request: Request<BusPublishAllRequest>,
    ) -> Result<Response<BusPublishAllResponse>, Status> {
        let head = head(&request, None, None);
        let BusPublishAllRequest { namespace, messages } = request.into_inner();
        let work = move |state: &State| {
            state.channels(|channels| {
                let publish = |BusOutgoing { channel, content }| {
                    let namespace = namespace.clone();
                    channels.published.push(BusPublishRequest { namespace, channel, content });
                    let position = channels.published.len() as u64;
                    BusPublishResponse { epoch: 4, position, ..BusPublishResponse::default() }
                };
                let published = messages.into_iter().map(publish).collect();
                Ok(BusPublishAllResponse { published })
            })
        };
        self.serve("publish_all", head, work).await
    }

    type SubscribeStream = BoxStream<'static, Result<BusSubscribeResponse, Status>>;

    /// Says what the next script says, and then nothing more. Without one it only begins.
    async fn subscribe(
        &self,
        request: Request<BusSubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (addr, request) = (self.addr.clone(), request.into_inner());
        let script = self.state.channels(|channels| {
            channels.begun.push((addr.clone(), request));
            let begun = || vec![Heard::Items(Vec::new(), None)];
            channels.scripts.pop_front().unwrap_or_else(begun)
        });
        let (net, ends) = (Arc::clone(&self.net), Ends(Arc::clone(&self.state)));
        let script = VecDeque::from(script);
        let said = futures::stream::unfold((script, net, ends), move |(mut script, net, ends)| {
            let addr = addr.clone();
            async move {
                let said = loop {
                    match script.pop_front() {
                        Some(Heard::Items(items, place)) => {
                            let place = place.map(|(epoch, position)| BusPlace { epoch, position });
                            break Ok(BusSubscribeResponse { items, place });
                        }
                        Some(Heard::Pause(pause)) => tokio::time::sleep(pause).await,
                        Some(Heard::Fail(status)) => break Err(status),
                        Some(Heard::End) => return None,
                        Some(Heard::Cut) => {
                            // What was sent arrives: on a paused clock nothing takes time.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            net.cut(&addr);
                            std::future::pending().await
                        }
                        None => std::future::pending().await,
                    }
                };
                Some((said, (script, net, ends)))
            }
        });
        Ok(Response::new(said.boxed()))
    }

    /// Answers what it was asked.
    async fn request(
        &self,
        request: Request<BusRequestRequest>,
    ) -> Result<Response<BusRequestResponse>, Status> {
        let head = head(&request, None, None);
        let request = request.into_inner();
        let work = move |state: &State| {
            let content = request.content.clone();
            state.channels(|channels| channels.requested.push(request));
            Ok(BusRequestResponse { content })
        };
        self.serve("request", head, work).await
    }

    /// The first answer counts.
    async fn reply(
        &self,
        request: Request<BusReplyRequest>,
    ) -> Result<Response<BusReplyResponse>, Status> {
        let head = head(&request, None, None);
        let request = request.into_inner();
        let work = move |state: &State| {
            state.channels(|channels| {
                let answered = |reply: &BusReplyRequest| reply.reply_to == request.reply_to;
                if channels.replies.iter().any(answered) {
                    let code = tonic::Code::NotFound;
                    return Err(super::status(code, super::NOT_APPLIED, "NO_REQUEST"));
                }
                channels.replies.push(request);
                Ok(BusReplyResponse {})
            })
        };
        self.serve("reply", head, work).await
    }

    /// Two pages, the second of which repeats the pattern.
    async fn list_channels(
        &self,
        request: Request<BusListChannelsRequest>,
    ) -> Result<Response<BusListChannelsResponse>, Status> {
        let head = head(&request, None, None);
        let BusListChannelsRequest { pattern, cursor, .. } = request.into_inner();
        let work = move |_: &State| {
            let (entry, cursor) = match cursor.as_str() {
                "" => ("user.*".to_owned(), "user.*".to_owned()),
                _ => (pattern, String::new()),
            };
            let entry = BusChannelEntry {
                pattern: entry,
                subscribers: 3,
                nodes: 2,
                queue_groups: 1,
                last_sequence: 7,
                members: 4,
            };
            Ok(BusListChannelsResponse { channels: vec![entry], cursor, epoch: 4 })
        };
        self.serve("list_channels", head, work).await
    }
}
