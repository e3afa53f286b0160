//! Behind `scripts/scale`: what many keys do to real nodes, as the table of `docs/performance.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use quorate_client::Client;
use quorate_testkit::process::ProcessCluster;
use quorate_testkit::program;
use quorate_testkit::scale::{
    PATIENCE, Writers, compared, connect, mebibytes, micros, p99, percentiles, row,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const VALUE_BYTES: usize = 256;
/// Writes under way at once while the keys are loaded: enough for full entries.
const LOADERS: u64 = 4;
const LOADS_IN_FLIGHT: u64 = 256;
/// How long the other writes are measured alone, for comparison.
const ALONE: Duration = Duration::from_secs(10);
/// From the first expiring key that is set until they are due.
const UNTIL_DUE: Duration = Duration::from_secs(40);
/// In which they all fall due.
const DUE_WITHIN: Duration = Duration::from_secs(1);
/// How long the other writes are watched after that. A sweep takes a thousand keys ten times a
/// second.
const WATCHED: Duration = Duration::from_secs(15);

/// Fills a cluster of three nodes on this machine with keys and measures: pages of a list, other
/// writes while many keys are deleted and while many fall due at once, and memory.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-scale",
    after_help = "Exit status: 0 when all was measured, else 1. Whether an aim holds is in the table."
)]
struct Arguments {
    /// How many keys there are
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..=50_000_000))]
    keys: u64,
    /// How many of them are deleted by one prefix
    #[arg(long, value_name = "N", default_value_t = 300_000)]
    delete: u64,
    /// How many of those go at a time; 0: as many as the cluster thinks right
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    step_keys: u32,
    /// How many others fall due in one second
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    expire: u64,
    /// How many clients write meanwhile, each one write after the other
    #[arg(long, value_name = "M", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    writers: u64,
    /// How many writes to 100 000 keys go before memory is looked at in the end; 0: none
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    puts: u64,
    /// Repeats the choice of keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-scale", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.delete <= arguments.keys, "--delete is more than --keys");
    let mut cluster = ProcessCluster::start(3).await?;
    cluster.wait_ready().await?;
    let client = connect(&cluster)?;
    println!("| what | measured | aim |\n|---|---|---|");

    // One write, so that a client's session and every path are there.
    client.kv().set("first", "value").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    row("resident memory of each node, idle", &mebibytes(&cluster)?, "64 MiB");

    let begun = Instant::now();
    let (deleted, all) = (arguments.delete, arguments.keys);
    load(&cluster, all, move |number| (loaded_key(number, deleted), None)).await?;
    let seconds = begun.elapsed().as_secs_f64();
    row(&format!("{all} keys of {VALUE_BYTES} bytes loaded"), &format!("{seconds:.1} s"), "");
    row("resident memory of each node, with them", &mebibytes(&cluster)?, "");

    pages(&client, arguments).await?;

    eprintln!("other writes alone, {} s …", ALONE.as_secs());
    let writers = Writers::start(&cluster, arguments.writers, VALUE_BYTES, arguments.seed)?;
    tokio::time::sleep(ALONE).await;
    let alone = writers.take()?;
    row(&format!("a put of {} writers, nothing else", arguments.writers), &percentiles(&alone), "");

    eprintln!("deleting …");
    let begun = Instant::now();
    let delete = client.kv().delete_prefix("d/").step_keys(arguments.step_keys);
    let done = delete.timeout(PATIENCE).await?;
    let (took, beside) = (begun.elapsed(), writers.take()?);
    ensure!(done.deleted == deleted, "{} keys deleted, {deleted} were there", done.deleted);
    row(&format!("{deleted} keys deleted by prefix"), &format!("{:.1} s", took.as_secs_f64()), "");
    row("a put meanwhile", &compared(&beside, &alone), "3x");

    eprintln!("setting keys that fall due …");
    let due = Instant::now() + UNTIL_DUE;
    load(&cluster, arguments.expire, move |number| {
        // Spread evenly over the second by the golden ratio, whatever the order they are set in.
        let share = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as f64 / 2_f64.powi(32);
        let at = due + DUE_WITHIN.mul_f64(share);
        (format!("t/{number:08}"), Some(at.saturating_duration_since(Instant::now())))
    })
    .await?;
    ensure!(Instant::now() < due, "the keys fell due while others were still being set");
    let there = client.kv().list_prefix("t/").timeout(PATIENCE).count().await?;
    ensure!(there == arguments.expire, "{there} of {} keys are there", arguments.expire);
    writers.take()?;
    tokio::time::sleep_until(due.into()).await;
    let before = writers.take()?;
    row("a put before many keys fall due", &percentiles(&before), "");
    let (mut beside, mut worst) = (Histogram::new(3)?, Histogram::new(3)?);
    while due.elapsed() < WATCHED {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = writers.take()?;
        beside.add(&second)?;
        if p99(&second) > p99(&worst) {
            worst = second;
        }
    }
    let left = client.kv().list_prefix("t/").timeout(PATIENCE).count().await?;
    ensure!(left == 0, "{left} keys are still there");
    let falls = format!("a put while {} fall due in one second and are swept", arguments.expire);
    row(&falls, &compared(&beside, &before), "3x");
    row("the same, its worst second", &compared(&worst, &before), "");
    writers.stop().await?;

    if arguments.puts > 0 {
        let begun = Instant::now();
        load(&cluster, arguments.puts, |number| {
            (format!("p/{:06}", number.wrapping_mul(0x9e37_79b9) % 100_000), None)
        })
        .await?;
        let seconds = begun.elapsed().as_secs_f64();
        let puts = arguments.puts;
        row(&format!("{puts} puts to 100000 keys"), &format!("{seconds:.0} s"), "");
        row("resident memory of each node after them", &mebibytes(&cluster)?, "300 MiB");
    }
    cluster.wait_same_state().await?;
    cluster.logs().assert_no_panics();
    Ok(())
}

