//! What stands around every call: the answer names the leader, and a request that the gRPC library
//! itself refuses (too large, malformed, no such method) is refused in our words.
//!
//! Our own services attach an outcome to each of their failures, so a failed answer without one was
//! made by the library, before any service saw the request.

use super::Context;
use http::{HeaderMap, HeaderValue, Request, Response};
use quorate_consensus::Replica;
use quorate_proto::metadata::{LEADER, OUTCOME, REASON};
use quorate_state::NodeId;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// How long a leader's address is taken for what it published last. Looking it up reads the state,
/// which would cost each answer more than the rest of the header.
const ADDRESS_FRESH: Duration = Duration::from_millis(500);

/// Wraps the services.
#[derive(Clone)]
pub(crate) struct Layer(Arc<Around>);

impl Layer {
    pub(super) fn new(context: Context) -> Self {
        Self(Arc::new(Around { context, leader: Mutex::default() }))
    }
}

/// What all wrapped calls share.
struct Around {
    context: Context,
    /// The leader's address as it was looked up last.
    leader: Mutex<Option<LeaderHeader>>,
}

#[derive(Clone)]
struct LeaderHeader {
    leader: NodeId,
    address: HeaderValue,
    looked_up: Instant,
}

impl Around {
    /// Client address of the leader, when this node knows one.
    fn leader_address(&self) -> Option<HeaderValue> {
        let replica: &Replica = &self.context.replica;
        let leader = replica.leader()?;
        let mut known = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref()
            && known.leader == leader
            && known.looked_up.elapsed() < ADDRESS_FRESH
        {
            return Some(known.address.clone());
        }
        let address = HeaderValue::try_from(replica.client_addr(leader)?).ok()?;
        let looked_up = Instant::now();
        *known = Some(LeaderHeader { leader, address: address.clone(), looked_up });
        Some(address)
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Service<S>;

    fn layer(&self, inner: S) -> Service<S> {
        Service { inner, around: Arc::clone(&self.0) }
    }
}

/// The services, wrapped.
#[derive(Clone)]
pub(crate) struct Service<S> {
    inner: S,
    around: Arc<Around>,
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
        let answer = self.inner.call(request);
        let around = Arc::clone(&self.around);
        Box::pin(async move {
            let mut answer = answer.await?;
            let headers = answer.headers_mut();
            explain(headers, around.context.limits.request_bytes_max);
            if let Some(address) = around.leader_address() {
                headers.insert(LEADER, address);
            }
            Ok(answer)
        })
    }
}

/// Puts the library's refusals into our words.
fn explain(headers: &mut HeaderMap, request_bytes_max: u64) {
    if headers.contains_key(OUTCOME) {
        return;
    }
    let Some(status) = Status::from_header_map(headers) else { return };
    let (code, reason, message) = match status.code() {
        Code::Ok => return,
        Code::OutOfRange => (
            Code::InvalidArgument,
            "REQUEST_TOO_LARGE",
            format!(
                "the request is larger than {request_bytes_max} bytes (limits.request_bytes_max); split it"
            ),
        ),
        // The library says so without a word; with one it means something else, as compression.
        Code::Unimplemented if status.message().is_empty() => (
            Code::Unimplemented,
            "UNIMPLEMENTED",
            "this version has no such method; compare the versions of client and server".to_owned(),
        ),
        code => (code, "MALFORMED", format!("the request can't be read: {}", status.message())),
    };
    let rewritten = Status::new(code, message);
    // Adding to headers fails only for metadata, and there is none.
    if rewritten.add_header(headers).is_ok() {
        headers.insert(OUTCOME, HeaderValue::from_static(super::status::NOT_APPLIED));
        headers.insert(REASON, HeaderValue::from_static(reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(status: Status) -> (Status, Option<String>) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        explain(&mut headers, 2048);
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
    fn our_own_failures_and_successes_are_left_alone() {
        let mut own = Status::out_of_range("the increment would overflow");
        own.metadata_mut().insert(OUTCOME, "not_applied".parse().unwrap());
        let (status, reason) = explained(own);
        assert_eq!((status.code(), reason), (Code::OutOfRange, None));
        let mut headers = HeaderMap::new();
        explain(&mut headers, 2048);
        assert!(headers.is_empty());
    }
}
