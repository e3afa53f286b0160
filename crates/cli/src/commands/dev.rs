//! `quorate dev`: a whole cluster on this machine. Each node is a process of its own, so that
//! `kill -9` of one is the real thing.

use crate::exit::Failure;
use crate::output::Output;
use anyhow::{Context, anyhow};
use clap::Args;
use quorate_client::{Client, Role};
use quorate_server::config::SETTINGS;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Nodes beyond this help nobody on one machine.
const NODES_MAX: u16 = 9;
/// From the ports of one node to those of the next.
const PORT_STEP: u16 = 10;
/// How long the nodes have to elect their first leader; a slow disk syncs many times meanwhile.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two looks at how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a node has to stop; its own limit is 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Lines of a node's log that are shown when it can't start.
const LOG_LINES_SHOWN: usize = 5;
/// Settings that each node has its own of, so that none may come from the environment.
const OWN_SETTINGS: &[&str] = &["client_advertise", "peer_advertise", "http_advertise"];

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
    /// The client port of node 1; peers and HTTP take the next two, node 2 begins 10 later
    #[arg(long, value_name = "PORT", default_value_t = 8811,
          value_parser = clap::value_parser!(u16).range(1..=65_000))]
    base_port: u16,
}

/// One child process.
struct Node {
    id: u16,
    child: Child,
    pid: u32,
    log: PathBuf,
    /// Its command line, for starting it again by hand.
    line: String,
}

/// Where everything is.
struct Layout {
    executable: PathBuf,
    directory: PathBuf,
    base_port: u16,
    nodes: u16,
}

impl Layout {
    fn port(&self, node: u16, offset: u16) -> u16 {
        self.base_port + (node - 1) * PORT_STEP + offset
    }

    fn address(&self, node: u16, offset: u16) -> String {
        format!("127.0.0.1:{}", self.port(node, offset))
    }

    fn endpoints(&self) -> Vec<String> {
        (1..=self.nodes).map(|node| self.address(node, 0)).collect()
    }

    fn arguments(&self, node: u16) -> Vec<String> {
        let peers = (1..=self.nodes).map(|node| format!("{node}={}", self.address(node, 1)));
        let data_dir = self.directory.join(format!("node-{node}"));
        let pairs = [
            ("--node-id", node.to_string()),
            ("--data-dir", data_dir.to_string_lossy().into_owned()),
            ("--client-listen", self.address(node, 0)),
            ("--peer-listen", self.address(node, 1)),
            ("--http-listen", self.address(node, 2)),
            ("--initial-cluster", peers.collect::<Vec<_>>().join(",")),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        std::iter::once("serve".to_owned()).chain(pairs).collect()
    }

    fn start(&self, node: u16) -> anyhow::Result<Node> {
        let log = self.directory.join(format!("node-{node}.log"));
        let sink = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't write {}", log.display()))?;
        let arguments = self.arguments(node);
        let mut command = Command::new(&self.executable);
        command
            .args(&arguments)
            // The pipe ends with this process, however that ends, and the node goes along.
            .arg("--stop-on-stdin-eof")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(sink)
            // Ctrl-C in the terminal reaches this process only, which then stops them in order.
            .process_group(0)
            .env_remove("QUORATE_CONFIG");
        for setting in SETTINGS.iter().filter(|setting| OWN_SETTINGS.contains(&setting.name)) {
            command.env_remove(setting.variable());
        }
        let child = command
            .spawn()
            .with_context(|| format!("can't start node {node} ({})", self.executable.display()))?;
        let pid = child.id().ok_or_else(|| anyhow!("node {node} ended at once"))?;
        let line = std::iter::once(shell_word(&self.executable.to_string_lossy()))
            .chain(arguments.iter().map(|argument| shell_word(argument)))
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Node { id: node, child, pid, log, line })
    }
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
        let (base_port, count) = (self.base_port, self.nodes);
        let layout = Layout { executable, directory, base_port, nodes: count };

