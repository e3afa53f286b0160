//! What one caller may take of a node, and how long a request may take to arrive.
//!
//! A caller is a token, a certificate's subject or the node's admin token; where nobody is asked who he is,
//! it is the address that his connections come from. The bounds are of this node: whoever connects to
//! three has three times as much.
//!
//! ```text
//!  accepted ──► Callers::arrived (address) ─┐
//!  first call ─► Callers::enter (name) ─────┴─► Present: a connection of this caller
//!  each call ──► Caller::begin ──► Permit: in flight, or a stream, until its answer is sent
//!  each call of a pipeline ──► Share: all of the stream's together
//! ```

mod bucket;
mod caller;
mod callers;
mod inbound;

pub(crate) use caller::{Caller, Permit, Present, Share};
pub(crate) use callers::Callers;
pub(crate) use inbound::Inbound;

use crate::grpc::not_applied;
use crate::metrics::Counter;
use std::time::Duration;
use tonic::{Code, Status};

/// How long a request may take to arrive, unless it is said otherwise.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// What one caller may have of a node; 0: as much as he likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// Connections at once.
    pub connections_max: u64,
    /// Requests at once that are not answered yet, those in pipelines included.
    pub in_flight_max: u64,
    /// Calls at once whose answers are a stream.
    pub streams_max: u64,
    /// Requests a second, those in pipelines included; a second's worth may come at once.
    pub requests_per_second: u64,
    /// Bytes of requests a second, likewise.
    pub request_bytes_per_second: u64,
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self {
            connections_max: 0,
            in_flight_max: 100_000,
            streams_max: 0,
            requests_per_second: 0,
            request_bytes_per_second: 0,
        }
    }
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Connections,
    InFlight,
    Streams,
    Requests,
    RequestBytes,
}

impl Limit {
    const ALL: [Self; 5] =
        [Self::Connections, Self::InFlight, Self::Streams, Self::Requests, Self::RequestBytes];

    /// As metrics and the log call it.
    fn word(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::InFlight => "in_flight",
            Self::Streams => "streams",
            Self::Requests => "requests",
            Self::RequestBytes => "request_bytes",
        }
    }

    fn max(self, limits: &CallerLimits) -> u64 {
        match self {
            Self::Connections => limits.connections_max,
            Self::InFlight => limits.in_flight_max,
            Self::Streams => limits.streams_max,
            Self::Requests => limits.requests_per_second,
            Self::RequestBytes => limits.request_bytes_per_second,
        }
    }
}

/// A caller was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limited {
    limit: Limit,
    max: u64,
    who: String,
    /// When it may be tried again, if that is known.
    wait: Option<Duration>,
}

impl From<Limited> for Status {
    fn from(Limited { limit, max, who, wait }: Limited) -> Self {
        let (what, setting, advice) = match limit {
            Limit::Connections => {
                ("connections", "connections_max", "share connections, or close some")
            }
            Limit::InFlight => (
                "requests under way",
                "in_flight_max",
                "wait for answers before more is asked, or repeat it a little later",
            ),
            Limit::Streams => ("streams", "streams_max", "end those that are not needed"),
            Limit::Requests => ("requests a second", "requests_per_second", "ask more slowly"),
            Limit::RequestBytes => (
                "bytes of requests a second",
                "request_bytes_per_second",
                "send less, or more slowly",
            ),
        };
        // Rounded up, so that whoever waits for so long has waited long enough.
        let wait = wait.map_or_else(String::new, |wait| {
            format!("; the next is taken in {} ms", wait.as_millis().saturating_add(1))
        });
        let message = format!(
            "{who} may have {max} {what} at this node (limits.per_caller.{setting}): {advice}{wait}"
        );
        not_applied(Code::ResourceExhausted, "CALLER_LIMIT", message)
    }
}

/// How often callers were refused, and requests given up that did not arrive.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_limit: [Counter; Limit::ALL.len()],
    /// Requests that were not complete in time.
    pub(crate) incomplete: Counter,
}

impl Refusals {
    fn count(&self, limit: Limit) {
        self.by_limit[limit as usize].count();
    }

    /// How often each limit was met.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Limit::ALL.iter().zip(&self.by_limit).map(|(limit, count)| (limit.word(), count.get()))
    }
}
