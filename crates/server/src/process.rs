//! `quorate serve` as a process: sockets, data directory, runtimes, signals, exit.

use crate::config::{Address, Config};
use crate::connections::{Door, PEER_CONNECTIONS_MAX};
use crate::http::{self, Probes};
use crate::logging::{self, Logging};
use crate::server::{Beside, Server, ServerOptions};
use crate::trace;
use quorate_consensus::io::tcp_incoming;
use quorate_consensus::{Ended, StartError};
use quorate_state::NodeId;
use sd_notify::NotifyState;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod open_files;
mod start;

pub use open_files::OpenFiles;
use start::start_node;

/// From the first signal to the end of the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(25);
/// What tasks that ignored all that get at the very end.
const RUNTIME_STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Threads for consensus and its connections at most, apart from those that serve clients: heartbeats
/// must not wait behind requests.
const CONSENSUS_THREADS_MAX: usize = 2;
/// How long answers of a pipeline may wait for a client that takes none.
const SLOW_READER_MAX: Duration = Duration::from_secs(30);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1_024;
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
    /// Called once, when the node serves.
    pub on_listening: Box<dyn FnOnce(&Listening) + Send>,
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
    let system = |action| move |error| Error::System { action, error };
    let clients = Builder::new_multi_thread().thread_name("quorate-client").enable_all().build();
    let clients = clients.map_err(system("start the threads for clients"))?;
    let consensus = Builder::new_multi_thread()
        .worker_threads(consensus_threads())
        .thread_name(CONSENSUS_THREAD)
        .enable_all()
        .build()
        .map_err(system("start the threads for consensus"))?;
    let result = clients.block_on(async {
        let stop = Stop::new(options.stop_on_stdin_eof)?;
        let work = serve(options.config, options.on_listening, &consensus, &stop, &logging);
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
    clients.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    consensus.shutdown_timeout(RUNTIME_STOP_TIMEOUT);
    if result.is_err() {
        end_soon(|| std::process::exit(1));
    }
    result
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
    consensus: &Runtime,
    stop: &Stop,
    logging: &Logging,
) -> Result<(), Error> {
    for exposed in &config.exposed {
        tracing::warn!(
            exposed,
            "other machines reach this node as nobody should: whoever reaches the port can read and change \
             everything. insecure = true allows it; docs/security.md says how to secure it"
        );
    }
    // The client port is taken now and opened when there is somebody to serve: until then clients
    // are refused, and go to another node.
    let client = Port::take("client", &config.client_listen).await?;
    let peer = Port::take("peer", &config.peer_listen).await?;
    let http = Port::take("http", &config.http_listen).await?;
    let mut listening = Listening {
        node_id: config.node_id,
        client: client.address,
        peer: peer.address,
        http: http.address,
    };
    let advertised = config.http_address(http.address.port()).host;
    let hosts = vec![config.http_listen.host.clone(), advertised];
    let probes = Probes::new(Some(logging.dropped()), config.auth.is_some(), hosts);
    probes.counters().facts.of_process(config.data_dir.clone(), config.metrics_queues_max);
    let (files, auth) = (config.tls.clone(), config.auth.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut tls = files.read()?;
        let auth = auth.map(|auth| tls.auth(auth)).transpose()?;
        Ok::<_, quorate_tls::Error>((tls, auth))
    });
    let read = read.await;
    let (tls, auth) =
        read.map_err(|panic| Error::Failed(format!("reading certificates panicked: {panic}")))??;
    let (tasks, token) = (TaskTracker::new(), CancellationToken::new());
    let shown = tls.http.clone();
    tasks.spawn(http::serve(tcp_incoming(http.open()?), shown, probes.clone(), token.clone()));

    let client_addr = config.client_address(listening.client.port()).to_string();
    let http_addr = config.http_address(listening.http.port()).to_string();
    let counted = Arc::clone(&probes.counters().peer);
    let door = Door {
        name: "peer",
        max: PEER_CONNECTIONS_MAX,
        counted,
        tls: tls.peer.clone(),
        callers: None,
    };
    let network = start::Network {
        client_addr,
        http_addr,
        incoming: door.open_to_peers(tcp_incoming(peer.open()?)),
        dialer: Arc::clone(&tls.dialer),
        join: tls.join.clone(),
    };
    let starting = start_node(config.clone(), network);
    let starting = tokio_util::task::AbortOnDropHandle::new(consensus.spawn(starting));
    let node = tokio::select! {
        started = starting => match started {
            Ok(node) => node?,
            Err(panic) => return Err(Error::Failed(format!("its start panicked: {panic}"))),
        },
        () = stop.asked() => {
            tracing::info!("stopped before the node was part of a cluster");
            return Ok(());
        }
    };

    listening.node_id = node.replica().node_id();
    let options = ServerOptions {
        node,
        client_incoming: tcp_incoming(client.open()?),
        http_incoming: None,
        limits: config.limits.clone(),
        connections_max: config.connections_max,
        streams_per_connection_max: config.streams_per_connection_max,
        per_caller: config.per_caller,
        message_timeout: config.message_timeout,
        slow_reader_max: SLOW_READER_MAX,
        joins_without_token: config.client_listen.is_loopback() && config.auth.is_none(),
        auth,
    };
    let traces = trace::start(listening.node_id).map(|(tracer, exporting)| {
        probes.counters().requests.trace_with(tracer);
        exporting
    });
    let beside = Beside { probes, tasks, stop: token, tls: tls.client.clone() };
    let server = Server::start_beside(options, beside);
    tracing::info!(
        node = %listening.node_id, client = %listening.client, peer = %listening.peer,
        http = %listening.http, version = env!("CARGO_PKG_VERSION"), "serving"
    );
    on_listening(&listening);
    notify(NotifyState::Ready, "serving");
    tokio::select! {
        ended = server.ended() => Err(match ended {
            Ended::Failed(reason) => Error::Failed(reason),
            Ended::Left(reason) => Error::Left(reason),
        }),
        () = stop.asked() => {
            tracing::info!("stopping");
            notify(NotifyState::Stopping, "answering what is under way");
            server.shutdown(SHUTDOWN_TIMEOUT).await;
            if let Some(traces) = traces {
                traces.finish().await;
            }
            tracing::info!("stopped");
            Ok(())
        }
        never = report_lost_lines(logging) => match never {},
        never = tls.follow(Arc::clone(&stop.look)) => match never {},
    }
}