        let mut nodes = Vec::new();
        let ran = async {
            for id in 1..=count {
                let node = layout.start(id)?;
                output.note(&format!("node {id}: pid {}, log {}", node.pid, node.log.display()));
                nodes.push(node);
            }
            output.note(&format!("data: {}", layout.directory.display()));
            tokio::select! {
                () = signals.any() => return Ok(()),
                elected = first_leader(&layout, &mut nodes) => {
                    output.note(&format!("node {} leads; Ctrl-C stops the cluster", elected?));
                }
            }
            output.line(&format!("QUORATE_ENDPOINTS={}", layout.endpoints().join(",")))?;
            loop {
                tokio::select! {
                    () = signals.any() => return Ok(()),
                    (id, status) = any_end(&mut nodes) => {
                        let at = nodes.iter().position(|node| node.id == id);
                        let Some(node) = at.map(|at| nodes.swap_remove(at)) else { continue };
                        output.note(&format!(
                            "node {id} (pid {}) ended: {status}; start it again with:\n  {}",
                            node.pid, node.line
                        ));
                    }
                }
            }
        }
        .await;
        output.note("stopping");
        stop(nodes, output).await;
        ran
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
async fn first_leader(layout: &Layout, nodes: &mut [Node]) -> Result<u64, Failure> {
    let until = Instant::now() + START_TIMEOUT;
    let client = Client::builder()
        .endpoints(layout.endpoints())
        .request_timeout(Duration::from_secs(1))
        .one_shot(true)
        .connect()?;
    loop {
        for node in nodes.iter_mut() {
            if let Some(status) = node.child.try_wait().context("can't watch a node")? {
                let said = last_lines(&node.log);
                return Err(anyhow!("node {} could not start ({status}):\n{said}", node.id).into());
            }
        }
        if let Ok(status) = client.cluster().status().await {
            let led = status.nodes.iter().any(|node| node.role == Role::Leader);
            if let Some(leader) = status.leader_id
                && led
                && status.nodes.iter().all(|node| node.healthy)
                && status.nodes.len() == usize::from(layout.nodes)
            {
                return Ok(leader);
            }
        }
        if Instant::now() > until {
            return Err(anyhow!(
                "no leader after {} s; the logs in {} say why",
                START_TIMEOUT.as_secs(),
                layout.directory.display()
            )
            .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The end of whichever node ends next; never, when none is left.
async fn any_end(nodes: &mut [Node]) -> (u16, String) {
    loop {
        for node in nodes.iter_mut() {
            match node.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return (node.id, ended(status)),
                Err(error) => return (node.id, format!("can't be watched any more ({error})")),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Tells all nodes to stop, at once, and waits for them.
async fn stop(mut nodes: Vec<Node>, output: Output) {
    for node in &mut nodes {
        drop(node.child.stdin.take());
    }
    let until = Instant::now() + STOP_TIMEOUT;
    for node in &mut nodes {
        if tokio::time::timeout_at(until, node.child.wait()).await.is_err() {
            output.note(&format!("node {} (pid {}) does not stop; killing it", node.id, node.pid));
            // It ended by itself in between, at worst.
            let _ = node.child.kill().await;
        }
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

/// A word as a shell takes it.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_ports_and_the_same_list() {
        let layout = Layout {
            executable: "/bin/quorate".into(),
            directory: "/data".into(),
            base_port: 8811,
            nodes: 3,
        };
        assert_eq!(layout.endpoints().join(","), "127.0.0.1:8811,127.0.0.1:8821,127.0.0.1:8831");
        let list = "1=127.0.0.1:8812,2=127.0.0.1:8822,3=127.0.0.1:8832";
        assert_eq!(
            layout.arguments(2).join(" "),
            format!(
                "serve --node-id 2 --data-dir /data/node-2 --client-listen 127.0.0.1:8821 \
                 --peer-listen 127.0.0.1:8822 --http-listen 127.0.0.1:8823 --initial-cluster {list}"
            )
        );
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("/a/b-c_1.2"), "/a/b-c_1.2");
        assert_eq!(shell_word("a b"), "'a b'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
