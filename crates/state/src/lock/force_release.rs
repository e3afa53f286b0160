//! Takes a lock from whoever holds it.

use super::{check_name, free, pass_on};
use crate::scope::{Failure, Scope};
use crate::{LockForceRelease, Outcome, keys};

/// Those who wait for it keep their places, and the first of them gets it.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    release: &LockForceRelease,
) -> Result<Outcome, Failure> {
    check_name(&release.name)?;
    let key = keys::lock(scope.group, namespace, &release.name);
    let tokens: Vec<_> = scope.locks.holders(&key).iter().map(|holder| holder.token).collect();
    for token in &tokens {
        free(scope, &key, *token)?;
    }
    pass_on(scope, &key)?;
    Ok(Outcome::LockRelease { released: tokens.len() as u64, revision: scope.revision })
}