fn loaded_key(number: u64, deleted: u64) -> String {
    if number < deleted {
        return format!("d/{number:08}");
    }
    // A thousand keys to a prefix.
    format!("k/{:05}/{:03}", number / 1_000, number % 1_000)
}

/// Sets keys 0 to `count`, each to a value of its own.
async fn load(
    cluster: &ProcessCluster,
    count: u64,
    key: impl Fn(u64) -> (String, Option<Duration>) + Clone + Send + 'static,
) -> Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..LOADERS {
        let client = connect(cluster)?;
        for _ in 0..LOADS_IN_FLIGHT {
            let (kv, next, key) = (client.kv(), Arc::clone(&next), key.clone());
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    let (key, ttl) = key(number);
                    let set = kv.set(key, value(number));
                    match ttl {
                        Some(ttl) => set.ttl(ttl).await?,
                        None => set.await?,
                    };
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

fn value(number: u64) -> Bytes {
    Bytes::from(number.to_be_bytes().repeat(VALUE_BYTES / 8))
}

async fn pages(client: &Client, arguments: &Arguments) -> Result<()> {
    let mut random = StdRng::seed_from_u64(arguments.seed);
    let prefixes = arguments.delete.div_ceil(1_000)..arguments.keys / 1_000;
    ensure!(!prefixes.is_empty(), "no key is left to list");
    for limit in [100, 1_000] {
        let mut times = Histogram::new(3)?;
        for _ in 0..500 {
            let prefix = format!("k/{:05}/", random.random_range(prefixes.clone()));
            let begun = Instant::now();
            let page = client.kv().list_prefix(prefix).limit(limit).await?;
            times.record(micros(begun.elapsed()))?;
            ensure!(page.count == u64::from(limit), "a page has {} keys", page.count);
        }
        let what = format!("a page of {limit} of {} keys, by prefix", arguments.keys);
        row(&what, &percentiles(&times), "5 ms");
    }
    Ok(())
}
