//! Configuration: flags over `QUORATE_*` variables over the file over defaults, resolved once into
//! a [`Config`] that nobody has to check again.

mod address;
mod layers;
#[cfg(test)]
mod page;
mod security;
mod settings;

pub use address::Address;
pub use layers::{Found, Origin};
pub use settings::{Kind, SETTINGS, Setting};

use crate::limits::CallerLimits;
use crate::tls::{AuthFiles, TlsFiles};
use layers::Layers;
use quorate_state::NodeId;
use quorate_state::limits::Limits;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// A configuration that can't be used: what is wrong, where it was written, what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Raft's timing, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// Between heartbeats.
    pub heartbeat_ms: u64,
    /// The shortest election timeout that is drawn.
    pub election_timeout_min_ms: u64,
    /// The longest.
    pub election_timeout_max_ms: u64,
}

/// When snapshots are taken, and what is kept behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTiming {
    /// Bytes of log between two snapshots.
    pub log_bytes: u64,
    /// Milliseconds between two, if anything was written.
    pub every_ms: u64,
    /// Entries kept behind one.
    pub keep_entries: u64,
    /// How fast one is sent to a node that needs it; none: as fast as the network takes it.
    pub send_bytes_per_second: Option<u64>,
}

/// Memory of the storage, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSizes {
    /// One memtable of the log.
    pub log_memtable_bytes: usize,
    /// One memtable of the state.
    pub state_memtable_bytes: usize,
    /// Cached blocks.
    pub block_cache_bytes: usize,
    /// Decoded entries at the end of the log.
    pub tail_cache_bytes: usize,
}

/// How a node joins a cluster that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Where clients reach nodes of it.
    pub endpoints: Vec<Address>,
    /// What it shows to be let in.
    pub token: Option<String>,
    /// Whether it stays without a vote.
    pub learner: bool,
}

/// A valid configuration of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This node's id.
    pub node_id: NodeId,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub client_listen: Address,
    /// Where other nodes connect.
    pub peer_listen: Address,
    /// Where the HTTP endpoint is.
    pub http_listen: Address,
    /// Where clients reach this node, when that is not `client_listen` with the port it got.
    pub client_advertise: Option<Address>,
    /// Where other nodes reach this node.
    pub peer_advertise: Address,
    /// Where the HTTP endpoint is reached, when that is not `http_listen` with the port it got.
    pub http_advertise: Option<Address>,
    /// The nodes that found the cluster with their peer addresses; this node is among them.
    pub initial_cluster: BTreeMap<NodeId, Address>,
    /// Whether `node_id` was given, rather than a default.
    pub node_id_said: bool,
    /// The cluster it joins, if it is to join one.
    pub join: Option<Join>,
    /// Whether a new directory may found a cluster. Not when the node was given an id but no list:
    /// then it is a member of some cluster whose directory is lost or mistyped, and a new cluster
    /// of its own would take writes at the old one's address.
    pub may_found: bool,
    /// Files for TLS; they are not read yet.
    pub tls: TlsFiles,
    /// How callers are asked who they are; none: they are not.
    pub auth: Option<AuthFiles>,
    /// Ports that other machines reach although something of that is missing, as `insecure` allows, and
    /// what is.
    pub exposed: Vec<String>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged; a valid filter.
    pub log_level: String,
    /// Bounds checked at the door.
    pub limits: Limits,
    /// Client connections at once.
    pub connections_max: usize,
    /// Requests at once on one connection.
    pub streams_per_connection_max: u32,
    /// What one caller may have.
    pub per_caller: CallerLimits,
    /// How long a request may take to arrive.
    pub message_timeout: Duration,
    /// Queues that `/metrics` shows by name.
    pub metrics_queues_max: usize,
    /// Raft's timing.
    pub raft: RaftTiming,
    /// Memory of the storage.
    pub storage: StorageSizes,
    /// When snapshots are taken.
    pub snapshots: SnapshotTiming,
    /// Every setting with the value in force as text (empty when it follows from others) and
    /// where that came from, in the table's order.
    pub effective: Vec<(&'static str, Found)>,
}

