//! The leader's client address, as answers name it.

use http::HeaderValue;
use quorate_consensus::Replica;
use quorate_state::NodeId;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a leader's address is taken for what it published last. Looking it up reads the state,
/// which would cost each answer more than the rest of the header.
const ADDRESS_FRESH: Duration = Duration::from_millis(500);

/// The address as it was looked up last.
#[derive(Default)]
pub(super) struct LeaderAddress(Mutex<Option<Known>>);

struct Known {
    leader: NodeId,
    header: HeaderValue,
    looked_up: Instant,
}

impl LeaderAddress {
    /// As a header; none while this node knows no leader.
    pub(super) fn header(&self, replica: &Replica) -> Option<HeaderValue> {
        let leader = replica.leader()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref()
            && known.leader == leader
            && known.looked_up.elapsed() < ADDRESS_FRESH
        {
            return Some(known.header.clone());
        }
        let header = HeaderValue::try_from(replica.client_addr(leader)?).ok()?;
        *known = Some(Known { leader, header: header.clone(), looked_up: Instant::now() });
        Some(header)
    }

    /// As text.
    pub(super) fn text(&self, replica: &Replica) -> Option<String> {
        self.header(replica)?.to_str().ok().map(str::to_owned)
    }
}
