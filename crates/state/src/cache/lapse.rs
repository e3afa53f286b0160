//! Ends a build whose time ran out; the sweep calls it with the build's deadline gone already.

use super::{build, build_ended};
use crate::keys::{self, Key};
use crate::scope::Scope;
use crate::{BuildEnd, Fatal};

/// Whoever asks for the key next may build it.
pub(crate) fn apply(scope: &mut Scope<'_>, build_key: &[u8]) -> Result<(), Fatal> {
    let (Some(Key::CacheBuild { namespace, key }), Some(row)) =
        (keys::parse(scope.group, build_key), build(&scope.txn, build_key)?)
    else {
        return Err(Fatal::Invariant(format!("a deadline names the build {build_key:02x?}")));
    };
    build_ended(scope, namespace, key, &row, BuildEnd::Lapsed);
    Ok(())
}
