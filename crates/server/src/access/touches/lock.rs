//! What requests about locks touch.

use super::{What, named, selected, wide};

named! { Lock:
    LockAcquireRequest => Write name,
    LockRenewRequest => Write name,
    LockReleaseRequest => Write name,
    LockForceReleaseRequest => Admin name,
    LockInspectRequest => Read name,
    LockWatchRequest => Read name,
}

wide! { Lock:
    LockListRequest => Read |asked| selected(asked.selector.as_ref()),
    // It names the request that it takes back by its session.
    LockCancelRequest => Write |_asked| What::Some,
}
