//! The processes of a cluster, and what can be done to them.

use super::control::{Asked, Call, Refused};
use crate::output::Output;
use anyhow::{Context as _, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_server::config::SETTINGS;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// From the ports of one node to those of the next.
pub(super) const PORT_STEP: u16 = 10;
/// How long a node has to stop; its own limit is 30 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(35);
/// Settings that each node has its own of, so that none may come from the environment.
const OWN_SETTINGS: &[&str] = &["client_advertise", "peer_advertise", "http_advertise"];
/// Between two looks at whether one has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a node may take to obey, or to stand still.
const OBEY_TIMEOUT: Duration = Duration::from_secs(5);

/// Where everything is.
pub(super) struct Layout {
    pub(super) executable: PathBuf,
    pub(super) directory: PathBuf,
    pub(super) base_port: u16,
    pub(super) nodes: u16,
}

impl Layout {
    fn port(&self, node: u16, offset: u16) -> u16 {
        self.base_port + (node - 1) * PORT_STEP + offset
    }

    /// Where clients find a node (0), other nodes (1), and HTTP (2).
    pub(super) fn address(&self, node: u16, offset: u16) -> String {
        format!("127.0.0.1:{}", self.port(node, offset))
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        (1..=self.nodes).map(|node| self.address(node, 0)).collect()
    }

    /// What a node says.
    pub(super) fn log(&self, node: u16) -> PathBuf {
        self.directory.join(format!("node-{node}.log"))
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

    /// A node's command line, for starting it again by hand.
    pub(super) fn line(&self, node: u16) -> String {
        let arguments = self.arguments(node);
        std::iter::once(shell_word(&self.executable.to_string_lossy()))
            .chain(arguments.iter().map(|argument| shell_word(argument)))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// One child process.
struct Node {
    child: Child,
    pid: u32,
    paused: bool,
    /// What it says to commands, if it takes any.
    said: Option<Lines<BufReader<ChildStdout>>>,
    /// Commands whose answer was not read.
    unread: u32,
}

/// All processes.
pub(super) struct Fleet {
    pub(super) layout: Layout,
    /// Whether its nodes take commands.
    controlled: bool,
    /// Those that run, by id.
    nodes: BTreeMap<u16, Node>,
    /// Who is cut off from all others.
    side: BTreeSet<u16>,
}

type Done = Result<Value, Refused>;

impl Fleet {
    pub(super) fn new(layout: Layout, controlled: bool) -> Self {
        Self { layout, controlled, nodes: BTreeMap::new(), side: BTreeSet::new() }
    }

    /// Starts a node that does not run; its process id, and where its log is.
    pub(super) fn start(&mut self, id: u16) -> anyhow::Result<(u32, PathBuf)> {
        let log = self.layout.log(id);
        let sink = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't write {}", log.display()))?;
        let mut command = Command::new(&self.layout.executable);
        command.args(self.layout.arguments(id));
        // The pipe ends with this process, however that ends, and the node goes along.
        if self.controlled {
            command.arg(format!("--test-control={}", join(&self.cut_off(id), ",")));
            command.stdout(Stdio::piped());
        } else {
            command.arg("--stop-on-stdin-eof").stdout(Stdio::null());
        }
        command
            .stdin(Stdio::piped())
            .stderr(sink)
            // Ctrl-C in the terminal reaches this process only, which then stops them in order.
            .process_group(0)
            .env_remove("QUORATE_CONFIG");
        for setting in SETTINGS.iter().filter(|setting| OWN_SETTINGS.contains(&setting.name)) {
            command.env_remove(setting.variable());
        }
        let executable = &self.layout.executable;
        let mut child = command
            .spawn()
            .with_context(|| format!("can't start node {id} ({})", executable.display()))?;
        let pid = child.id().ok_or_else(|| anyhow!("node {id} ended at once"))?;
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        self.nodes.insert(id, Node { child, pid, paused: false, said, unread: 0 });
        Ok((pid, log))
    }

    /// One that has ended, with its process id and how; it does not run any more.
    pub(super) fn ended(&mut self) -> Option<(u16, u32, String)> {
        let ended = self.nodes.iter_mut().find_map(|(id, node)| match node.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some((*id, node.pid, how(status))),
            Err(error) => Some((*id, node.pid, format!("can't be watched any more ({error})"))),
        });
        if let Some((id, ..)) = &ended {
            self.nodes.remove(id);
        }
        ended
    }

    /// The end of whichever node ends next; never, when none is left.
    pub(super) async fn any_end(&mut self) -> (u16, u32, String) {
        loop {
            if let Some(ended) = self.ended() {
                return ended;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Does what a test asks for; whether that is to stop.
    pub(super) async fn answer(&mut self, asked: Asked) -> bool {
        let Asked { call, answer } = asked;
        let stops = call == Call::Stop;
        let done = self.obey(call).await;
        // Whoever asked may be gone.
        let _ = answer.send(done);
        stops
    }

    async fn obey(&mut self, call: Call) -> Done {
        match call {
            Call::Status => Ok(self.status()),
            Call::Kill(id) => self.kill(id).await,
            Call::Restart(id) => self.restart(id).await,
            Call::Pause(id) => self.pause(id).await,
            Call::Resume(id) => self.resume(id),
            Call::Cut(side) => self.cut(side).await,
            Call::Stop => Ok(json!({ "stopping": true })),
        }
    }

    fn status(&self) -> Value {
        let nodes = (1..=self.layout.nodes).map(|id| {
            let node = self.nodes.get(&id);
            json!({
                "id": id,
                "client_addr": self.layout.address(id, 0),
                "running": node.is_some(),
                "paused": node.is_some_and(|node| node.paused),
                "cut_off": self.cut_off(id),
            })
        });
        json!({ "nodes": nodes.collect::<Vec<_>>() })
    }

    /// From whom a node is cut off.
    fn cut_off(&self, id: u16) -> Vec<u16> {
        let here = self.side.contains(&id);
        (1..=self.layout.nodes).filter(|other| self.side.contains(other) != here).collect()
    }

    fn known(&self, id: u16) -> Result<(), Refused> {
        let last = self.layout.nodes;
        match (1..=last).contains(&id) {
            true => Ok(()),
            false => Err(Refused::missing(format!("there are nodes 1 to {last}, and no {id}"))),
        }
    }

    fn running(&mut self, id: u16) -> Result<&mut Node, Refused> {
        self.known(id)?;
        let down = || Refused::conflict(format!("node {id} does not run"));
        self.nodes.get_mut(&id).ok_or_else(down)
    }

    async fn kill(&mut self, id: u16) -> Done {
        let node = self.running(id)?;
        let pid = node.pid;
        node.child.kill().await.map_err(|error| Refused::failed(id, "killed", &error))?;
        self.nodes.remove(&id);
        Ok(json!({ "node": id, "pid": pid }))
    }

    async fn restart(&mut self, id: u16) -> Done {
        self.known(id)?;
        if self.nodes.contains_key(&id) {
            self.kill(id).await?;
        }
        match self.start(id) {
            Ok((pid, _)) => Ok(json!({ "node": id, "pid": pid })),
            Err(error) => Err(Refused::failed(id, "started", &format!("{error:#}"))),
        }
    }

    async fn pause(&mut self, id: u16) -> Done {
        let node = self.running(id)?;
        signal(node, Signal::SIGSTOP).map_err(|error| Refused::failed(id, "paused", &error))?;
        node.paused = true;
        let until = Instant::now() + OBEY_TIMEOUT;
        while !stands_still(node.pid) {
            if Instant::now() > until {
                return Err(Refused::failed(id, "paused", &"it goes on"));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(json!({ "node": id }))
    }

    fn resume(&mut self, id: u16) -> Done {
        let node = self.running(id)?;
        signal(node, Signal::SIGCONT).map_err(|error| Refused::failed(id, "resumed", &error))?;
        node.paused = false;
        Ok(json!({ "node": id }))
    }

    /// Cuts these nodes off from all others, and mends all other cuts.
    async fn cut(&mut self, side: BTreeSet<u16>) -> Done {
        side.iter().try_for_each(|id| self.known(*id))?;
        self.side = side;
        for id in 1..=self.layout.nodes {
            let line = match self.cut_off(id) {
                others if others.is_empty() => "heal\n".to_owned(),
                others => format!("cut {}\n", join(&others, " ")),
            };
            if let Some(node) = self.nodes.get_mut(&id) {
                let obeyed = timeout(OBEY_TIMEOUT, node.tell(&line)).await;
                let obeyed = obeyed.unwrap_or_else(|_| Err("it does not answer".to_owned()));
                obeyed.map_err(|why| Refused::failed(id, "told what to do", &why))?;
            }
        }
        Ok(json!({ "partition": self.side }))
    }

    /// Tells all nodes to stop, at once, and waits for them.
    pub(super) async fn stop(mut self, output: Output) {
        for node in self.nodes.values_mut() {
            drop(node.child.stdin.take());
            if node.paused {
                // It may have ended, and then that is all there is to do.
                let _ = signal(node, Signal::SIGCONT);
            }
        }
        let until = Instant::now() + STOP_TIMEOUT;
        for (id, node) in &mut self.nodes {
            if timeout_at(until, node.child.wait()).await.is_err() {
                output.note(&format!("node {id} (pid {}) does not stop; killing it", node.pid));
                // It ended by itself in between, at worst.
                let _ = node.child.kill().await;
            }
        }
    }
}

impl Node {
    /// Tells it a line, and waits until it is done; not while it is paused: it obeys when it goes on.
    async fn tell(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("it takes no commands")?;
        let told = async {
            stdin.write_all(line.as_bytes()).await?;
            stdin.flush().await
        };
        told.await.map_err(|error| error.to_string())?;
        self.unread += 1;
        let Some(said) = self.said.as_mut().filter(|_| !self.paused) else { return Ok(()) };
        let mut newest = Ok(());
        while self.unread > 0 {
            let line = said.next_line().await.map_err(|error| error.to_string())?;
            let line = line.ok_or("it has ended")?;
            if let Some(done) = line.strip_prefix("test-control: ") {
                self.unread -= 1;
                newest = if done == "done" { Ok(()) } else { Err(done.to_owned()) };
            }
        }
        newest
    }
}

fn signal(node: &Node, signal: Signal) -> Result<(), String> {
    let pid = i32::try_from(node.pid).map_err(|error| error.to_string())?;
    kill(Pid::from_raw(pid), signal).map_err(|error| error.to_string())
}

/// Whether none of its threads runs.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let stopped = |stat: &Path| {
        // The state follows the name, which is in parentheses and may itself contain some. A thread that
        // has ended in between runs no more.
        let stat = std::fs::read_to_string(stat).unwrap_or_else(|_| ") T".to_owned());
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    threads.flatten().all(|thread| stopped(&thread.path().join("stat")))
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn join(ids: &[u16], between: &str) -> String {
    ids.iter().map(u16::to_string).collect::<Vec<_>>().join(between)
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
