//! A command that runs while a test goes on, and what comes of it.

use quorate_tests::processes::Quorate;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("quorate can be started");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, stdout }
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
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stdout.read_line(&mut line)).await;
        read.expect("a line comes in time").expect("stdout can be read");
        line.trim_end().to_owned()
    }

    /// Its status, what else it wrote to stdout, and its stderr. That stdout ends means that nothing
    /// it started is left.
    pub(crate) async fn ended(mut self) -> (i32, String, String) {
        let all = async {
            let mut rest = String::new();
            self.stdout.read_to_string(&mut rest).await.expect("stdout can be read");
            let mut said = String::new();
            let mut stderr = self.child.stderr.take().expect("it is piped");
            stderr.read_to_string(&mut said).await.expect("stderr can be read");
            let status = self.child.wait().await.expect("its end can be waited for");
            (status.code().expect("it exits by itself"), rest, said)
        };
        tokio::time::timeout(PATIENCE, all).await.expect("it ends in time")
    }
}
