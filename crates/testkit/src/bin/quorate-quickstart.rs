//! Behind `scripts/quickstart`: three real nodes on this machine take writes on any node, lose
//! their leader to `kill -9`, and go on. Says each step as the command a user would type, and runs
//! that very command.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_client::{Client, Status};
use quorate_testkit::load::{Load, Plan};
use quorate_testkit::process::{PortLease, find_binary};
use quorate_testkit::program;
use quorate_testkit::repeat::shell_word;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Three nodes, so that one may die.
const NODES: u64 = 3;
/// Ports of node 1 are 8811, 8812 and 8813; those of node 2 are 10 further.
const PORT_FIRST: u16 = 8811;
const PORT_STEP: u16 = 10;
/// How long anything here may take. Far more than it should: slow machines are no failure.
const PATIENCE: Duration = Duration::from_secs(60);
/// Writes that the client makes before the kill, and after the restart.
const WRITES_BEFORE: u64 = 200;
/// How often nodes are asked while something is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Shows a cluster of three nodes that loses its leader and nothing else.
///
/// Starts three nodes on this machine, writes through one, reads through another, kills the leader
/// with -9, prints how long no write was acknowledged, starts the dead node again and shows that it
/// caught up. Takes ports 8811 to 8833 if they are free, else others.
#[derive(Debug, Parser)]
#[command(
    name = "quorate-quickstart",
    after_help = "Exit status: 0 when all of it worked, else 1."
)]
struct Arguments {
    /// Leave the cluster running at the end, and say how to use and how to stop it
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-quickstart", run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut cluster = Cluster::new()?;
    println!("Quorate: three nodes on this machine. What is behind a $ you can type yourself.\n");
    println!("    alias quorate={}", cluster.binary.display());

    step("1. Start three nodes. Each is a process, with a directory and ports of its own.");
    for id in 1..=NODES {
        cluster.start(id)?;
    }
    let leader = cluster.wait_for_leader().await?;
    println!("   Node {leader} leads. The others take any request as well and pass it on.");

    let followers: Vec<u64> = (1..=NODES).filter(|id| *id != leader).collect();
    let (writer, reader) = (followers[0], followers[1]);
    step(&format!("2. Write through node {writer}. Ok means: on the disks of a majority."));
    cluster.quorate(&["kv", "set", "greeting", "hello", "--endpoints", &cluster.client(writer)])?;

    step(&format!("3. Read through node {reader}. It sees what was written through any other."));
    let read = ["kv", "get", "greeting", "--endpoints", &cluster.client(reader)];
    let found = cluster.quorate(&read)?;
    ensure!(found == "hello", "node {reader} answered {found:?} instead of hello");

    step("4. Kill the leader with -9, while a client writes without a pause.");
    let plan =
        Plan { writers: 1, prefix: "quickstart".to_owned(), mixed: false, ..Plan::default() };
    let load = Load::start(&cluster.endpoints(), plan).await?;
    load.wait_for(WRITES_BEFORE, PATIENCE).await?;
    load.arm();
    let killed = cluster.kill(leader)?;
    let gap = load.gap(killed, Instant::now(), PATIENCE).await?;
    println!("   The next write was acknowledged {} ms after the kill.", gap.first.as_millis());
    let new_leader = cluster.wait_for_leader().await?;
    println!("   Node {new_leader} leads now. What was written is there:");
    let found = cluster.quorate(&read)?;
    ensure!(found == "hello", "node {reader} answered {found:?} instead of hello");

    step(&format!("5. Start node {leader} again. The client goes on writing."));
    cluster.start(leader)?;
    let restarted = Instant::now();
    let caught_up = cluster.wait_caught_up(leader).await?;
    let back = restarted.elapsed();
    println!(
        "   {} ms later it has applied all that was committed when it came back (index {caught_up}).",
        back.as_millis()
    );
    load.wait_for(WRITES_BEFORE, PATIENCE).await?;

    step("6. Stop the client, and compare.");
    let ledgers = load.stop().await?;
    let totals = ledgers.verify(&cluster.endpoints()).await?;
    println!(
        "   {} writes were acknowledged to it, and all of them are there, each once.",
        totals.acknowledged
    );
    let applied = cluster.wait_equal().await?;
    println!("   All three nodes have applied the same entries, up to index {applied}:");
    cluster.quorate(&["cluster", "status", "--endpoints", &cluster.endpoints().join(",")])?;

