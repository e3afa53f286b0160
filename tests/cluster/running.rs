//! What runs while a test goes on: nodes, and commands, and what comes of those.

use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::Quorate;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// So many nodes, one of which leads, and the command line for them.
pub(crate) async fn nodes(count: u64) -> (ProcessCluster, Quorate) {
    let mut cluster = ProcessCluster::start(count).await.expect("the nodes start");
    cluster.wait_ready().await.expect("one leads");
    let quorate = Quorate::of(&cluster);
    (cluster, quorate)
}

pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("quorate can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, stdout, stderr }
    }

    /// `quorate COMMAND OPTIONS -o json -- sh -c SCRIPT`.
    pub(crate) fn script(quorate: &Quorate, command: &str, options: &str, script: &str) -> Self {
        let mut started = quorate.command();
        started.args(command.split_whitespace()).args(options.split_whitespace());
        started.args(["-o", "json", "--", "sh", "-c", script]);
        Self::start(started)
    }

    /// The next line of its stdout.
    pub(crate) async fn line(&mut self) -> String {
        next_line(&mut self.stdout).await
    }

    /// Waits until it says this on stderr, where what it runs may say something, too.
    pub(crate) async fn says(&mut self, line: &str) {
        while next_line(&mut self.stderr).await != line {}
    }

    /// Its status, and what else it wrote to stdout and to stderr. That stdout ends means that nothing
    /// it started is left.
    pub(crate) async fn ended(mut self) -> (i32, String, String) {
        let all = async {
            let mut rest = String::new();
            self.stdout.read_to_string(&mut rest).await.expect("stdout can be read");
            let mut said = String::new();
            self.stderr.read_to_string(&mut said).await.expect("stderr can be read");
            let status = self.child.wait().await.expect("its end can be waited for");
            (status.code().expect("it exits by itself"), rest, said)
        };
        tokio::time::timeout(PATIENCE, all).await.expect("it ends in time")
    }
}

async fn next_line(from: &mut (impl AsyncBufRead + Unpin)) -> String {
    let mut line = String::new();
    let read = tokio::time::timeout(PATIENCE, from.read_line(&mut line)).await;
    let read = read.expect("a line comes in time").expect("it can be read");
    assert!(read > 0, "it ended before");
    line.trim_end().to_owned()
}
