//! For tests that run processes: one at a time, figures and seeds where a reader of the output
//! finds them, the command line as a user calls it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate_proto::v1::NodeStatus;
use quorate_testkit::process::{NodeId, ProcessCluster, find_binary};
use quorate_testkit::repeat;
use rand::RngExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};

/// How long a command may take. Each has a deadline of its own below that.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// How long it may take until log is purged while somebody writes.
const PURGED_MAX: Duration = Duration::from_secs(60);

/// What is built for a process test, as cargo takes it.
const REAL: &str = "--bin quorate";
const PLANTED: &str = "--bin quorate-planted --features quorate-cli/planted-faults";

static ONE: Mutex<()> = Mutex::const_new(());

/// Waits until no other test of this program runs: several clusters on a small machine would only
/// slow each other down until elections time out. (nextest runs each test as a program of its own;
/// its configuration gives each of them the whole machine.)
pub async fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().await
}

/// Shows a line in the output of the test.
#[allow(clippy::print_stdout, reason = "the test runner shows it, or keeps it for a failure")]
pub fn say(line: impl Display) {
    println!("{line}");
}

/// A number that a variable of the environment sets, or this one.
///
/// # Panics
/// When the variable holds something else.
pub fn number<T: FromStr>(variable: &str, default: T) -> T {
    match std::env::var(variable) {
        Err(_) => default,
        Ok(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => panic!("{variable} is {text:?}, which is not a number that fits"),
        },
    }
}

/// The seed of a test: of `QUORATE_SEED`, or a new one. Says how to repeat the test with it. The
/// choices of the test follow from it; what the system makes of them does not.
pub fn seed(binary: &str, test: &str) -> u64 {
    seed_after(&build(REAL), binary, test)
}

/// As [`seed`], for a test of [`planted_binary`].
pub fn seed_planted(binary: &str, test: &str) -> u64 {
    seed_after(&format!("{} && {}", build(REAL), build(PLANTED)), binary, test)
}

fn seed_after(build: &str, binary: &str, test: &str) -> u64 {
    let seed = number("QUORATE_SEED", rand::rng().random());
    say(format!(
        "seed {seed}; the same choices again: {build} && QUORATE_SEED={seed} {} test --release \
         --locked --workspace --test {binary} -- --exact {test} --nocapture",
        repeat::cargo()
    ));
    seed
}

/// The command that builds a binary.
fn build(what: &str) -> String {
    format!("{} build --release --locked {what}", repeat::cargo())
}

/// Sends a signal to a process that was started and not waited for.
///
/// # Panics
/// When it has ended.
pub fn send(child: &Child, signal: Signal) {
    let pid = child.id().expect("it runs");
    let pid = Pid::from_raw(pid.try_into().expect("process ids are positive"));
    kill(pid, signal).expect("a process of our own takes signals");
}

/// What node `asked` says of node `of`.
///
/// # Panics
/// When it does not answer, or knows no such member.
pub async fn status_of(cluster: &ProcessCluster, asked: NodeId, of: NodeId) -> NodeStatus {
    let status = cluster.status(asked).await.expect("a live node answers");
    status.nodes.into_iter().find(|node| node.node_id == of).expect("it is a member")
}

/// Waits until the leader has purged its log past an index, so that whoever has come only so far needs
/// a snapshot.
///
/// # Panics
/// When it does not within a minute.
pub async fn purged_past(cluster: &ProcessCluster, leader: NodeId, had: u64) {
    wait_until("the log is purged past what the node has", PURGED_MAX, || async move {
        let status = cluster.status(leader).await;
        let nodes = status.map(|status| status.nodes).unwrap_or_default();
        nodes.iter().any(|node| node.node_id == leader && node.purged > Some(had))
    })
    .await;
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to stdout, to the byte.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ended {
    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its stdout as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("stdout is no JSON ({error}): {self:?}"),
        }
    }

    /// Its stdout as JSON, a value on each line.
    ///
    /// # Panics
    /// When a line is none.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => panic!("a line of stdout is no JSON ({error}): {self:?}"),
        };
        self.text().lines().map(parse).collect()
    }

    /// Its stderr as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn error_json(&self) -> Value {
        match serde_json::from_str(&self.stderr) {
            Ok(value) => value,
            Err(error) => panic!("stderr is no JSON ({error}): {self:?}"),
        }
    }

    /// Passes when it ended with this status.
    ///
    /// # Panics
    /// When it ended otherwise, with all it said.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:?}");
        self
    }

    /// Passes when stderr contains this.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect_stderr(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "stderr does not say {part:?}: {self:?}");
        self
    }
}

