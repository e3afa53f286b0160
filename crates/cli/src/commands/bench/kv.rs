//! `quorate bench kv`: N connections, each with M operations in flight.

use super::measured::Measured;
use super::plot;
use super::running::{Own, Span, progress};
use super::timing::Timing;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, ValueEnum};
use quorate_client::{Client, Error, KeyValue, Options, Routing};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::Instant;

/// Keys that are written at once before reads are measured.
const FILLING: usize = 256;

/// `quorate bench kv`
#[derive(Debug, Args)]
pub(crate) struct Kv {
    #[command(flatten)]
    connect: Connect,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Operations under way at once on each connection
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    #[command(flatten)]
    timing: Timing,
    /// Draw operations per second and latency into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    value_bytes: u32,
    /// How many different keys, chosen at random
    #[arg(long, value_name = "K", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// What is done; mixed is half of each
    #[arg(long, value_enum, default_value_t = Op::Put)]
    op: Op,
    /// Which node is asked
    #[arg(long, value_enum, default_value_t = Via::Leader)]
    via: Via,
    /// Do not set all keys before they are read: they are there
    #[arg(long)]
    no_fill: bool,
    /// Each call on its own instead of in a pipeline
    #[arg(long)]
    unary: bool,
    /// Repeats the choice of keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Op {
    /// Set a key
    Put,
    /// Get a key; linearizable
    Get,
    /// Either
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Via {
    /// The leader
    Leader,
    /// Each connection one of the endpoints, in turn
    Any,
}

/// What all workers share.
struct Shared {
    op: Op,
    keys: u64,
    value: Vec<u8>,
    span: Arc<Span>,
}

impl Kv {
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
        output.result(|| measured.json(self.described()), || measured.text())
    }

    async fn measure(&self) -> Result<Measured, Failure> {
        let watcher = self.options()?.routing(Routing::AnyNode).connect()?;
        let nodes = watcher.cluster().members().await?.members;
        if self.op != Op::Put && !self.no_fill {
            self.fill(&watcher).await?;
        }
        let clients = self.clients()?;
        let span = Span::start(&self.timing)?;
        let shared = Arc::new(Shared {
            op: self.op,
            keys: self.keys,
            value: vec![b'x'; usize::try_from(self.value_bytes).unwrap_or(0)],
            span: Arc::clone(&span),
        });
        let mut workers = Vec::new();
        for (client, number) in clients.iter().zip(0_u64..) {
            for lane in 0..u64::from(self.in_flight) {
                let seed = self.seed ^ (number << 16 | lane);
                let worker = Worker {
                    kv: client.kv_in(self.connect.namespace()),
                    random: SmallRng::seed_from_u64(seed),
                    shared: Arc::clone(&shared),
                };
                workers.push(tokio::spawn(worker.run()));
            }
        }
        Ok(span.measure(&watcher, &nodes, workers).await?)
    }

    fn options(&self) -> Result<Options, Failure> {
        Ok(self.connect.options()?.unary(self.unary))
    }

    fn clients(&self) -> Result<Vec<Client>, Failure> {
        let endpoints: Vec<_> = self.connect.endpoints().collect();
        (0..self.clients)
            .map(|number| {
                let options = match self.via {
                    Via::Leader => self.options()?.routing(Routing::Leader),
                    Via::Any => {
                        let turn = usize::try_from(number).unwrap_or(0) % endpoints.len();
                        self.options()?.endpoints([endpoints[turn]]).routing(Routing::Endpoints)
                    }
                };
                Ok(options.connect()?)
            })
            .collect()
    }

    /// Writes every key once, so that there is something to read.
    async fn fill(&self, client: &Client) -> Result<(), Failure> {
        let bar = progress(self.keys, "filling");
        let kv = client.kv_in(self.connect.namespace());
        let value = vec![b'x'; usize::try_from(self.value_bytes).unwrap_or(0)];
        let sets = (0..self.keys).map(|number| {
            let (kv, value, bar) = (kv.clone(), value.clone(), bar.clone());
            async move {
                kv.set(key(number), value).await?;
                bar.inc(1);
                Ok::<_, Error>(())
            }
        });
        let mut sets = futures::StreamExt::buffer_unordered(futures::stream::iter(sets), FILLING);
        while let Some(set) = futures::StreamExt::next(&mut sets).await {
            set?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn title(&self) -> String {
        format!(
            "kv {:?}, {} connections x {} in flight, {} bytes{}{}",
            self.op,
            self.clients,
            self.in_flight,
            self.value_bytes,
            if self.unary { ", unary" } else { "" },
            self.timing.text()
        )
        .to_lowercase()
    }

    /// What was run, for the result.
    fn described(&self) -> Map<String, Value> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned())
        };
        let Value::Object(described) = json!({
            "bench": "kv",
            "op": name(self.op.to_possible_value()),
            "via": name(self.via.to_possible_value()),
            "clients": self.clients,
            "in_flight": self.in_flight,
            "unary": self.unary,
            "value_bytes": self.value_bytes,
            "keys": self.keys,
            "rate": self.timing.rate(),
            "warm_up_ms": self.timing.warm_up_ms(),
        }) else {
            unreachable!("it is an object")
        };
        described
    }
}

fn key(number: u64) -> String {
    format!("bench/{number:010}")
}

/// One operation after the other.
struct Worker {
    kv: KeyValue,
    random: SmallRng,
    shared: Arc<Shared>,
}

impl Worker {
    async fn run(mut self) -> Own {
        let mut own = Own::new();
        let shared = Arc::clone(&self.shared);
        while let Some(begun) = shared.span.next().await {
            let done = self.operate().await;
            shared.span.take(&mut own, begun, Instant::now(), done);
        }
        own
    }

    async fn operate(&mut self) -> Result<(), Error> {
        let key = key(self.random.random_range(0..self.shared.keys));
        let put = match self.shared.op {
            Op::Put => true,
            Op::Get => false,
            Op::Mixed => self.random.random(),
        };
        if put {
            self.kv.set(key, self.shared.value.clone()).await?;
        } else {
            self.kv.get(key).await?;
        }
        Ok(())
    }
}
