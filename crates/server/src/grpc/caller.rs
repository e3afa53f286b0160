//! Whose call is being worked on: the connection with whose other commands it has turns.
//!
//! It is known to the task that works on a call from the moment the call arrives. What goes on in a
//! task of its own, or in a stream after its call was answered, takes it along in its `Context`
//! ([`Context::of_caller`]).

use super::Context;
use crate::metrics::Begun;
use quorate_consensus::{Committed, Failure, Origin};
use quorate_state::Envelope;
use std::future::Future;
use std::time::Duration;

tokio::task_local! {
    static CALLER: Origin;
}

/// Works on a call of this connection, if it came on one.
pub(super) async fn on_behalf<F: Future>(origin: Option<Origin>, call: F) -> F::Output {
    match origin {
        Some(origin) => CALLER.scope(origin, call).await,
        None => call.await,
    }
}

/// Whose commands a call's are, if it is to be known of them how long they were where.
pub(super) fn traced(origin: Option<Origin>, call: &Begun, context: &Context) -> Option<Origin> {
    match call.trace() {
        None => origin,
        trace => Some(origin.unwrap_or_else(|| context.replica.origin()).traced(trace)),
    }
}

impl Context {
    /// For a call of a pipeline, which is worked on beside others.
    pub(super) fn of_call(&self, call: &Begun) -> Self {
        Self { origin: traced(self.origin.clone(), call, self), ..self.clone() }
    }

    /// For what goes on beside, or after, the call that is worked on.
    pub(super) fn of_caller(&self) -> Self {
        // It outlives the call, so its commands are not those of the call.
        Self { origin: self.caller().map(|caller| caller.traced(None)), ..self.clone() }
    }

    /// Whose call is worked on; none: it is the node's own work.
    fn caller(&self) -> Option<Origin> {
        self.origin.clone().or_else(|| CALLER.try_with(Clone::clone).ok())
    }

    /// The origin of commands of the call that is worked on; a new one if nobody knows.
    pub(super) fn origin(&self) -> Origin {
        self.caller().unwrap_or_else(|| self.replica.origin())
    }

    /// Proposes a command for the call that is worked on; see `Replica::propose_of`.
    pub(super) async fn proposed(
        &self,
        envelope: Envelope,
        timeout: Duration,
    ) -> Result<Committed, Failure> {
        match self.caller() {
            Some(origin) => self.replica.propose_of(&origin, envelope, timeout).await,
            None => self.replica.propose(envelope, timeout).await,
        }
    }
}
