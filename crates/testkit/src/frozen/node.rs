//! A node on a data directory that is there already, or is made.

use crate::process::PortLease;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};

/// How long a start, or an end, may take: replaying a log, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of `quorate serve`; killed when it is dropped.
pub struct FrozenNode {
    child: Child,
    addr: String,
    _peer: PortLease,
}

impl FrozenNode {
    /// Starts a node on a directory, and waits until it serves.
    ///
    /// # Errors
    /// When it does not: with what it said last.
    pub async fn start(binary: &Path, data_dir: &Path) -> Result<Self> {
        let mut peer = PortLease::take()?;
        peer.release_socket();
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        // So small that the few rows there are make a snapshot.
        command.env("QUORATE_STORAGE_SNAPSHOT_LOG_BYTES", "262144");
        command.env("QUORATE_STORAGE_LOG_KEEP_ENTRIES", "20");
        command.arg("serve").arg("--data-dir").arg(data_dir);
        command.args(["--client-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.args(["--peer-listen", &peer.addr().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("could not run {}", binary.display()))?;
        let stdout = child.stdout.take().context("its stdout is piped")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        let read = tokio::time::timeout(PATIENCE, lines.read_line(&mut line)).await;
        read.context("it did not start in time")?.context("its stdout can't be read")?;
        let Some((_, rest)) = line.split_once("client ") else {
            let ended = child.wait().await?;
            bail!("{} did not serve: it ended with {ended}", binary.display());
        };
        let addr = rest.split(',').next().unwrap_or_default().trim().to_owned();
        Ok(Self { child, addr, _peer: peer })
    }

    /// A connection to its client port.
    ///
    /// # Errors
    /// When it takes none.
    pub async fn connect(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.addr))?;
        Ok(endpoint.connect().await?)
    }

    /// Ends it as a failing machine would: nothing is written or flushed in the end.
    ///
    /// # Errors
    /// When it has ended before.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("the node can't be killed")
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not end well, in time.
    pub async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().context("the node has ended by itself")?;
        kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM)?;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let ended = ended.context("the node did not stop in time")??;
        if !ended.success() {
            bail!("the node ended with {ended}");
        }
        Ok(())
    }
}
