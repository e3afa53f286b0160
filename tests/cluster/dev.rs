//! `quorate dev`: a cluster for an afternoon, which leaves nothing behind.

use quorate_tests::processes::{Quorate, alone, wait_until};
use rand::RngExt as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};

const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(40);
/// Below the ports that the kernel gives to connections.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

struct Dev {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    endpoints: Vec<String>,
    pids: Vec<u32>,
}

/// A port that is free, and the 22 behind it.
fn free_base_port() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut rng = rand::rng();
    for _ in 0..100 {
        let base = rng.random_range(PORTS);
        if (base..base + 23).all(free) {
            return base;
        }
    }
    panic!("no 23 free ports in a row among {PORTS:?}");
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

    async fn signal(&mut self, signal: &str) -> ExitStatus {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = tokio::process::Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.expect("kill can be run").success());
        let ended = tokio::time::timeout(STOP_MAX, self.child.wait()).await;
        ended.expect("it ends in time").expect("its end can be waited for")
    }

    async fn nodes_end(&self) {
        let alive = || self.pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists());
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
    let base_port = free_base_port();
    for (round, signal) in ["-TERM", "-INT", "-KILL"].into_iter().enumerate() {
        let mut dev = Dev::start(directory.path(), base_port).await;
        assert_eq!(dev.endpoints.len(), 3);
        let quorate = Quorate::at(&dev.endpoints);
        let count = quorate.run("kv incr starts").await.expect(0).text();
        // The directory was named, so the data are still there the next time.
        assert_eq!(count.trim_end(), (round + 1).to_string(), "after {round} rounds");
        let status = quorate.run("cluster status -o json").await.expect(0).json();
        assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3));

        let status = dev.signal(signal).await;
        if signal == "-KILL" {
            assert!(!status.success());
        } else {
            assert_eq!(status.code(), Some(0), "after {signal} it ended with {status}");
        }
        dev.nodes_end().await;
    }
}
