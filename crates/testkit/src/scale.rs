//! What the programs behind `scripts/scale*` and `scripts/soak` share: they fill a cluster of real
//! nodes, measure, and write a table.

#![allow(clippy::print_stdout, reason = "for programs for people and scripts")]

mod writers;

pub use writers::Writers;

use crate::process::{NodeId, ProcessCluster};
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use quorate_client::{Client, Options};
use std::time::Duration;

/// For an answer from a node that is as busy as it can be.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Writes a line of the table.
pub fn row(what: &str, measured: &str, aim: &str) {
    println!("| {what} | {measured} | {aim} |");
}

/// A client of all nodes.
///
/// # Errors
/// When the addresses are no addresses.
pub fn connect(cluster: &ProcessCluster) -> Result<Client> {
    Ok(Options::default().endpoints(cluster.endpoints()).request_timeout(PATIENCE).connect()?)
}

/// Microseconds, as histograms hold them.
#[must_use]
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Of a histogram of microseconds.
#[must_use]
pub fn p99(times: &Histogram<u64>) -> u64 {
    times.value_at_quantile(0.99)
}

/// p50, p99 and the worst, in milliseconds.
#[must_use]
pub fn percentiles(times: &Histogram<u64>) -> String {
    let [p50, p99, max] =
        [times.value_at_quantile(0.5), p99(times), times.max()].map(|us| us as f64 / 1_000.0);
    format!("p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms")
}

/// As [`percentiles`], and how their p99 compares with another one.
#[must_use]
pub fn compared(times: &Histogram<u64>, alone: &Histogram<u64>) -> String {
    format!("{}; p99 {}", percentiles(times), p99_ratio(times, alone))
}

/// How many times as long a p99 is as another one.
#[must_use]
pub fn p99_ratio(times: &Histogram<u64>, alone: &Histogram<u64>) -> String {
    format!("{:.1}x", p99(times) as f64 / p99(alone) as f64)
}

/// KiB that each node's process has in memory, the pages of its program file included.
///
/// # Errors
/// When a node does not run.
pub fn resident_kib(cluster: &ProcessCluster) -> Result<Vec<u64>> {
    let of = |id: NodeId| -> Result<u64> {
        let pid = cluster.pid(id).context("a node is not running")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .context("no VmRSS")?;
        Ok(kib.trim().parse()?)
    };
    cluster.ids().into_iter().map(of).collect()
}

/// [`resident_kib`] as text, in MiB.
///
/// # Errors
/// When a node does not run.
pub fn mebibytes(cluster: &ProcessCluster) -> Result<String> {
    let all = resident_kib(cluster)?;
    let all: Vec<String> = all.iter().map(|kib| (kib / 1_024).to_string()).collect();
    Ok(format!("{} MiB", all.join(", ")))
}
