//! A broker of one node.

use super::clock::TestClock;
use super::net::Net;
use super::node::{Host, client_addr};
use super::{ADVANCE_TIMEOUT, advance, options};
use quorate_client::{Client, Options};
use quorate_consensus::Timing;
use quorate_state::NodeId;
use std::time::Duration;

/// The one node.
const NODE: NodeId = NodeId(1);
/// There is nobody whose heartbeats could be late, so its first election need not wait for any.
const TIMING: Timing =
    Timing { heartbeat_ms: 20, election_timeout_min_ms: 40, election_timeout_max_ms: 60 };

/// A broker in this process and in memory, for a test of its own: the whole state machine behind the
/// real services and an ordinary [`Client`]. It opens no socket and no file, and is gone when it is
/// dropped.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), quorate_client::Error> {
/// use quorate_testkit::{TestBroker, Time as _};
///
/// let broker = TestBroker::start().await;
/// let client = broker.client();
/// client.kv().set("greeting", "hello").ttl(30.s()).await?;
/// broker.advance(30.s()).await;
/// assert!(client.kv().get("greeting").await?.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Time
/// It runs by itself, as real time, and [`TestBroker::advance`] lets more of it pass at once. That is the
/// broker's time alone: ttls, leases, delays and schedules. What clients do by themselves (request
/// timeouts, when they renew a lock, what is in a near cache) follows their own clocks, which nobody
/// advances.
///
/// Clients of [`TestBroker::client`] have sessions of an hour, the longest there are, so that what they
/// hold ends by its own lease, and not by surprise because its owner's session has ended. To see a
/// session end, give a client a short one: `broker.options().session_ttl(5.s())`.
pub struct TestBroker {
    net: Net,
    clock: TestClock,
    _node: Host,
}

impl TestBroker {
    /// Starts it; it serves when this returns.
    ///
    /// # Panics
    /// When the system has no thread for it.
    pub async fn start() -> Self {
        let (net, clock) = (Net::default(), TestClock::default());
        let mut node = Host::new(NODE, 1, clock.clone(), net.clone(), TIMING);
        let started = match node.spawn() {
            Ok(starting) => node.started(starting).await,
            Err(error) => Err(error),
        };
        started.unwrap_or_else(|error| panic!("the broker does not start: {error:#}"));
        Self { net, clock, _node: node }
    }

    /// A client of its own, with a session of its own: as another process would have one.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        self.options().connect().expect("these options are good")
    }

    /// How its clients connect, for one that is to differ: another namespace, session or timeout.
    pub fn options(&self) -> Options {
        options([client_addr(NODE)], &self.net)
    }

    /// Lets this much time pass at once. When it returns, all that fell due on the way is dealt with, in
    /// its order: keys and locks that have run out are gone, locks went on to who waited for them, jobs
    /// are ready again, schedules have pushed theirs. What clients hear of it (an event of a watch, a
    /// lock that they waited for) is on its way to them.
    ///
    /// A lock that its holder still renews is lost all the same when its ttl passes at once, as if the
    /// holder had been stopped for so long; the guard is told when it renews next. To advance in steps
    /// that are shorter than the ttl does not help: renewals take real time.
    ///
    /// # Panics
    /// When that takes longer than 30 s of real time.
    pub async fn advance(&self, by: Duration) {
        let passed = advance(&self.clock, by).await;
        assert!(passed, "{by:?} did not pass within {ADVANCE_TIMEOUT:?}: the broker has stopped");
    }
}
