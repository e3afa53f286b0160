//! A node inside another program.

use crate::config::{Config, ConfigError, SETTINGS};
use crate::process::{Error, Listening, Place, Serving, Threads, Ways};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// Loopback, and whichever port is free.
const ANY_PORT: &str = "127.0.0.1:0";

/// A node of the broker inside this program, as `quorate serve` runs one in a process of its own: with
/// sockets, a data directory and threads of its own.
///
/// It installs nothing for the whole program: no logger (its log lines are [`tracing`] events, for
/// whichever subscriber there is), no handler of signals or panics, no limit of open files. A node that
/// can't keep its promises (its disk fails, or consensus panics) ends, and [`Node::ended`] says so; what
/// it had acknowledged is on its disk, and on those of a majority.
///
/// ```
/// use quorate_server::Node;
/// use std::time::Duration;
///
/// # async fn example() -> Result<(), quorate_server::process::Error> {
/// let node = Node::builder().data_dir("/var/lib/my-program/broker").start().await?;
/// println!("clients connect to {}", node.client_addr());
/// // …
/// node.shutdown(Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
///
/// Dropping it ends the node soon, without courtesy: as a process that is killed.
pub struct Node {
    listening: Listening,
    /// Within what time to stop; dropped: at once.
    stop: Option<oneshot::Sender<Duration>>,
    ended: watch::Receiver<Option<Stopped>>,
    thread: Option<JoinHandle<()>>,
}

/// How a [`Node`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was asked to, or dropped.
    Asked,
    /// It was removed from its cluster.
    Left(String),
    /// It can't keep its promises, for this reason.
    Failed(String),
}

/// What a [`Node`] is started with. Begin with [`Node::builder`].
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    settings: BTreeMap<String, String>,
    file: Option<PathBuf>,
    place: Place,
}

impl Node {
    /// A node that founds a cluster of its own, on loopback and on free ports, in `quorate-data` in the
    /// working directory; until more is said.
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder { settings: BTreeMap::new(), file: None, place: Place::Directory }
    }

    /// Its id.
    #[must_use]
    pub fn node_id(&self) -> u64 {
        self.listening.node_id.0
    }

    /// Where it listens for clients.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.listening.client
    }

    /// Where it listens for other nodes.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.listening.peer
    }

    /// Where its HTTP endpoint is: probes, metrics and the dashboard.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.listening.http
    }

    /// This node, as a client takes it.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        vec![self.client_addr().to_string()]
    }

    /// Resolves when the node has ended, and everything of it is gone: its directory may be opened again.
    pub async fn ended(&self) -> Stopped {
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(Option::is_some).await;
        let panicked = || Stopped::Failed("its thread has panicked".to_owned());
        ended.ok().and_then(|ended| ended.clone()).unwrap_or_else(panicked)
    }

    /// Stops it in order, within `timeout`: it hands leadership over, answers what is under way, and closes
    /// its directory, which may be opened again when this returns.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub async fn shutdown(mut self, timeout: Duration) -> Result<(), Error> {
        if let Some(stop) = self.stop.take() {
            // It may have ended already.
            let _ = stop.send(timeout);
        }
        let ended = self.ended().await;
        if let Some(thread) = self.thread.take() {
            // To tell its end was the last that it did.
            let _ = thread.join();
        }
        match ended {
            Stopped::Asked => Ok(()),
            Stopped::Left(why) => Err(Error::Left(why)),
            Stopped::Failed(why) => Err(Error::Failed(why)),
        }
    }
}

impl NodeBuilder {
    /// Where its data is. Two nodes can't have the same directory.
    #[must_use]
    pub fn data_dir(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut builder = self.setting("data_dir", path.to_string_lossy());
        builder.place = Place::Directory;
        builder
    }

