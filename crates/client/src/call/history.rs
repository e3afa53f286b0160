//! What the attempts of one call came to.

use super::Plan;
use crate::failure::{Cause, Failure};

/// Failures of different nodes that an error text names.
const NAMED_FAILURES_MAX: usize = 3;

/// The failed attempts of one call.
#[derive(Default)]
pub(super) struct History {
    /// Nodes that failed in this round.
    pub(super) tried: Vec<String>,
    pub(super) retries: u32,
    maybe_applied: bool,
    last: Option<Failure>,
    /// The newest text per node, the oldest node first.
    named: Vec<(String, String)>,
}

impl History {
    pub(super) fn push(&mut self, addr: String, failure: Failure) {
        self.maybe_applied |= failure.maybe_applied;
        self.named.retain(|(named, _)| *named != addr);
        self.named.push((addr.clone(), failure.message.clone()));
        if self.named.len() > NAMED_FAILURES_MAX {
            self.named.remove(0);
        }
        if !self.tried.contains(&addr) {
            self.tried.push(addr);
        }
        self.last = Some(failure);
    }

    /// The call ends with an answer that no retry would change. What the state machine remembers
    /// holds for all attempts; anything else says nothing about an earlier one of open fate.
    pub(super) fn refused(self, mut failure: Failure) -> Failure {
        if self.maybe_applied && !failure.is_remembered_rejection() && !failure.maybe_applied {
            failure.maybe_applied = true;
            failure.message =
                format!("{} (an earlier attempt may have had its effect)", failure.message);
        }
        failure
    }

    /// The call ends because its time is up.
    pub(super) fn gave_up(self, plan: &Plan) -> Failure {
        let Some(last) = self.last else { return Failure::deadline(plan.what) };
        let texts: Vec<_> = self.named.into_iter().map(|(_, text)| text).collect();
        let advice = if self.maybe_applied {
            "read the state before repeating it"
        } else {
            "check that a majority of the nodes is running and that the endpoints are right"
        };
        let message = format!(
            "{} got no answer in {} tries before its deadline: {}; {advice}",
            plan.what,
            self.retries,
            texts.join("; ")
        );
        // Not an answer any more: nobody knows how the next try would have ended.
        let cause = if last.cause == Cause::Answered { Cause::Deadline } else { last.cause };
        Failure { cause, message, maybe_applied: self.maybe_applied, version: None, ..last }
    }
}