/// A port that is taken, and perhaps not open yet.
struct Port {
    name: &'static str,
    socket: TcpSocket,
    address: SocketAddr,
}

impl Port {
    async fn take(name: &'static str, listen: &Address) -> Result<Self, Error> {
        let wrong = |error: io::Error| Error::Listen(refusal(name, &listen.to_string(), &error));
        let mut found =
            tokio::net::lookup_host((listen.host.as_str(), listen.port)).await.map_err(wrong)?;
        let address = found.next().ok_or_else(|| {
            Error::Listen(format!("{listen}, for {name}_listen, stands for no address"))
        })?;
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
            .map_err(wrong)?;
        // As every server does: connections of the last run linger in the kernel.
        socket.set_reuseaddr(true).map_err(wrong)?;
        socket.bind(address).map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        Ok(Self { name, socket, address })
    }

    fn open(self) -> Result<TcpListener, Error> {
        let Self { name, socket, address } = self;
        socket
            .listen(BACKLOG)
            .map_err(|error| Error::Listen(refusal(name, &address.to_string(), &error)))
    }
}

/// What to do about a port that can't be had.
fn refusal(name: &str, address: &str, error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program (perhaps another node) has that port; stop it, or choose another port"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; name one of its own".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not have that port; choose one from 1024 on".to_owned()
        }
        _ => error.to_string(),
    };
    format!("can't listen on {address}, the {name} port: {what} (--{name}-listen)")
}

/// Hears that the process shall stop.
struct Stop {
    asked: CancellationToken,
    insisted: CancellationToken,
    /// To look at files that may have changed.
    look: Arc<Notify>,
}

impl Stop {
    fn new(stdin: bool) -> Result<Self, Error> {
        let system = |error| Error::System { action: "handle signals", error };
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(system)?;
        let look = Arc::<Notify>::default();
        let told = Arc::clone(&look);
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                told.notify_one();
            }
        });
        let (asked, insisted) = (CancellationToken::new(), CancellationToken::new());
        let stop = Self { asked, insisted, look };
        let (asked, insisted) = (stop.asked.clone(), stop.insisted.clone());
        tokio::spawn(async move {
            for token in [asked, insisted] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        if stdin {
            let asked = stop.asked.clone();
            // A thread of its own: reading stdin can't be interrupted, so nobody must wait for it.
            std::thread::Builder::new()
                .name("quorate-stdin".to_owned())
                .spawn(move || {
                    // Its end counts, and an error is one.
                    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                    asked.cancel();
                })
                .map_err(|error| Error::System { action: "watch stdin", error })?;
        }
        Ok(stop)
    }

    async fn asked(&self) {
        self.asked.cancelled().await;
    }

    async fn insisted(&self) {
        self.insisted.cancelled().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_a_way_out() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let listen = address("127.0.0.1:0").with_port(port);
        let error = match Port::take("client", &listen).await.and_then(Port::open) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the port was had twice"),
        };
        assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
        assert!(error.contains("another program"), "{error}");
        assert!(error.contains("--client-listen"), "{error}");
    }

    #[tokio::test]
    async fn a_port_that_is_not_open_yet_refuses() {
        let port = Port::take("client", &address("127.0.0.1:0")).await.unwrap();
        let at = port.address;
        assert_ne!(at.port(), 0);
        let refused = tokio::net::TcpStream::connect(at).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let _open = port.open().unwrap();
        tokio::net::TcpStream::connect(at).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_refused() {
        // From the range kept for documentation: no machine has it.
        let error = match Port::take("http", &address("192.0.2.1:8813")).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("bound"),
        };
        assert!(error.contains("192.0.2.1:8813") && error.contains("--http-listen"), "{error}");
    }
}
