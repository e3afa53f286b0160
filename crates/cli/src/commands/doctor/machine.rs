//! Looks at this machine as a node that is to run, or runs, on it: its configuration, its directory
//! with the disk, and what the system lets it have.

use crate::commands::serve::Settings;
use quorate_server::config::Config;
use quorate_server::host::{self, Place};
use quorate_server::process::OpenFiles;
use std::path::{Path, PathBuf};

/// What was seen of a machine, as plain data.
#[derive(Debug)]
pub(super) struct Machine {
    /// What the configuration comes to, or what is wrong with it.
    pub(super) config: Result<Configured, String>,
    /// The data directory and what it is like, or why it can't be looked at; none when nobody says
    /// where it is.
    pub(super) data: Option<(PathBuf, Result<Place, String>)>,
    /// How many files a process may have open that is started from here.
    pub(super) open_files: Option<OpenFiles>,
}

/// What matters here of a valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configured {
    /// The file it is in, if it is in one.
    pub(super) file: Option<PathBuf>,
    /// The node's id, if it was given one.
    pub(super) node_id: Option<u64>,
    /// Whether it is to join a cluster, rather than found one.
    pub(super) joins: bool,
    /// Where it listens without TLS.
    pub(super) listens: Vec<String>,
    /// The nodes that found the cluster, with their peer addresses.
    pub(super) founders: Vec<(u64, String)>,
    /// How many files the node wants to have open.
    pub(super) files_wanted: u64,
}

/// Looks, and tries the disk for some seconds. The environment counts as it does for `serve`.
pub(super) fn look(file: Option<&Path>, data_dir: Option<&str>) -> Machine {
    let settings = data_dir.map_or_else(Settings::default, |dir| Settings::one("data_dir", dir));
    let loaded = settings.load(file).map_err(|error| error.to_string());
    let data_dir = match &loaded {
        Ok(config) => Some(config.data_dir.clone()),
        Err(_) => data_dir.map(PathBuf::from),
    };
    let data = data_dir.map(|path| {
        let place = host::look(&path).map_err(|error| error.to_string());
        (path, place)
    });
    Machine {
        config: loaded.map(|config| configured(&config, file)),
        data,
        open_files: OpenFiles::of_this_process(),
    }
}

fn configured(config: &Config, file: Option<&Path>) -> Configured {
    let (clients, peers) = (config.tls.clients.is_some(), config.tls.peers.is_some());
    let listens = [
        (&config.client_listen, clients),
        (&config.peer_listen, peers),
        (&config.http_listen, clients),
    ];
    let plain = listens.into_iter().filter(|(_, encrypted)| !encrypted);
    let founders = config.initial_cluster.iter().map(|(id, addr)| (id.0, addr.to_string()));
    Configured {
        file: file.map(Path::to_owned),
        node_id: config.node_id_said.then_some(config.node_id.0),
        joins: config.join.is_some(),
        listens: plain.map(|(address, _)| address.to_string()).collect(),
        founders: founders.collect(),
        files_wanted: OpenFiles::wanted(config.connections_max),
    }
}
