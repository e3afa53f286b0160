//! Three nodes of NATS: keys in a JetStream bucket and jobs in a work queue, both with three replicas,
//! and messages of its core.
//!
//! What JetStream acknowledges is in the memory of a majority; it is synced later (every two minutes by
//! default). A get is answered by any replica from what it has.

use crate::closed_loop::{Figures, Lane, Latencies, Span, run};
use crate::desk::{Cycle, Desk, Push};
use crate::kv::{self, Kv};
use crate::processes::Processes;
use crate::work::{Job, Work};
use anyhow::{Context as _, Result, bail, ensure};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event, Subscriber};
use futures::StreamExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Ports for clients and for the other nodes of the first node; the others follow in tens.
const BASE_PORT: u16 = 14_222;
const NODES: u16 = 3;
const REPLICAS: usize = 3;
const BUCKET: &str = "bench";
/// Of the stream and of its subject.
const QUEUE: &str = "jobs";
const CHANNEL: &str = "bench.bus";
/// Above every number of pulls that wait, and of jobs that are not acknowledged, in any load.
const UNDER_WAY_MAX: i64 = 100_000;
/// An answer of a system whose every operation waits for others may take long.
const ANSWER_MAX: Duration = Duration::from_secs(60);

fn client_url(node: u16) -> String {
    format!("nats://127.0.0.1:{}", BASE_PORT + node * 10)
}

fn route_url(node: u16) -> String {
    format!("nats://127.0.0.1:{}", BASE_PORT + node * 10 + 1)
}

fn name(node: u16) -> String {
    format!("nats-{node}")
}

fn start(program: &Path) -> Result<Processes> {
    let ports: Vec<_> =
        (0..NODES).map(|node| BASE_PORT + node * 10).flat_map(|port| [port, port + 1]).collect();
    let mut processes = Processes::new(&ports)?;
    let routes: Vec<_> = (0..NODES).map(route_url).collect();
    for node in 0..NODES {
        let store = processes.dir().join(name(node));
        let mut command = Command::new(program);
        command
            .args(["--name", &name(node), "--addr", "127.0.0.1"])
            .args(["--port", &(BASE_PORT + node * 10).to_string()])
            .args(["--cluster_name", "peers", "--cluster", &route_url(node)])
            .args(["--routes", &routes.join(",")])
            .args(["--jetstream", "--store_dir"])
            .arg(store);
        processes.start(&name(node), &mut command)?;
    }
    Ok(processes)
}

async fn connect(node: u16, slow: &Arc<AtomicU64>) -> Result<Client> {
    let slow = Arc::clone(slow);
    let options = ConnectOptions::new()
        // Each stays where it is put.
        .ignore_discovered_servers()
        .request_timeout(Some(ANSWER_MAX))
        .event_callback(move |event| {
            if matches!(event, Event::SlowConsumer(_)) {
                slow.fetch_add(1, Ordering::Relaxed);
            }
            std::future::ready(())
        });
    options.connect(client_url(node)).await.with_context(|| format!("no way to {}", name(node)))
}

fn context(client: Client) -> Context {
    jetstream::context::ContextBuilder::new()
        .timeout(ANSWER_MAX)
        .ack_timeout(ANSWER_MAX)
        .build(client)
}

/// The node that leads a stream, if all replicas of it are there.
fn leader(info: &Info) -> Result<u16> {
    let cluster = info.cluster.as_ref().context("a stream of one node")?;
    let followers = cluster.replicas.iter().filter(|replica| replica.current && !replica.offline);
    ensure!(followers.count() == REPLICAS - 1, "not all replicas are there yet");
    let leader = cluster.leader.as_deref().context("no leader yet")?;
    (0..NODES).find(|node| name(*node) == leader).with_context(|| format!("a stranger: {leader}"))
}

pub(crate) async fn measure(program: &Path, job: &Job) -> Result<Figures> {
    let mut processes = start(program)?;
    let figures = match job.work {
        Work::Put | Work::Get => keys(&mut processes, job).await,
        Work::Queue => queue(&mut processes, job).await,
        Work::Bus => bus(&mut processes, job).await,
        Work::Lock | Work::Contended | Work::Cache => bail!("NATS has no {}", job.work.name()),
    };
    processes.check()?;
    figures
}

