//! Behind `scripts/soak`: a mixed load for a long time, with a snapshot every few seconds, and whether
//! memory, disk and open files stay as they are.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use quorate_client::Client;
use quorate_testkit::process::ProcessCluster;
use quorate_testkit::program;
use quorate_testkit::scale::{PATIENCE, connect, resident_kib};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Keys of each service: what is stored is bounded, and what is written is not.
const KEYS: u64 = 20_000;

/// Runs three nodes under a load of all services, with a snapshot every few seconds, prints what each node
/// has in memory, on disk and open, and judges whether that grows: the median of the last third of the
/// time is held against that of the middle one. Peaks are shown, not judged: a compaction has all data
/// twice for a moment.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-soak",
    after_help = "Exit status: 0 when nothing grew and nothing failed, else 1."
)]
struct Arguments {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// How often a snapshot is taken, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    snapshot_every_ms: u64,
    /// Callers of each service
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    callers: u64,
    /// By how much the last third may be above the middle one, in percent
    #[arg(long, value_name = "N", default_value_t = 15)]
    growth_percent: u64,
    /// Repeats the choices
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-soak", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let options = ProcessCluster::options(3)
        .deadline(PATIENCE)
        .arg(format!("--storage-snapshot-every-ms={}", arguments.snapshot_every_ms))
        // Small enough that all that grows with the log comes round many times.
        .arg("--storage-snapshot-log-bytes=16777216")
        .arg("--storage-log-keep-entries=2000");
    let mut cluster = options.start().await?;
    cluster.wait_ready().await?;
    let mut load = Load::start(&cluster, arguments)?;
    println!("| minute | calls/s | memory, MiB | data on disk, MiB | open files | snapshot |");
    println!("|---|---|---|---|---|---|");
    let begun = Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    while begun.elapsed() < Duration::from_secs(60 * arguments.minutes) {
        let before = load.calls();
        tokio::time::sleep(LOOK_EVERY).await;
        load.check()?;
        let calls = (load.calls() - before) / LOOK_EVERY.as_secs();
        let sample = Sample::take(&mut cluster, calls).await?;
        println!("| {:.1} | {sample} |", begun.elapsed().as_secs_f64() / 60.0);
        samples.push(sample);
    }
    load.stop().await?;
    cluster.wait_same_state().await?;
    cluster.logs().assert_no_panics();
    judge(&samples, arguments.growth_percent)
}

/// One look at all nodes.
struct Sample {
    calls: u64,
    memory_mib: Vec<u64>,
    disk_mib: Vec<u64>,
    files: Vec<u64>,
    snapshot: u64,
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |all: &[u64]| all.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let Self { calls, memory_mib, disk_mib, files, snapshot } = self;
        let (memory, disk, files) = (list(memory_mib), list(disk_mib), list(files));
        write!(f, "{calls} | {memory} | {disk} | {files} | {snapshot}")
    }
}

impl Sample {
    async fn take(cluster: &mut ProcessCluster, calls: u64) -> Result<Self> {
        let memory_mib = resident_kib(cluster)?.into_iter().map(|kib| kib >> 10).collect();
        let (mut disk_mib, mut files) = (Vec::new(), Vec::new());
        for id in cluster.ids() {
            disk_mib.push(bytes_below(&cluster.data_dir(id)) >> 20);
            let pid = cluster.pid(id).context("a node is not running")?;
            files.push(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64);
        }
        let leader = cluster.leader().await?;
        let status = cluster.status(leader).await?;
        let own = status.nodes.iter().find(|node| node.node_id == leader);
        let snapshot = own.and_then(|node| node.snapshot).unwrap_or(0);
        Ok(Self { calls, memory_mib, disk_mib, files, snapshot })
    }
}

/// Bytes of the files below a directory, those shared by hard links once; files come and go.
fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let (mut bytes, mut seen) = (0, std::collections::BTreeSet::new());
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => directories.push(entry.path()),
                Ok(data) if seen.insert(data.ino()) => bytes += data.blocks() * 512,
                _ => {}
            }
        }
    }
    bytes
}

