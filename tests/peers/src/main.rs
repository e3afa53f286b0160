//! The same work on Quorate and on etcd, three processes each, in one run on one machine, and the
//! ratios. Started by `scripts/bench-peers`.
//!
//! Both get their best case: every connection goes to the leader, with one operation in flight or
//! as many as are asked for; random keys, values of the same size, linearizable reads. Quorate is driven by `quorate bench kv`,
//! etcd by the loop in `etcd.rs`, which does what that command does.

mod etcd;
mod quorate;

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;
use std::str::FromStr;

/// Measures Quorate and etcd with the same work, one after the other, again and again.
#[derive(Debug, Parser)]
struct Arguments {
    /// The quorate binary
    #[arg(long)]
    quorate: PathBuf,
    /// The etcd binary
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// Connections, or connections and operations in flight on each, as in 4x64; several are
    /// measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "64,256,4x64")]
    clients: Vec<Clients>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Bytes of each value
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// Different keys
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// How often all of it is measured; the table has the medians
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
struct Clients {
    connections: u32,
    /// On each.
    in_flight: u32,
}

impl FromStr for Clients {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (connections, in_flight) = text.split_once('x').unwrap_or((text, "1"));
        Ok(Self { connections: connections.parse()?, in_flight: in_flight.parse()? })
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Work {
    put: bool,
    clients: Clients,
    seconds: u64,
    value_bytes: usize,
    keys: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for &clients in &arguments.clients {
        for put in [true, false] {
            let Arguments { seconds, value_bytes, keys, .. } = arguments;
            let work = Work { put, clients, seconds, value_bytes, keys };
            let (mut theirs, mut ours, mut unary) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..arguments.rounds.max(1) {
                theirs.push(runtime.block_on(etcd::measure(&arguments.etcd, work))?);
                let cluster = quorate::Cluster::start(&arguments.quorate)?;
                ours.push(cluster.measure(work, false)?);
                unary.push(cluster.measure(work, true)?);
                drop(cluster);
                eprintln!(
                    "round {}: {} with {} connections, {} in flight on each: etcd {:.0}/s, quorate {:.0}/s",
                    round + 1,
                    if put { "put" } else { "get" },
                    clients.connections,
                    clients.in_flight,
                    theirs[round].per_second,
                    ours[round].per_second
                );
            }
            rows.push((work, median(theirs), median(ours), median(unary)));
        }
    }
    println!("| work | connections | in flight on each | etcd ops/s | quorate ops/s | ratio | etcd p50/p99 ms | quorate p50/p99 ms | quorate unary ops/s |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let ms = |us: u64| us as f64 / 1_000.0;
    for (work, etcd, ours, unary) in rows {
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.2} | {:.1} / {:.1} | {:.1} / {:.1} | {:.0} |",
            if work.put { "put" } else { "get" },
            work.clients.connections,
            work.clients.in_flight,
            etcd.per_second,
            ours.per_second,
            ours.per_second / etcd.per_second,
            ms(etcd.p50_us),
            ms(etcd.p99_us),
            ms(ours.p50_us),
            ms(ours.p99_us),
            unary.per_second
        );
    }
    Ok(())
}

/// The measurement in the middle, by operations per second.
fn median(mut figures: Vec<Figures>) -> Figures {
    figures.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