/// Connections to the node that leads.
async fn contexts(job: &Job, leader: u16) -> Result<Vec<Context>> {
    let mut contexts = Vec::new();
    for _ in 0..job.clients().connections {
        contexts.push(context(connect(leader, &Arc::default()).await?));
    }
    Ok(contexts)
}

async fn keys(processes: &mut Processes, job: &Job) -> Result<Figures> {
    let made = async || {
        let context = context(connect(0, &Arc::default()).await?);
        let name = format!("KV_{BUCKET}");
        // As the client makes a bucket, which it can't on a server this old: it asks for the account
        // first, and the answer lacks what newer servers say.
        let bucket = Config {
            name: name.clone(),
            subjects: vec![format!("$KV.{BUCKET}.>")],
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_direct: true,
            deny_delete: true,
            num_replicas: REPLICAS,
            ..Config::default()
        };
        context.create_stream(bucket).await?;
        leader(context.get_stream(name).await?.cached_info())
    };
    let leader = processes.answer("a bucket of NATS", made).await?;
    let mut lanes = Vec::new();
    for context in contexts(job, leader).await? {
        let store = context.get_key_value(BUCKET).await?;
        lanes.extend((0..job.clients().in_flight).map(|_| store.clone()));
    }
    kv::measure(lanes, job).await
}

impl Kv for Store {
    async fn put(&mut self, key: String, value: Vec<u8>) -> Result<()> {
        Store::put(self, key, value.into()).await?;
        Ok(())
    }

    async fn get(&mut self, key: String) -> Result<bool> {
        Ok(Store::get(self, key).await?.is_some())
    }
}