/// The value in the middle, and the highest.
fn middle_and_peak(values: impl Iterator<Item = u64>) -> (u64, u64) {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    let middle = values.get(values.len() / 2).copied().unwrap_or(0);
    (middle, values.last().copied().unwrap_or(0))
}

fn judge(samples: &[Sample], growth_percent: u64) -> Result<()> {
    let third = samples.len() / 3;
    ensure!(third > 0, "too short to judge: three looks are needed");
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    type Of = fn(&Sample) -> &[u64];
    let what: [(&str, u64, Of); 3] = [
        ("memory in MiB", 5, |sample| &sample.memory_mib),
        ("data on disk in MiB", 10, |sample| &sample.disk_mib),
        ("open files", 5, |sample| &sample.files),
    ];
    let mut grown = Vec::new();
    for (name, slack, of) in what {
        let nodes = of(&samples[0]).len();
        for node in 0..nodes {
            let seen =
                |some: &[Sample]| middle_and_peak(some.iter().map(|sample| of(sample)[node]));
            let ((before, peak), (after, last_peak)) = (seen(middle), seen(last));
            println!(
                "node {}: {name}: {before} in the middle third, {peak} at most; {after} in the last, \
                 {last_peak} at most",
                node + 1
            );
            if after > before + before * growth_percent / 100 + slack {
                grown.push(format!("{name} of node {} from {before} to {after}", node + 1));
            }
        }
    }
    if grown.is_empty() { Ok(()) } else { bail!("it grew: {}", grown.join("; ")) }
}

/// What a caller calls again and again.
#[derive(Clone, Copy)]
enum Service {
    Kv,
    Cache,
    Queue,
    Lock,
    Bus,
}

impl Service {
    const ALL: [Self; 5] = [Self::Kv, Self::Cache, Self::Queue, Self::Lock, Self::Bus];

    async fn call(self, client: &Client, random: &mut StdRng) -> Result<(), quorate_client::Error> {
        let value = vec![b'v'; random.random_range(0..2_000)];
        match self {
            Self::Kv => {
                let key = format!("k/{:05}", random.random_range(0..KEYS));
                match random.random_range(0..4) {
                    0 => client.kv().get(key).await.map(drop),
                    1 => client.kv().delete(key).await.map(drop),
                    2 => client.kv().set(key, value).ttl(Duration::from_secs(5)).await.map(drop),
                    _ => client.kv().set(key, value).await.map(drop),
                }
            }
            Self::Cache => {
                let key = format!("c/{:05}", random.random_range(0..KEYS));
                if random.random_range(0..3) > 0 {
                    return client.cache().get(key).await.map(drop);
                }
                let tag = format!("t{}", random.random_range(0..50));
                let set = client.cache().set(key, value).tag(tag);
                set.ttl(Duration::from_secs(20)).await.map(drop)
            }
            Self::Queue => {
                let queue = client.queue();
                queue.push("work", value).await?;
                for job in queue.pull("work").count(2).await? {
                    job.ack().await?;
                }
                Ok(())
            }
            Self::Lock => {
                let name = format!("l/{}", random.random_range(0..8));
                let held = client.locks().acquire(name).wait(Duration::from_secs(20)).await?;
                held.release().await.map(drop)
            }
            Self::Bus => {
                let channel = format!("b/{}", random.random_range(0..100));
                client.bus().publish(channel, value).await.map(drop)
            }
        }
    }
}

/// Callers of all services, until they are stopped.
struct Load {
    tasks: JoinSet<Result<()>>,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Load {
    fn start(cluster: &ProcessCluster, arguments: &Arguments) -> Result<Self> {
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for caller in 0..arguments.callers {
            let client = connect(cluster)?;
            for (number, service) in (0..).zip(Service::ALL) {
                let seed = arguments.seed.wrapping_mul(1_000).wrapping_add(caller * 10 + number);
                let (client, mut random) = (client.clone(), StdRng::seed_from_u64(seed));
                let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
                tasks.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        service.call(&client, &mut random).await?;
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                });
            }
        }
        Ok(Self { tasks, stop, calls })
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Nobody ends before he is told to, unless a call failed.
    fn check(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended?.context("a call failed"),
            None => Ok(()),
        }
    }

    async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended?.context("a call failed")?;
        }
        Ok(())
    }
}
