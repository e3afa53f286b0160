//! The stream behind a consumer: how it is opened, and what goes out on it.

use crate::dial::Channel;
use crate::incoming::Incoming;
use crate::method::Method;
use crate::pipe::MESSAGE_BYTES_MAX;
use futures::{Stream, StreamExt as _};
use quorate_proto::v1::consume_request::Request as Say;
use quorate_proto::v1::consume_response::Response as Told;
use quorate_proto::v1::queue_service_client::QueueServiceClient;
use quorate_proto::v1::{ConsumeOpen, ConsumeOpened, ConsumeRequest, ConsumeResponse};
use tokio::sync::{oneshot, watch};
use tonic::{Request, Response, Status};

/// What a consumer wants of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// How many jobs it may have that are not settled.
    pub(super) window: u32,
    /// It wants no more of it.
    pub(super) closing: bool,
}

/// A stream that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// To come back with.
    pub(super) consumer_id: u64,
    /// What it has from before a break.
    pub(super) held_leases: Vec<u64>,
    pub(super) told: Box<Incoming<ConsumeResponse>>,
    /// What is sent ends with it.
    _ends: oneshot::Sender<()>,
}

/// Opens a stream: always a call of its own, beside the pipeline. It is open with its first message.
pub(super) struct OpenConsume {
    pub(super) open: ConsumeOpen,
    pub(super) wishes: watch::Receiver<Wish>,
}

impl Method for OpenConsume {
    type Answer = Opened;

    async fn unary(
        channel: Channel,
        request: Request<Self>,
    ) -> Result<Response<Self::Answer>, Status> {
        let Self { open, wishes } = request.into_inner();
        // While the sending half is open the call goes on, though nobody may listen any more: a consumer
        // that swallows what it is given.
        let (ends, ended) = oneshot::channel();
        let connection = channel.clone();
        let answer = QueueServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            // Without the attempt's timeout, which would end the stream as well.
            .consume(outgoing(open, wishes).take_until(ended))
            .await?;
        let (metadata, told, extensions) = answer.into_parts();
        let mut told = Incoming::new(told, connection);
        let first = told.message().await?.and_then(|first| first.response);
        let opened = match first {
            Some(Told::Opened(opened)) if opened.consumer_id > 0 => opened,
            Some(_) => return Err(Status::internal("a consumer was not told its id first")),
            None => return Err(Status::unavailable("the stream ended before it was open")),
        };
        let ConsumeOpened { consumer_id, held_leases, .. } = opened;
        let opened = Opened { consumer_id, held_leases, told: Box::new(told), _ends: ends };
        Ok(Response::from_parts(metadata, opened, extensions))
    }
}

/// The opening, and then every other window, until the consumer wants no more: then nothing is
/// wanted, and the stream ends on this side.
fn outgoing(
    open: ConsumeOpen,
    wishes: watch::Receiver<Wish>,
) -> impl Stream<Item = ConsumeRequest> + Send {
    let say = |request| ConsumeRequest { request: Some(request) };
    let window = open.window;
    let opening = futures::stream::once(std::future::ready(say(Say::Open(open))));
    let later = futures::stream::unfold((wishes, window, false), move |state| async move {
        let (mut wishes, said, over) = state;
        if over {
            return None;
        }
        loop {
            let wish = *wishes.borrow_and_update();
            if wish.closing {
                return Some((say(Say::Window(0)), (wishes, 0, true)));
            }
            if wish.window != said {
                return Some((say(Say::Window(wish.window)), (wishes, wish.window, false)));
            }
            if wishes.changed().await.is_err() {
                return None;
            }
        }
    });
    opening.chain(later)
}
