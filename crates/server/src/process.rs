//! `quorate serve` as a process: sockets, data directory, runtimes, signals, exit.

use crate::config::{Config, ConfigError};
use crate::logging::{self, Logging};
use quorate_consensus::StartError;
use quorate_state::NodeId;
use sd_notify::NotifyState;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

mod control;
mod open_files;
mod ports;
mod serving;
mod start;
mod stop;

use control::Control;
pub use open_files::OpenFiles;
pub(crate) use serving::{Serving, Ways};
pub(crate) use start::Place;
use stop::{Stdin, Stop};

/// From the first signal to the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);
/// What tasks that ignored all that get at the very end.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Threads for consensus and its connections at most, apart from those that serve clients: heartbeats
/// must not wait behind requests.
const CONSENSUS_THREADS_MAX: usize = 2;
/// How long a process that ends because something failed waits for stderr to take why.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);
/// How often lost log lines are reported.
const LOST_LINES_EVERY: Duration = Duration::from_secs(30);

/// What a node process runs with.
pub struct Options {
    /// Its configuration.
    pub config: Config,
    /// Stop, as after SIGTERM, when stdin ends.
    pub stop_on_stdin_eof: bool,
    /// Takes commands of a test from stdin. Only where other machines reach nothing of the node.
    pub test_control: Option<TestControl>,
    /// Called once, when the node serves.
    pub on_listening: Box<dyn FnOnce(&Listening) + Send>,
}

/// What a test may do to a node, by lines on its stdin: `cut 2 3` cuts it off from these nodes and from no
/// others, `heal` mends that. The end of stdin stops the node.
pub struct TestControl {
    /// From whom it is cut off as it starts.
    pub cut: BTreeSet<NodeId>,
    /// Told what each line came to, when it is done: nothing, or why it was not.
    pub told: Box<dyn FnMut(Result<(), String>) + Send>,
}

/// Where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The node.
    pub node_id: NodeId,
    /// Where it listens for clients.
    pub client: SocketAddr,
    /// Where it listens for other nodes.
    pub peer: SocketAddr,
    /// Where it listens for HTTP.
    pub http: SocketAddr,
}

/// Why a node process ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port can't be had.
    #[error("{0}")]
    Listen(String),
    /// The data directory can't be used.
    #[error(transparent)]
    Storage(quorate_storage::Error),
    /// A file for TLS can't be used.
    #[error(transparent)]
    Tls(#[from] quorate_tls::Error),
    /// The node must not become, or can't be, part of the cluster.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The operating system refused something it rarely refuses.
    #[error("can't {action}: {error}")]
    System {
        /// What was attempted.
        action: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// The node was removed from its cluster.
    #[error("{0}")]
    Left(String),
    /// A promise could not be kept, so the node stopped.
    #[error("the node has stopped because it can't keep its promises: {0}")]
    Failed(String),
}

impl From<quorate_storage::Error> for Error {
    fn from(error: quorate_storage::Error) -> Self {
        match error {
            quorate_storage::Error::Left(why) => Self::Left(why),
            error => Self::Storage(error),
        }
    }
}

/// Runs a node until it is told to stop (SIGTERM, SIGINT, the end of stdin if that is asked for),
/// or fails. A second signal ends it without further courtesy.
///
/// # Errors
/// When it can't start, or has failed: the process must exit.
pub fn run(options: Options) -> Result<(), Error> {
    let logging = logging::start(&options.config);
    stop_on_panic();
    let mut options = options;
    options.config.connections_max =
        open_files::connections_that_fit(options.config.connections_max);
    let threads = Threads::start()?;
    let result = threads.clients.block_on(async {
        let (cuts, stdin) = match options.test_control {
            Some(test) => {
                let control = Control::new(&options.config, test)?;
                (Some(control.cuts().clone()), Stdin::Commands(control))
            }
            None if options.stop_on_stdin_eof => (None, Stdin::ToItsEnd),
            None => (None, Stdin::Unread),
        };
        let stop = Stop::new(stdin)?;
        let ways = Ways {
            consensus: threads.consensus.handle().clone(),
            place: Place::Directory,
            dropped_lines: Some(logging.dropped()),
            traces: true,
            cuts,
        };
        let work = serve(options.config, options.on_listening, ways, &stop, &logging);
        tokio::select! {
            result = work => result,
            () = stop.insisted() => {
                tracing::warn!("stopping at once, as asked a second time");
                Ok(())
            }
        }
    });
    if let Err(Error::Failed(reason)) = &result {
        tracing::error!(reason, "the node ends, because it can't keep its promises");
    }
    threads.end();
    if result.is_err() {
        end_soon(|| std::process::exit(1));
    }
    result
}

/// The threads of a node.
pub(crate) struct Threads {
    pub(crate) clients: Runtime,
    pub(crate) consensus: Runtime,
}

impl Threads {
    pub(crate) fn start() -> Result<Self, Error> {
        let system = |action| move |error| Error::System { action, error };
        let clients =
            Builder::new_multi_thread().thread_name("quorate-client").enable_all().build();
        let clients = clients.map_err(system("start the threads for clients"))?;
        let consensus = Builder::new_multi_thread()
            .worker_threads(consensus_threads())
            .thread_name(CONSENSUS_THREAD)
            .enable_all()
            .build()
            .map_err(system("start the threads for consensus"))?;
        Ok(Self { clients, consensus })
    }

    /// Ends them, and waits a little for what ignores that.
    pub(crate) fn end(self) {
        self.clients.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
        self.consensus.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    }
}

/// On two cores a second thread only takes the first one's work over to another core, and each time it is
/// woken for that: a lone write took a tenth longer.
fn consensus_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).clamp(1, CONSENSUS_THREADS_MAX)
}

