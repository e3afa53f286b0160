//! What stands around every call: it is known whose it is, it is counted, the answer names the leader, and a request that the
//! gRPC library itself refuses (too large, malformed, no such method) is refused in our words.
//!
//! Our own services attach an outcome to each of their failures, so a failed answer without one was
//! made by the library, before any service saw the request.

use super::status::{NOT_APPLIED, not_applied};
use super::{Context, Refused, caller, descriptors};
use crate::access::guard::{Guard, Guarded};
use crate::access::{Access, Denied, Grant, Shown, audit};
use crate::connections::ConnectionState;
use crate::limits::{Caller, Inbound, Limited, Permit, Present};
use crate::metrics::{Begun, Method, Outcome, Requests};
use crate::trace::Parent;
use http::{HeaderMap, Request, Response};
use quorate_consensus::Origin;
use quorate_proto::inspect::inspected;
use quorate_proto::metadata::{LEADER, OUTCOME};
use quorate_state::limits::Limits;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Code, Status};

/// How long a node that does not know a token waits until it has applied what was acknowledged before.
const CATCH_UP: Duration = Duration::from_secs(1);

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

/// All services, wrapped, for callers in this process.
pub(crate) type Judged = Service<Routes>;

impl Judged {
    pub(crate) fn new(context: &Context, routes: Routes) -> Self {
        Self { inner: routes, context: context.clone() }
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
    S: tower::Service<Request<Inbound<Q>>, Response = Response<A>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    Q: Send + 'static,
    A: Default + Send + 'static,
{
    type Response = Response<Guarded<A>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let context = self.context.clone();
        let requests = &context.counters.requests;
        let method = method(request.uri().path(), requests);
        let call = requests.begun(method, Instant::now(), || Parent::of(request.headers()));
        let connection = request.extensions().get::<Arc<ConnectionState>>();
        let origin = connection.map(|connection| connection.origin(&context.replica));
        let origin = caller::traced(origin, &call, &context);
        let is_open = is_open(request.uri().path());
        if context.access.is_none() || is_open {
            // Probes are answered whatever else their caller does.
            let present = connection.filter(|_| !is_open).and_then(|own| own.present());
            let (request, permit) = match begin(request, present, &context) {
                Ok(begun) => begun,
                Err(limited) => {
                    let refused = refuse(limited.into(), &context, call);
                    return Box::pin(std::future::ready(Ok(refused)));
                }
            };
            let answer = self.inner.call(request);
            return Box::pin(async move {
                let mut answer = caller::on_behalf(origin, answer).await?;
                finish(answer.headers_mut(), &context, call);
                Ok(answer.map(|body| Guarded::free(body).holding(permit)))
            });
        }
        // The one that was asked whether it is ready takes the call; its copy stays.
        let copy = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, copy);
        Box::pin(guarded(inner, request, context, origin, call))
    }
}

