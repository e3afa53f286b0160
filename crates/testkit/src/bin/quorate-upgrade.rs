//! Behind `scripts/try-upgrade`: upgrades a cluster of real nodes from one build to another, node by
//! node, under load, and kills leaders while the builds are mixed.

#![allow(clippy::print_stdout, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use quorate_testkit::load::{Gap, Load, Plan, table, wait_healthy};
use quorate_testkit::process::{NodeId, ProcessCluster, find_binary};
use quorate_testkit::program;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long writers may wait until they go on.
const RESUMES: Duration = Duration::from_secs(60);
/// Within this the level has risen when all nodes are new.
const RISES: Duration = Duration::from_secs(30);
/// Writes per writer between two things that are done.
const WRITES_BETWEEN: u64 = 30;

/// Upgrades three nodes one after another under load, from an older build to this one.
///
/// Each node is stopped, and started with the other build. As soon as builds are mixed the leader is
/// killed, too, and started again, so that leaders of both builds lead followers of both. Whenever a
/// node has changed its build all nodes must hold the same state; at the end every acknowledged
/// write is read back.
#[derive(Debug, Parser)]
#[command(name = "quorate-upgrade", after_help = "Exit status: 0 when every promise held, else 1.")]
struct Arguments {
    /// The program to upgrade from, the `quorate` of an earlier release
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The program to upgrade to; the one of this build when it is not given
    #[arg(long, value_name = "NEW")]
    new: Option<PathBuf>,
    /// Puts the first node back to the old build once, as long as the level allows it
    #[arg(long)]
    back: bool,
    /// How often the leader is killed each time that the builds are mixed in another way
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    kills: u32,
    /// How many clients write meanwhile, each one write after the other
    #[arg(long, value_name = "M", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    writers: u32,
}

const HEADER: &[&str] =
    &["what was done     ", "node", "builds     ", "gap ms", "healthy after ms"];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-upgrade", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let new = match &arguments.new {
        Some(new) => new.clone(),
        None => find_binary()?,
    };
    let mut cluster = ProcessCluster::options(3).binary(&arguments.old).start().await?;
    let builds = cluster.ids().into_iter().map(|id| (id, "old")).collect();
    let result = Upgrade { arguments, new: &new, builds }.run(&mut cluster).await;
    if result.is_err() {
        cluster.mark_failed();
    }
    result
}

struct Upgrade<'a> {
    arguments: &'a Arguments,
    new: &'a Path,
    /// What each node runs: old or new.
    builds: BTreeMap<NodeId, &'static str>,
}

impl Upgrade<'_> {
    async fn run(mut self, cluster: &mut ProcessCluster) -> Result<()> {
        let leader = cluster.wait_ready().await?;
        println!(
            "three nodes of {}, led by node {leader}; {} writers\n\n{}",
            self.arguments.old.display(),
            self.arguments.writers,
            HEADER.join("  ")
        );
        // The leader comes last, as the handbook has it.
        let mut order: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        order.push(leader);
        let mut steps: Vec<_> = order.iter().map(|id| (*id, self.new)).collect();
        if self.arguments.back {
            steps.insert(1, (order[0], &self.arguments.old));
            steps.insert(2, (order[0], self.new));
        }
        let mut written = Vec::new();
        for (number, (id, binary)) in steps.into_iter().enumerate() {
            let writers = self.arguments.writers.try_into()?;
            let plan = Plan { writers, prefix: format!("step-{number}"), ..Plan::default() };
            let load = Load::start(&cluster.endpoints(), plan).await?;
            self.change(cluster, &load, id, binary).await?;
            for _ in 0..self.arguments.kills {
                self.kill_leader(cluster, &load).await?;
            }
            written.push(load.stop().await?);
            cluster.wait_same_state().await?;
        }
        let (mut acknowledged, mut failed, mut unknown) = (0, 0, 0);
        for ledgers in written {
            let totals = ledgers.verify(&cluster.endpoints()).await?;
            acknowledged += totals.acknowledged;
            failed += totals.failed;
            unknown += totals.unknown;
        }
        let level = risen(cluster).await?;
        println!(
            "\n{acknowledged} writes were acknowledged, all of them there; {unknown} of unknown \
             outcome; {failed} not applied\nall nodes held the same state after each change; the \
             cluster is at feature level {level}, the highest of the new build"
        );
        cluster.logs().assert_no_panics();
        Ok(())
    }

    async fn change(
        &mut self,
        cluster: &mut ProcessCluster,
        load: &Load,
        id: NodeId,
        binary: &Path,
    ) -> Result<()> {
        load.wait_for(WRITES_BETWEEN, RESUMES).await?;
        load.arm();
        let asked = Instant::now();
        let status = cluster.terminate(id).await?;
        ensure!(status.success(), "node {id} ended with {status}");
        cluster.set_binary(id, binary);
        let (build, what) =
            if binary == self.new { ("new", "upgraded") } else { ("old", "put back") };
        self.builds.insert(id, build);
        let down = Instant::now();
        cluster
            .restart(id)
            .await
            .with_context(|| format!("node {id} does not start with {}", binary.display()))?;
        wait_healthy(cluster).await?;
        let healthy = down.elapsed();
        let gap = load.gap(asked, Instant::now(), RESUMES).await?;
        self.show(what, id, &gap, healthy);
        Ok(())
    }

    async fn kill_leader(&self, cluster: &mut ProcessCluster, load: &Load) -> Result<()> {
        load.wait_for(WRITES_BETWEEN, RESUMES).await?;
        let leader = cluster.leader().await?;
        load.arm();
        let at = cluster.kill(leader).await?;
        let gap = load.gap(at, Instant::now(), RESUMES).await?;
        let down = Instant::now();
        cluster.restart(leader).await?;
        wait_healthy(cluster).await?;
        self.show("killed the leader", leader, &gap, down.elapsed());
        Ok(())
    }

    fn show(&self, what: &str, id: NodeId, gap: &Gap, healthy: Duration) {
        let builds: Vec<_> = self.builds.values().copied().collect();
        let row = [what, &id.to_string(), &builds.join(" "), &ms(gap.first), &ms(healthy)];
        // The width of each row is that of the header, so that rows can be shown as they come.
        let cells = table(HEADER, &[row.map(str::to_owned).to_vec()]);
        println!("{}", cells.lines().last().unwrap_or_default());
    }
}

fn ms(time: Duration) -> String {
    time.as_millis().to_string()
}

/// Waits until the cluster is at the highest level that its nodes know.
async fn risen(cluster: &mut ProcessCluster) -> Result<u32> {
    let end = Instant::now() + RISES;
    loop {
        let leader = cluster.leader().await?;
        let status = cluster.status(leader).await?;
        let known = status.nodes.iter().map(|node| node.feature_level).min().unwrap_or(0);
        if status.feature_level == known && known > 0 {
            return Ok(known);
        }
        ensure!(
            Instant::now() < end,
            "the cluster stays at feature level {}, and its nodes know {known}",
            status.feature_level
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