    if arguments.keep {
        cluster.leave_running();
    } else {
        println!("\nThat was all. With --keep the cluster stays, for you to play with.");
        cluster.remove();
    }
    Ok(())
}

fn step(text: &str) {
    println!("\n{text}");
}

/// The nodes. Dropping it kills them and keeps their directory, since something went wrong then.
struct Cluster {
    binary: PathBuf,
    directory: Option<TempDir>,
    nodes: Vec<Node>,
    client: Client,
}

struct Node {
    id: u64,
    /// Client, peer, HTTP.
    ports: [u16; 3],
    /// Keeps other tests on this machine off the ports.
    _leases: Vec<PortLease>,
    child: Option<Child>,
}

impl Node {
    fn address(&self, port: usize) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.ports[port])
    }
}

impl Cluster {
    fn new() -> Result<Self> {
        let binary = find_binary()?;
        let directory = TempDir::with_prefix("quorate-quickstart-");
        let directory = directory.context("could not make a directory")?;
        let nodes = match usual_ports() {
            Some(nodes) => nodes,
            None => free_ports()?,
        };
        let client = Client::builder().endpoints(nodes.iter().map(|node| node.address(0)));
        let client = client.one_shot(true).request_timeout(PATIENCE).connect()?;
        Ok(Self { binary, directory: Some(directory), nodes, client })
    }

    fn path(&self) -> &Path {
        self.directory.as_ref().map_or_else(|| Path::new("."), |directory| directory.path())
    }

    fn node(&self, id: u64) -> Result<&Node> {
        self.nodes.iter().find(|node| node.id == id).with_context(|| format!("no node {id}"))
    }

    fn client(&self, id: u64) -> String {
        self.node(id).map(|node| node.address(0)).unwrap_or_default()
    }

    fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address(0)).collect()
    }

    fn log(&self, id: u64) -> PathBuf {
        self.path().join(format!("node-{id}.log"))
    }

    /// Starts a node in a process group of its own, so that it outlives this program and its
    /// terminal if it is to stay.
    fn start(&mut self, id: u64) -> Result<()> {
        let node = self.node(id)?;
        let peers = self.nodes.iter().map(|node| format!("{}={}", node.id, node.address(1)));
        let arguments: Vec<String> = [
            ("--node-id", id.to_string()),
            ("--data-dir", self.path().join(format!("node-{id}")).display().to_string()),
            ("--client-listen", node.address(0)),
            ("--peer-listen", node.address(1)),
            ("--http-listen", node.address(2)),
            ("--initial-cluster", peers.collect::<Vec<_>>().join(",")),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        let shown: Vec<_> = arguments.iter().map(|word| shell_word(word)).collect();
        println!("   $ quorate serve {}", shown.join(" "));
        let log = File::options().create(true).append(true).open(self.log(id));
        let log = log.context("could not open the log of a node")?;
        let mut command = self.command();
        command.arg("serve").args(&arguments).stdin(Stdio::null()).process_group(0);
        command.stdout(log.try_clone().context("could not share the log")?).stderr(log);
        let child = command.spawn().with_context(|| format!("could not start node {id}"))?;
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
            node.child = Some(child);
        }
        Ok(())
    }

    /// The binary, without what somebody has set for a broker of his own.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Shows and runs a command, shows and answers its output.
    fn quorate(&self, arguments: &[&str]) -> Result<String> {
        let shown: Vec<_> = arguments.iter().map(|word| shell_word(word)).collect();
        println!("   $ quorate {}", shown.join(" "));
        let output = self.command().args(arguments).output().context("could not run quorate")?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        for line in stdout.lines() {
            println!("   {line}");
        }
        ensure!(
            output.status.success(),
            "it failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(stdout)
    }

    /// Kills a node with -9 and waits for its end; answers the moment before.
    fn kill(&mut self, id: u64) -> Result<Instant> {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        let child = node.and_then(|node| node.child.take());
        let mut child = child.with_context(|| format!("node {id} does not run"))?;
        println!("   $ kill -9 {}", child.id());
        let at = Instant::now();
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)
            .with_context(|| format!("could not kill node {id}"))?;
        child.wait().with_context(|| format!("could not wait for the end of node {id}"))?;
        Ok(at)
    }

    /// Waits until a node answers with a status that satisfies `look`.
    async fn wait<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&Status) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            for node in &mut self.nodes {
                let Some(child) = &mut node.child else { continue };
                if let Some(status) = child.try_wait().context("could not look after a node")? {
                    bail!("node {} ended by itself, with {status}", node.id);
                }
            }
            let status = self.client.cluster().timeout(Duration::from_secs(2)).status().await;
            if let Some(found) = status.as_ref().ok().and_then(&mut look) {
                return Ok(found);
            }
            if Instant::now() > end {
                let said =
                    status.map_or_else(|error| error.to_string(), |status| format!("{status:?}"));
                bail!("{what} after {} s; the cluster says: {said}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until all nodes that run are well and agree who leads.
    async fn wait_for_leader(&mut self) -> Result<u64> {
        let running: Vec<u64> =
            self.nodes.iter().filter(|node| node.child.is_some()).map(|node| node.id).collect();
        self.wait("there is no leader", |status| {
            let well =
                |id: &u64| status.nodes.iter().any(|node| node.node_id == *id && node.healthy);
            status.leader_id.filter(|leader| running.contains(leader) && running.iter().all(well))
        })
        .await
    }

    /// Waits until a node has applied what was committed when this was called.
    async fn wait_caught_up(&mut self, id: u64) -> Result<u64> {
        let mut target = None;
        self.wait(&format!("node {id} has not caught up"), |status| {
            let committed = status.nodes.iter().filter_map(|node| node.committed).max()?;
            let target = *target.get_or_insert(committed);
            let node = status.nodes.iter().find(|node| node.node_id == id && node.healthy)?;
            node.applied.filter(|applied| *applied >= target)
        })
        .await
    }

    /// Waits until all nodes have applied the same index, with the same effects.
    async fn wait_equal(&mut self) -> Result<u64> {
        let looked = self.wait("the nodes have not applied the same entries", |status| {
            let first = status.nodes.first()?;
            let same =
                |node: &quorate_client::NodeStatus| node.healthy && node.applied == first.applied;
            let equal = status.nodes.iter().all(same).then_some(first.applied?)?;
            let digests = status.nodes.iter().all(|node| node.digest == first.digest);
            Some((equal, digests))
        });
        let (applied, digests) = looked.await?;
        ensure!(digests, "the nodes differ in their state at index {applied}");
        Ok(applied)
    }

    /// Lets the nodes and their directory be.
    fn leave_running(mut self) {
        let pids: Vec<_> = self.nodes.iter_mut().filter_map(|node| node.child.take()).collect();
        let pids: Vec<_> = pids.iter().map(|child| child.id().to_string()).collect();
        println!("\nThe cluster stays. Use it:\n");
        println!("   alias quorate={}", shell_word(&self.binary.display().to_string()));
        println!("   export QUORATE_ENDPOINTS={}", self.endpoints().join(","));
        println!(
            "   quorate kv set answer 42\n   quorate kv get answer\n   quorate cluster status"
        );
        println!(
            "\nKill a node and look again:\n\n   kill -9 {}",
            pids.first().map_or("", |pid| pid)
        );
        println!("\nStop all of it:\n\n   kill {}", pids.join(" "));
        if let Some(directory) = self.directory.take() {
            let directory = directory.keep();
            println!("\nData and logs are in {}, yours to remove.", directory.display());
        }
    }

    /// Ends the nodes and removes their directory.
    fn remove(mut self) {
        self.kill_all();
        drop(self.directory.take());
    }

    fn kill_all(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // It fails only for one that has ended.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        if let Some(directory) = self.directory.take() {
            eprintln!(
                "\nThe logs of the nodes are kept: {}",
                directory.keep().join("node-*.log").display()
            );
        }
    }
}

/// The ports of the documentation, if nobody has one of them.
fn usual_ports() -> Option<Vec<Node>> {
    let mut held = Vec::new();
    let mut nodes = Vec::new();
    for id in 1..=NODES {
        let first = PORT_FIRST + PORT_STEP * u16::try_from(id - 1).ok()?;
        let ports = [first, first + 1, first + 2];
        for port in ports {
            held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?);
        }
        nodes.push(Node { id, ports, _leases: Vec::new(), child: None });
    }
    Some(nodes)
}

fn free_ports() -> Result<Vec<Node>> {
    let node = |id| {
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(PortLease::take()?);
        }
        leases.iter_mut().for_each(PortLease::release_socket);
        let ports = [0, 1, 2].map(|port: usize| leases[port].addr().port());
        Ok(Node { id, ports, _leases: leases, child: None })
    };
    (1..=NODES).map(node).collect()
}
