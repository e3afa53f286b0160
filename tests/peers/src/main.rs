//! The same work on Quorate and on etcd, three processes each, in one run on one machine, and the
//! ratios. Started by `scripts/bench-peers`.
//!
//! Both get their best case: every connection goes to the leader, one operation in flight on each,
//! random keys, values of the same size, linearizable reads. Quorate is driven by `quorate bench kv`,
//! etcd by the loop in `etcd.rs`, which does what that command does.

mod etcd;
mod quorate;

use anyhow::Result;
use clap::Parser;
use std::path::PathBuf;

/// Measures Quorate and etcd with the same work, one after the other, again and again.
#[derive(Debug, Parser)]
struct Arguments {
    /// The quorate binary
    #[arg(long)]
    quorate: PathBuf,
    /// The etcd binary
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// Connections; several are measured one after the other
    #[arg(long, value_delimiter = ',', default_value = "64,256")]
    clients: Vec<u32>,
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

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Work {
    put: bool,
    clients: u32,
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
                    "round {}: {} with {clients} connections: etcd {:.0}/s, quorate {:.0}/s",
                    round + 1,
                    if put { "put" } else { "get" },
                    theirs[round].per_second,
                    ours[round].per_second
                );
            }
            rows.push((work, median(theirs), median(ours), median(unary)));
        }
    }
    println!("| work | connections | etcd ops/s | quorate ops/s | ratio | etcd p50/p99 ms | quorate p50/p99 ms | quorate unary ops/s |");
    println!("|---|---|---|---|---|---|---|---|");
    let ms = |us: u64| us as f64 / 1_000.0;
    for (work, etcd, ours, unary) in rows {
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.2} | {:.1} / {:.1} | {:.1} / {:.1} | {:.0} |",
            if work.put { "put" } else { "get" },
            work.clients,
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
