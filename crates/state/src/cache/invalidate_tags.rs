//! Ends all entries that have one of some tags, at once, however many they are.

use super::{check_tags, tags};
use crate::limits::{CACHE_INVALIDATE_TAGS_MAX, CACHE_TAGS_MAX};
use crate::scope::{Failure, Scope, at_most};
use crate::{CacheInvalidateTags, Event, Outcome, Rejection};

/// A number is noted for each tag; the rows of the entries go with the sweeps of the tags.
pub(crate) fn apply(
    scope: &mut Scope<'_>,
    namespace: &str,
    invalidate: &CacheInvalidateTags,
) -> Result<Outcome, Failure> {
    if invalidate.tags.is_empty() {
        return Err(Failure::Rejected(Rejection::Invalid(
            "no tag is named; name one or more".to_owned(),
        )));
    }
    let what = "tags to invalidate";
    let tags = check_tags(what, &invalidate.tags, CACHE_INVALIDATE_TAGS_MAX)?;
    let mut there = Vec::with_capacity(tags.len());
    for tag in &tags {
        there.push(tags::find(scope, namespace, tag)?);
    }
    // What nothing has, and nothing that is being built can come to have, need not be noted.
    if scope.cache.builds > 0 {
        let new = there.iter().filter(|row| row.is_none()).count() as u64;
        at_most("cache tags", scope.cache.tags + new, CACHE_TAGS_MAX)?;
    }
    let order = scope.cache.next_order();
    for (tag, row) in tags.iter().zip(there) {
        tags::invalidate(scope, namespace, tag, row, order);
    }
    let revision = scope.revision;
    let (namespace, tags) = (namespace.to_owned(), tags.into_iter().map(str::to_owned).collect());
    scope.events.push(Event::CacheTagsInvalidated { namespace, tags, revision });
    Ok(Outcome::CacheInvalidateTags { revision })
}