impl Config {
    /// Resolves the configuration from flags (setting name and text), environment and file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn load(
        flags: &[(&'static str, String)],
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        Resolver { layers: Layers::collect(flags, environment, file)? }.resolve()
    }

    /// Resolves the configuration from a config file's content alone.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn of_text(text: &str) -> Result<Self, ConfigError> {
        Resolver { layers: Layers::of_text(Path::new("quorate.toml"), text)? }.resolve()
    }

    /// Reads the files that it names, as a node does when it starts. Blocks on the disk.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn check_files(&self) -> Result<(), quorate_tls::Error> {
        self.tls.check()?;
        self.auth.clone().map(crate::Auth::read).transpose()?;
        Ok(())
    }

    /// It founds a cluster of its own, and is reached by nobody but itself: any port will do for that.
    pub(crate) fn founds_alone_at(&mut self, peer_port: u16) {
        self.peer_advertise = self.peer_listen.with_port(peer_port);
        self.initial_cluster = BTreeMap::from([(self.node_id, self.peer_advertise.clone())]);
    }

    /// What clients are told to come to, given the port that was bound.
    #[must_use]
    pub fn client_address(&self, bound_port: u16) -> Address {
        advertised(self.client_advertise.as_ref(), &self.client_listen, bound_port)
    }

    /// Where the HTTP endpoint is reached, given the port that was bound.
    #[must_use]
    pub fn http_address(&self, bound_port: u16) -> Address {
        advertised(self.http_advertise.as_ref(), &self.http_listen, bound_port)
    }
}

fn advertised(advertise: Option<&Address>, listen: &Address, bound_port: u16) -> Address {
    match advertise {
        Some(address) if address.port != 0 => address.clone(),
        Some(address) => address.with_port(bound_port),
        None => listen.with_port(bound_port),
    }
}

struct Resolver {
    layers: Layers,
}

