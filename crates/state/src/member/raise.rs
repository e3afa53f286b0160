//! Raises the feature level of the cluster.

use super::{all, conflict};
use crate::rows::MemberPlanRow;
use crate::scope::{Failure, Scope};
use crate::{FeatureLevelRaise, Outcome, Txn as _, codec, keys};

/// Whoever proposes it has asked all members. A node that was given its id meanwhile is none yet, and
/// nobody has asked it: it is judged here, where the order of the two is certain.
pub(crate) fn apply(scope: &mut Scope<'_>, raise: FeatureLevelRaise) -> Result<Outcome, Failure> {
    let FeatureLevelRaise { level } = raise;
    if level <= scope.level() {
        return Ok(Outcome::Done);
    }
    let members = all(&scope.txn, scope.group)?;
    let joins = |plan: &MemberPlanRow| matches!(plan, MemberPlanRow::Join { .. });
    if let Some((node, _)) = members.iter().find(|(_, row)| joins(&row.plan)) {
        return Err(conflict(format!(
            "node {node} is still joining, and nobody knows yet what it knows: feature level {level} \
             waits for it"
        )));
    }
    scope.levels.check(level)?;
    scope.levels.cluster = level;
    scope.txn.put(&keys::feature_level(scope.group), &codec::encode(&level));
    Ok(Outcome::Done)
}
