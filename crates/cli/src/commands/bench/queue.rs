//! `quorate bench queue`: the way of a job, pushed, delivered, acknowledged.

use super::measured::{Latencies, Measured};
use super::plot;
use super::running::{Own, Span};
use super::timing::Timing;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_client::queue::Consumer;
use quorate_client::{Client, Error, Queue as Queues, Routing};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long the delivery of a job that was pushed is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a payload begins with: which run, and which job of it.
const MARK_BYTES: usize = 16;

const AFTER_HELP: &str = "\
An operation is a job's whole way: it is pushed, delivered to one of the consumers, and acknowledged by
it; each connection consumes, and pushes the next job when one of its own is acknowledged. The parts:
push from asking to the answer, deliver from asking to push until the job is there, ack from asking to
the answer. Commands per job say what a job costs in the log: one for the push, which delivers it as
well, one for the ack.";

/// `quorate bench queue`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Queue {
    #[command(flatten)]
    connect: Connect,
    /// Connections, each with a session and a consumer of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Jobs under way at once from each connection
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=500))]
    in_flight: u32,
    #[command(flatten)]
    timing: Timing,
    /// Draw operations per second and latency into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(MARK_BYTES as i64..=1 << 20))]
    value_bytes: u32,
    /// A queue that has no jobs; by default one that is made for it, and deleted at the end
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
}

impl Queue {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let (measured, parts) = runtime.block_on(self.measure())?;
        runtime.shutdown_background();
        if let Some(path) = &self.plot {
            plot::draw(path, &self.title(), &measured)?;
        }
        let jobs = measured.count();
        output.result(
            || measured.json(self.described(&parts)),
            || {
                format!(
                    "{}\n{}\nan operation is a job's way from push to ack; {:.2} entries and {:.2} \
                     commands per job",
                    measured.text(),
                    parts.text(),
                    measured.per_operation("entries_proposed"),
                    measured.per_operation("commands_proposed"),
                )
            },
        )?;
        match jobs {
            0 => Err(anyhow::anyhow!("not one job came through; see the failures").into()),
            _ => Ok(()),
        }
    }

    async fn measure(&self) -> Result<(Measured, Parts), Failure> {
        let watcher = self.client(Routing::AnyNode)?;
        let nodes = watcher.cluster().members().await?.members;
        let run: u64 = rand::random();
        let (name, ours) = match &self.queue {
            Some(name) => (name.clone(), self.must_be_empty(&watcher, name).await?),
            None => (format!("bench/queue/{run:016x}"), true),
        };
        let clients = (0..self.clients)
            .map(|_| self.client(Routing::Leader))
            .collect::<Result<Vec<_>, _>>()?;
        let desk = Arc::new(Desk { run, state: Mutex::default() });
        let mut consumers = JoinSet::new();
        for client in &clients {
            // Room for one's own jobs, and as many of others.
            let consumer = client.queue().consume(&name, 2 * self.in_flight).start().await?;
            consumers.spawn(consume(consumer, Arc::clone(&desk)));
        }
        let span = Span::start(&self.timing)?;
        let mut workers = Vec::new();
        for client in &clients {
            for _ in 0..self.in_flight {
                let lane = Lane {
                    queues: client.queue(),
                    name: name.clone(),
                    bytes: self.value_bytes as usize,
                    desk: Arc::clone(&desk),
                    span: Arc::clone(&span),
                };
                workers.push(tokio::spawn(lane.run()));
            }
        }
        let measured = span.measure(&watcher, &nodes, workers).await?;
        consumers.abort_all();
        if ours {
            // Another run has a name of its own, so that a leftover is in nobody's way.
            let _ = watcher.queue().delete(&name).await;
        }
        let closing = clients.iter().chain([&watcher]).map(Client::close);
        // What can't be closed ends with its ttl.
        drop(futures::future::join_all(closing).await);
        let parts = std::mem::take(&mut desk.state().parts);
        Ok((measured, parts))
    }

    /// Jobs of others would be taken from them. Answers whether there is no such queue yet.
    async fn must_be_empty(&self, client: &Client, name: &str) -> Result<bool, Failure> {
        match client.queue().stats(name).await {
            Ok(queue) if queue.ready + queue.delayed + queue.leased == 0 => Ok(false),
            Ok(queue) => Err(Failure::Usage(format!(
                "queue {name:?} has {} jobs, which this would take; name another one, or none",
                queue.ready + queue.delayed + queue.leased
            ))),
            Err(Error::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn client(&self, routing: Routing) -> Result<Client, Failure> {
        let options = self.connect.options()?.namespace(self.connect.namespace()).routing(routing);
        Ok(options.connect()?)
    }

    fn title(&self) -> String {
        format!(
            "queue, {} connections x {} in flight, {} bytes{}",
            self.clients,
            self.in_flight,
            self.value_bytes,
            self.timing.text()
        )
    }

    /// What was run, for the result.
    fn described(&self, parts: &Parts) -> Map<String, Value> {
        let Value::Object(described) = json!({
            "bench": "queue",
            "clients": self.clients,
            "in_flight": self.in_flight,
            "value_bytes": self.value_bytes,
            "latency_of": "job",
            "parts_us": {
                "push": parts.push.json(),
                "deliver": parts.deliver.json(),
                "ack": parts.ack.json(),
            },
            "rate": self.timing.rate(),
            "warm_up_ms": self.timing.warm_up_ms(),
        }) else {
            unreachable!("it is an object")
        };
        described
    }
}

/// The parts of jobs that lie within the span.
#[derive(Debug)]
struct Parts {
    push: Latencies,
    deliver: Latencies,
    ack: Latencies,
}

impl Default for Parts {
    fn default() -> Self {
        Self { push: Latencies::new(), deliver: Latencies::new(), ack: Latencies::new() }
    }
}

impl Parts {
    fn add(&mut self, other: &Self) {
        self.push.add(&other.push);
        self.deliver.add(&other.deliver);
        self.ack.add(&other.ack);
    }

    fn text(&self) -> String {
        let ms = |us: u64| format!("{:.2} ms", us as f64 / 1_000.0);
        let part = |name: &str, of: &Latencies| {
            format!("{name} p50 {} p99 {}", ms(of.at(0.5)), ms(of.at(0.99)))
        };
        [("push", &self.push), ("deliver", &self.deliver), ("ack", &self.ack)]
            .map(|(name, of)| part(name, of))
            .join("  ")
    }
}

/// When a job was delivered, and when and how its ack was answered.
struct Settled {
    delivered_at: Instant,
    acked_at: Instant,
    acked: Result<(), Error>,
}

/// Where those who push meet those who consume.
struct Desk {
    run: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Who waits for which job.
    waiting: BTreeMap<u64, oneshot::Sender<Settled>>,
    parts: Parts,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a job, and where its end is told.
    fn expect(&self) -> (u64, oneshot::Receiver<Settled>) {
        let (settled, told) = oneshot::channel();
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.waiting.insert(number, settled);
        (number, told)
    }

    fn mark(&self, number: u64) -> [u8; MARK_BYTES] {
        let mut mark = [0; MARK_BYTES];
        mark[..8].copy_from_slice(&self.run.to_be_bytes());
        mark[8..].copy_from_slice(&number.to_be_bytes());
        mark
    }

    /// The number of a job of this run.
    fn number(&self, payload: &[u8]) -> Option<u64> {
        let (run, rest) = payload.split_first_chunk()?;
        let (number, _) = rest.split_first_chunk()?;
        (u64::from_be_bytes(*run) == self.run).then(|| u64::from_be_bytes(*number))
    }
}

/// Acknowledges what comes.
async fn consume(mut consumer: Consumer, desk: Arc<Desk>) {
    let mut acks = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = acks.join_next() => {}
            job = consumer.next() => {
                let Some(Ok(job)) = job else { return };
                let delivered_at = Instant::now();
                let Some(number) = desk.number(job.payload()) else {
                    // Not ours: its lease ends, and it goes to others.
                    let _ = job.leave();
                    continue;
                };
                let desk = Arc::clone(&desk);
                acks.spawn(async move {
                    let acked = job.ack().await;
                    let acked_at = Instant::now();
                    let Some(waits) = desk.state().waiting.remove(&number) else { return };
                    // Who waited too long is gone.
                    let _ = waits.send(Settled { delivered_at, acked_at, acked });
                });
            }
        }
    }
}

