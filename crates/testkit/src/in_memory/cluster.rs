//! A cluster, and what goes wrong in one.

use super::clock::TestClock;
use super::net::Net;
use super::node::{Host, client_addr, peer_addr};
use super::{ADVANCE_TIMEOUT, advance, options};
use anyhow::{Context as _, Result, bail};
use quorate_client::{Client, Options};
use quorate_consensus::{Role, Timing};
use quorate_state::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long anything that is waited for may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often nodes are looked at while something is waited for.
const POLL: Duration = Duration::from_millis(5);
/// More nodes than that help no test.
const NODES_MAX: u64 = 9;

/// A cluster in this process and in memory, whose nodes can be killed, started again and cut off from
/// each other. Its clients reach all nodes that run, whatever is cut between those.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> anyhow::Result<()> {
/// use quorate_testkit::TestCluster;
///
/// let mut cluster = TestCluster::start(3).await?;
/// let client = cluster.client();
/// client.kv().set("greeting", "hello").await?;
/// let killed = cluster.kill_leader().await?;
/// let greeting = client.kv().get("greeting").await?.expect("it was acknowledged");
/// assert_eq!(&greeting.value[..], b"hello");
/// cluster.restart(killed).await?;
/// # Ok(())
/// # }
/// ```
pub struct TestCluster {
    net: Net,
    clock: TestClock,
    hosts: BTreeMap<u64, Host>,
    /// Who is cut off from whom: those of this side from all others.
    side: BTreeSet<u64>,
}

impl TestCluster {
    /// Starts a cluster of so many nodes, 1 to 9, and waits for its leader.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn start(nodes: u64) -> Result<Self> {
        if !(1..=NODES_MAX).contains(&nodes) {
            bail!("a cluster in memory has 1 to {NODES_MAX} nodes, not {nodes}");
        }
        let (net, clock) = (Net::default(), TestClock::default());
        let hosts = (1..=nodes).map(|id| {
            let timing = Timing::default();
            (id, Host::new(NodeId(id), nodes, clock.clone(), net.clone(), timing))
        });
        let mut cluster = Self { hosts: hosts.collect(), net, clock, side: BTreeSet::new() };
        // All at once: a new cluster begins when each has met all others.
        let starting = cluster.hosts.values().map(Host::spawn).collect::<Result<Vec<_>>>()?;
        for (host, starting) in cluster.hosts.values_mut().zip(starting) {
            timeout(DEADLINE, host.started(starting)).await.context("a node does not start")??;
        }
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Ids of all nodes, running or not.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.hosts.keys().copied().collect()
    }

    /// Ids of the nodes that run.
    #[must_use]
    pub fn live_ids(&self) -> Vec<u64> {
        let live = self.hosts.iter().filter(|(_, host)| host.replica().is_some());
        live.map(|(id, _)| *id).collect()
    }

    /// A client of its own, with a session of its own, that knows all nodes.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn client(&self) -> Client {
        self.options().connect().expect("these options are good")
    }

    /// How its clients connect, for one that is to differ. Sessions are as those of
    /// [`TestBroker`](super::TestBroker).
    pub fn options(&self) -> Options {
        options(self.hosts.keys().map(|id| client_addr(NodeId(*id))), &self.net)
    }

    /// Waits for a node that leads, and is not cut off from the majority.
    ///
    /// # Errors
    /// When there is none within 30 s.
    pub async fn leader(&self) -> Result<u64> {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(leader) = self.leader_now() {
                return Ok(leader);
            }
            if Instant::now() > until {
                bail!("no leader within {DEADLINE:?}; {:?} run", self.live_ids());
            }
            sleep(POLL).await;
        }
    }

    /// The node in the highest term that leads, if the nodes that it reaches are a majority and know it.
    fn leader_now(&self) -> Option<u64> {
        let leads = |(id, host): (&u64, &Host)| {
            let status = host.replica()?.status();
            (status.role == Role::Leader).then_some((status.term, *id))
        };
        let (_, leader) = self.hosts.iter().filter_map(leads).max()?;
        let follow = self.hosts.iter().filter(|(id, host)| {
            let known = host.replica().and_then(|replica| replica.leader());
            known == Some(NodeId(leader)) && self.reaches(leader, **id)
        });
        (follow.count() > self.hosts.len() / 2).then_some(leader)
    }

    fn reaches(&self, from: u64, to: u64) -> bool {
        self.side.contains(&from) == self.side.contains(&to)
    }

    /// Kills the node that leads, and says which it was; waits for one that leads, if need be.
    ///
    /// # Errors
    /// When none does in time, or the node had ended by itself.
    pub async fn kill_leader(&mut self) -> Result<u64> {
        let leader = self.leader().await?;
        self.kill(leader)?;
        Ok(leader)
    }

    /// Kills a node, as a power cut would. What it had synced is there when it starts again; all that
    /// was acknowledged is on a majority of the nodes.
    ///
    /// # Errors
    /// When the node does not run, or had ended by itself.
    pub fn kill(&mut self, id: u64) -> Result<()> {
        let host = self.host(id)?;
        if host.replica().is_none() {
            bail!("node {id} does not run");
        }
        match host.kill() {
            None => Ok(()),
            Some(why) => bail!("node {id} had ended by itself: {why}"),
        }
    }

    /// Starts a node again, with its disk; kills it first if it runs. Waits until it serves clients,
    /// not until it has caught up.
    ///
    /// # Errors
    /// When it does not start, or had ended by itself.
    pub async fn restart(&mut self, id: u64) -> Result<()> {
        if self.host(id)?.replica().is_some() {
            self.kill(id)?;
        }
        let host = self.host(id)?;
        let starting = host.spawn()?;
        let started = timeout(DEADLINE, host.started(starting)).await;
        started.with_context(|| format!("node {id} does not start"))?
    }

    /// Cuts these nodes off from all others, in place of any cut there was: nothing gets through in
    /// either direction, and nobody is told. Among themselves they go on, and so do the others.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn partition(&mut self, side: &[u64]) -> Result<()> {
        for id in side {
            self.host(*id)?;
        }
        self.side = side.iter().copied().collect();
        for (id, host) in &self.hosts {
            let cut_off = self.hosts.keys().filter(|other| !self.reaches(*id, **other));
            host.cuts().set(cut_off.map(|other| peer_addr(NodeId(*other))));
        }
        Ok(())
    }

    /// Mends what was cut. What was on its way arrives.
    pub fn heal(&mut self) {
        self.side.clear();
        for host in self.hosts.values() {
            host.cuts().heal();
        }
    }

    /// Lets this much time pass at once, see [`TestBroker::advance`](super::TestBroker::advance); waits
    /// for a leader, because without one no lease runs out.
    ///
    /// # Errors
    /// When that takes longer than 30 s of real time.
    pub async fn advance(&self, by: Duration) -> Result<()> {
        if !advance(&self.clock, by).await {
            bail!("{by:?} did not pass within {ADVANCE_TIMEOUT:?}: the cluster has no quorum");
        }
        Ok(())
    }

    fn host(&mut self, id: u64) -> Result<&mut Host> {
        let last = self.hosts.len();
        self.hosts.get_mut(&id).with_context(|| format!("there are nodes 1 to {last}, and no {id}"))
    }
}
