//! `quorate bench lock`: locks that are acquired and released, each client its own or all the same.

use super::measured::Measured;
use super::plot;
use super::running::{Own, Span};
use super::timing::Timing;
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_client::{Client, Error, Locks, Routing};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a lock that others hold is waited for: until the measurement is over, and more.
const WAIT: Duration = Duration::from_secs(60);

const AFTER_HELP: &str = "\
An operation is a cycle: a lock is acquired, and released. Its latency is that of both together; with
--contended that of the acquire alone, from asking to holding. Commands per cycle say what a cycle
costs in the log: one for the acquire, one for the release, none for a renewal.";

/// `quorate bench lock`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Lock {
    #[command(flatten)]
    connect: Connect,
    /// Connections, each with a session of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Cycles under way at once on each connection
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    in_flight: u32,
    #[command(flatten)]
    timing: Timing,
    /// Draw operations per second and latency into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// All on one lock, waiting in line for it, instead of each on its own
    #[arg(long)]
    contended: bool,
    /// The ttl of the locks
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crate::commands::lock::parse_ttl)]
    ttl: Duration,
}

impl Lock {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let measured = runtime.block_on(self.measure())?;
        runtime.shutdown_background();
        if let Some(path) = &self.plot {
            plot::draw(path, &self.title(), &measured)?;
        }
        let cycles = measured.count();
        output.result(
            || measured.json(self.described()),
            || {
                let of = if self.contended { "an acquire" } else { "a cycle" };
                format!(
                    "{}\nan operation is a cycle of acquire and release, latency is that of {of}; \
                     {:.2} entries and {:.2} commands per cycle",
                    measured.text(),
                    measured.per_operation("entries_proposed"),
                    measured.per_operation("commands_proposed"),
                )
            },
        )?;
        match cycles {
            0 => Err(anyhow::anyhow!("not one cycle was completed; see the failures").into()),
            _ => Ok(()),
        }
    }

    async fn measure(&self) -> Result<Measured, Failure> {
        let watcher = self.client(Routing::AnyNode)?;
        let nodes = watcher.cluster().members().await?.members;
        let clients = (0..self.clients)
            .map(|_| self.client(Routing::Leader))
            .collect::<Result<Vec<_>, _>>()?;
        let span = Span::start(&self.timing)?;
        let mut workers = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            for lane in 0..self.in_flight {
                let name = match self.contended {
                    true => "bench/lock".to_owned(),
                    false => format!("bench/lock/{number}/{lane}"),
                };
                let worker = Worker {
                    locks: client.locks(),
                    name,
                    ttl: self.ttl,
                    contended: self.contended,
                    span: Arc::clone(&span),
                };
                workers.push(tokio::spawn(worker.run()));
            }
        }
        let measured = span.measure(&watcher, &nodes, workers).await?;
        // What can't be closed ends with its ttl.
        drop(futures::future::join_all(clients.iter().map(Client::close)).await);
        Ok(measured)
    }

    fn client(&self, routing: Routing) -> Result<Client, Failure> {
        let options = self.connect.options()?.namespace(self.connect.namespace()).routing(routing);
        Ok(options.connect()?)
    }

    fn title(&self) -> String {
        format!(
            "lock{}, {} connections x {} in flight{}",
            if self.contended { ", one for all" } else { "" },
            self.clients,
            self.in_flight,
            self.timing.text()
        )
    }

    /// What was run, for the result.
    fn described(&self) -> Map<String, Value> {
        let Value::Object(described) = json!({
            "bench": "lock",
            "clients": self.clients,
            "in_flight": self.in_flight,
            "contended": self.contended,
            "latency_of": if self.contended { "acquire" } else { "cycle" },
            "ttl_ms": duration::millis(self.ttl),
            "rate": self.timing.rate(),
            "warm_up_ms": self.timing.warm_up_ms(),
        }) else {
            unreachable!("it is an object")
        };
        described
    }
}

/// One cycle after the other.
struct Worker {
    locks: Locks,
    name: String,
    ttl: Duration,
    contended: bool,
    span: Arc<Span>,
}

impl Worker {
    async fn run(self) -> Own {
        let mut own = Own::new();
        while let Some(begun) = self.span.next().await {
            let mut held_at = None;
            let done = self.cycle(&mut held_at).await;
            let measured_until = held_at.filter(|_| self.contended).unwrap_or_else(Instant::now);
            self.span.take(&mut own, begun, measured_until, done);
        }
        own
    }

    async fn cycle(&self, held_at: &mut Option<Instant>) -> Result<(), Error> {
        let lock = self.locks.acquire(&self.name).ttl(self.ttl).wait(WAIT).await?;
        *held_at = Some(Instant::now());
        lock.release().await?;
        Ok(())
    }
}