/// Ends the process in a while, if it has not ended by itself: a supervisor must hear of its end
/// also when nobody takes its last words, and a write to a pipe that is not read waits for ever.
fn end_soon(end: fn() -> std::convert::Infallible) {
    let waiting = std::thread::Builder::new().name("quorate-end".to_owned()).spawn(move || {
        #[expect(
            clippy::disallowed_methods,
            reason = "a thread of its own, and no runtime is left"
        )]
        std::thread::sleep(LAST_WORDS_MAX);
        match end() {}
    });
    // Without a thread it ends when its words are taken.
    drop(waiting);
}

/// The names of the threads on which a panic ends the process.
const VITAL_THREADS: [&str; 2] = [CONSENSUS_THREAD, "log-flusher"];
const CONSENSUS_THREAD: &str = "quorate-raft";

/// A panic on a thread of consensus or the log is a broken invariant: the process ends, and its
/// supervisor starts it again from what is on disk. Otherwise it would live on without a heart.
fn stop_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let vital = std::thread::current().name().is_some_and(|name| VITAL_THREADS.contains(&name));
        if vital {
            end_soon(|| std::process::abort());
        }
        print(panic);
        if vital {
            std::process::abort();
        }
    }));
}

/// Tells the service manager, if there is one that wants to know (`Type=notify` of systemd).
fn notify(state: NotifyState<'_>, status: &str) {
    if let Err(error) = sd_notify::notify(&[state, NotifyState::Status(status)]) {
        tracing::warn!(%error, "the service manager could not be told: {status}");
    }
}

async fn serve(
    config: Config,
    on_listening: Box<dyn FnOnce(&Listening) + Send>,
    ways: Ways,
    stop: &Stop,
    logging: &Logging,
) -> Result<(), Error> {
    let serving = tokio::select! {
        started = Box::pin(Serving::start(config, ways)) => started?,
        () = stop.asked() => {
            tracing::info!("stopped before the node was part of a cluster");
            return Ok(());
        }
    };
    // The lock on the directory ends with the process, not with the node.
    std::mem::forget(serving.directory());
    stop.control_knows(serving.replica());
    on_listening(&serving.listening);
    notify(NotifyState::Ready, "serving");
    let asked = async {
        stop.asked().await;
        tracing::info!("stopping");
        notify(NotifyState::Stopping, "answering what is under way");
        SHUTDOWN_TIMEOUT
    };
    tokio::select! {
        ended = Box::pin(serving.until(asked, stop.look.clone())) => {
            if ended.is_ok() {
                tracing::info!("stopped");
            }
            ended
        }
        never = report_lost_lines(logging) => match never {},
    }
}

/// Says now and then how many log lines were lost.
async fn report_lost_lines(logging: &Logging) -> std::convert::Infallible {
    let mut reported = 0;
    loop {
        tokio::time::sleep(LOST_LINES_EVERY).await;
        let lost = logging.dropped_lines();
        if lost > reported {
            tracing::warn!(lines = lost - reported, "log lines were lost: stderr was too slow");
            reported = lost;
        }
    }
}
