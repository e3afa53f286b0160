//! What a node says in the log of its own accord: that calls which waited or consumed here are over.
//! It is said until it is known to be applied, because something may be kept for them meanwhile.

use super::Context;
use quorate_consensus::{Committed, Failure};
use quorate_state::{Caller, Command, Envelope};
use std::time::Duration;

/// How long one attempt may take.
pub(super) const SAY: Duration = Duration::from_secs(5);
/// How long it is tried. Later this node is taken for unreachable, or has no quorum, and then nothing
/// is granted or delivered either.
const SAY_UNTIL: Duration = Duration::from_secs(60);
/// How long it is tried once the node stops, which waits for it: where the others stop at the same
/// time it would be in vain.
const SAY_WHILE_STOPPING: Duration = Duration::from_secs(2);
/// Between two attempts.
pub(super) const SAY_AGAIN: Duration = Duration::from_millis(100);

/// Says it until it is applied, as long as that makes sense.
pub(super) async fn until_applied(context: &Context, command: Command) {
    let said = find(context, own(command)).await;
    if said.is_none() {
        tracing::debug!("what was to be said of a call that is over was not applied in time");
    }
}

/// What became of a command whose fate is open: sent again, it has the same answer. None when that
/// is not known in time.
pub(super) async fn find(context: &Context, envelope: Envelope) -> Option<Committed> {
    let found = async {
        loop {
            match context.proposed(envelope.clone(), SAY).await {
                Ok(committed) => return committed,
                Err(failure) => pause(&failure).await,
            }
        }
    };
    let stopped = async {
        context.stop.cancelled().await;
        tokio::time::sleep(SAY_WHILE_STOPPING).await;
    };
    tokio::select! {
        found = tokio::time::timeout(SAY_UNTIL, found) => found.ok(),
        () = stopped => None,
    }
}

async fn pause(failure: &Failure) {
    tracing::debug!(%failure, "a call that is over could not be told of; trying again");
    tokio::time::sleep(SAY_AGAIN).await;
}

/// A command of this node's own.
pub(super) fn own(command: Command) -> Envelope {
    Envelope { namespace: String::new(), caller: Caller::Anonymous, guard: None, command }
}
