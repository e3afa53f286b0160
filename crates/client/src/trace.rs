//! Trace context: in which span a call is made, and in which one a job was pushed or a message published.
//!
//! This client makes no spans of its own and knows no tracing library. It asks the program
//! ([`crate::Options::trace_context`]) in which span a call is made, and sends that along as W3C trace
//! context. Nodes that trace make their spans part of it; and jobs that are pushed and messages that are
//! published carry it as the headers `traceparent` and `tracestate`, unless they have those already, so that
//! a consumer can go on in the same trace ([`crate::Job::trace_context`],
//! [`crate::Message::trace_context`]). Those of transactions do not, and neither do jobs that are pushed
//! under an idempotency key of the caller's: pushed again in another span they would be other jobs.

use quorate_proto::v1::JobHeader;
use std::fmt;
use std::sync::Arc;

/// The header that names a span.
const TRACEPARENT: &str = "traceparent";
/// What tracing systems say to each other beside it.
const TRACESTATE: &str = "tracestate";
/// Headers of a job, and bytes of them together, that a node takes.
const JOB_HEADERS_MAX: usize = 64;
const JOB_HEADER_BYTES_MAX: usize = 8 << 10;

/// A span, as programs tell each other of it: see <https://www.w3.org/TR/trace-context/>.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`.
    pub traceparent: String,
    /// Empty: none.
    pub tracestate: String,
}

impl TraceContext {
    /// The span that a `traceparent` names.
    #[must_use]
    pub fn new(traceparent: impl Into<String>) -> Self {
        Self { traceparent: traceparent.into(), tracestate: String::new() }
    }

    /// The same with a `tracestate`.
    #[must_use]
    pub fn with_state(self, tracestate: impl Into<String>) -> Self {
        Self { tracestate: tracestate.into(), ..self }
    }

    /// What headers say, each of them asked for by its name.
    pub(crate) fn of<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let text = |name| header(name).and_then(|value| str::from_utf8(value).ok());
        let traceparent = text(TRACEPARENT).filter(|parent| !parent.is_empty())?;
        Some(Self::new(traceparent).with_state(text(TRACESTATE).unwrap_or_default()))
    }

    /// Adds it to the headers of a job, unless they have one already, or no room.
    pub(crate) fn add_to(&self, headers: &mut Vec<JobHeader>) {
        if self.traceparent.is_empty() || headers.iter().any(|header| header.name == TRACEPARENT) {
            return;
        }
        let said = [(TRACEPARENT, &self.traceparent), (TRACESTATE, &self.tracestate)];
        let said = said.into_iter().filter(|(_, value)| !value.is_empty());
        let added = said.map(|(name, value)| JobHeader {
            name: name.to_owned(),
            value: value.clone().into_bytes().into(),
        });
        let mut all = headers.clone();
        all.extend(added);
        let bytes: usize = all.iter().map(|header| header.name.len() + header.value.len()).sum();
        if all.len() <= JOB_HEADERS_MAX && bytes <= JOB_HEADER_BYTES_MAX {
            *headers = all;
        }
    }

    /// Puts it into the metadata of a call. What is no metadata is left out.
    pub(crate) fn put_into<M>(&self, request: &mut tonic::Request<M>) {
        let metadata = request.metadata_mut();
        for (name, value) in [(TRACEPARENT, &self.traceparent), (TRACESTATE, &self.tracestate)] {
            if let Ok(value) = value.parse()
                && !self.traceparent.is_empty()
            {
                metadata.insert(name, value);
            }
        }
    }
}

/// Says in which span a call is made.
#[derive(Clone, Default)]
pub(crate) struct Contexts(Option<Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>>);

impl Contexts {
    pub(crate) fn from_fn(f: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    /// The span of the call that is made now.
    pub(crate) fn now(&self) -> Option<TraceContext> {
        self.0.as_ref().and_then(|now| now())
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "(asked for)" } else { "(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_it_unless_it_has_one_or_no_room() {
        let context = TraceContext::new("00-1-2-01").with_state("a=b");
        let header = |name: &str, value: &str| JobHeader {
            name: name.to_owned(),
            value: value.to_owned().into_bytes().into(),
        };
        let added = |mut headers: Vec<JobHeader>| {
            context.add_to(&mut headers);
            headers
        };
        let both = [header("traceparent", "00-1-2-01"), header("tracestate", "a=b")];
        assert_eq!(added(Vec::new()), both);
        for kept in [
            vec![header("traceparent", "its own")],
            vec![header("x", "y"); 63],
            vec![header("x", &"y".repeat(8_180))],
        ] {
            assert_eq!(added(kept.clone()), kept);
        }
        assert_eq!(added(vec![header("x", "y"); 62]).len(), 64);
    }

    #[test]
    fn headers_say_it_and_metadata_too() {
        let context = TraceContext::new("00-1-2-01").with_state("a=b");
        let headers = [("traceparent", "00-1-2-01"), ("tracestate", "a=b")];
        let find = |name: &str| {
            headers.iter().find(|(of, _)| *of == name).map(|(_, value)| value.as_bytes())
        };
        assert_eq!(TraceContext::of(find), Some(context.clone()));
        assert_eq!(TraceContext::of(|name| find(name).filter(|_| name == "tracestate")), None);
        let mut request = tonic::Request::new(());
        context.put_into(&mut request);
        assert_eq!(request.metadata().get("traceparent").unwrap(), "00-1-2-01");
        assert_eq!(request.metadata().get("tracestate").unwrap(), "a=b");
        // A line break is no metadata, and stops no call.
        let mut request = tonic::Request::new(());
        TraceContext::new("00-1-2-01\n").put_into(&mut request);
        assert!(request.metadata().get("traceparent").is_none());
    }
}
