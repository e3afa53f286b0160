//! Changes how many bytes the cache may have.

use crate::limits::{CACHE_BYTES_MAX, CACHE_BYTES_MIN};
use crate::scope::{Failure, Scope, at_most};
use crate::{CacheResize, Outcome, Rejection};

/// What is there stays, though it may be more than that: the leader evicts it.
pub(crate) fn apply(scope: &mut Scope<'_>, resize: CacheResize) -> Result<Outcome, Failure> {
    let CacheResize { bytes_max } = resize;
    if bytes_max < CACHE_BYTES_MIN {
        return Err(Failure::Rejected(Rejection::Invalid(format!(
            "the cache would have {bytes_max} bytes, the least is {CACHE_BYTES_MIN}"
        ))));
    }
    at_most("bytes of the cache", bytes_max, CACHE_BYTES_MAX)?;
    let bytes_max_before = scope.cache.bytes_max;
    scope.cache.bytes_max = bytes_max;
    Ok(Outcome::CacheResize { bytes_max_before })
}
