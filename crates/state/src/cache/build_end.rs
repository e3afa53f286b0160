//! Gives a build up.

use super::{check_key, end_build, find_build, is_over};
use crate::limits::CACHE_BUILD_ERROR_BYTES_MAX;
use crate::scope::{Failure, Scope};
use crate::{BuildEnd, CacheBuildEnd, Outcome};

/// One that has ended before is passed over.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    end: &CacheBuildEnd,
) -> Result<Outcome, Failure> {
    check_key(&end.key)?;
    let found = find_build(scope, namespace, &end.key)?;
    let Some(build) = found.filter(|row| row.lease == end.lease && !is_over(scope, row)) else {
        return Ok(Outcome::CacheBuildEnd { ended: false });
    };
    let why = match &end.error {
        Some(error) => BuildEnd::Failed(cut(error).to_owned()),
        None => BuildEnd::GivenUp,
    };
    end_build(scope, namespace, &end.key, &build, why);
    Ok(Outcome::CacheBuildEnd { ended: true })
}

/// The beginning of a text, whole characters of it.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(CACHE_BUILD_ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
