//! The services of one node over given connections: what a real process and a simulation share.

use crate::access::{Access, AdminTokenFile};
use crate::connections::Door;
use crate::dashboard::Dashboard;
use crate::grpc::{self, Context};
use crate::http::{self, Probes};
use crate::limits::{CallerLimits, Callers, MESSAGE_TIMEOUT};
use crate::news::News;
use crate::schedules;
use crate::tls::{AuthFiles, Shown};
use quorate_consensus::io::Incoming;
use quorate_consensus::{Ended, Node, Replica};
use quorate_state::limits::Limits;
use quorate_tls::Reloading;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a leader tries to hand over before it stops anyway: a few election timeouts.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(3);
/// What consensus gets to stop in, after the services drained.
const NODE_STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server is made of.
pub struct ServerOptions {
    /// The node that the services ask. The server stops it when it stops itself.
    pub node: Node,
    /// Connections of clients.
    pub client_incoming: Incoming,
    /// Connections to the HTTP port, if there is one.
    pub http_incoming: Option<Incoming>,
    /// Bounds checked at the door.
    pub limits: Limits,
    /// Client connections at once.
    pub connections_max: usize,
    /// Requests at once on one client connection.
    pub streams_per_connection_max: u32,
    /// What one caller may have.
    pub per_caller: CallerLimits,
    /// How long a request may take to arrive.
    pub message_timeout: Duration,
    /// How long answers of a pipeline may wait for a client that takes none.
    pub slow_reader_max: Duration,
    /// Whether nodes may join without a token: whoever reaches the port is on this machine.
    pub joins_without_token: bool,
    /// How callers are asked who they are; none: they are not.
    pub auth: Option<Auth>,
}

impl ServerOptions {
    /// Options with the default bounds and no HTTP port.
    #[must_use]
    pub fn new(node: Node, client_incoming: Incoming) -> Self {
        Self {
            node,
            client_incoming,
            http_incoming: None,
            limits: Limits::default(),
            connections_max: 10_000,
            streams_per_connection_max: 1_024,
            per_caller: CallerLimits::default(),
            message_timeout: MESSAGE_TIMEOUT,
            slow_reader_max: Duration::from_secs(30),
            joins_without_token: false,
            auth: None,
        }
    }
}

/// The running services of a node.
///
/// Dropping it without [`Server::shutdown`] aborts the node's own tasks, and leaves the services,
/// which then fail, to the end of their runtime.
pub struct Server {
    node: Node,
    probes: Probes,
    _shown: ShownWhileItRuns,
    stop: CancellationToken,
    tasks: TaskTracker,
    news: Arc<News>,
    /// What has to be said in the log before consensus stops.
    calls_that_wait: TaskTracker,
}

/// Takes the services back from the HTTP port when the server is gone, however it goes.
struct ShownWhileItRuns(Probes);

impl Drop for ShownWhileItRuns {
    fn drop(&mut self) {
        self.0.shows_no_more();
    }
}

/// What a process has before its server is there.
pub(crate) struct Beside {
    pub(crate) probes: Probes,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// What the client port shows, if it speaks TLS.
    pub(crate) tls: Option<Shown>,
}

/// How callers are asked who they are.
#[derive(Clone)]
pub struct Auth {
    pub(crate) admin_token: Option<Arc<Reloading<AdminTokenFile>>>,
}

impl Auth {
    /// Reads the files; nobody looks whether they change. Blocks on the disk.
    ///
    /// # Errors
    /// When one can't be used.
    pub fn read(files: AuthFiles) -> Result<Self, quorate_tls::Error> {
        let admin_token = files.admin_token.map(AdminTokenFile);
        let admin_token = admin_token.map(Reloading::new).transpose()?.map(Arc::new);
        Ok(Self { admin_token })
    }
}

