//! What stands around every call: it is known whose it is, it is counted, the answer names the leader, and a request that the
//! gRPC library itself refuses (too large, malformed, no such method) is refused in our words.
//!
//! Our own services attach an outcome to each of their failures, so a failed answer without one was
//! made by the library, before any service saw the request.

use super::status::{NOT_APPLIED, not_applied};
use super::{Context, caller, descriptors};
use crate::connections::ConnectionState;
use crate::metrics::{Method, Outcome, Requests};
use http::{HeaderMap, Request, Response};
use quorate_proto::metadata::{LEADER, OUTCOME};
use quorate_state::limits::Limits;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use tonic::{Code, Status};

/// Wraps the services.
#[derive(Clone)]
pub(crate) struct Layer(Context);

impl Layer {
    pub(super) fn new(context: Context) -> Self {
        Self(context)
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Service<S>;

    fn layer(&self, inner: S) -> Service<S> {
        Service { inner, context: self.0.clone() }
    }
}

/// The services, wrapped.
#[derive(Clone)]
pub(crate) struct Service<S> {
    inner: S,
    context: Context,
}

impl<S, Q, A> tower::Service<Request<Q>> for Service<S>
where
    S: tower::Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let context = self.context.clone();
        let method = method(request.uri().path(), &context.counters.requests);
        let connection = request.extensions().get::<Arc<ConnectionState>>();
        let origin = connection.map(|connection| connection.origin(&context.replica));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut answer = caller::on_behalf(origin, answer).await?;
            let headers = answer.headers_mut();
            explain(headers, &context.limits);
            context.counters.requests.answered(method, outcome(headers));
            if let Some(address) = context.leader.header(&context.replica) {
                headers.insert(LEADER, address);
            }
            Ok(answer)
        })
    }
}

/// The method that a path names.
fn method(path: &str, requests: &Requests) -> Method {
    let name = path.strip_prefix('/').and_then(|path| path.strip_prefix(descriptors::PACKAGE));
    requests.method(name.and_then(|name| name.strip_prefix('.')).unwrap_or_default())
}

/// What an answer says of the effect. A stream that fails later began well.
fn outcome(headers: &HeaderMap) -> Outcome {
    match headers.get(OUTCOME) {
        None => Outcome::Ok,
        Some(word) if word == NOT_APPLIED => Outcome::NotApplied,
        Some(_) => Outcome::Unknown,
    }
}

/// Puts the library's refusals into our words.
fn explain(headers: &mut HeaderMap, limits: &Limits) {
    if headers.contains_key(OUTCOME) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else { return };
    if status.code() == Code::Ok {
        return;
    }
    let rewritten = put_into_words(&status, limits);
    // Adding to headers fails only for metadata that is none, and this is.
    drop(rewritten.add_header(headers));
}

/// What the library refused, in our words.
pub(super) fn put_into_words(status: &Status, limits: &Limits) -> Status {
    let request_bytes_max = limits.request_bytes_max;
    match status.code() {
        Code::OutOfRange => not_applied(
            Code::InvalidArgument,
            "REQUEST_TOO_LARGE",
            format!(
                "the request is larger than {request_bytes_max} bytes (limits.request_bytes_max); split it"
            ),
        ),
        // The library says so without a word; with one it means something else, as compression.
        Code::Unimplemented if status.message().is_empty() => not_applied(
            Code::Unimplemented,
            "UNIMPLEMENTED",
            "this version has no such method; compare the versions of client and server",
        ),
        code => not_applied(
            code,
            "MALFORMED",
            format!("the request can't be read: {}", status.message()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::metadata::REASON;

    fn explained(status: Status) -> (Status, Option<String>) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        explain(&mut headers, &Limits { request_bytes_max: 2048, ..Limits::default() });
        let reason = headers.get(REASON).map(|value| value.to_str().unwrap().to_owned());
        (Status::from_header_map(&headers).unwrap(), reason)
    }

    #[test]
    fn what_the_library_refuses_is_told_in_our_words() {
        let (status, reason) = explained(Status::out_of_range("decoded message length too large"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("2048 bytes"), "{}", status.message());
        assert_eq!(reason.as_deref(), Some("REQUEST_TOO_LARGE"));
        let (status, reason) = explained(Status::internal("failed to decode Protobuf message"));
        assert_eq!((status.code(), reason.as_deref()), (Code::Internal, Some("MALFORMED")));
        let (_, reason) = explained(Status::unimplemented(""));
        assert_eq!(reason.as_deref(), Some("UNIMPLEMENTED"));
        let (status, reason) =
            explained(Status::unimplemented("Content is compressed with `gzip`"));
        assert!(status.message().contains("gzip"), "{}", status.message());
        assert_eq!(reason.as_deref(), Some("MALFORMED"));
    }

    #[test]
    fn calls_are_counted_by_the_method_in_their_path() {
        let requests = Requests::default();
        let get = requests.method("KvService/Get");
        assert_ne!(get, requests.method(""));
        assert_eq!(method("/quorate.v1.KvService/Get", &requests), get);
        for other in ["/grpc.health.v1.Health/Check", "/quorate.v1KvService/Get", "", "/", "/x/y"] {
            assert_eq!(method(other, &requests), requests.method(""), "{other}");
        }
    }

    #[test]
    fn our_own_failures_and_successes_are_left_alone() {
        let mut own = Status::out_of_range("the increment would overflow");
        own.metadata_mut().insert(OUTCOME, "not_applied".parse().unwrap());
        let (status, reason) = explained(own);
        assert_eq!((status.code(), reason), (Code::OutOfRange, None));
        let mut headers = HeaderMap::new();
        explain(&mut headers, &Limits { request_bytes_max: 2048, ..Limits::default() });
        assert!(headers.is_empty());
    }
}
