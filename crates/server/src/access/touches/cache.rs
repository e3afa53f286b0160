//! What requests about the cache touch. A tag is a name as a key is.

use super::{Action, See, Service, Touch, Touches, What, named, selected, wide};
use quorate_proto::v1;

named! { Cache:
    CacheGetRequest => Read key,
    CacheDeleteRequest => Write key,
    CacheTouchRequest => Write key,
    CacheEndBuildRequest => Write key,
}

wide! { Cache:
    CacheDeletePatternRequest => Write |asked| selected(asked.selector.as_ref()),
    CacheStatsRequest => Read |_asked| What::Some,
    CacheResizeRequest => Admin |_asked| What::All,
    // It tells of all keys.
    CacheInvalidationsRequest => Read |_asked| What::All,
}

/// An entry that is written under tags: whoever invalidates one of those ends it.
pub(super) fn set(
    namespace: &str,
    key: &[u8],
    policy: Option<&v1::CachePolicy>,
    see: &mut See<'_>,
) {
    let mut one = |name| {
        let (service, action) = (Service::Cache, Action::Write);
        see(Touch { service, action, namespace, what: What::Name(name) });
    };
    one(key);
    for tag in policy.map(|policy| &policy.tags[..]).unwrap_or_default() {
        one(tag.as_bytes());
    }
}

impl Touches for v1::CacheSetRequest {
    fn touches(&self, see: &mut See<'_>) {
        set(&self.namespace, &self.key, self.policy.as_ref(), see);
    }
}

impl Touches for v1::CacheFillRequest {
    fn touches(&self, see: &mut See<'_>) {
        set(&self.namespace, &self.key, self.policy.as_ref(), see);
    }
}

impl Touches for v1::CacheInvalidateTagsRequest {
    fn touches(&self, see: &mut See<'_>) {
        for tag in &self.tags {
            set(&self.namespace, tag.as_bytes(), None, see);
        }
    }
}

impl Touches for v1::CacheGetOrBuildRequest {
    fn touches(&self, see: &mut See<'_>) {
        for action in [Action::Read, Action::Write] {
            let (service, what) = (Service::Cache, What::Name(&self.key));
            see(Touch { service, action, namespace: &self.namespace, what });
        }
    }
}
