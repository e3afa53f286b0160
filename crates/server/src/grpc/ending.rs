//! A service of somebody else's making whose streams would go on when the server stops: its
//! requests end then, so that it answers what it has and ends its answers, too.

use axum::body::Body as Stream;
use futures::StreamExt;
use http::Request;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// The service, and when it ends.
#[derive(Clone)]
pub(super) struct Ending<S> {
    pub(super) inner: S,
    pub(super) stop: CancellationToken,
}

impl<S: NamedService> NamedService for Ending<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>, Error = Infallible>> Service<Request<Body>> for Ending<S> {
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let stopped = self.stop.clone().cancelled_owned();
        self.inner.call(request.map(|body| {
            let until_then = Stream::new(body).into_data_stream().take_until(stopped);
            Body::new(Stream::from_stream(until_then))
        }))
    }
}
