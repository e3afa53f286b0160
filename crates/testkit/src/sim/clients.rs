//! What the clients of every run need: the time, a way to the nodes, and a beginning of the end.

use super::cluster::addr;
use super::course::Course;
use super::journal::Journal;
use super::net::{CLIENT_PORT, Host, Reach, SimNet, Sockets};
use super::plan::Plan;
use super::planted::Planted;
use super::stage::Stage;
use quorate_client::{Client, Error, Options, Routing};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::time::Duration;

/// How long one call of the client may take that looks at what is left.
const WRITES: Duration = Duration::from_secs(1);
/// Between two of its attempts.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

/// A client host's process, as it were, with what those of a run share.
pub(super) struct Party<B> {
    pub(super) number: u64,
    pub(super) host: Host,
    pub(super) reach: Reach,
    pub(super) rng: StdRng,
    pub(super) books: Arc<B>,
    pub(super) planted: Planted,
}

impl<B> Party<B> {
    pub(super) fn new<S>(
        stage: &Stage<'_, S>,
        books: &Arc<B>,
        plan: &Plan,
        host: Host,
        number: u64,
    ) -> Self {
        Self {
            number,
            host,
            reach: stage.cluster.reach.clone(),
            rng: StdRng::seed_from_u64(plan.seeds.workload.wrapping_add(number)),
            books: Arc::clone(books),
            planted: plan.planted,
        }
    }
}

/// Simulated time on the host that calls.
pub(super) fn now() -> Duration {
    turmoil::sim_elapsed().expect("clients run on hosts of the simulation")
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Clients on a host: this node is their first one, and the only one if they learn of no other.
pub(super) fn options(from: Host, reach: &Reach, home: usize, routing: Routing) -> Options {
    let nodes = reach.nodes();
    let known = match routing {
        Routing::Endpoints => 1,
        _ => nodes.len(),
    };
    let home = home % nodes.len().max(1);
    let known = nodes.into_iter().cycle().skip(home).take(known);
    Client::builder()
        .endpoints(known.map(|host| addr(host, CLIENT_PORT)))
        .routing(routing)
        .dial(net(from, reach))
}

/// The client that looks at what is left, or makes what is to be there.
pub(super) fn auditor(from: Host, reach: &Reach, rng: &mut StdRng) -> Result<Client, Error> {
    options(from, reach, 0, Routing::default())
        .seed(rng.random())
        .request_timeout(WRITES)
        .attempt_timeout(ms(500))
        .connect()
}

/// Writes until that succeeds, and waits for the clients at work. Answers when it began.
pub(super) async fn recover(client: &Client, course: &Course, journal: &Journal) -> Duration {
    let began = now();
    while client.kv().set("audit", "here").await.is_err() {
        tokio::time::sleep(AGAIN).await;
    }
    let after = now().saturating_sub(began);
    journal.write(now(), format_args!("the auditor has written, after {after:?}"));
    course.recovered(after, now());
    while course.working() > 0 {
        tokio::time::sleep(AGAIN).await;
    }
    began
}

/// How clients reach nodes from a host.
pub(super) fn net(from: Host, reach: &Reach) -> SimNet {
    // The clients' processes never die.
    SimNet { from, reach: reach.clone(), sockets: Sockets::default() }
}