/// One job after the other.
struct Lane {
    queues: Queues,
    name: String,
    bytes: usize,
    desk: Arc<Desk>,
    span: Arc<Span>,
}

impl Lane {
    async fn run(self) -> Own {
        let mut own = Own::new();
        let mut parts = Parts::default();
        while let Some(begun) = self.span.next().await {
            let done = self.job(begun, &mut parts).await;
            self.span.take(&mut own, begun, Instant::now(), done);
        }
        self.desk.state().parts.add(&parts);
        own
    }

    async fn job(&self, begun: Instant, parts: &mut Parts) -> Result<(), Error> {
        let (number, told) = self.desk.expect();
        let mut payload = vec![b'x'; self.bytes];
        payload[..MARK_BYTES].copy_from_slice(&self.desk.mark(number));
        let pushed = self.queues.push(&self.name, payload).await;
        let pushed_at = Instant::now();
        let settled = match pushed {
            Ok(_) => tokio::time::timeout(PATIENCE, told).await,
            Err(error) => {
                self.desk.state().waiting.remove(&number);
                return Err(error);
            }
        };
        let Ok(Ok(settled)) = settled else {
            self.desk.state().waiting.remove(&number);
            return Err(Error::Unavailable {
                reason: "NOT_DELIVERED".to_owned(),
                message: format!("a job was not delivered within {PATIENCE:?}"),
            });
        };
        settled.acked?;
        if self.span.times.measures(begun) {
            parts.push.record(pushed_at - begun);
            parts.deliver.record(settled.delivered_at - begun);
            parts.ack.record(settled.acked_at - settled.delivered_at);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_other_runs_are_told_apart() {
        let desk = |run| Desk { run, state: Mutex::default() };
        let (ours, other) = (desk(7), desk(8));
        assert_eq!(ours.number(&ours.mark(17)), Some(17));
        assert_eq!(ours.number(&other.mark(17)), None);
        assert_eq!(ours.number(b"short"), None);
    }
}
