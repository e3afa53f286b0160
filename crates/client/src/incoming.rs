//! What comes in on a stream that outlives the call that opened it.

use crate::dial::Channel;
use std::fmt;
use tonic::{Status, Streaming};

/// A stream of messages, with a handle of the connection that it is on.
///
/// The handle is what has hyper ask the peer for signs of life: it takes a connection for idle that has
/// one stream and no handle any more, and asks nothing on it. The client lets go of a connection when a
/// call on it got no answer; without a handle here a stream on it would then wait for ever on a node that
/// is gone, as no packet says so.
pub(crate) struct Incoming<T> {
    stream: Streaming<T>,
    _connection: Channel,
}

impl<T> Incoming<T> {
    pub(crate) fn new(stream: Streaming<T>, connection: Channel) -> Self {
        Self { stream, _connection: connection }
    }

    /// The next message; none at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn message(&mut self) -> Result<Option<T>, Status> {
        self.stream.message().await
    }
}

impl<T> fmt::Debug for Incoming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}