impl Resolver {
    fn resolve(&self) -> Result<Config, ConfigError> {
        let node_id = self.read("node_id", address::parse_node_id)?;
        let client_listen: Address = self.parse("client_listen")?;
        let peer_listen: Address = self.parse("peer_listen")?;
        let http_listen: Address = self.parse("http_listen")?;
        let (tls, auth) = (self.tls()?, self.auth()?);
        let exposed =
            self.check_exposure([&client_listen, &peer_listen, &http_listen], &tls, auth.as_ref())?;
        if peer_listen.port == 0 {
            return Err(self.wrong(
                "peer_listen",
                "port 0 means any free port, but the other nodes remember this one; choose a port",
            ));
        }
        let client_advertise = self.advertise("client", &client_listen)?;
        let http_advertise = self.advertise("http", &http_listen)?;
        let (initial_cluster, peer_advertise) = self.cluster(node_id, &peer_listen)?;
        Ok(Config {
            node_id,
            data_dir: self.data_dir()?,
            client_listen,
            peer_listen,
            http_listen,
            client_advertise,
            peer_advertise,
            http_advertise,
            initial_cluster,
            node_id_said: self.said("node_id"),
            join: self.join()?,
            may_found: self.said("initial_cluster") || !self.said("node_id"),
            tls,
            auth,
            exposed,
            log_format: self.read("log_format", |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                other => Err(format!("{other:?} is neither text nor json")),
            })?,
            log_level: self.read("log_level", crate::logging::check_filter)?,
            limits: self.limits()?,
            connections_max: self.size("limits.connections_max")?,
            streams_per_connection_max: self.number("limits.streams_per_connection_max")?,
            per_caller: self.per_caller()?,
            message_timeout: Duration::from_millis(self.number("limits.message_timeout_ms")?),
            metrics_queues_max: self.size("metrics.queues_max")?,
            raft: self.raft()?,
            storage: StorageSizes {
                log_memtable_bytes: self.size("storage.log_memtable_bytes")?,
                state_memtable_bytes: self.size("storage.state_memtable_bytes")?,
                block_cache_bytes: self.size("storage.block_cache_bytes")?,
                tail_cache_bytes: self.size("storage.tail_cache_bytes")?,
            },
            snapshots: SnapshotTiming {
                log_bytes: self.number("storage.snapshot_log_bytes")?,
                every_ms: self.number("storage.snapshot_every_ms")?,
                keep_entries: self.number("storage.log_keep_entries")?,
                send_bytes_per_second: Some(self.number("storage.snapshot_send_bytes_per_second")?)
                    .filter(|rate| *rate > 0),
            },
            effective: SETTINGS.iter().map(|setting| (setting.name, self.shown(setting))).collect(),
        })
    }

    fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        self.read("data_dir", |text| match text {
            "" => Err("it is empty; name a directory".to_owned()),
            text => Ok(PathBuf::from(text)),
        })
    }

    fn limits(&self) -> Result<Limits, ConfigError> {
        Ok(Limits {
            key_bytes_max: self.number("limits.key_bytes_max")?,
            value_bytes_max: self.number("limits.value_bytes_max")?,
            request_bytes_max: self.number("limits.request_bytes_max")?,
            proposal_bytes_max: self.number("limits.proposal_bytes_max")?,
        })
    }

    fn per_caller(&self) -> Result<CallerLimits, ConfigError> {
        Ok(CallerLimits {
            connections_max: self.number("limits.per_caller.connections_max")?,
            in_flight_max: self.number("limits.per_caller.in_flight_max")?,
            streams_max: self.number("limits.per_caller.streams_max")?,
            requests_per_second: self.number("limits.per_caller.requests_per_second")?,
            request_bytes_per_second: self.number("limits.per_caller.request_bytes_per_second")?,
        })
    }

    fn raft(&self) -> Result<RaftTiming, ConfigError> {
        let heartbeat_ms: u64 = self.number("raft.heartbeat_ms")?;
        let min: u64 = self.number("raft.election_timeout_min_ms")?;
        let max: u64 = self.number("raft.election_timeout_max_ms")?;
        if min < heartbeat_ms * 2 {
            return Err(self.wrong(
                "raft.election_timeout_min_ms",
                &format!("{min} is less than two heartbeats of {heartbeat_ms} ms: one late heartbeat would cost the leader its office"),
            ));
        }
        if max <= min {
            return Err(self.wrong(
                "raft.election_timeout_max_ms",
                &format!("{max} is not above raft.election_timeout_min_ms, {min}: without a spread, nodes stand for election at the same moment"),
            ));
        }
        Ok(RaftTiming { heartbeat_ms, election_timeout_min_ms: min, election_timeout_max_ms: max })
    }

    fn advertise(&self, port: &str, listen: &Address) -> Result<Option<Address>, ConfigError> {
        let name = format!("{port}_advertise");
        let advertise = self.optional(&name, str::parse::<Address>)?;
        match &advertise {
            Some(address) if address.is_unspecified() => Err(self.wrong(
                &name,
                &format!("{address} is no address that others can go to; name this machine's own"),
            )),
            None if listen.is_unspecified() => Err(self.wrong(
                &format!("{port}_listen"),
                &format!("{listen} stands for every address of this machine; say with {name} at which one others reach it"),
            )),
            _ => Ok(advertise),
        }
    }

    fn join(&self) -> Result<Option<Join>, ConfigError> {
        let parse = |text: &str| -> Result<Vec<Address>, String> {
            text.split(',').map(|one| one.trim().parse::<Address>()).collect()
        };
        let endpoints = self.optional("join", parse)?;
        let token = self.optional("join_token", |text| Ok(text.to_owned()))?;
        let learner = self.parse::<bool>("learner")?;
        match endpoints {
            Some(_) if self.said("initial_cluster") => Err(self.wrong(
                "join",
                "initial_cluster is given as well: a node either founds a cluster with others, or \
                 joins one that is there",
            )),
            Some(endpoints) => Ok(Some(Join { endpoints, token, learner })),
            None if token.is_some() => {
                Err(self.wrong("join_token", "there is no join, so nobody to show it to"))
            }
            None if learner => Err(self
                .wrong("learner", "only a node that joins a cluster may have no vote: give join")),
            None => Ok(None),
        }
    }

    /// The founding members and this node's own peer address, which must agree.
    fn cluster(
        &self,
        node_id: NodeId,
        peer_listen: &Address,
    ) -> Result<(BTreeMap<NodeId, Address>, Address), ConfigError> {
        let listed = self.optional("initial_cluster", address::parse_cluster)?;
        let own = match &listed {
            None => None,
            Some(cluster) => Some(cluster.get(&node_id).cloned().ok_or_else(|| {
                self.wrong(
                    "initial_cluster",
                    &format!("it does not list this node, {node_id}; give each node the same list and its own node_id"),
                )
            })?),
        };
        let advertise = match (&own, self.optional("peer_advertise", str::parse::<Address>)?) {
            (Some(own), Some(advertise)) if *own != advertise => {
                return Err(self.wrong(
                    "peer_advertise",
                    &format!("{advertise} differs from this node's address in initial_cluster, {own}; make them equal"),
                ));
            }
            (Some(own), _) => own.clone(),
            (None, Some(advertise)) => advertise,
            (None, None) => peer_listen.clone(),
        };
        if advertise.is_unspecified() || advertise.port == 0 {
            return Err(self.wrong(
                if listed.is_some() { "initial_cluster" } else { "peer_advertise" },
                &format!("{advertise} is no address that the other nodes can go to"),
            ));
        }
        let cluster = listed.unwrap_or_else(|| BTreeMap::from([(node_id, advertise.clone())]));
        Ok((cluster, advertise))
    }

    fn said(&self, name: &str) -> bool {
        Setting::named(name).is_some_and(|setting| self.layers.said(setting).is_some())
    }

    fn found(&self, setting: &Setting) -> Option<Found> {
        self.layers.said(setting).cloned().or_else(|| {
            let text = setting.default?.to_owned();
            Some(Found { text, origin: Origin::Default })
        })
    }

    /// What is in force, as it may be shown.
    fn shown(&self, setting: &Setting) -> Found {
        match self.found(setting) {
            Some(found) if setting.kind == Kind::Secret => {
                Found { text: "(set)".to_owned(), ..found }
            }
            Some(found) => found,
            None => Found { text: String::new(), origin: Origin::Default },
        }
    }

    /// An error about a setting, with the place where its value was written.
    fn wrong(&self, name: &str, what: &str) -> ConfigError {
        let origin = Setting::named(name).and_then(|setting| self.found(setting));
        match origin.map(|found| found.origin) {
            None => ConfigError(format!("{name}: {what}")),
            Some(origin) => ConfigError(format!("{name} (from {origin}): {what}")),
        }
    }

    fn optional<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let setting = Setting::named(name).expect("names in the code are in the table");
        match self.found(setting) {
            None => Ok(None),
            Some(found) => match parse(&found.text) {
                Ok(value) => Ok(Some(value)),
                Err(what) => Err(self.wrong(name, &what)),
            },
        }
    }

    fn read<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let value = self.optional(name, parse)?;
        Ok(value.expect("settings read this way have a default in the table"))
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, ConfigError> {
        self.read(name, |text| text.parse::<T>().map_err(|error| error.to_string()))
    }

    fn number<T: TryFrom<u64>>(&self, name: &str) -> Result<T, ConfigError> {
        let bounds = Setting::named(name).and_then(|setting| setting.bounds);
        let (min, max) = bounds.expect("settings read as numbers have bounds in the table");
        self.read(name, |text| {
            let number: u64 =
                text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
            if number < min || number > max {
                return Err(format!("{number} is out of range; it must be from {min} to {max}"));
            }
            T::try_from(number).map_err(|_| format!("{number} is too large for this machine"))
        })
    }

    fn size(&self, name: &str) -> Result<usize, ConfigError> {
        self.number(name)
    }
}

#[cfg(test)]
mod tests;
