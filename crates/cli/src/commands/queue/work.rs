//! `quorate queue work`: a command that is run for each job.

use super::one_line;
use crate::child::{self, Running, Signals};
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_client::queue::{JobError, WorkerCounts};
use quorate_client::{Client, Job};
use serde_json::json;
use std::ffi::OsString;
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, Command};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of the last line of stderr that are kept: what the cluster keeps.
const LINE_BYTES_MAX: usize = 1_024;
/// How long stderr is read on once the command has ended: something that it left behind may hold it.
const REST_OF_STDERR: Duration = Duration::from_millis(500);
/// Longer than anything runs. The client would hand a job back when its own grace is over, and the
/// command may take a while to end: so it is ended here, and the job handed back then.
const CLIENTS_GRACE: Duration = Duration::from_secs(10 * 366 * 86_400);

const AFTER_HELP: &str = "\
CMD gets the payload on stdin, and finds in its environment
  QUORATE_JOB_ID, QUORATE_JOB_ATTEMPT, QUORATE_JOB_LEASE, QUORATE_QUEUE
  QUORATE_ENDPOINTS, QUORATE_NAMESPACE  as they were given to this command
The lease is extended while it runs. When it ends with status 0 the job is done; otherwise it failed,
is tried again as the queue says, and its status and the last line of its stderr are kept with it.

When the job is withdrawn (cancelled, purged, its lease lost), CMD and all it has started get SIGTERM,
and after 5 seconds SIGKILL. A job may be done more than once, so make what CMD does repeatable.

SIGTERM, SIGINT or SIGHUP: no more jobs are taken, those that run may end within --grace, then they
are ended, and handed back when they are gone; a second signal ends them at once. If this command is
killed (SIGKILL), CMD goes on, and its jobs are delivered elsewhere once the session has ended.

Example:
  quorate queue work emails --parallel 4 -- ./send-email";

/// `quorate queue work`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Work {
    queue: String,
    /// How many run at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    parallel: u32,
    /// End after so many jobs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_jobs: Option<u64>,
    /// How long jobs that run may go on when this command is to end
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    grace: Duration,
    /// Jobs of a worker that vanished are delivered again after this long, 1s to 1h
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_session_ttl)]
    session_ttl: Duration,
    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn parse_session_ttl(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3_600);
    match duration::parse(text)? {
        ttl if bounds.contains(&ttl) => Ok(ttl),
        _ => Err(format!("a session's ttl is 1s to 1h, not {text}")),
    }
}

impl Work {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        connect.run_in_session(self.session_ttl, async |client| {
            // Before anything is asked for, so that no signal finds us without a handler.
            let mut signals = Signals::new()?;
            let ran = self.work(&client, connect, &mut signals, output).await;
            // Frees whatever is not settled yet. If it fails, that ends with its ttl.
            let _ = client.close().await;
            ran
        })
    }

    async fn work(
        self,
        client: &Client,
        connect: &Connect,
        signals: &mut Signals,
        output: Output,
    ) -> Result<(), Failure> {
        let Self { queue, parallel, max_jobs, grace, command, .. } = self;
        let bench = Arc::new(Bench {
            command,
            environment: connect
                .environment()
                .into_iter()
                .chain([("QUORATE_QUEUE", queue.clone())])
                .collect(),
            places: Arc::new(Semaphore::new(parallel as usize)),
            ending: Mutex::default(),
            cut: watch::Sender::new(false),
            begun: AtomicU64::new(0),
            max_jobs: max_jobs.unwrap_or(u64::MAX),
            not_run: Mutex::default(),
            enough: Notify::new(),
            output,
        });
        let handler = {
            let bench = Arc::clone(&bench);
            move |job: Arc<Job>| {
                let bench = Arc::clone(&bench);
                async move { bench.run(&job).await }
            }
        };
        let worker =
            client.queue().worker(&queue, handler).max_parallel(parallel).grace(CLIENTS_GRACE);
        let worker = tokio::select! {
            worker = worker.start() => worker?,
            _ = signals.next() => return Ok(()),
        };
        let mut cut_at: Option<Instant> = None;
        loop {
            tokio::select! {
                () = worker.finished() => break,
                () = bench.enough.notified() => worker.stop(),
                _ = signals.next() => {
                    let now = Instant::now();
                    cut_at = Some(if cut_at.is_some() { now } else { now + grace });
                    if cut_at > Some(now) {
                        let grace = duration::text(grace);
                        output.note(&format!("quorate: stopping; jobs that run have {grace}"));
                    }
                    worker.stop();
                }
                () = until(cut_at), if !*bench.cut.borrow() => drop(bench.cut.send_replace(true)),
            }
        }
        let ended = worker.join().await;
        bench.wait_for_the_ended().await;
        if let Some(failure) = bench.not_run() {
            return Err(failure);
        }
        let counts = ended?;
        output.done(|| shown(counts), || text(counts))
    }
}

