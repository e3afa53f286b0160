//! Behind `scripts/growth`: what an operation costs as a cluster has more to do with, as the table of
//! `docs/performance.md`. It runs `quorate bench` again and again, on a new cluster for each line.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people and scripts")]

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use quorate_testkit::process::{ProcessCluster, find_binary};
use quorate_testkit::program;
use quorate_testkit::scale::resident_kib;
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;
use tokio::process::Command;

/// Kept small enough for all values together to fit into the memory of a small machine.
const STATE_BYTES_MAX: u64 = 256 << 20;
/// Connections that two cores take in, on both ends, with some to spare.
const CONNECTIONS_PER_SECOND: u64 = 250;
/// Callers that share one connection, where nothing else is said.
const SHARED: &str = "64";

/// Measures a cluster of three nodes on this machine at several sizes of each thing that can grow.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-growth",
    after_help = "Most of its time goes to filling ten million keys. Jobs have a program of their own:\n\
                  scripts/scale-queue --jobs N."
)]
struct Arguments {
    /// What grows; several are measured one after the other
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [What::Keys, What::Values, What::Connections, What::Subscribers])]
    only: Vec<What>,
    /// Seconds of each measurement
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Leave out whatever is larger
    #[arg(long, value_name = "N", default_value_t = u64::MAX)]
    most: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Keys of 256 bytes
    Keys,
    /// Bytes of a value
    Values,
    /// Connections, each with one call in flight
    Connections,
    /// Subscribers of one channel
    Subscribers,
}

impl What {
    fn sizes(self) -> &'static [u64] {
        match self {
            Self::Keys => &[10_000, 1_000_000, 10_000_000],
            Self::Values => &[16, 256, 4 << 10, 64 << 10, 1 << 20],
            Self::Connections => &[1, 1_000, 10_000],
            Self::Subscribers => &[1, 100, 10_000],
        }
    }

    /// The arguments of `quorate bench` that are run one after the other at a size. The first fills, if
    /// its figures are not wanted.
    fn runs(self, size: u64) -> Vec<Run> {
        let text = size.to_string();
        let kv = |op, more: &[&str]| {
            let base = ["kv", "--op", op, "--via", "leader"];
            base.iter().chain(more).map(|word| (*word).to_owned()).collect::<Vec<_>>()
        };
        let read_and_written = |more: &[&str]| {
            vec![
                Run::filling(kv("get", more)),
                Run::shown("get", kv("get", &[more, &["--no-fill"]].concat())),
                Run::shown("put", kv("put", more)),
            ]
        };
        match self {
            Self::Keys => {
                read_and_written(&["--clients", "1", "--in-flight", SHARED, "--keys", &text])
            }
            Self::Values => {
                let keys = (STATE_BYTES_MAX / size).clamp(64, 10_000).to_string();
                // As many as the memory for what is under way allows of the largest.
                let in_flight = if size > 64 << 10 { "8" } else { SHARED };
                let callers = ["--clients", "1", "--in-flight", in_flight];
                let more = ["--keys", &keys, "--value-bytes", &text];
                read_and_written(&[&callers[..], &more].concat())
            }
            Self::Connections => {
                // Each connects with its first call, and that is not what is measured.
                let warm_up = format!("{}s", 1 + size / CONNECTIONS_PER_SECOND);
                let more = ["--clients", &text, "--warm-up", &warm_up];
                let read = [&more[..], &["--no-fill"]].concat();
                vec![
                    Run::filling(kv("get", &["--clients", "1"])),
                    Run::shown("get", kv("get", &read)),
                    Run::shown("put", kv("put", &more)),
                ]
            }
            Self::Subscribers => {
                // Of many each message is enough to do.
                let in_flight = if size > 1_000 { "8" } else { SHARED };
                let bus = ["bus", "--subscribers", &text, "--in-flight", in_flight];
                vec![Run::shown("deliver", bus.map(str::to_owned).to_vec())]
            }
        }
    }
}

