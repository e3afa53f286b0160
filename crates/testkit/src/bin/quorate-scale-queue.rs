//! Behind `scripts/scale-queue`: what many jobs do to real nodes, as the table of
//! `docs/performance.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use quorate_client::queue::NewJob;
use quorate_testkit::process::ProcessCluster;
use quorate_testkit::program;
use quorate_testkit::scale::{
    compared, connect, mebibytes, micros, p99_ratio, percentiles, resident_kib, row,
};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const QUEUE: &str = "scale";
const EMPTY: &str = "empty";
/// How often the full and the empty queue are measured in turns.
const ROUNDS: u64 = 3;
const PAYLOAD_BYTES: usize = 256;
/// Pushes under way at once while the queue is loaded, and jobs of each.
const LOADERS: usize = 16;
const JOBS_OF_A_PUSH: u64 = 128;

/// Fills a queue of a cluster of three nodes on this machine and measures: push and pull beside as
/// many ready jobs, the memory they take, and how long the nodes take to serve again.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-scale-queue",
    after_help = "Takes about two minutes with a million jobs: seven measurements, the jobs, and two starts.\n\
                  Exit status: 0 when all was measured, else 1. Whether an aim holds is in the table."
)]
struct Arguments {
    /// How many jobs are ready
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=4_000_000))]
    jobs: u64,
    /// How many clients push and pull at once, each one job after the other
    #[arg(long, value_name = "M", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    clients: u64,
    /// How long each measurement is
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-scale-queue", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut cluster = ProcessCluster::start(3).await?;
    cluster.wait_ready().await?;
    let client = connect(&cluster)?;
    // Room for what is pushed beside them, and time for each job that is measured.
    let update = client.queue().update(QUEUE).jobs_max(arguments.jobs + 10_000);
    update.visibility(Duration::from_secs(600)).await?;
    println!("| what | measured | aim |\n|---|---|---|");

    eprintln!("the empty queue …");
    let empty = measure(&cluster, arguments, QUEUE).await?;
    row("push, empty queue", &percentiles(&empty.push), "");
    row("pull, empty queue", &percentiles(&empty.pull), "");
    let fresh = restart(&mut cluster, arguments, 0).await?;
    row("all nodes killed until a push is acknowledged, empty queue", &seconds(fresh), "");
    row("resident memory of each node after that", &mebibytes(&cluster)?, "");
    let without = resident_kib(&cluster)?;

    eprintln!("loading …");
    let begun = Instant::now();
    load(&cluster, arguments.jobs).await?;
    let count = arguments.jobs;
    row(&format!("{count} jobs of {PAYLOAD_BYTES} bytes pushed"), &seconds(begun.elapsed()), "");
    row("resident memory of each node, with them", &mebibytes(&cluster)?, "");

    eprintln!("beside {count} ready jobs …");
    // In turns with a queue that is empty in the same nodes: what differs is the queue alone.
    let (mut full, mut beside) = (Times::new()?, Times::new()?);
    for _ in 0..ROUNDS {
        full.add(&measure(&cluster, arguments, QUEUE).await?)?;
        beside.add(&measure(&cluster, arguments, EMPTY).await?)?;
    }
    // As many times as slow as before there were jobs, and as the empty queue is meanwhile.
    let both = |full: &Histogram<u64>, empty: &Histogram<u64>, beside: &Histogram<u64>| {
        format!("{}, {} of the one beside it", compared(full, empty), p99_ratio(full, beside))
    };
    let (push, pull) =
        (both(&full.push, &empty.push, &beside.push), both(&full.pull, &empty.pull, &beside.pull));
    row(&format!("push, {count} ready jobs"), &push, "2x");
    row(&format!("pull, {count} ready jobs"), &pull, "2x");
    row("push, a queue beside it that is empty", &compared(&beside.push, &empty.push), "");
    row("pull, a queue beside it that is empty", &compared(&beside.pull, &empty.pull), "");

    let loaded = restart(&mut cluster, arguments, count).await?;
    row("all nodes killed until a push is acknowledged", &seconds(loaded), "10 s");
    row("resident memory of each node after that", &mebibytes(&cluster)?, "");
    let with = resident_kib(&cluster)?;
    let each = with.iter().zip(&without).map(|(with, without)| {
        let bytes = (*with as f64 - *without as f64) * 1_024.0 / count as f64;
        format!("{bytes:.0}")
    });
    let each: Vec<String> = each.collect();
    row("more memory per ready job, on each node", &format!("{} bytes", each.join(", ")), "120");
    cluster.wait_same_state().await?;
    cluster.logs().assert_no_panics();
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Kills all nodes at once and starts them again; how long until they acknowledge a push.
async fn restart(
    cluster: &mut ProcessCluster,
    arguments: &Arguments,
    ready: u64,
) -> Result<Duration> {
    eprintln!("killing all nodes …");
    cluster.kill_all().await?;
    let begun = Instant::now();
    for id in cluster.ids() {
        cluster.spawn(id)?;
    }
    // Elsewhere, so that what is ready stays so.
    let client = connect(cluster)?;
    client.queue().push("restarted", "job").await?;
    let took = begun.elapsed();
    cluster.wait_ready().await?;
    let queue = client.queue().stats(QUEUE).await?;
    ensure!(queue.ready == ready, "{} jobs are ready, {ready} were", queue.ready);
    ensure!(queue.leased == 0, "{} jobs are leased", queue.leased);
    // The nodes do the rest of what a start brings: a moment for all of them.
    tokio::time::sleep(Duration::from_secs(arguments.seconds.min(5))).await;
    Ok(took)
}

async fn load(cluster: &ProcessCluster, count: u64) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..LOADERS {
        let (client, next) = (connect(cluster)?, Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let first = next.fetch_add(JOBS_OF_A_PUSH, Ordering::Relaxed);
                if first >= count {
                    return Ok::<_, quorate_client::Error>(());
                }
                let jobs = (first..count.min(first + JOBS_OF_A_PUSH)).map(payload).map(NewJob::new);
                client.queue().push_many(QUEUE, jobs).await?;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn payload(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().repeat(PAYLOAD_BYTES / 8))
}

struct Times {
    push: Histogram<u64>,
    pull: Histogram<u64>,
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Self { push: Histogram::new(3)?, pull: Histogram::new(3)? })
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.push.add(&other.push)?;
        self.pull.add(&other.pull)?;
        Ok(())
    }
}

/// Clients that push a job, pull one, and acknowledge it, again and again.
async fn measure(
    cluster: &ProcessCluster,
    arguments: &Arguments,
    name: &'static str,
) -> Result<Times> {
    let until = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut tasks = JoinSet::new();
    for number in 0..arguments.clients {
        let queue = connect(cluster)?.queue();
        tasks.spawn(async move {
            let mut times = Times::new()?;
            while Instant::now() < until {
                let begun = Instant::now();
                queue.push(name, payload(number)).await?;
                times.push.record(micros(begun.elapsed()))?;
                let begun = Instant::now();
                let pulled = queue.pull(name).await?;
                times.pull.record(micros(begun.elapsed()))?;
                ensure!(pulled.len() == 1, "{} jobs were pulled, one is ready", pulled.len());
                for job in pulled {
                    job.ack().await?;
                }
            }
            Ok(times)
        });
    }
    let mut all = Times::new()?;
    while let Some(done) = tasks.join_next().await {
        all.add(&done??)?;
    }
    Ok(all)
}
