//! One caller: what he has under way, and what he has taken lately.

use super::bucket::Bucket;
use super::{CallerLimits, Limit, Limited};
use crate::metrics::Counters;
use crate::seldom::Seldom;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What all callers of a node have in common.
pub(super) struct Shared {
    pub(super) limits: CallerLimits,
    /// When the clock of the rates began.
    pub(super) began: Instant,
    pub(super) counters: Arc<Counters>,
    pub(super) seldom: Seldom,
}

impl Shared {
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A caller.
pub(crate) struct Caller {
    /// For people, never a secret.
    name: Arc<str>,
    shared: Arc<Shared>,
    connections: AtomicU64,
    in_flight: AtomicU64,
    streams: AtomicU64,
    requests: Bucket,
    bytes: Bucket,
}

/// Takes a place, if there is one.
fn enter(places: &AtomicU64, max: u64) -> bool {
    let taken = places.fetch_add(1, Ordering::Relaxed);
    let there_is = max == 0 || taken < max;
    if !there_is {
        leave(places, 1);
    }
    there_is
}

fn leave(places: &AtomicU64, count: u64) {
    places.fetch_sub(count, Ordering::Relaxed);
}

impl Caller {
    pub(super) fn new(name: Arc<str>, shared: Arc<Shared>) -> Self {
        Self {
            name,
            connections: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            requests: Bucket::new(shared.limits.requests_per_second),
            bytes: Bucket::new(shared.limits.request_bytes_per_second),
            shared,
        }
    }

    /// Whether nothing is lost when he is forgotten.
    pub(super) fn is_at_rest(&self, now_ns: u64) -> bool {
        self.requests.is_full(now_ns) && self.bytes.is_full(now_ns)
    }

    /// Another connection of his.
    pub(super) fn arrives(self: &Arc<Self>) -> Result<Arc<Present>, Limited> {
        if !enter(&self.connections, self.shared.limits.connections_max) {
            return Err(self.limited(Limit::Connections, None));
        }
        Ok(Arc::new(Present(Arc::clone(self))))
    }

    /// A call of his: it has a place until the permit is dropped.
    pub(crate) fn begin(self: &Arc<Self>, streams: bool) -> Result<Permit, Limited> {
        self.may_send()?;
        let limits = &self.shared.limits;
        let (places, max, limit) = if streams {
            (&self.streams, limits.streams_max, Limit::Streams)
        } else {
            (&self.in_flight, limits.in_flight_max, Limit::InFlight)
        };
        if !enter(places, max) {
            return Err(self.limited(limit, None));
        }
        let permit = Permit { caller: Arc::clone(self), streams };
        self.count_request()?;
        Ok(permit)
    }

    /// Bytes of a request of his came.
    pub(super) fn received(&self, bytes: u64) {
        if self.bytes.is_bound() {
            self.bytes.charge(self.shared.now_ns(), bytes);
        }
    }

    /// Whether he has not sent too much lately.
    fn may_send(&self) -> Result<(), Limited> {
        if !self.bytes.is_bound() {
            return Ok(());
        }
        let wait = self.bytes.has_any(self.shared.now_ns());
        wait.map_err(|wait| self.limited(Limit::RequestBytes, Some(wait)))
    }

    fn count_request(&self) -> Result<(), Limited> {
        if !self.requests.is_bound() {
            return Ok(());
        }
        let wait = self.requests.take(self.shared.now_ns(), 1);
        wait.map_err(|wait| self.limited(Limit::Requests, Some(wait)))
    }

    fn limited(&self, limit: Limit, wait: Option<Duration>) -> Limited {
        self.shared.counters.callers.count(limit);
        let max = limit.max(&self.shared.limits);
        if let Some(untold) = self.shared.seldom.turn() {
            let (who, limit) = (&*self.name, limit.word());
            tracing::info!(
                who,
                limit,
                max,
                untold,
                "refused: the caller has as much as he may have"
            );
        }
        Limited { limit, max, who: self.name.to_string(), wait }
    }
}

/// A connection of a caller.
pub(crate) struct Present(Arc<Caller>);

impl Present {
    /// Whose it is.
    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.0
    }

    /// Whether it is of the caller of this name.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        &*self.0.name == name
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        leave(&self.0.connections, 1);
    }
}

/// The place of a call.
pub(crate) struct Permit {
    caller: Arc<Caller>,
    streams: bool,
}

impl Permit {
    /// Whose call it is.
    pub(crate) fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        leave(if self.streams { &self.caller.streams } else { &self.caller.in_flight }, 1);
    }
}

/// The places of the calls in one pipeline, which are in flight like any others.
pub(crate) struct Share {
    caller: Arc<Caller>,
    held: u64,
}

impl Share {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self { caller, held: 0 }
    }

    /// One more call, of so many bytes.
    pub(crate) fn begin(&mut self, bytes: impl FnOnce() -> usize) -> Result<(), Limited> {
        let caller = &self.caller;
        caller.may_send()?;
        if !enter(&caller.in_flight, caller.shared.limits.in_flight_max) {
            return Err(caller.limited(Limit::InFlight, None));
        }
        self.held += 1;
        caller.count_request()?;
        if caller.bytes.is_bound() {
            caller.received(bytes() as u64);
        }
        Ok(())
    }

    /// So many are unanswered now.
    pub(crate) fn settle(&mut self, unanswered: usize) {
        let unanswered = unanswered as u64;
        if unanswered > self.held {
            self.caller.in_flight.fetch_add(unanswered - self.held, Ordering::Relaxed);
        } else {
            leave(&self.caller.in_flight, self.held - unanswered);
        }
        self.held = unanswered;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle(0);
    }
}
