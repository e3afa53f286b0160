//! The body of a request, which has to come in time: a message that began, or that a unary call began
//! with, is waited for so long and no longer. Otherwise whoever answers pings could hold a place for as
//! long as he likes, a byte now and then.

use super::Caller;
use crate::grpc::not_applied;
use crate::metrics::Counters;
use bytes::Buf;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;
use tonic::{Code, Status};

/// Bytes before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// Where in its messages a body is.
#[derive(Debug, Default)]
struct Messages {
    head: [u8; HEAD_BYTES],
    /// Of the head, those that came.
    came: usize,
    /// Bytes of the message that are still to come, once its head is there.
    left: u64,
}

impl Messages {
    /// These bytes came; answers whether a message ended with, or in, them.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.came < HEAD_BYTES {
                let taken = bytes.len().min(HEAD_BYTES - self.came);
                self.head[self.came..self.came + taken].copy_from_slice(&bytes[..taken]);
                self.came += taken;
                bytes = &bytes[taken..];
                if self.came == HEAD_BYTES {
                    let [_, length @ ..] = self.head;
                    self.left = u32::from_be_bytes(length).into();
                }
            } else {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= taken as u64;
                bytes = &bytes[taken..];
            }
            if self.came == HEAD_BYTES && self.left == 0 {
                self.came = 0;
                ended = true;
            }
        }
        ended
    }

    /// Whether one has begun and not ended.
    fn in_one(&self) -> bool {
        self.came > 0
    }
}

pin_project_lite::pin_project! {
    /// A body that is waited for with so much patience.
    pub(crate) struct Inbound<B> {
        #[pin]
        body: B,
        messages: Messages,
        // Whether the call has one request, which is waited for from the beginning to the end.
        single: bool,
        over: bool,
        patience: Duration,
        // Runs while something is waited for that has to come.
        waited: Option<Pin<Box<Sleep>>>,
        caller: Option<Arc<Caller>>,
        counters: Arc<Counters>,
    }
}

impl<B> Inbound<B> {
    /// The body of a call with one request, or with a stream of them. Its bytes are counted as those of
    /// `caller`.
    pub(crate) fn new(
        body: B,
        single: bool,
        patience: Duration,
        caller: Option<Arc<Caller>>,
        counters: Arc<Counters>,
    ) -> Self {
        let messages = Messages::default();
        Self { body, messages, single, over: false, patience, waited: None, caller, counters }
    }
}

impl<B> http_body::Body for Inbound<B>
where
    B: http_body::Body<Data: Buf, Error: Into<tonic::codegen::StdError>>,
{
    type Data = B::Data;
    type Error = tonic::codegen::StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<B::Data>, Self::Error>>> {
        let this = self.project();
        match this.body.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    // Of HTTP/2 it is in one piece.
                    let ended = this.messages.take(data.chunk());
                    if let Some(caller) = this.caller {
                        caller.received(data.remaining() as u64);
                    }
                    if ended && !*this.single {
                        *this.waited = None;
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                (*this.over, *this.waited) = (true, None);
                Poll::Ready(None)
            }
            Poll::Pending => {
                if *this.over || !(*this.single || this.messages.in_one()) {
                    return Poll::Pending;
                }
                let patience = *this.patience;
                let waited =
                    this.waited.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                if waited.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                (*this.over, *this.waited) = (true, None);
                this.counters.callers.incomplete.count();
                Poll::Ready(Some(Err(incomplete(patience).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn incomplete(patience: Duration) -> Status {
    not_applied(
        Code::DeadlineExceeded,
        "REQUEST_INCOMPLETE",
        format!(
            "the request was not complete {patience:?} after it began \
             (limits.message_timeout_ms); send it in one go, or make it smaller"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt as _;
    use http_body::{Body as _, Frame};
    use std::convert::Infallible;
    use tokio::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let text = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[7; 256]];
        let text = text.concat();
        let mut whole = Messages::default();
        assert!(whole.take(&text) && !whole.in_one());
        let mut by_bytes = Messages::default();
        let ends: Vec<_> = (0..text.len()).filter(|at| by_bytes.take(&text[*at..=*at])).collect();
        assert_eq!(ends, [7, 12, text.len() - 1]);
        assert!(!by_bytes.take(&[0, 0]) && by_bytes.in_one());
    }

    type Pieces = futures::channel::mpsc::UnboundedReceiver<&'static [u8]>;

    /// A body of pieces that come when they are sent.
    struct Slow(Pieces);

    impl http_body::Body for Slow {
        type Data = &'static [u8];
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, Infallible>>> {
            self.0.poll_next_unpin(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }

    /// Reads a body that comes a byte each five seconds; answers how long it was read.
    async fn read(single: bool, bytes: &'static [u8]) -> (Duration, bool) {
        let (send, pieces) = futures::channel::mpsc::unbounded();
        let inbound = Inbound::new(Slow(pieces), single, PATIENCE, None, Arc::default());
        let mut inbound = std::pin::pin!(inbound);
        let sending = tokio::spawn(async move {
            for at in 0..bytes.len() {
                tokio::time::sleep(Duration::from_secs(5)).await;
                let _ = send.unbounded_send(&bytes[at..=at]);
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
        });
        let began = Instant::now();
        let failed = loop {
            match std::future::poll_fn(|cx| inbound.as_mut().poll_frame(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    let status = error.downcast::<Status>().unwrap();
                    assert!(status.message().contains("30s"), "{status:?}");
                    break true;
                }
                None => break false,
            }
        };
        sending.abort();
        (began.elapsed(), failed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_is_given_up_and_a_stream_may_be_silent() {
        // Nothing at all, a byte at a time, and a whole one whose end is not told.
        assert_eq!(read(true, &[]).await, (PATIENCE, true));
        assert_eq!(read(true, &[0, 0, 0, 0, 200, 1, 2, 3, 4, 5, 6, 7]).await, (PATIENCE, true));
        assert_eq!(read(true, &[0, 0, 0, 0, 0]).await, (PATIENCE, true));
        // A stream: no message, whole ones, and one that stays without its end, from its first byte on.
        assert_eq!(read(false, &[]).await, (Duration::from_secs(600), false));
        assert_eq!(read(false, &[0, 0, 0, 0, 1, 9]).await, (Duration::from_secs(630), false));
        let begun = read(false, &[0, 0, 0, 0, 1, 9, 0, 0, 0]).await;
        assert_eq!(begun, (Duration::from_secs(35) + PATIENCE, true));
    }
}
