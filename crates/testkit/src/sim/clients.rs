//! What the clients of every run need: the time, and a way to the nodes.

use super::net::{Host, Reach, SimNet, Sockets};
use std::time::Duration;

/// Simulated time on the host that calls.
pub(super) fn now() -> Duration {
    turmoil::sim_elapsed().expect("clients run on hosts of the simulation")
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How clients reach nodes from a host.
pub(super) fn net(from: Host, reach: &Reach) -> SimNet {
    // The clients' processes never die.
    SimNet { from, reach: reach.clone(), sockets: Sockets::default() }
}