/// The command line `quorate`, as a user calls it.
#[derive(Clone, Debug)]
pub struct Quorate {
    binary: PathBuf,
    environment: Vec<(String, OsString)>,
}

impl Quorate {
    /// The binary that was built, with these endpoints.
    ///
    /// # Panics
    /// When it is not built.
    pub fn at(endpoints: &[String]) -> Self {
        let endpoints = endpoints.join(",").into();
        Self { environment: vec![("QUORATE_ENDPOINTS".to_owned(), endpoints)], ..Self::bare() }
    }

    /// The binary that was built, with nothing in its environment.
    ///
    /// # Panics
    /// When it is not built.
    pub fn bare() -> Self {
        let binary = find_binary().expect("the binary has to be built");
        Self { binary, environment: Vec::new() }
    }

    /// The command line for a whole cluster.
    pub fn of(cluster: &ProcessCluster) -> Self {
        Self::at(&cluster.endpoints())
    }

    /// The same with these variables in its environment as well.
    #[must_use]
    pub fn with(mut self, variables: &BTreeMap<String, String>) -> Self {
        let variables = variables.iter().map(|(name, text)| (name.clone(), text.into()));
        self.environment.extend(variables);
        self
    }

    /// A process that was not started yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().cloned()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command line, split at spaces.
    ///
    /// # Panics
    /// When it can't be run, or does not end.
    pub async fn run(&self, line: &str) -> Ended {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        self.run_with(&arguments, None).await
    }

    /// Runs a command line, split at bars because its arguments have spaces in them, and perhaps with
    /// this on stdin.
    ///
    /// # Panics
    /// When it can't be run, or does not end.
    pub async fn run_apart(&self, line: &str, stdin: Option<&[u8]>) -> Ended {
        let arguments: Vec<OsString> = line.split('|').map(OsString::from).collect();
        self.run_with(&arguments, stdin).await
    }

    /// Runs a command with these arguments, and perhaps this on stdin.
    ///
    /// # Panics
    /// When it can't be run, or does not end.
    pub async fn run_with(&self, arguments: &[OsString], stdin: Option<&[u8]>) -> Ended {
        let begun = Instant::now();
        let mut command = self.command();
        command.args(arguments);
        if stdin.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().expect("quorate can be started");
        let pipe = child.stdin.take();
        let feed = async {
            if let (Some(mut pipe), Some(bytes)) = (pipe, stdin) {
                // A command that refuses its arguments ends without reading.
                let _ = pipe.write_all(bytes).await;
            }
        };
        let ended = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(COMMAND_DEADLINE, ended).await;
        let Ok(output) = output else {
            panic!("{arguments:?} did not end in {COMMAND_DEADLINE:?}")
        };
        let output = output.expect("the output of a command can be read");
        Ended {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: begun.elapsed(),
        }
    }
}

/// Asks an HTTP port: the status, and the body. The status is 0 when nobody answers.
pub async fn http_get(addr: SocketAddr, path: &str) -> (u16, String) {
    let asked = async {
        let mut connection = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(Ok(answer)) = tokio::time::timeout(COMMAND_DEADLINE, asked).await else {
        return (0, String::new());
    };
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_default(), body.to_owned())
}

/// Waits until something is so.
///
/// # Panics
/// When it is not within the deadline.
pub async fn wait_until<F: Future<Output = bool>>(
    what: &str,
    deadline: Duration,
    mut so: impl FnMut() -> F,
) {
    let end = Instant::now() + deadline;
    while !so().await {
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The binary with planted faults, which has its own name and stands beside the real one.
///
/// # Panics
/// When it is not built, with the command that builds it.
pub fn planted_binary() -> PathBuf {
    let real = find_binary().expect("the binary has to be built");
    let planted = std::env::var_os("QUORATE_PLANTED_BIN")
        .map_or_else(|| real.with_file_name("quorate-planted"), PathBuf::from);
    assert!(planted.is_file(), "{} is not built; run `{}`", planted.display(), build(PLANTED));
    planted
}

/// Compiles a library that is put between a node and the kernel (`LD_PRELOAD`), with the compiler that
/// RocksDB needs as well. `source` is its path in this package.
///
/// # Panics
/// When it does not compile.
pub fn preload(source: &str, directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let library = directory.join(source.file_name().expect("it is a file")).with_extension("so");
    let mut compiler = std::process::Command::new("g++");
    compiler.args(["-shared", "-fPIC", "-O1"]).arg(source).arg("-o").arg(&library);
    let output = compiler.output().expect("g++ is there, it compiled RocksDB");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// All files below a directory.
///
/// # Panics
/// When it can't be read.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory that was listed is there") {
            let path = entry.expect("a directory can be read").path();
            if path.is_dir() { left.push(path) } else { files.push(path) }
        }
    }
    files
}