impl Server {
    /// Starts the services as tasks of the current runtime. Opens no socket, file or thread.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(options: ServerOptions) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let probes = Probes::new(None, options.auth.is_some(), Vec::new());
        Self::start_beside(options, Beside { probes, tasks, stop, tls: None })
    }

    /// As [`Server::start`], with an HTTP port that was opened before the node was there.
    pub(crate) fn start_beside(options: ServerOptions, beside: Beside) -> Self {
        let Beside { probes, tasks, stop, tls } = beside;
        let ServerOptions { node, client_incoming, http_incoming, limits, auth, .. } = options;
        let access = auth.map(|auth| Access::new(node.replica().clone(), auth.admin_token));
        let asks_callers = access.is_some();
        if let Some(access) = &access {
            let told = node.replica().follow();
            tokio::spawn(access.clone().follow(told, stop.clone()));
            probes.asks(access.clone());
        }
        let (context, strays) = Context::new(
            node.replica().clone(),
            limits,
            Arc::clone(probes.counters()),
            options.slow_reader_max,
            options.joins_without_token,
            access,
            stop.clone(),
        );
        let callers = Callers::new(options.per_caller, Arc::clone(probes.counters()));
        let context = context.bounded(callers.clone(), options.message_timeout);
        // Who is asked for a name is known by it.
        let by_address = (!asks_callers).then_some(callers);
        let news = Arc::clone(context.news());
        tokio::spawn(Arc::clone(&news).follow(node.replica().follow()));
        let told = node.replica().follow();
        tokio::spawn(schedules::follow(node.replica().clone(), told, stop.clone()));
        tokio::spawn(grpc::look_after(context.clone(), strays));
        context.start_bus_and_cache();
        let calls_that_wait = context.calls_that_wait().clone();
        probes.started(node.replica().clone());
        probes.counters().facts.streams(options.streams_per_connection_max);
        let counted = Arc::clone(&probes.counters().client);
        let clients = Door {
            name: "client",
            max: options.connections_max,
            counted,
            tls,
            callers: by_address,
        }
        .open(client_incoming);
        let routes = grpc::routes(&context, &probes);
        probes.shows(Dashboard::start(context.clone(), routes.clone()));
        let serving = grpc::builder(&context, options.streams_per_connection_max)
            .add_routes(routes)
            .serve_with_incoming_shutdown(clients, stop.clone().cancelled_owned());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the client port stopped serving");
            }
        });
        if let Some(incoming) = http_incoming {
            tasks.spawn(http::serve(incoming, None, probes.clone(), stop.clone()));
        }
        tasks.close();
        let shown = ShownWhileItRuns(probes.clone());
        Self { node, probes, _shown: shown, stop, tasks, news, calls_that_wait }
    }

    /// Pipeline streams that hold anything now.
    #[must_use]
    pub fn open_pipelines(&self) -> u64 {
        self.probes.counters().pipelines.get()
    }

    /// Makes whoever waits for news on this node look at the state himself, as when a snapshot was
    /// installed: tests have no other way to make the node miss events.
    pub fn resync(&self) {
        self.news.resync();
    }

    /// The replica behind the services.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        self.node.replica()
    }

    /// Resolves with the reason when the replica has ended for good: the process must exit.
    pub async fn ended(&self) -> Ended {
        self.node.replica().ended().await
    }

    /// Stops in order, within `timeout`: not ready any more, leadership handed over, no new
    /// connections, requests under way answered, consensus stopped.
    pub async fn shutdown(self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.probes.stopping();
        let replica = self.node.replica();
        let leads = replica.leader() == Some(replica.node_id());
        if leads && replica.membership().nodes.len() > 1 {
            // While requests still come in: they go through the new leader and lose nothing.
            match replica.transfer_leader(None, TRANSFER_TIMEOUT.min(timeout)).await {
                Ok(leader) => tracing::info!(%leader, "leadership handed over"),
                Err(failure) => tracing::warn!(%failure, "leadership not handed over"),
            }
        }
        self.stop.cancel();
        let drain_until = deadline.checked_sub(NODE_STOP_TIMEOUT).unwrap_or(deadline);
        if tokio::time::timeout_at(drain_until, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests were still under way when the time to finish them was over");
        }
        self.calls_that_wait.close();
        if tokio::time::timeout_at(drain_until, self.calls_that_wait.wait()).await.is_err() {
            tracing::warn!("not all that waited on this node could be told of");
        }
        let rest = deadline.saturating_duration_since(Instant::now()).min(NODE_STOP_TIMEOUT);
        if tokio::time::timeout(rest, self.node.shutdown(rest / 2)).await.is_err() {
            tracing::warn!("consensus did not stop in time; what is on disk is what counts");
        }
    }
}
