//! Redis: one node that syncs every write, the same with a replica that is waited for, and, as a cache,
//! one that keeps nothing on disk.

use crate::closed_loop::Figures;
use crate::kv::{self, Kv};
use crate::processes::Processes;
use crate::work::{Job, Work};
use anyhow::{Result, bail, ensure};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, cmd, pipe};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PORT: u16 = 16_379;
const REPLICA_PORT: u16 = 16_380;
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a replica is waited for.
const WAIT_MS: u64 = 30_000;

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    OneNode,
    /// With a replica, and WAIT 1 after each write.
    Replica,
}

fn start(processes: &mut Processes, program: &Path, port: u16, kept: bool) -> Result<()> {
    let name = format!("redis-{port}");
    let dir = processes.dir().join(&name);
    std::fs::create_dir(&dir)?;
    let mut command = Command::new(program);
    command
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--daemonize",
            "no",
            "--save",
            "",
        ])
        .arg("--dir")
        .arg(dir)
        .args(["--appendonly", if kept { "yes" } else { "no" }, "--appendfsync", "always"]);
    if port == REPLICA_PORT {
        command.args(["--replicaof", "127.0.0.1", &PORT.to_string()]);
    }
    processes.start(&name, &mut command)
}

async fn connect(port: u16) -> Result<MultiplexedConnection> {
    let client = Client::open(("127.0.0.1", port))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_MAX));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

async fn ready(port: u16) -> Result<()> {
    let info: String = cmd("INFO").query_async(&mut connect(port).await?).await?;
    ensure!(info.contains("loading:0"), "it is loading");
    ensure!(port == PORT || info.contains("master_link_status:up"), "it is not a replica yet");
    Ok(())
}

pub(crate) async fn measure(program: &Path, setup: Setup, job: &Job) -> Result<Figures> {
    if !matches!(job.work, Work::Put | Work::Get | Work::Cache) {
        bail!("Redis is not measured with {}", job.work.name());
    }
    let mut processes = Processes::new(&[PORT, REPLICA_PORT])?;
    start(&mut processes, program, PORT, job.work != Work::Cache)?;
    processes.answer("Redis", async || ready(PORT).await).await?;
    if setup == Setup::Replica {
        start(&mut processes, program, REPLICA_PORT, true)?;
        processes.answer("a replica of Redis", async || ready(REPLICA_PORT).await).await?;
    }
    let clients = job.clients();
    let mut lanes = Vec::new();
    for _ in 0..clients.connections {
        let connection = connect(PORT).await?;
        for lane in 0..clients.in_flight {
            let connection = match setup {
                // WAIT keeps its connection from going on, so nobody would share one.
                Setup::Replica if lane > 0 => connect(PORT).await?,
                Setup::Replica | Setup::OneNode => connection.clone(),
            };
            lanes.push(Connection { connection, wait: setup == Setup::Replica });
        }
    }
    let figures = kv::measure(lanes, job).await;
    processes.check()?;
    figures
}

#[derive(Clone)]
struct Connection {
    connection: MultiplexedConnection,
    wait: bool,
}

impl Kv for Connection {
    async fn put(&mut self, key: String, value: Vec<u8>) -> Result<()> {
        if !self.wait {
            let () = cmd("SET").arg(key).arg(value).query_async(&mut self.connection).await?;
            return Ok(());
        }
        let mut both = pipe();
        both.cmd("SET").arg(key).arg(value).ignore().cmd("WAIT").arg(1).arg(WAIT_MS);
        let (replicas,): (u64,) = both.query_async(&mut self.connection).await?;
        ensure!(replicas >= 1, "no replica has it after {WAIT_MS} ms");
        Ok(())
    }

    async fn get(&mut self, key: String) -> Result<bool> {
        let value: Option<Vec<u8>> = cmd("GET").arg(key).query_async(&mut self.connection).await?;
        Ok(value.is_some())
    }
}
