//! `quorate dev`: a cluster for an afternoon, which leaves nothing behind.

use nix::sys::signal::Signal;
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Quorate, alone, send, wait_until};
use std::fs;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};

const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(40);
/// Ports in a row that three nodes are spread over.
const PORTS: u16 = 23;

struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    endpoints: Vec<String>,
    pids: Vec<u32>,
}

/// Whether a process runs. One that has ended stays a zombie until its parent looks, which for a
/// child of nobody is a matter of the system.
fn runs(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the name, which is in parentheses.
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.starts_with(['Z', 'X'])
}

impl Dev {
    async fn start(directory: &Path, base_port: u16) -> Self {
        let mut command = Quorate::bare().command();
        command.args(["dev", "--nodes", "3", "--base-port", &base_port.to_string()]);
        command.arg("--data-dir").arg(directory);
        let mut child = command.spawn().expect("quorate can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut dev = Self { child, stdout, stderr, endpoints: Vec::new(), pids: Vec::new() };
        let started = tokio::time::timeout(START_MAX, dev.read_start()).await;
        started.expect("it starts in time");
        dev
    }

    async fn read_start(&mut self) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await.expect("stdout can be read");
        let endpoints = line.trim_end().strip_prefix("QUORATE_ENDPOINTS=");
        let Some(endpoints) = endpoints else {
            let mut said = String::new();
            while self.stderr.read_line(&mut said).await.is_ok_and(|length| length > 0) {}
            panic!("its first line is {line:?}; it also said:\n{said}");
        };
        self.endpoints = endpoints.split(',').map(str::to_owned).collect();
        while self.pids.len() < 3 {
            let mut line = String::new();
            let length = self.stderr.read_line(&mut line).await.expect("stderr can be read");
            assert!(length > 0, "stderr ended with the pids of {:?} only", self.pids);
            if let Some((_, pid)) = line.split_once(": pid ") {
                let pid = pid.split(',').next().expect("a split has a first part");
                self.pids.push(pid.parse().expect("a pid is a number"));
            }
        }
    }

    async fn end_by(&mut self, signal: Signal) -> ExitStatus {
        send(&self.child, signal);
        let ended = tokio::time::timeout(STOP_MAX, self.child.wait()).await;
        ended.expect("it ends in time").expect("its end can be waited for")
    }

    async fn nodes_end(&self) {
        let alive = || self.pids.iter().any(|pid| runs(*pid));
        wait_until("the nodes end", STOP_MAX, || {
            let alive = alive();
            async move { !alive }
        })
        .await;
    }
}

#[tokio::test]
async fn dev_prints_its_endpoints_and_takes_its_nodes_along_however_it_ends() {
    let _alone = alone().await;
    let directory = tempfile::tempdir().expect("a directory can be made");
    // The same each time: the nodes remember where the others are.
    let mut leases = PortLease::take_row(PORTS).expect("there are free ports in a row");
    leases.iter_mut().for_each(PortLease::release_socket);
    let base_port = leases[0].addr().port();
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL];
    for (round, signal) in signals.into_iter().enumerate() {
        let mut dev = Dev::start(directory.path(), base_port).await;
        assert_eq!(dev.endpoints.len(), 3);
        let quorate = Quorate::at(&dev.endpoints);
        let count = quorate.run("kv incr starts").await.expect(0).text();
        // The directory was named, so the data are still there the next time.
        assert_eq!(count.trim_end(), (round + 1).to_string(), "after {round} rounds");
        let status = quorate.run("cluster status -o json").await.expect(0).json();
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3));

        let status = dev.end_by(signal).await;
        if signal == Signal::SIGKILL {
            assert!(!status.success());
        } else {
            assert_eq!(status.code(), Some(0), "after {signal} it ended with {status}");
        }
        dev.nodes_end().await;
    }
}
