//! Brokers inside the process of a test, in memory, whose time can be advanced: [`TestBroker`], and
//! [`TestCluster`] with failures.
//!
//! Each node has a thread and a runtime of its own. So it runs whatever the test's own runtime does, and
//! can be killed at any point, as a process. Dropping what was started ends the threads before it
//! returns.
//!
//! Deliberately absent: sockets, files, TLS and who may do what. For those there is
//! [`ProcessCluster`](crate::process::ProcessCluster).

mod broker;
mod clock;
mod cluster;
mod net;
mod node;
mod time;

#[cfg(test)]
mod broker_tests;
#[cfg(test)]
mod cluster_tests;

pub use broker::TestBroker;
pub use cluster::TestCluster;
pub use time::Time;

use clock::TestClock;
use net::Net;
use quorate_client::{Client, Options};
use quorate_state::limits::SESSION_TTL_MS_MAX;
use std::time::Duration;

/// How long time that is advanced may take to pass. Far more than it should, because a loaded machine is
/// no reason to fail.
const ADVANCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Lets time pass; false when that took too long.
async fn advance(clock: &TestClock, by: Duration) -> bool {
    tokio::time::timeout(ADVANCE_TIMEOUT, clock.advance(by)).await.is_ok()
}

/// How clients connect: with sessions that no advanced time ends by surprise.
fn options(endpoints: impl IntoIterator<Item = String>, net: &Net) -> Options {
    Client::builder()
        .endpoints(endpoints)
        .session_ttl(Duration::from_millis(SESSION_TTL_MS_MAX))
        .dial(net.clone())
}
