//! What requests about keys touch.

use super::{Action, See, Service, Touch, Touches, What, named, selected, wide};
use quorate_proto::v1;

named! { Kv:
    GetRequest => Read key,
    SetRequest => Write key,
    DeleteRequest => Write key,
    IncrementRequest => Write key,
    IncrementFloatRequest => Write key,
}

wide! { Kv:
    DeletePatternRequest => Write |asked| selected(asked.selector.as_ref()),
    ListRequest => Read |asked| selected(asked.selector.as_ref()),
}

impl Touches for v1::WatchRequest {
    fn touches(&self, see: &mut See<'_>) {
        let mut one = |what: What<'_>| {
            see(Touch {
                service: Service::Kv,
                action: Action::Read,
                namespace: &self.namespace,
                what,
            });
        };
        for selector in &self.selectors {
            one(selected(Some(selector)));
        }
        // Without any it would be all, or nothing; its service knows.
        if self.selectors.is_empty() {
            one(What::All);
        }
    }
}
