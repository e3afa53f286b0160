//! A real `redis-server`, on a free port of loopback, with its data in a directory of its own.

use crate::process::PortLease;
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(20);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// A server that runs until this is dropped. It keeps what is written in a file that it syncs each
/// time, so that it has it after [`RedisServer::kill`] and [`RedisServer::restart`].
#[derive(Debug)]
pub struct RedisServer {
    /// `None` while it is down.
    child: Option<Child>,
    port: PortLease,
    directory: TempDir,
}

impl RedisServer {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// When `redis-server` is not installed, with how to do that, or does not come up.
    pub async fn start() -> Result<Self> {
        let directory = TempDir::with_prefix("quorate-test-redis-");
        let directory = directory.context("could not make a directory")?;
        let mut server = Self { child: None, port: PortLease::take()?, directory };
        server.restart().await?;
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// As clients take it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Kills it, and waits for its end.
    ///
    /// # Errors
    /// When the system does not do it.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().context("could not kill redis-server")?;
            child.wait().context("could not wait for redis-server")?;
        }
        Ok(())
    }

    /// Starts it again, at the same place, unless it runs.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub async fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = self.directory.path().join("log");
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("could not open {}", log.display()))?;
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.addr().port().to_string()])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .args(["--daemonize", "no", "--maxmemory-policy", "noeviction"])
            .arg("--dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("could not share the log")?)
            .stderr(output);
        self.port.release_socket();
        self.child = Some(match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "redis-server is not installed; on Debian: apt-get install redis-server \
                 (scripts/test does it)"
            ),
            Err(error) => return Err(error).context("could not start redis-server"),
        });
        let end = Instant::now() + START_MAX;
        while !matches!(self.ping().await, Ok(true)) {
            let ended = match &mut self.child {
                Some(child) => child.try_wait().context("could not look at redis-server")?,
                None => None,
            };
            if ended.is_some() || Instant::now() > end {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("redis-server does not come up ({ended:?}); it says:\n{said}");
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether it answers.
    async fn ping(&self) -> Result<bool> {
        Ok(self.command("PING").await?.starts_with("+PONG"))
    }

    /// Sends it a command in one line, as a person would; answers what it says first.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn command(&self, line: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.addr()).await?;
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut answer = vec![0; 4_096];
        let length = tokio::time::timeout(START_MAX, stream.read(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // Whatever happens, the test is over.
        let _ = self.kill();
    }
}