/// One run of `quorate bench`.
struct Run {
    /// What of it is shown; nothing of one that only fills.
    operation: Option<&'static str>,
    arguments: Vec<String>,
}

impl Run {
    fn filling(arguments: Vec<String>) -> Self {
        Self { operation: None, arguments }
    }

    fn shown(operation: &'static str, arguments: Vec<String>) -> Self {
        Self { operation: Some(operation), arguments }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-growth", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let program = find_binary()?;
    println!(
        "| what grows | to | operation | a second | p50 / p99 ms | processor time of all nodes, µs each | \
         resident memory of each node, MiB |\n|---|---|---|---|---|---|---|"
    );
    for what in &arguments.only {
        let name = what.to_possible_value().context("it has a name")?.get_name().to_owned();
        for size in what.sizes().iter().filter(|size| **size <= arguments.most) {
            let mut cluster = ProcessCluster::start(3).await?;
            cluster.wait_ready().await?;
            for run in what.runs(*size) {
                eprintln!("{name} {size}: quorate bench {} …", run.arguments.join(" "));
                let before = processor_us(&cluster)?;
                let seconds = if run.operation.is_some() { arguments.seconds } else { 1 };
                let figures = bench(&program, &cluster, &run.arguments, seconds).await?;
                let Some(operation) = run.operation else { continue };
                let used = processor_us(&cluster)? - before;
                println!("| {name} | {size} | {operation} | {} |", line(&figures, used, &cluster)?);
            }
        }
    }
    Ok(())
}

async fn bench(
    program: &Path,
    cluster: &ProcessCluster,
    arguments: &[String],
    seconds: u64,
) -> Result<Value> {
    let output = Command::new(program)
        .arg("bench")
        .args(arguments)
        .args(["--seconds", &seconds.to_string(), "--timeout", "60s", "-o", "json"])
        .args(["--endpoints", &cluster.endpoints().join(",")])
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "quorate bench {}: {}", arguments.join(" "), said.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Rate, latency, what the nodes used for each, and what they take.
fn line(figures: &Value, used_us: u64, cluster: &ProcessCluster) -> Result<String> {
    let number = |value: &Value| value.as_f64().context("a number of quorate bench");
    let (rate, latency) = match figures.get("delivered_per_second") {
        Some(rate) => (rate, &figures["deliver_latency_us"]),
        None => (&figures["operations_per_second"], &figures["latency_us"]),
    };
    let rate = number(rate)?;
    let measured = number(&figures["seconds"])?;
    // They work in the warm-up as well.
    let busy = measured + number(&figures["warm_up_ms"])? / 1_000.0;
    let each = used_us as f64 / (rate * busy);
    let ms = |share: &str| Ok::<_, anyhow::Error>(number(&latency[share])? / 1_000.0);
    let memory: Vec<_> = resident_kib(cluster)?.iter().map(|kib| (kib >> 10).to_string()).collect();
    let (p50, p99, memory) = (ms("p50")?, ms("p99")?, memory.join(", "));
    let failed = match figures["failed"].as_u64() {
        Some(0) => String::new(),
        _ => format!("; failed: {}", figures["failures"]),
    };
    Ok(format!("{rate:.0}{failed} | {p50:.2} / {p99:.2} | {each:.1} | {memory}"))
}

/// Processor time that all nodes have used, in and for them.
fn processor_us(cluster: &ProcessCluster) -> Result<u64> {
    /// `USER_HZ`, which is the same on every Linux that runs this.
    const TICK_US: u64 = 10_000;
    let of = |id| -> Result<u64> {
        let pid = cluster.pid(id).context("a node is not running")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name, which is in brackets and may have blanks: state is the third field.
        let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let ticks = |field: usize| -> Result<u64> {
            Ok(fields.get(field - 3).context("too few fields in stat")?.parse()?)
        };
        Ok((ticks(14)? + ticks(15)?) * TICK_US)
    };
    cluster.ids().into_iter().map(of).sum()
}