    /// Keeps its data in memory alone, for as long as it runs: for tests, and for what may be lost. It can
    /// found a cluster, and join none.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.place = Place::Memory;
        self
    }

    /// Its id in the cluster, from 1. It belongs to the directory from then on.
    #[must_use]
    pub fn node_id(self, id: u64) -> Self {
        self.setting("node_id", id.to_string())
    }

    /// The nodes that found the cluster, with the addresses at which they reach each other: the same list
    /// for each of them, and this one among them. It is ready when all of them have met.
    #[must_use]
    pub fn initial_cluster<A: ToString>(self, nodes: impl IntoIterator<Item = (u64, A)>) -> Self {
        let nodes = nodes.into_iter().map(|(id, address)| format!("{id}={}", address.to_string()));
        self.setting("initial_cluster", nodes.collect::<Vec<_>>().join(","))
    }

    /// Where it listens for clients; port 0 stands for a free one.
    #[must_use]
    pub fn client_listen(self, address: impl ToString) -> Self {
        self.setting("client_listen", address.to_string())
    }

    /// Where it listens for other nodes. Port 0 stands for a free one, and is for a node alone: the
    /// others of a cluster remember where it was.
    #[must_use]
    pub fn peer_listen(self, address: impl ToString) -> Self {
        self.setting("peer_listen", address.to_string())
    }

    /// Where its HTTP endpoint is; port 0 stands for a free one.
    #[must_use]
    pub fn http_listen(self, address: impl ToString) -> Self {
        self.setting("http_listen", address.to_string())
    }

    /// Any setting of the server by its name, as `docs/configuration.md` lists them and a config file says
    /// them: `setting("auth.enabled", "true")`, the files of TLS, limits, times.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// A config file, for what nothing else says; where it says nothing of addresses, they are those of
    /// `quorate serve`. The environment counts for nothing.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let mut settings = self.settings.clone();
        if self.file.is_none() {
            for name in ["client_listen", "peer_listen", "http_listen"] {
                settings.entry(name.to_owned()).or_insert_with(|| ANY_PORT.to_owned());
            }
        }
        let alone = ["initial_cluster", "join"].iter().all(|name| !settings.contains_key(*name));
        let any_peer_port = settings.get("peer_listen").is_some_and(|at| at.ends_with(":0"));
        let mut flags = Vec::new();
        for (name, text) in &settings {
            let known = SETTINGS.iter().find(|setting| setting.name == name);
            let Some(setting) = known else {
                return Err(ConfigError(format!("there is no setting {name:?}")));
            };
            flags.push((setting.name, text.clone()));
        }
        if !(alone && any_peer_port) {
            return Config::load(&flags, [], self.file.as_deref());
        }
        // A port that others were to remember can't be just any.
        for (_, text) in flags.iter_mut().filter(|(name, _)| *name == "peer_listen") {
            *text = text.trim_end_matches('0').to_owned() + "1";
        }
        let mut config = Config::load(&flags, [], self.file.as_deref())?;
        config.peer_listen = config.peer_listen.with_port(0);
        config.may_found = true;
        Ok(config)
    }

    /// Starts it, and returns when it serves: a new node is part of a cluster then.
    ///
    /// # Errors
    /// When its settings are wrong, a port or the directory can't be had, or it must not be part of the
    /// cluster.
    ///
    /// # Cancel safety
    /// When this is dropped, the node ends soon.
    pub async fn start(self) -> Result<Node, Error> {
        let config = self.config()?;
        let (stop, stopping) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let (ending, ended) = watch::channel(None);
        let place = self.place;
        let thread = std::thread::Builder::new().name("quorate-node".to_owned());
        let thread = thread.spawn(move || {
            let ended = run(config, place, stopping, tell);
            ending.send_replace(ended.map(|ended| match ended {
                Ok(()) => Stopped::Asked,
                Err(Error::Left(why)) => Stopped::Left(why),
                Err(Error::Failed(why)) => Stopped::Failed(why),
                Err(error) => Stopped::Failed(error.to_string()),
            }));
        });
        let thread = thread.map_err(|error| Error::System { action: "start a thread", error })?;
        let panicked = |_| Error::Failed("its start panicked".to_owned());
        let listening = told.await.map_err(panicked)??;
        Ok(Node { listening, stop: Some(stop), ended, thread: Some(thread) })
    }
}

/// The node, from its start to its end; none when it did not start, which was told.
fn run(
    config: Config,
    place: Place,
    stopping: oneshot::Receiver<Duration>,
    tell: oneshot::Sender<Result<Listening, Error>>,
) -> Option<Result<(), Error>> {
    let threads = match Threads::start() {
        Ok(threads) => threads,
        Err(error) => {
            let _ = tell.send(Err(error));
            return None;
        }
    };
    let ways = Ways {
        consensus: threads.consensus.handle().clone(),
        place,
        dropped_lines: None,
        traces: false,
        cuts: None,
    };
    let mut directory = None;
    let ended = threads.clients.block_on(async {
        let (mut tell, start) = (tell, Box::pin(Serving::start(config, ways)));
        let started = tokio::select! {
            started = start => started,
            // Whoever started it has given up.
            () = tell.closed() => return None,
        };
        let serving = match started {
            Ok(serving) => serving,
            Err(error) => {
                let _ = tell.send(Err(error));
                return None;
            }
        };
        directory = serving.directory();
        if tell.send(Ok(serving.listening.clone())).is_err() {
            return None;
        }
        let dropped = Arc::<Notify>::default();
        let asked = async {
            match stopping.await {
                Ok(timeout) => timeout,
                Err(_) => {
                    dropped.notify_one();
                    std::future::pending().await
                }
            }
        };
        Some(tokio::select! {
            ended = Box::pin(serving.until(asked, Arc::default())) => ended,
            () = dropped.notified() => Ok(()),
        })
    });
    threads.end();
    // Only now does nothing of it write any more.
    drop(directory);
    ended
}
