//! Three nodes of RabbitMQ and a quorum queue: pushed with publisher confirms, delivered, acknowledged.
//!
//! A confirm means that a majority has it on disk. An ack has no answer, so a cycle ends when the ack
//! is sent, which is less than what the others do.

use crate::closed_loop::{Figures, Span, run};
use crate::desk::{Cycle, Desk, Push};
use crate::processes::Processes;
use crate::work::{Job, Work};
use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Ports of the first node for clients and for the other nodes; those of the others follow.
const CLIENT_PORT: u16 = 17_672;
const NODE_PORT: u16 = 17_692;
/// Where the nodes find each other.
const EPMD_PORT: u16 = 17_369;
/// Ports that the command line tool listens on while it asks a node.
const TOOL_PORTS: (u16, u16) = (17_700, 17_710);
const NODES: u16 = 3;
const QUEUE: &str = "jobs";
/// As the server has it for a message that is kept.
const PERSISTENT: u8 = 2;

fn name(node: u16) -> String {
    format!("quorate-peers-{node}@localhost")
}

/// Where a program of RabbitMQ is: beside its server.
fn beside(program: &Path, tool: &str) -> std::path::PathBuf {
    program.with_file_name(tool)
}

/// A home of its own, with the cookie, and epmd on a port of its own: programs of Erlang start a daemon
/// when they find none, and it would stay.
fn home(program: &Path) -> Result<Processes> {
    let node_ports = (0..NODES).flat_map(|node| [CLIENT_PORT + node, NODE_PORT + node]);
    let mut processes = Processes::new(&node_ports.chain([EPMD_PORT]).collect::<Vec<_>>())?;
    ensure!(program.is_file(), "there is no {}", program.display());
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &EPMD_PORT.to_string()]);
    processes.start("epmd", &mut command)?;
    Ok(processes)
}

fn environment(command: &mut Command, processes: &Processes) {
    command
        .env("HOME", processes.dir())
        .env("ERL_EPMD_PORT", EPMD_PORT.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", processes.dir().join("plugins"));
}

fn start(processes: &mut Processes, program: &Path, node: u16) -> Result<()> {
    let dir = processes.dir().join(format!("n{node}"));
    std::fs::create_dir(&dir)?;
    let config = dir.join("rabbitmq.conf");
    let mut lines = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", CLIENT_PORT + node),
        "cluster_formation.peer_discovery_backend = classic_config".to_owned(),
    ];
    for other in 0..NODES {
        let name = name(other);
        lines.push(format!("cluster_formation.classic_config.nodes.{} = {name}", other + 1));
    }
    std::fs::write(&config, lines.join("\n") + "\n")?;
    let mut command = Command::new(program);
    environment(&mut command, processes);
    command
        .env("RABBITMQ_NODENAME", name(node))
        .env("RABBITMQ_CONFIG_FILE", &config)
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_DIST_PORT", (NODE_PORT + node).to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    processes.start(&format!("rabbitmq-{node}"), &mut command)
}

/// Asks one of the tools beside the server.
async fn ask(processes: &Processes, program: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(beside(program, "rabbitmqctl"));
    environment(&mut command, processes);
    let (least, most) = TOOL_PORTS;
    command
        .env("RABBITMQ_CTL_DIST_PORT_MIN", least.to_string())
        .env("RABBITMQ_CTL_DIST_PORT_MAX", most.to_string())
        .args(arguments);
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "rabbitmqctl: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// The version of the server.
pub(crate) async fn version(program: &Path) -> Result<String> {
    let processes = home(program)?;
    Ok(format!("rabbitmq-server {}", ask(&processes, program, &["version"]).await?))
}

async fn connect() -> Result<Connection> {
    let uri = format!("amqp://127.0.0.1:{CLIENT_PORT}/%2f");
    Ok(Connection::connect(&uri, ConnectionProperties::default()).await?)
}

async fn cluster(program: &Path) -> Result<Processes> {
    let mut processes = home(program)?;
    // The first one alone, because nodes that begin at once may each begin a cluster.
    start(&mut processes, program, 0)?;
    processes.answer("RabbitMQ", async || connect().await.map(drop)).await?;
    for node in 1..NODES {
        start(&mut processes, program, node)?;
    }
    let (first, nodes) = (name(0), NODES.to_string());
    let arguments = ["--node", &first, "await_online_nodes", &nodes, "--timeout", "100"];
    ask(&processes, program, &arguments).await.context("the other nodes did not come")?;
    processes.check()?;
    Ok(processes)
}

pub(crate) async fn measure(program: &Path, job: &Job) -> Result<Figures> {
    if job.work != Work::Queue {
        bail!("RabbitMQ is not measured with {}", job.work.name());
    }
    let mut processes = cluster(program).await?;
    let figures = queue(job).await;
    processes.check()?;
    figures
}

async fn queue(job: &Job) -> Result<Figures> {
    let declaring = connect().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(NODES.into()));
    // Its leader is the node that is asked, which is the one all others ask as well.
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    declaring.create_channel().await?.queue_declare(QUEUE.into(), durable, arguments).await?;

    let in_flight = job.clients().in_flight;
    let desk = Arc::new(Desk::default());
    let mut consumers = JoinSet::new();
    let (mut connections, mut lanes) = (Vec::new(), Vec::new());
    for _ in 0..job.clients().connections {
        let connection = connect().await?;
        let consuming = connection.create_channel().await?;
        // Room for one's own jobs, and as many of others.
        let room = u16::try_from(2 * in_flight)?;
        consuming.basic_qos(room, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let jobs = consuming
            .basic_consume(QUEUE.into(), "".into(), options, FieldTable::default())
            .await?;
        let at = Arc::clone(&desk);
        consumers.spawn(async move {
            if let Err(error) = consume(jobs, &at).await {
                at.fail(&error);
            }
        });
        let pushing = connection.create_channel().await?;
        pushing.confirm_select(ConfirmSelectOptions::default()).await?;
        lanes.extend((0..in_flight).map(|_| Cycle {
            queue: Pushing(pushing.clone()),
            payload: job.value(),
            desk: Arc::clone(&desk),
        }));
        connections.push((connection, consuming));
    }
    run(lanes, Span::after_warm_up(job.seconds)).await
}

async fn consume(mut jobs: Consumer, desk: &Desk) -> Result<()> {
    loop {
        let job = jobs.next().await.context("the consumer was ended")??;
        job.ack(BasicAckOptions::default()).await.context("an ack failed")?;
        desk.settle(&job.data);
    }
}

struct Pushing(Channel);

impl Push for Pushing {
    async fn push(&self, payload: Vec<u8>) -> Result<()> {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions::default();
        let taken = self.0.basic_publish("".into(), QUEUE.into(), options, &payload, properties);
        match taken.await?.await? {
            Confirmation::Ack(None) => Ok(()),
            other => bail!("not confirmed: {other:?}"),
        }
    }
}
