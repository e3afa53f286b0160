//! Kills nodes under load, again and again, and holds the cluster to what it promised meanwhile.

use super::{Gap, Load, Plan, Summary, Totals};
use crate::process::{NodeId, ProcessCluster};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::{Duration, Instant};

/// How long writers may wait until they go on. Far more than any should: the gaps are judged, not
/// this.
const RESUME_DEADLINE: Duration = Duration::from_secs(60);
/// How long a restarted node may take to catch up under load.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(60);
/// Writes per writer that are acknowledged before each kill, so that there is something to lose.
const WRITES_BEFORE: u64 = 30;
/// How often nodes are asked while one catches up.
const POLL: Duration = Duration::from_millis(20);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// The leader of the moment.
    Leader,
    /// All nodes at once.
    All,
}

/// What to do to a cluster.
#[derive(Clone, Debug)]
pub struct Failover {
    /// Who is killed.
    pub kill: Kill,
    /// How often.
    pub rounds: usize,
    /// The load meanwhile.
    pub plan: Plan,
}

/// One kill, and what it cost.
#[derive(Clone, Copy, Debug)]
pub struct KillRound {
    /// From 1.
    pub round: usize,
    /// Who led before.
    pub killed: NodeId,
    /// Who leads after.
    pub leader: NodeId,
    /// Time without writes.
    pub gap: Gap,
    /// From the restart until the node had applied all that was committed when it was restarted.
    pub caught_up: Duration,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kills.
    pub rounds: Vec<KillRound>,
    /// The time from each kill to the next acknowledged write; `None` without a round.
    pub gaps: Option<Summary>,
    /// How the writes ended. Everything acknowledged was read back.
    pub totals: Totals,
    /// Writes that were begun before a kill and acknowledged by another leader after it.
    pub carried: usize,
    /// The index all nodes have applied at the end.
    pub applied: u64,
    /// The checksum of the state that all nodes have at it.
    pub checksum: u64,
}

impl Failover {
    /// Does it, and checks that nothing acknowledged is lost, no increment had two effects, and
    /// all nodes hold the same state. `on_round` hears of each round as it ends.
    ///
    /// # Errors
    /// When a promise is broken, the cluster does not come back, or the kills met no write.
    pub async fn run(
        &self,
        cluster: &mut ProcessCluster,
        mut on_round: impl FnMut(&KillRound),
    ) -> Result<Report> {
        let report = self.rounds(cluster, &mut on_round).await;
        if report.is_err() {
            cluster.mark_failed();
        }
        report
    }

    async fn rounds(
        &self,
        cluster: &mut ProcessCluster,
        on_round: &mut impl FnMut(&KillRound),
    ) -> Result<Report> {
        cluster.wait_ready().await?;
        let load = Load::start(&cluster.endpoints(), self.plan.clone()).await?;
        let mut rounds = Vec::with_capacity(self.rounds);
        for round in 1..=self.rounds {
            load.wait_for(WRITES_BEFORE, RESUME_DEADLINE).await?;
            let done = match self.kill {
                Kill::Leader => kill_leader(cluster, &load, round).await,
                Kill::All => kill_all(cluster, &load, round).await,
            };
            let done = done.with_context(|| format!("in round {round} of {}", self.rounds))?;
            on_round(&done);
            rounds.push(done);
        }
        let ledgers = load.stop().await?;
        let totals = ledgers.verify(&cluster.endpoints()).await?;
        ensure!(totals.acknowledged > 0, "no write was acknowledged, so nothing was shown");
        let carried = rounds.iter().map(|round| round.gap.carried).sum();
        ensure!(
            carried > 0 || rounds.is_empty(),
            "no write was carried over a kill, so nothing was shown of repeated ones"
        );
        let state = cluster.wait_same_state().await?;
        Ok(Report {
            gaps: Summary::of(rounds.iter().map(|round| round.gap.first)),
            rounds,
            totals,
            carried,
            applied: state.applied.unwrap_or_default(),
            checksum: state.checksum,
        })
    }
}

async fn kill_leader(cluster: &mut ProcessCluster, load: &Load, round: usize) -> Result<KillRound> {
    let killed = cluster.leader().await?;
    load.arm();
    let at = cluster.kill(killed).await?;
    let gap = load.gap(at, Instant::now(), RESUME_DEADLINE).await?;
    let leader = cluster.leader().await?;
    let restarted = Instant::now();
    cluster.restart(killed).await?;
    wait_healthy(cluster).await?;
    Ok(KillRound { round, killed, leader, gap, caught_up: restarted.elapsed() })
}

async fn kill_all(cluster: &mut ProcessCluster, load: &Load, round: usize) -> Result<KillRound> {
    let killed = cluster.leader().await?;
    load.arm();
    let at = Instant::now();
    cluster.kill_all().await?;
    let dead = Instant::now();
    cluster.restart_all().await?;
    let gap = load.gap(at, dead, RESUME_DEADLINE).await?;
    let leader = cluster.leader().await?;
    wait_healthy(cluster).await?;
    Ok(KillRound { round, killed, leader, gap, caught_up: dead.elapsed() })
}

/// Waits until every node is well and has applied what was committed when this was asked.
///
/// # Errors
/// When that takes longer than a minute, with what is missing.
pub async fn wait_healthy(cluster: &mut ProcessCluster) -> Result<()> {
    let end = Instant::now() + CATCH_UP_DEADLINE;
    let ids = cluster.ids();
    let mut target = None;
    loop {
        let mut missing = Vec::new();
        for id in &ids {
            ensure!(cluster.is_running(*id)?, "node {id} does not run");
        }
        let leader = cluster.wait_ready().await?;
        match cluster.status(leader).await {
            Ok(status) => {
                let committed = status.nodes.iter().filter_map(|node| node.committed).max();
                let target = *target.get_or_insert(committed);
                for id in &ids {
                    let Some(node) = status.nodes.iter().find(|node| node.node_id == *id) else {
                        missing.push(format!("node {id} is no member"));
                        continue;
                    };
                    if !node.healthy {
                        missing.push(format!("node {id} is not well: {}", node.problem));
                    } else if node.applied < target {
                        let applied = node.applied;
                        missing.push(format!("node {id} has applied {applied:?}, not {target:?}"));
                    }
                }
            }
            Err(error) => missing.push(format!("{error:#}")),
        }
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("after {CATCH_UP_DEADLINE:?}: {}", missing.join("; "));
        }
        tokio::time::sleep(POLL).await;
    }
}