async fn queue(processes: &mut Processes, job: &Job) -> Result<Figures> {
    let made = async || {
        let context = context(connect(0, &Arc::default()).await?);
        let queue = Config {
            name: QUEUE.to_owned(),
            subjects: vec![QUEUE.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            num_replicas: REPLICAS,
            ..Config::default()
        };
        context.create_stream(queue).await?;
        let stream = context.get_stream(QUEUE).await?;
        let workers = pull::Config {
            durable_name: Some("workers".to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_waiting: UNDER_WAY_MAX,
            max_ack_pending: UNDER_WAY_MAX,
            ..pull::Config::default()
        };
        stream.create_consumer(workers).await?;
        leader(stream.cached_info())
    };
    let leader = processes.answer("a work queue of NATS", made).await?;
    let in_flight = job.clients().in_flight;
    let desk = Arc::new(Desk::default());
    let mut consumers = JoinSet::new();
    let mut lanes = Vec::new();
    for context in contexts(job, leader).await? {
        let workers: PullConsumer = context.get_consumer_from_stream("workers", QUEUE).await?;
        // Room for one's own jobs, and as many of others.
        let room = 2 * usize::try_from(in_flight)?;
        let jobs = workers.stream().max_messages_per_batch(room).messages().await?;
        let at = Arc::clone(&desk);
        consumers.spawn(async move {
            if let Err(error) = consume(jobs, &at).await {
                at.fail(&error);
            }
        });
        lanes.extend((0..in_flight).map(|_| Cycle {
            queue: context.clone(),
            payload: job.value(),
            desk: Arc::clone(&desk),
        }));
    }
    run(lanes, Span::after_warm_up(job.seconds)).await
}

/// Acknowledges what comes, and waits until the ack is answered.
async fn consume(mut jobs: pull::Stream, desk: &Arc<Desk>) -> Result<()> {
    let mut acks = JoinSet::new();
    loop {
        tokio::select! {
            Some(ack) = acks.join_next() => ack.context("an ack panicked")??,
            job = jobs.next() => {
                let job = job.context("the consumer was ended")??;
                let desk = Arc::clone(desk);
                acks.spawn(async move {
                    let acked = job.double_ack().await;
                    acked.map_err(|error| anyhow::anyhow!("an ack failed: {error}"))?;
                    desk.settle(&job.payload);
                    anyhow::Ok(())
                });
            }
        }
    }
}

impl Push for Context {
    async fn push(&self, payload: Vec<u8>) -> Result<()> {
        self.publish(QUEUE, payload.into()).await?.await?;
        Ok(())
    }
}

async fn bus(processes: &mut Processes, job: &Job) -> Result<Figures> {
    for node in 0..NODES {
        let there = async || connect(node, &Arc::default()).await.map(drop);
        processes.answer("NATS", there).await?;
    }
    // Otherwise messages would reach fewer subscribers.
    let together = async || routed().await;
    processes.answer("a message through NATS", together).await?;

    let slow = Arc::new(AtomicU64::new(0));
    let base = Instant::now();
    let mut subscribers = Vec::new();
    for number in 0..job.subscribers() {
        let node = u16::try_from(number % u32::from(NODES))?;
        let client = connect(node, &slow).await?;
        subscribers.push(client.subscribe(CHANNEL).await?);
        client.flush().await?;
    }
    let mut publishers = Vec::new();
    for number in 0..job.clients().connections {
        let client = connect(0, &slow).await?;
        let echo = format!("bench.echo.{number}");
        publishers.push(Publisher {
            heard: client.subscribe(echo.clone()).await?,
            client,
            echo,
            payload: job.value(),
            base,
            in_flight: job.clients().in_flight,
            unheard: 0,
        });
    }
    let span = Span::after_warm_up(job.seconds);
    let mut receivers = JoinSet::new();
    for subscriber in subscribers {
        receivers.spawn(receive(subscriber, base, span));
    }
    let batch = publishers.first().map_or(1, Publisher::batch);
    let published = run(publishers, span).await?;
    let mut delivered = Latencies::new()?;
    while let Some(own) = receivers.join_next().await {
        delivered.add(&own.context("a subscriber panicked")??)?;
    }
    let mut figures = delivered.figures(span);
    let published = published.per_second * f64::from(batch);
    figures.more.insert("published_per_second".into(), published.round().into());
    figures.more.insert("gaps".into(), slow.load(Ordering::Relaxed).into());
    Ok(figures)
}

/// Whether a message at the first node reaches all of them.
async fn routed() -> Result<()> {
    let publisher = connect(0, &Arc::default()).await?;
    for node in 0..NODES {
        let client = connect(node, &Arc::default()).await?;
        let mut subscriber = client.subscribe("bench.route").await?;
        client.flush().await?;
        let heard = async {
            loop {
                publisher.publish("bench.route", "".into()).await?;
                let pause = Duration::from_millis(50);
                if tokio::time::timeout(pause, subscriber.next()).await.is_ok() {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), heard).await.context("not routed yet")??;
    }
    Ok(())
}

/// Publishes, with a bound on what the server has not taken yet. NATS does not answer a publish, but it
/// takes the messages of a connection in order: once a message to oneself is back, all before it are
/// with their subscribers, or under way to the node that has them. One such echo is sent after half of
/// what may be in flight, so that it costs little.
struct Publisher {
    client: Client,
    echo: String,
    heard: Subscriber,
    payload: Vec<u8>,
    base: Instant,
    in_flight: u32,
    /// Echoes that are not back.
    unheard: u32,
}

impl Publisher {
    /// Messages before each echo.
    fn batch(&self) -> u32 {
        (self.in_flight / 2).max(1)
    }
}

impl Lane for Publisher {
    async fn operate(&mut self) -> Result<Instant> {
        for _ in 0..self.batch() {
            let nanos = u64::try_from(self.base.elapsed().as_nanos())?;
            let mark = self.payload.first_chunk_mut().context("a payload needs 8 bytes")?;
            *mark = nanos.to_be_bytes();
            self.client.publish(CHANNEL, self.payload.clone().into()).await?;
        }
        self.client.publish(self.echo.clone(), "".into()).await?;
        self.unheard += 1;
        while self.unheard * self.batch() >= self.in_flight {
            self.heard.next().await.context("the connection was closed")?;
            self.unheard -= 1;
        }
        Ok(Instant::now())
    }
}

/// Takes what comes, until it is over.
async fn receive(mut subscriber: Subscriber, base: Instant, span: Span) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let over = tokio::time::sleep_until(span.until);
    tokio::pin!(over);
    loop {
        let message = tokio::select! {
            biased;
            () = &mut over => return Ok(latencies),
            message = subscriber.next() => message.context("a subscriber was closed")?,
        };
        let now = Instant::now();
        let mark = message.payload.first_chunk().context("a message without its time")?;
        let sent = base + Duration::from_nanos(u64::from_be_bytes(*mark));
        if sent >= span.from && now <= span.until {
            latencies.record(now - sent);
        }
    }
}
