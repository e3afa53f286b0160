//! A node that serves, over sockets and on threads that somebody else has made: what `quorate serve` and
//! a node inside another program share.

use super::ports::Port;
use super::start::{Kept, Network, Place, start_node};
use super::{Error, Listening};
use crate::config::Config;
use crate::connections::{Door, PEER_CONNECTIONS_MAX};
use crate::http::{self, Probes};
use crate::server::{Beside, Server, ServerOptions};
use crate::tls::Tls;
use crate::trace::{self, Exporting};
use quorate_consensus::io::{Cuts, tcp_incoming};
use quorate_consensus::{Ended, Replica};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing_appender::non_blocking::ErrorCounter;

/// How long answers of a pipeline may wait for a client that takes none.
const SLOW_READER_MAX: Duration = Duration::from_secs(30);

/// What a node is given beside its configuration.
pub(crate) struct Ways {
    /// The threads for consensus. Those for clients are of the caller of [`Serving::start`].
    pub(crate) consensus: Handle,
    /// Where its data is.
    pub(crate) place: Place,
    /// Counts the log lines that the process has lost, if it has a log of its own.
    pub(crate) dropped_lines: Option<ErrorCounter>,
    /// Whether it sends traces as the environment says.
    pub(crate) traces: bool,
    /// What cuts it off from others.
    pub(crate) cuts: Option<Cuts>,
}

/// The node.
pub(crate) struct Serving {
    pub(crate) listening: Listening,
    server: Server,
    tls: Tls,
    traces: Option<Exporting>,
    directory: Option<Kept>,
}

impl Serving {
    /// Starts it, and returns when it serves: a new one is part of a cluster then.
    ///
    /// # Errors
    /// When it can't start.
    pub(crate) async fn start(mut config: Config, ways: Ways) -> Result<Self, Error> {
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
        if config.peer_listen.port == 0 {
            config.founds_alone_at(peer.address.port());
        }
        let mut listening = Listening {
            node_id: config.node_id,
            client: client.address,
            peer: peer.address,
            http: http.address,
        };
        let advertised = config.http_address(http.address.port()).host;
        let hosts = vec![config.http_listen.host.clone(), advertised];
        let probes = Probes::new(ways.dropped_lines, config.auth.is_some(), hosts);
        if ways.place == Place::Directory {
            probes.counters().facts.of_process(config.data_dir.clone(), config.metrics_queues_max);
        }
        let (files, auth) = (config.tls.clone(), config.auth.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mut tls = files.read()?;
            let auth = auth.map(|auth| tls.auth(auth)).transpose()?;
            Ok::<_, quorate_tls::Error>((tls, auth))
        });
        let read = read.await;
        let (tls, auth) = read
            .map_err(|panic| Error::Failed(format!("reading certificates panicked: {panic}")))??;
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
        let dialer = Arc::clone(&tls.dialer);
        let dialer = match &ways.cuts {
            Some(cuts) => cuts.over(dialer),
            None => dialer,
        };
        let network = Network {
            client_addr,
            http_addr,
            incoming: door.open_to_peers(tcp_incoming(peer.open()?)),
            dialer,
            join: tls.join.clone(),
        };
        let starting = start_node(config.clone(), network, ways.place);
        let starting = AbortOnDropHandle::new(ways.consensus.spawn(starting));
        let (node, directory) = starting
            .await
            .map_err(|panic| Error::Failed(format!("its start panicked: {panic}")))??;

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
        let traces = ways.traces.then(|| trace::start(listening.node_id)).flatten();
        let traces = traces.map(|(tracer, exporting)| {
            probes.counters().requests.trace_with(tracer);
            exporting
        });
        let beside = Beside { probes, tasks, stop: token, tls: tls.client.clone() };
        let server = Server::start_beside(options, beside);
        tracing::info!(
            node = %listening.node_id, client = %listening.client, peer = %listening.peer,
            http = %listening.http, version = env!("CARGO_PKG_VERSION"), "serving"
        );
        Ok(Self { listening, server, tls, traces, directory })
    }

    /// The replica behind it.
    pub(crate) fn replica(&self) -> &Replica {
        self.server.replica()
    }

    /// The lock on its directory, which has to outlive whatever may yet write there.
    pub(crate) fn directory(&self) -> Option<Kept> {
        self.directory.clone()
    }

    /// Serves until `asked` says within what time it is to stop, and stops in order; looks at its files
    /// when it is told to `look`.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub(crate) async fn until(
        self,
        asked: impl Future<Output = Duration>,
        look: Arc<Notify>,
    ) -> Result<(), Error> {
        let Self { server, tls, traces, .. } = self;
        tokio::select! {
            ended = server.ended() => Err(match ended {
                Ended::Failed(reason) => Error::Failed(reason),
                Ended::Left(reason) => Error::Left(reason),
            }),
            timeout = asked => {
                server.shutdown(timeout).await;
                if let Some(traces) = traces {
                    traces.finish().await;
                }
                Ok(())
            }
            never = tls.follow(look) => match never {},
        }
    }
}
