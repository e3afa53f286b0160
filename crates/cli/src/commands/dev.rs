//! `quorate dev`: a whole cluster on this machine. Each node is a process of its own, so that
//! `kill -9` of one is the real thing.

mod control;
mod fleet;
mod ports;

use crate::exit::Failure;
use crate::output::Output;
use anyhow::{Context, anyhow};
use clap::Args;
use control::{Asked, Control};
use fleet::{Fleet, Layout, PORT_STEP};
use quorate_client::{Client, Role};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Nodes beyond this help nobody on one machine.
const NODES_MAX: u16 = 9;
/// How long the nodes have to elect their first leader; a slow disk syncs many times meanwhile.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines of a node's log that are shown when it can't start.
const LOG_LINES_SHOWN: usize = 5;

/// `quorate dev …`
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// How many nodes; an odd number makes sense
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,
    /// Where the nodes keep their data; by default a temporary directory that goes with the cluster
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The client port of node 1; peers and HTTP take the next two, node 2 begins 10 later. With 0 they
    /// are where all of them are free
    #[arg(long, value_name = "PORT", default_value_t = 8811,
          value_parser = clap::value_parser!(u16).range(0..=65_000))]
    base_port: u16,
    /// Let tests do to the cluster what goes wrong in one, by HTTP on loopback: the URL is printed as
    /// QUORATE_TEST_CONTROL, and docs/testing.md has the calls
    #[arg(long)]
    test_control: bool,
}

impl Dev {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let highest = u32::from(self.base_port) + u32::from((self.nodes - 1) * PORT_STEP) + 2;
        if highest > u32::from(u16::MAX) {
            return Err(Failure::Usage(format!(
                "--base-port {} leaves no room for {} nodes; the highest port would be {highest}",
                self.base_port, self.nodes
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("can't start")?;
        runtime.block_on(self.cluster(output))
    }

    async fn cluster(self, output: Output) -> Result<(), Failure> {
        // Before anything is started, so that no signal finds us without a handler.
        let mut signals = Signals::new()?;
        let temporary = match self.data_dir {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("quorate-dev-")
                    .tempdir()
                    .context("can't create a temporary directory; name one with --data-dir")?,
            ),
        };
        let directory = match (&self.data_dir, &temporary) {
            (Some(directory), _) => directory.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => return Err(Failure::Usage("no data directory".to_owned())),
        };
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("can't create {}", directory.display()))?;
        let directory = std::path::absolute(&directory)
            .with_context(|| format!("can't find {}", directory.display()))?;
        let executable = std::env::current_exe().context("can't find this program's own file")?;
        let base_port = match self.base_port {
            0 => ports::free_base(self.nodes)?,
            port => port,
        };
        let layout = Layout { executable, directory, base_port, nodes: self.nodes };
        let mut fleet = Fleet::new(layout, self.test_control);
        let ran = self.run_fleet(&mut fleet, &mut signals, output).await;
        output.note("stopping");
        fleet.stop(output).await;
        ran
    }

    async fn run_fleet(
        &self,
        fleet: &mut Fleet,
        signals: &mut Signals,
        output: Output,
    ) -> Result<(), Failure> {
        for id in 1..=self.nodes {
            let (pid, log) = fleet.start(id)?;
            output.note(&format!("node {id}: pid {pid}, log {}", log.display()));
        }
        output.note(&format!("data: {}", fleet.layout.directory.display()));
        tokio::select! {
            () = signals.any() => return Ok(()),
            elected = first_leader(fleet) => {
                output.note(&format!("node {} leads; Ctrl-C stops the cluster", elected?));
            }
        }
        output.line(&format!("QUORATE_ENDPOINTS={}", fleet.layout.endpoints().join(",")))?;
        let mut control = match self.test_control {
            true => Some(Control::start(&fleet.layout).await?),
            false => None,
        };
        if let Some(control) = &control {
            output.line(&format!("QUORATE_TEST_CONTROL={}", control.url()))?;
        }
        loop {
            tokio::select! {
                () = signals.any() => return Ok(()),
                asked = next_asked(&mut control) => {
                    if fleet.answer(asked).await {
                        return Ok(());
                    }
                }
                (id, pid, status) = fleet.any_end() => output.note(&format!(
                    "node {id} (pid {pid}) ended: {status}; start it again with:\n  {}",
                    fleet.layout.line(id)
                )),
            }
        }
    }
}

/// What a test asks for next; never, where tests ask for nothing.
async fn next_asked(control: &mut Option<Control>) -> Asked {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// The signals that end the cluster.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).context("can't handle signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// Waits until all nodes know the same leader.
async fn first_leader(fleet: &mut Fleet) -> Result<u64, Failure> {
    let until = Instant::now() + START_TIMEOUT;
    let client = Client::builder()
        .endpoints(fleet.layout.endpoints())
        .request_timeout(Duration::from_secs(1))
        .one_shot(true)
        .connect()?;
    loop {
        if let Some((id, _, status)) = fleet.ended() {
            let said = last_lines(&fleet.layout.log(id));
            return Err(anyhow!("node {id} could not start ({status}):\n{said}").into());
        }
        if let Ok(status) = client.cluster().status().await {
            let led = status.nodes.iter().any(|node| node.role == Role::Leader);
            if let Some(leader) = status.leader_id
                && led
                && status.nodes.iter().all(|node| node.healthy)
                && status.nodes.len() == usize::from(fleet.layout.nodes)
            {
                return Ok(leader);
            }
        }
        if Instant::now() > until {
            return Err(anyhow!(
                "no leader after {} s; the logs in {} say why",
                START_TIMEOUT.as_secs(),
                fleet.layout.directory.display()
            )
            .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The end of a node's log.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
    lines[from..].join("\n")
}
