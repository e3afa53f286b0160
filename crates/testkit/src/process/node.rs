//! One `quorate serve` process, which comes and goes, with the things that stay.

use super::cluster::NodeId;
use super::control::Pipe;
use super::host::Host;
use super::options::Options;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often an external process is looked at.
const POLL: Duration = Duration::from_millis(5);

/// How a node comes to its cluster.
pub(super) enum Origin<'a> {
    /// With these, the same for all of them.
    Founds { initial_cluster: &'a str },
    /// It asks these.
    Joins { endpoints: &'a str },
}

pub(super) struct Node {
    id: NodeId,
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    host: Box<dyn Host>,
    /// The process, from its start until its end was seen.
    child: Option<Child>,
    paused: bool,
    /// Whether it takes commands; the way to do so, while it runs.
    controlled: bool,
    pipe: Option<Pipe>,
    /// From whom it is cut off.
    cut: Vec<NodeId>,
}

impl Node {
    /// `directory` is that of the cluster.
    pub(super) fn new(
        id: NodeId,
        binary: &Path,
        options: &Options,
        directory: &Path,
        host: Box<dyn Host>,
        origin: Origin<'_>,
    ) -> Self {
        let mut node = Self {
            id,
            binary: binary.to_owned(),
            arguments: Vec::new(),
            environment: options.environment.clone(),
            directory: directory.to_owned(),
            host,
            child: None,
            paused: false,
            controlled: options.test_control,
            pipe: None,
            cut: Vec::new(),
        };
        let own: [(&str, OsString); 4] = [
            ("--data-dir", node.data_dir().into()),
            ("--client-listen", node.client_addr().to_string().into()),
            ("--peer-listen", node.peer_addr().to_string().into()),
            ("--http-listen", node.http_addr().to_string().into()),
        ];
        let origin: Vec<(&str, OsString)> = match origin {
            Origin::Founds { initial_cluster } => vec![
                ("--node-id", id.to_string().into()),
                ("--initial-cluster", initial_cluster.into()),
            ],
            Origin::Joins { endpoints } => vec![("--join", endpoints.into())],
        };
        node.arguments.push("serve".into());
        let own = origin.into_iter().chain(own);
        node.arguments.extend(own.flat_map(|(flag, value)| [flag.into(), value]));
        node.arguments.extend_from_slice(&options.arguments);
        node.arguments.extend(options.node_arguments.get(&id).into_iter().flatten().cloned());
        node.environment.extend(options.node_environment.get(&id).into_iter().flatten().cloned());
        node
    }

    pub(super) fn client_addr(&self) -> SocketAddr {
        self.host.addrs().client
    }

    pub(super) fn peer_addr(&self) -> SocketAddr {
        self.host.addrs().peer
    }

    pub(super) fn http_addr(&self) -> SocketAddr {
        self.host.addrs().http
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.join(format!("node-{}", self.id))
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.directory.join(format!("node-{}.log", self.id))
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// What runs from the next start on.
    pub(super) fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    pub(super) fn spawn(&mut self) -> Result<()> {
        let id = self.id;
        if self.child.is_some() {
            bail!("node {id} runs already; kill or terminate it first");
        }
        let log_path = self.log_path();
        let log = File::options().create(true).append(true).open(&log_path);
        let mut log = log.with_context(|| format!("could not open {}", log_path.display()))?;
        let arguments = &self.arguments;
        writeln!(log, "=== start of {} {arguments:?}", self.binary.display())
            .with_context(|| format!("could not write to {}", log_path.display()))?;

        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.directory);
        // What a developer has set for his own broker must not reach the one under test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command.env("RUST_BACKTRACE", "1").envs(self.environment.iter().cloned());
        let stderr = log.try_clone().context("could not share the log")?;
        if self.controlled {
            command.arg(format!("--test-control={}", words(&self.cut, ",")));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        } else {
            let stdout = log.try_clone().context("could not share the log")?;
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        }

        let child = self.host.spawn(command, &self.data_dir());
        let mut child =
            child.with_context(|| format!("could not run {}", self.binary.display()))?;
        self.pipe = match self.controlled {
            true => Some(Pipe::of(&mut child, log)?),
            false => None,
        };
        self.child = Some(child);
        Ok(())
    }

    /// Cuts it off from these, now if it runs, and when it is started.
    pub(super) async fn cut_off(&mut self, others: Vec<NodeId>, deadline: Duration) -> Result<()> {
        self.cut = others;
        let Some(pipe) = self.pipe.as_mut().filter(|_| self.child.is_some()) else { return Ok(()) };
        pipe.tell(&match self.cut.as_slice() {
            [] => "heal".to_owned(),
            others => format!("cut {}", words(others, " ")),
        })?;
        // One that is paused obeys when it goes on.
        if self.paused { Ok(()) } else { pipe.done(deadline).await }
    }

    /// The exit status, if the process has ended since this was asked last.
    pub(super) fn take_exit(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait().context("could not wait for the process")?;
        if status.is_some() {
            self.child = None;
            self.paused = false;
        }
        Ok(status)
    }

    /// Waits for the end of the process.
    pub(super) async fn wait_exit(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let id = self.id;
        if self.child.is_none() {
            bail!("node {id} does not run, so its end can't be waited for");
        }
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.take_exit()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("node {id} did not end within {deadline:?}");
            }
            sleep(POLL).await;
        }
    }

    /// Waits for the end of a process that was sent SIGKILL, which must be what ended it: a signal
    /// to one that is already dead, and not waited for, succeeds as well.
    pub(super) async fn wait_killed(&mut self, deadline: Duration) -> Result<()> {
        let status = self.wait_exit(deadline).await?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            bail!("node {} ended by itself, with {status}, before it was killed", self.id);
        }
        Ok(())
    }

    /// Waits until the node accepts connections of clients.
    pub(super) async fn wait_listening(&mut self, deadline: Duration) -> Result<()> {
        let (id, addr) = (self.id, self.client_addr());
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.take_exit()? {
                bail!("node {id} ended with {status} before it listened for clients");
            }
            if tokio::net::TcpStream::connect(addr).await.is_ok() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("node {id} did not listen on {addr} within {deadline:?}");
            }
            sleep(POLL).await;
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.id;
        let pid = self.pid().with_context(|| format!("node {id} does not run"))?;
        let pid = Pid::from_raw(i32::try_from(pid).context("the process id is out of range")?);
        signal::kill(pid, signal).with_context(|| format!("could not send {signal} to node {id}"))
    }

    /// Stops the process where it is, and waits until each of its threads has stopped: until then
    /// it could still answer.
    pub(super) async fn pause(&mut self, deadline: Duration) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        self.paused = true;
        let end = Instant::now() + deadline;
        while !self.all_threads_stopped()? {
            if Instant::now() > end {
                bail!("node {} did not stop within {deadline:?} after SIGSTOP", self.id);
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        self.signal(Signal::SIGCONT)?;
        self.paused = false;
        Ok(())
    }

    fn all_threads_stopped(&mut self) -> Result<bool> {
        let id = self.id;
        if let Some(status) = self.take_exit()? {
            bail!("node {id} ended with {status} while it was paused");
        }
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid().unwrap_or_default()));
        let tasks = fs::read_dir(&tasks).context("could not read the state of the process")?;
        for task in tasks {
            let stat = task.context("could not read the state of the process")?.path().join("stat");
            // A thread may end between the listing and the look.
            let Ok(stat) = fs::read_to_string(stat) else { continue };
            // The state follows the name, which is in parentheses and may itself contain some.
            let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
            if !state.starts_with('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends SIGKILL without waiting; nothing happens to one that has ended.
    pub(super) fn kill_quietly(&mut self) {
        if let Some(child) = &mut self.child {
            // It fails only when the process has ended, which is what is wanted.
            let _ = child.kill();
        }
    }

    /// Waits for a killed process, without a runtime. It ends soon, stopped or not.
    pub(super) fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

fn words(ids: &[NodeId], between: &str) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(between)
}
