//! `quorate bench cache`: what a read, a write and a value that is built at most once cost.

use super::measured::Measured;
use super::plot;
use super::running::{Own, Span, progress};
use super::timing::Timing;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, ValueEnum};
use quorate_client::cache::{BuildError, BuildOptions, NearOptions};
use quorate_client::{Cache as Handle, Client, Error, Options, Routing};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::Instant;

/// Keys that are written at once before reads are measured.
const FILLING: usize = 256;
/// What is measured when nothing is said: one after the other.
const ALL: [Op; 4] = [Op::Get, Op::GetLinearizable, Op::Set, Op::GetOrBuild];

const AFTER_HELP: &str = "\
Without --op, get, get-linearizable, set and get-or-build are measured one after the other, with a line
each. All keys are set before anything is read, so get-or-build finds what it is asked for. With near
each connection keeps copies in this process, kept right by what the cluster says has changed; most
reads then ask nobody.";

/// `quorate bench cache`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Cache {
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
    #[arg(long, value_name = "FILE", requires = "op")]
    plot: Option<PathBuf>,
    /// Bytes of each value
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    value_bytes: u32,
    /// How many different keys, chosen at random
    #[arg(long, value_name = "K", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// What is done
    #[arg(long, value_enum)]
    op: Option<Op>,
    /// Which node is asked
    #[arg(long, value_enum, default_value_t = Via::Leader)]
    via: Via,
    /// Each call on its own instead of in a pipeline
    #[arg(long)]
    unary: bool,
    /// Repeats the choice of keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Op {
    /// Get a key, from what the asked node has and this client has seen
    Get,
    /// Get a key; linearizable
    GetLinearizable,
    /// Set a key
    Set,
    /// Get a key that would be built if it were not there
    GetOrBuild,
    /// Get a key, from this process if it has a copy
    Near,
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

impl Cache {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let ops = self.op.map_or_else(|| ALL.to_vec(), |op| vec![op]);
        let several = ops.len() > 1;
        let mut filled = false;
        for op in ops {
            let measured = runtime.block_on(async {
                if op != Op::Set && !std::mem::replace(&mut filled, true) {
                    self.fill().await?;
                }
                self.measure(op).await
            })?;
            if let Some(path) = &self.plot {
                plot::draw(path, &self.title(op), &measured)?;
            }
            output.result(
                || measured.json(self.described(op)),
                || match several {
                    true => format!("{}\n{}\n", self.title(op), measured.text()),
                    false => measured.text(),
                },
            )?;
        }
        runtime.shutdown_background();
        Ok(())
    }

    async fn measure(&self, op: Op) -> Result<Measured, Failure> {
        let watcher = self.options()?.routing(Routing::AnyNode).connect()?;
        let nodes = watcher.cluster().members().await?.members;
        let clients = self.clients()?;
        let span = Span::start(&self.timing)?;
        let shared =
            Arc::new(Shared { op, keys: self.keys, value: self.value(), span: Arc::clone(&span) });
        let mut workers = Vec::new();
        for (client, number) in clients.iter().zip(0_u64..) {
            let mut cache = client.cache_in(self.connect.namespace());
            if op == Op::Near {
                cache = cache.near(NearOptions::new());
            }
            for lane in 0..u64::from(self.in_flight) {
                let seed = self.seed ^ (number << 16 | lane);
                let worker = Worker {
                    cache: cache.clone(),
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

    fn value(&self) -> Vec<u8> {
        vec![b'x'; usize::try_from(self.value_bytes).unwrap_or(0)]
    }

    /// Writes every key once, so that there is something to read.
    async fn fill(&self) -> Result<(), Failure> {
        let bar = progress(self.keys, "filling");
        let client = self.options()?.connect()?;
        let cache = client.cache_in(self.connect.namespace());
        let sets = (0..self.keys).map(|number| {
            let (cache, value, bar) = (cache.clone(), self.value(), bar.clone());
            async move {
                cache.set(key(number), value).await?;
                bar.inc(1);
                Ok::<_, Error>(())
            }
        });
        let mut sets = futures::StreamExt::buffer_unordered(futures::stream::iter(sets), FILLING);
        while let Some(set) = futures::StreamExt::next(&mut sets).await {
            set?;
        }
        bar.finish_and_clear();
        // What can't be closed ends with its ttl.
        let _ = client.close().await;
        Ok(())
    }

    fn title(&self, op: Op) -> String {
        format!(
            "cache {}, {} connections x {} in flight, {} bytes{}{}",
            name(op),
            self.clients,
            self.in_flight,
            self.value_bytes,
            if self.unary { ", unary" } else { "" },
            self.timing.text()
        )
    }

    /// What was run, for the result.
    fn described(&self, op: Op) -> Map<String, Value> {
        let Value::Object(described) = json!({
            "bench": "cache",
            "op": name(op),
            "via": name(self.via),
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

/// As it is written on the command line.
fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn key(number: u64) -> String {
    format!("bench/{number:010}")
}

/// One operation after the other.
struct Worker {
    cache: Handle,
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
            if shared.op == Op::Near {
                // A copy is found without waiting for anybody, so nobody else would get to run.
                tokio::task::yield_now().await;
            }
        }
        own
    }

    async fn operate(&mut self) -> Result<(), Error> {
        let key = key(self.random.random_range(0..self.shared.keys));
        match self.shared.op {
            Op::Get | Op::Near => drop(self.cache.get(key).await?),
            Op::GetLinearizable => drop(self.cache.get(key).linearizable().await?),
            Op::Set => drop(self.cache.set(key, self.shared.value.clone()).await?),
            Op::GetOrBuild => {
                let shared = Arc::clone(&self.shared);
                let build = move || {
                    let value = shared.value.clone();
                    async move { Ok::<_, Infallible>(value) }
                };
                let got = self.cache.get_or_build(key, BuildOptions::new(), build).await;
                // No builder fails here.
                if let Err(BuildError::Client(error)) = got {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
