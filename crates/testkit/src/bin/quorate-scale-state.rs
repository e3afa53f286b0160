//! Behind `scripts/scale-state`: what a large state does to a node that joins, to one that starts
//! again, and to a backup; as the table of `docs/performance.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::Parser;
use quorate_testkit::process::{NodeId, ProcessCluster, find_binary};
use quorate_testkit::program;
use quorate_testkit::scale::{PATIENCE, Writers, compared, connect, mebibytes, percentiles, row};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::task::JoinSet;

/// Writes under way at once while the state is loaded.
const LOADERS: u64 = 4;
const LOADS_IN_FLIGHT: u64 = 32;
/// How long the other writes are measured alone, for comparison.
const ALONE: Duration = Duration::from_secs(10);
/// How long a node may take to join.
const JOIN_MAX: Duration = Duration::from_secs(300);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Fills a cluster of three nodes on this machine with a state of so many bytes, which don't
/// compress, and measures how long it takes an empty node to join, a node to start again, a backup
/// to be saved and restored, and what that does to the writes beside it.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-scale-state",
    after_help = "Exit status: 0 when all was measured, else 1. Whether an aim holds is in the table."
)]
struct Arguments {
    /// How many MiB of values there are
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    mebibytes: u64,
    /// Bytes of a value
    #[arg(long, value_name = "N", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    value_bytes: u32,
    /// How many clients write meanwhile, each one write after the other
    #[arg(long, value_name = "M", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    writers: u64,
    /// Repeats the values
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-scale-state", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut cluster = ProcessCluster::options(3).deadline(PATIENCE).start().await?;
    cluster.wait_ready().await?;
    println!("| what | measured | aim |\n|---|---|---|");
    let begun = Instant::now();
    load(&cluster, arguments).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let what = format!("{} MiB in values of {} bytes", arguments.mebibytes, arguments.value_bytes);
    row(&format!("{what} loaded"), &format!("{seconds:.1} s"), "");
    row("resident memory of each node, with them", &mebibytes(&cluster)?, "");

    eprintln!("other writes alone, {} s …", ALONE.as_secs());
    let writers = Writers::start(&cluster, arguments.writers, 256, arguments.seed)?;
    tokio::time::sleep(ALONE).await;
    let alone = writers.take()?;
    let puts = format!("a put of {} writers, nothing else", arguments.writers);
    row(&puts, &percentiles(&alone), "");

    eprintln!("an empty node joins …");
    let term = term(&mut cluster).await?;
    let begun = Instant::now();
    let node = cluster.join(&[])?;
    votes(&mut cluster, node, begun).await?;
    let (took, beside) = (begun.elapsed(), writers.take()?);
    row("an empty node joins, and votes", &format!("{:.1} s", took.as_secs_f64()), "60 s");
    row("a put meanwhile", &compared(&beside, &alone), "3x");
    let elections = self::term(&mut cluster).await? - term;
    row("elections meanwhile", &elections.to_string(), "0");

    let directory = cluster.directory().to_owned();
    let (file, restored) = (directory.join("all.backup"), directory.join("restored"));
    let follower = follower(&mut cluster).await?;
    let endpoint = cluster.client_addr(follower).to_string();
    writers.take()?;
    let begun = Instant::now();
    quorate(&["backup", "save", &path(&file)?, "--endpoints", &endpoint]).await?;
    let (took, beside) = (begun.elapsed(), writers.take()?);
    let mib = std::fs::metadata(&file)?.len() >> 20;
    let measured = format!("{:.1} s, {mib} MiB", took.as_secs_f64());
    row("a backup is saved from a follower, and verified", &measured, "");
    row("a put meanwhile", &compared(&beside, &alone), "");
    writers.stop().await?;

    let begun = Instant::now();
    quorate(&["backup", "restore", &path(&file)?, "--data-dir", &path(&restored)?]).await?;
    let seconds = begun.elapsed().as_secs_f64();
    row("it is restored into a new directory", &format!("{seconds:.1} s"), "");

    for kind in ["stopped", "killed"] {
        if kind == "stopped" {
            cluster.terminate(follower).await?;
        } else {
            cluster.kill(follower).await?;
        }
        let begun = Instant::now();
        cluster.restart(follower).await?;
        let own = connect(&cluster)?;
        let at = cluster.client_addr(follower).to_string();
        ensure!(own.cluster().at(at)?.status().await?.answered_by == follower, "another answered");
        read_from(&cluster, follower).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let what = format!("a node that was {kind} serves reads again");
        row(&what, &format!("{seconds:.1} s"), "5 s");
    }
    cluster.wait_same_state().await?;
    cluster.logs().assert_no_panics();
    Ok(())
}

fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the path is no text")?.to_owned())
}

async fn quorate(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(find_binary()?);
    // Settings of a node, for all that it knows.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    let ended = command.args(arguments).output().await?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "{arguments:?} ended with {}: {said}", ended.status);
    Ok(())
}

fn is_ours(variable: &std::ffi::OsStr) -> bool {
    variable.to_string_lossy().starts_with("QUORATE_")
}

async fn follower(cluster: &mut ProcessCluster) -> Result<NodeId> {
    let leader = cluster.leader().await?;
    let others = cluster.ids().into_iter().find(|id| *id != leader);
    others.context("there is one node only")
}

async fn term(cluster: &mut ProcessCluster) -> Result<u64> {
    let leader = cluster.leader().await?;
    Ok(cluster.status(leader).await?.term)
}

/// A linearizable read that this node answers.
async fn read_from(cluster: &ProcessCluster, node: NodeId) -> Result<()> {
    let endpoints = [cluster.client_addr(node).to_string()];
    let client = quorate_client::Client::builder()
        .endpoints(endpoints)
        .request_timeout(PATIENCE)
        .connect()?;
    client.kv().get("k/00000000").await?.context("a key that was loaded is gone")?;
    Ok(())
}

async fn votes(cluster: &mut ProcessCluster, node: NodeId, since: Instant) -> Result<()> {
    let client = connect(cluster)?;
    loop {
        let members = client.cluster().members().await?;
        if members.members.iter().any(|member| member.node_id == node && member.voter) {
            return Ok(());
        }
        ensure!(since.elapsed() < JOIN_MAX, "node {node} does not vote after {JOIN_MAX:?}");
        ensure!(cluster.is_running(node)?, "node {node} has ended");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn load(cluster: &ProcessCluster, arguments: &Arguments) -> Result<()> {
    let count = (arguments.mebibytes << 20) / u64::from(arguments.value_bytes);
    let (bytes, seed) = (usize::try_from(arguments.value_bytes)?, arguments.seed);
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..LOADERS {
        let client = connect(cluster)?;
        for _ in 0..LOADS_IN_FLIGHT {
            let (kv, next) = (client.kv(), Arc::clone(&next));
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    let mut value = vec![0; bytes];
                    StdRng::seed_from_u64(seed ^ number << 20).fill_bytes(&mut value);
                    kv.set(format!("k/{number:08}"), Bytes::from(value)).await?;
                }
            });
        }
    }
    while let Some(done) = tasks.join_next().await {
        let done: Result<(), quorate_client::Error> = done?;
        done?;
    }
    Ok(())
}