fn shown(counts: WorkerCounts) -> serde_json::Value {
    json!({
        "done": counts.done,
        "failed": counts.failed,
        "lost": counts.lost,
        "handed_back": counts.handed_back,
        "unknown": counts.unknown,
    })
}

fn text(counts: WorkerCounts) -> String {
    let WorkerCounts { done, failed, lost, handed_back, unknown, .. } = counts;
    format!(
        "{done} done, {failed} failed, {lost} lost, {handed_back} handed back, {unknown} unknown"
    )
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Where commands are run.
struct Bench {
    command: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    /// One for each that may run at a time. One that is being ended still has its own.
    places: Arc<Semaphore>,
    /// Those that are being ended.
    ending: Mutex<JoinSet<()>>,
    /// Whether those that run are to be ended, and no more begun.
    cut: watch::Sender<bool>,
    begun: AtomicU64,
    max_jobs: u64,
    /// Why the command can't be run at all.
    not_run: Mutex<Option<Failure>>,
    /// No more jobs are wanted.
    enough: Notify,
    output: Output,
}

impl Bench {
    async fn run(self: &Arc<Self>, job: &Job) -> Result<(), JobError> {
        let mut cuts = self.cut.subscribe();
        let place = tokio::select! {
            biased;
            () = said(&mut cuts) => return Err(JobError::new("").hand_back()),
            place = Arc::clone(&self.places).acquire_owned() => place?,
        };
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        if begun >= self.max_jobs {
            self.enough.notify_one();
        }
        if begun > self.max_jobs {
            return Err(JobError::new("").hand_back());
        }
        let started = Running::start(self.command(job), true);
        let running = match started {
            Ok(running) => running,
            Err(error) => {
                // It would be so with every job: none is to lose an attempt by it.
                let failure = child::not_run(&self.command, &error);
                self.lock(&self.not_run).get_or_insert(failure);
                self.enough.notify_one();
                return Err(JobError::new("").hand_back());
            }
        };
        let mut seat = Seat { bench: self, running: Some(running), place: Some(place) };
        let (ended, last_line) = tokio::select! {
            biased;
            ended = seat.wait(job.payload()) => ended?,
            () = said(&mut cuts) => {
                // Nobody else is to do it before this one has stopped.
                seat.end().await;
                return Err(JobError::new("").hand_back());
            }
        };
        match ended.success() {
            true => Ok(()),
            false => {
                let error = why(ended, &last_line);
                let (id, attempt) = (job.id(), job.attempt());
                let line = one_line(&error);
                self.output.note(&format!("quorate: job {id} failed, attempt {attempt}: {line}"));
                Err(JobError::new(error))
            }
        }
    }

    fn command(&self, job: &Job) -> Command {
        // The parser has seen to it that there is one.
        let mut command = Command::new(self.command.first().cloned().unwrap_or_default());
        command
            .args(self.command.iter().skip(1))
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .env("QUORATE_JOB_ID", job.id().to_string())
            .env("QUORATE_JOB_ATTEMPT", job.attempt().to_string())
            .env("QUORATE_JOB_LEASE", job.lease().to_string())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    async fn wait_for_the_ended(&self) {
        let mut ending = std::mem::take(&mut *self.lock(&self.ending));
        while ending.join_next().await.is_some() {}
    }

    fn not_run(&self) -> Option<Failure> {
        self.lock(&self.not_run).take()
    }

    #[allow(clippy::unused_self, reason = "the locks are its own")]
    fn lock<'a, T>(&self, of: &'a Mutex<T>) -> std::sync::MutexGuard<'a, T> {
        of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that runs. When this is dropped before it has ended, it is ended.
struct Seat<'a> {
    bench: &'a Arc<Bench>,
    running: Option<Running>,
    place: Option<OwnedSemaphorePermit>,
}

impl Seat<'_> {
    /// Feeds it, and waits for its end. Answers the last line of its stderr, too.
    async fn wait(&mut self, payload: &[u8]) -> io::Result<(ExitStatus, String)> {
        let Some(running) = &mut self.running else {
            return Err(io::Error::other("it was not started"));
        };
        let child = &mut running.child;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let feeding = async {
            if let Some(mut stdin) = stdin {
                // One that does not want it ends without reading.
                let _ = stdin.write_all(payload).await;
            }
        };
        // By a task of its own: one that is ended early may write until it is gone, and a pipe
        // that nobody reads would kill it in the middle of that.
        let last_line = Arc::new(Mutex::new(LastLine::default()));
        let mut reading = tokio::spawn(pass_on(stderr, Arc::clone(&last_line)));
        let ended = {
            let mut ending = pin!(child.wait());
            tokio::select! {
                biased;
                ended = &mut ending => ended?,
                // For as long as it runs: what it left behind may hold the pipe and read nothing.
                () = feeding => ending.await?,
            }
        };
        // What is still in the pipe belongs to it.
        if tokio::time::timeout(REST_OF_STDERR, &mut reading).await.is_err() {
            reading.abort();
        }
        self.running = None;
        let last_line = self.bench.lock(&last_line).text();
        Ok((ended, last_line))
    }

    /// Ends it, and waits until it is gone.
    ///
    /// # Cancel safety
    /// It is ended in the background when the future is dropped.
    async fn end(&mut self) {
        if let Some(running) = &mut self.running {
            running.end().await;
        }
        self.running = None;
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let place = self.place.take();
        let mut ending = self.bench.lock(&self.bench.ending);
        // Those that are gone by now: with every job that is withdrawn there is one more.
        while ending.try_join_next().is_some() {}
        ending.spawn(async move {
            running.end().await;
            drop(place);
        });
    }
}

