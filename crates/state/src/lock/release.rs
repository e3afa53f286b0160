//! Gives a lock back.

use super::{check_name, free, pass_on};
use crate::scope::{Failure, Scope};
use crate::{LockRelease, Outcome, keys};

/// Releasing what is not held is no error: it may have run out, or the caller repeats itself.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    release: &LockRelease,
) -> Result<Outcome, Failure> {
    check_name(&release.name)?;
    let key = keys::lock(scope.group, namespace, &release.name);
    let released = u64::from(free(scope, &key, release.token)?);
    pass_on(scope, &key)?;
    Ok(Outcome::LockRelease { released, revision: scope.revision })
}
