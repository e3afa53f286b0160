//! Streams whose clients have to read them: a message whenever the connection asks for the next.
//!
//! A client that does not read is not asked for, so it costs one message. A watchman takes even that,
//! and what else the stream holds, after a while.

use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// The messages of one stream.
pub(super) struct Watched<T> {
    shared: Arc<Mutex<Messages<T>>>,
    slow_reader_max: Duration,
    /// What a client is told that did not read for so long.
    told: fn(Duration) -> Status,
}

struct Messages<T> {
    /// None once it is over.
    messages: Option<BoxStream<'static, Result<T, Status>>>,
    /// When a message was handed over; none once the next one was asked for.
    handed_over: Option<Instant>,
}

impl<T: 'static> Watched<T> {
    /// `cut` is called when the stream is taken from its client.
    pub(super) fn new(
        messages: BoxStream<'static, Result<T, Status>>,
        slow_reader_max: Duration,
        told: fn(Duration) -> Status,
        cut: impl FnOnce() + Send + 'static,
    ) -> Self {
        let messages = Messages { messages: Some(messages), handed_over: None };
        let shared = Arc::new(Mutex::new(messages));
        let watched = Arc::downgrade(&shared);
        // Ends a round after the stream is gone.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(slow_reader_max / 2).await;
                let Some(watched) = watched.upgrade() else { return };
                let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
                let since = watched.handed_over.map_or(Duration::ZERO, |at| at.elapsed());
                if since >= slow_reader_max && watched.messages.take().is_some() {
                    cut();
                    return;
                }
            }
        });
        Self { shared, slow_reader_max, told }
    }
}

impl<T> Stream for Watched<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut watched = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        watched.handed_over = None;
        let Some(messages) = &mut watched.messages else {
            return Poll::Ready(Some(Err((self.told)(self.slow_reader_max))));
        };
        let next = messages.poll_next_unpin(cx);
        match &next {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(_))) => watched.handed_over = Some(Instant::now()),
            Poll::Ready(Some(Err(_)) | None) => watched.messages = None,
        }
        next
    }
}
