//! Says that nobody consumes on a node any more.

use super::detach;
use crate::limits::CONSUMER_DETACH_PER_ENTRY_MAX;
use crate::scope::{Failure, Scope};
use crate::{ConsumerDetachNode, ConsumerId, Outcome};

/// What was given to them stays leased: it may have been delivered, which nobody here knows.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    detach: &ConsumerDetachNode,
) -> Result<Outcome, Failure> {
    let there = scope.queues.consumers.iter().filter(|(_, of)| {
        of.row.attachment.is_some_and(|attachment| attachment.node == detach.node)
            && !of.row.wants.is_over()
    });
    let mut there: Vec<ConsumerId> =
        there.map(|(id, _)| *id).take(CONSUMER_DETACH_PER_ENTRY_MAX + 1).collect();
    let more = there.len() > CONSUMER_DETACH_PER_ENTRY_MAX;
    there.truncate(CONSUMER_DETACH_PER_ENTRY_MAX);
    for id in there {
        detach::leave(scope, id)?;
    }
    Ok(Outcome::ConsumerDetachNode { more })
}