async fn said(word: &mut watch::Receiver<bool>) {
    // It fails when the bench is gone, and nobody runs there then.
    let _ = word.wait_for(|said| *said).await;
}

/// Passes stderr on, and keeps its last line.
async fn pass_on(stderr: Option<ChildStderr>, last_line: Arc<Mutex<LastLine>>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 4_096];
    loop {
        match stderr.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => {
                last_line.lock().unwrap_or_else(PoisonError::into_inner).take(&chunk[..read]);
                // Nobody reading it is no reason to fail.
                let _ = io::Write::write_all(&mut io::stderr(), &chunk[..read]);
            }
        }
    }
}

/// The last line that is not empty, as far as it was written.
#[derive(Debug, Default)]
struct LastLine {
    complete: Vec<u8>,
    open: Vec<u8>,
}

impl LastLine {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.open.len() < LINE_BYTES_MAX {
                    self.open.push(byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.open);
            if !line.trim_ascii().is_empty() {
                self.complete = line;
            }
        }
    }

    fn text(&self) -> String {
        let open = self.open.trim_ascii();
        let line = if open.is_empty() { self.complete.trim_ascii() } else { open };
        String::from_utf8_lossy(line).into_owned()
    }
}

fn why(ended: ExitStatus, last_line: &str) -> String {
    let how = match (ended.code(), std::os::unix::process::ExitStatusExt::signal(&ended)) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or(0)),
    };
    match last_line {
        "" => how,
        line => format!("{how}: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_last_line_is_found_in_pieces_too() {
        let text = |pieces: &[&str]| {
            let mut last = LastLine::default();
            pieces.iter().for_each(|piece| last.take(piece.as_bytes()));
            last.text()
        };
        assert_eq!(text(&[]), "");
        assert_eq!(text(&["one\ntwo"]), "two");
        assert_eq!(text(&["one\nt", "wo\n", "\n \n"]), "two");
        assert_eq!(text(&[&"x".repeat(5_000)]).len(), LINE_BYTES_MAX);
    }

    #[test]
    fn a_failure_says_how_and_why() {
        assert_eq!(why(ExitStatus::from_raw(3 << 8), "no disk"), "exit status 3: no disk");
        assert_eq!(why(ExitStatus::from_raw(9), ""), "signal 9");
    }
}