/// Makes a call for a caller who is known, and only as far as he may make it.
async fn guarded<S, Q, A>(
    mut inner: S,
    request: Request<Q>,
    context: Context,
    origin: Option<Origin>,
    mut call: Begun,
) -> Result<Response<Guarded<A>>, S::Error>
where
    S: tower::Service<Request<Inbound<Q>>, Response = Response<A>>,
    A: Default,
{
    let connection = request.extensions().get::<Arc<ConnectionState>>().cloned();
    let shown = Shown::of(request.headers(), connection.as_deref());
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let access = context.access.clone().expect("only called with it");
    let guard = match admit(&context, &access, connection.as_deref(), &shown).await {
        Ok(grant) => {
            let denials = Arc::clone(&context.denials);
            Arc::new(Guard::new(access, shown, grant, &name, denials))
        }
        Err(denied) => {
            context.denials.tell("somebody", &name, &denied);
            return Ok(refuse(Refused::from(denied).into(), &context, call));
        }
    };
    let present =
        connection.as_ref().map(|own| own.present_as(&guard.grant().name, &context.callers));
    let begun = present.transpose().and_then(|present| begin(request, present, &context));
    let (mut request, permit) = match begun {
        Ok(begun) => begun,
        Err(limited) => return Ok(refuse(limited.into(), &context, call)),
    };
    request.extensions_mut().insert(Arc::clone(&guard));
    call.of_caller(|| guard.grant().name.clone());
    let answering = inspected(guard.inspector(), inner.call(request));
    let mut answer = caller::on_behalf(origin, answering).await?;
    finish(answer.headers_mut(), &context, call);
    if let Some((grant, what)) = guard.administered() {
        let outcome = outcome(answer.headers());
        let word =
            Outcome::ALL.iter().find(|(one, _)| *one == outcome).map_or("", |(_, word)| word);
        audit::done(&grant.name, &name, &what, word);
    }
    Ok(match descriptors::streams(&name).answers {
        true => answer.map(|body| Guarded::while_allowed(body, guard).holding(permit)),
        false => answer.map(|body| Guarded::free(body).holding(permit)),
    })
}

/// Gives a call its place among those of its caller, and its body a time to come in.
fn begin<Q>(
    request: Request<Q>,
    present: Option<Arc<Present>>,
    context: &Context,
) -> Result<(Request<Inbound<Q>>, Option<Permit>), Limited> {
    let streams = descriptors::streams(request.uri().path().trim_start_matches('/'));
    let permit = present.map(|present| present.caller().begin(streams.answers)).transpose()?;
    let caller = permit.as_ref().map(|permit| Arc::clone(permit.caller()));
    // In a pipeline those calls are counted that are taken, and with them their bytes.
    let (counted, of_pipeline) = match streams.requests && streams.answers {
        true => (None, caller),
        false => (caller, None),
    };
    let (patience, counters) = (context.message_timeout, Arc::clone(&context.counters));
    let inbound = |body| Inbound::new(body, !streams.requests, patience, counted, counters);
    let mut request = request.map(inbound);
    if let Some(caller) = of_pipeline {
        request.extensions_mut().insert::<Arc<Caller>>(caller);
    }
    Ok((request, permit))
}

/// The answer to a call that no service sees.
fn refuse<A: Default>(status: Status, context: &Context, call: Begun) -> Response<Guarded<A>> {
    let mut answer = status.into_http();
    finish(answer.headers_mut(), context, call);
    answer.map(Guarded::free)
}

/// Who it is: as it was found out for the call before on this connection, if that holds.
pub(super) async fn admit(
    context: &Context,
    access: &Access,
    connection: Option<&ConnectionState>,
    shown: &Shown,
) -> Result<Arc<Grant>, Denied> {
    if let Some(grant) = connection.and_then(|connection| connection.admitted(shown))
        && access.holds(&grant)
    {
        return Ok(grant);
    }
    let grant = match access.admit(shown) {
        // It may have been made a moment ago, on another node.
        Err(Denied::Unknown(_)) if shown.may_be_a_token() => {
            let caught_up = context.replica.read(CATCH_UP).await;
            caught_up.map_err(|failure| {
                Denied::Unable(format!(
                    "this node does not know the token, and can't find out whether others do: {failure}"
                ))
            })?;
            access.admit(shown)?
        }
        admitted => admitted?,
    };
    if let Some(connection) = connection {
        connection.admit(shown.clone(), Arc::clone(&grant));
    }
    Ok(grant)
}

/// Whether whoever can connect may make a call: probes, and nodes that join, which have a token of their
/// own kind.
fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/") || path == "/quorate.v1.ClusterService/Join"
}

/// What each answer is given on its way.
fn finish(headers: &mut HeaderMap, context: &Context, call: Begun) {
    explain(headers, &context.limits);
    context.counters.requests.answered(call, outcome(headers));
    if let Some(address) = context.leader.header(&context.replica) {
        headers.insert(LEADER, address);
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
