//! Deletes the keys that are selected, a bounded number of them at a time.

use super::remove;
use super::walk::Walk;
use crate::limits::{DELETE_PATTERN_KEYS_MAX, KEY_BYTES_MAX};
use crate::scope::{Failure, Scope, within};
use crate::{DeleteCause, KvDeletePattern, Outcome, Rejection};
use std::ops::ControlFlow;

/// One step: atomic, and under one revision. An expired key is absent; its row is left to the
/// sweep.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    delete: &KvDeletePattern,
) -> Result<Outcome, Failure> {
    let selection = delete.selector.select()?;
    within("cursor bytes", delete.after.as_ref().map_or(0, |after| after.len()), KEY_BYTES_MAX)?;
    if delete.keys_max == 0 {
        return Err(Failure::Rejected(Rejection::Invalid(
            "the most keys to delete is 0; give 1 or more".to_owned(),
        )));
    }
    let asked = usize::try_from(delete.keys_max).unwrap_or(usize::MAX);
    // At least one, whatever the commands before it took, so that each step gets somewhere.
    let keys_max = asked.min(DELETE_PATTERN_KEYS_MAX).min(scope.allowance.keys).max(1);

    let walk = Walk {
        group: scope.group,
        namespace,
        selection: &selection,
        after: delete.after.as_deref(),
        lease_ms: scope.lease_ms(),
    };
    let mut found = Vec::new();
    let cursor = walk.run(&scope.txn, &mut scope.allowance.steps, |key, _, row| {
        if found.len() == keys_max {
            return ControlFlow::Break(());
        }
        found.push((key.to_vec(), row.deadline_ms, row.owner));
        ControlFlow::Continue(())
    })?;
    for (key, deadline_ms, owner) in &found {
        remove(scope, key, *deadline_ms, *owner, DeleteCause::Deleted);
    }
    scope.allowance.keys = scope.allowance.keys.saturating_sub(found.len());
    let deleted = found.len() as u64;
    Ok(Outcome::KvDeletePattern { deleted, cursor, revision: scope.revision })
}
