//! The processes of a system under measurement: started in a temporary directory, watched, and gone
//! when this is dropped, whatever the reason.

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Three Erlang nodes on two busy cores take half of this.
const START_MAX: Duration = Duration::from_secs(120);
/// One question to a system that is starting.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// What is shown of the output of a process that ended.
const LOG_LINES: usize = 12;

pub(crate) struct Processes {
    running: Vec<Running>,
    /// Removed after the processes have ended: `Drop` ends them before any field is dropped.
    dir: TempDir,
}

struct Running {
    name: String,
    child: Child,
    /// Its own, by the number of its first process.
    group: Pid,
}

impl Processes {
    /// Refuses ports that are in use: a stranger behind one would be measured instead of ours.
    pub(crate) fn new(ports: &[u16]) -> Result<Self> {
        for port in ports {
            TcpListener::bind(("127.0.0.1", *port))
                .with_context(|| format!("port {port} of 127.0.0.1, which this needs"))?;
        }
        // Whoever loses its parent becomes our child, so that its end can be waited for.
        set_child_subreaper(true)?;
        let dir = tempfile::Builder::new().prefix("quorate-peers-").tempdir()?;
        Ok(Self { running: Vec::new(), dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a process in a group of its own, so that those it starts end with it, and Ctrl-C is for
    /// us alone. What it prints goes to a file.
    pub(crate) fn start(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let log = File::create(self.dir.path().join(format!("{name}.log")))?;
        let child = command
            .current_dir(self.dir.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("can't start {}", command.get_program().display()))?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        self.running.push(Running { name: name.to_owned(), child, group });
        Ok(())
    }

    /// The most memory that each has had at once, in the order in which they were started.
    pub(crate) fn resident_max_mib(&self) -> Result<Vec<u64>> {
        let of = |running: &Running| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.child.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            let kib: u64 = kib.context("no VmHWM in the status of a process")?.trim().parse()?;
            Ok(kib >> 10)
        };
        self.running.iter().map(of).collect()
    }

    /// What a process has printed so far.
    pub(crate) fn log(&self, name: &str) -> String {
        let bytes = std::fs::read(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Fails when one of them has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let mut ended = None;
        for Running { name, child, .. } in &mut self.running {
            if let Some(status) = child.try_wait()? {
                ended = Some((name.clone(), status));
            }
        }
        let Some((name, status)) = ended else { return Ok(()) };
        let log = self.log(&name);
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
        bail!("{name} ended with {status}; it printed last:\n{}", last.join("\n"))
    }

    /// Asks again and again until there is an answer.
    pub(crate) async fn answer<T>(
        &mut self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let error = match tokio::time::timeout(ATTEMPT_MAX, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no answer within {ATTEMPT_MAX:?}"),
            };
            if begun.elapsed() > START_MAX {
                return Err(error.context(format!("{what}: not after {START_MAX:?}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for running in &self.running {
            // One that has ended by itself may still have children.
            let _ = killpg(running.group, Signal::SIGKILL);
        }
        for running in &self.running {
            // All of its group, the children of children among them, which are ours since `new`: they
            // hold ports, and use the processor, until they are gone.
            let group = Pid::from_raw(-running.group.as_raw());
            while waitpid(group, None) != Err(Errno::ECHILD) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_ended_is_named_with_its_last_words() {
        let mut processes = Processes::new(&[]).unwrap();
        processes.start("failing", Command::new("sh").args(["-c", "echo no; exit 3"])).unwrap();
        let asked = processes.answer("it", async || Err::<(), _>(anyhow::anyhow!("not yet"))).await;
        let error = asked.unwrap_err().to_string();
        assert!(error.contains("failing ended") && error.contains("no"), "{error}");
    }

    #[test]
    fn children_of_children_end_too() {
        let mut processes = Processes::new(&[]).unwrap();
        let script = "sleep 1000 & echo $!; wait";
        processes.start("parent", Command::new("sh").args(["-c", script])).unwrap();
        let pid = loop {
            if let Ok(pid) = processes.log("parent").trim().parse() {
                break Pid::from_raw(pid);
            }
        };
        let dir = processes.dir().to_owned();
        drop(processes);
        assert!(nix::sys::signal::kill(pid, None).is_err(), "{pid} is still there");
        assert!(!dir.exists());
    }
}
