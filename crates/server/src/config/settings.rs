//! All settings of `quorate serve`, in one table: the flag, the environment variable and the key
//! in the file all follow from the name.

/// What a setting holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A text that is not shown to whoever looks at a configuration.
    Secret,
    /// A whole number.
    Number,
    /// true or false.
    Switch,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the file; a dot separates the table from the key: `raft.heartbeat_ms`.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Its default as text; none when it follows from other settings.
    pub default: Option<&'static str>,
    /// What stands for its value in `--help`.
    pub placeholder: &'static str,
    /// What it is for.
    pub help: &'static str,
}

impl Setting {
    /// Its flag, without the dashes: `raft-heartbeat-ms`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace(['_', '.'], "-")
    }

    /// Its environment variable: `QUORATE_RAFT_HEARTBEAT_MS`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("QUORATE_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The setting called `name` in the file.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

const fn text(
    name: &'static str,
    default: Option<&'static str>,
    placeholder: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, kind: Kind::Text, default, placeholder, help }
}

const fn number(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, kind: Kind::Number, default: Some(default), placeholder: "N", help }
}

/// The table, in the order `--help` and the example file have.
pub static SETTINGS: &[Setting] = &[
    number(
        "node_id",
        "1",
        "This node's id, from 1; never given to another node, not even after its disk is lost",
    ),
    text(
        "data_dir",
        Some("./quorate-data"),
        "DIR",
        "Where the node keeps its log, state and identity",
    ),
    text(
        "client_listen",
        Some("127.0.0.1:8811"),
        "HOST:PORT",
        "Where clients connect (gRPC); port 0 takes a free one and prints it",
    ),
    text("peer_listen", Some("127.0.0.1:8812"), "HOST:PORT", "Where the other nodes connect"),
    text(
        "http_listen",
        Some("127.0.0.1:8813"),
        "HOST:PORT",
        "Where /livez, /readyz and /metrics answer; port 0 takes a free one and prints it",
    ),
    text(
        "client_advertise",
        None,
        "HOST:PORT",
        "Where clients reach this node, when that differs from client_listen",
    ),
    text(
        "peer_advertise",
        None,
        "HOST:PORT",
        "Where the other nodes reach this node; by default its address in initial_cluster, else peer_listen",
    ),
    text(
        "http_advertise",
        None,
        "HOST:PORT",
        "Where the HTTP port is reached, when that differs from http_listen",
    ),
    text(
        "initial_cluster",
        None,
        "ID=HOST:PORT,…",
        "Ids and peer addresses of the nodes that found the cluster, the same list on each; ignored once there is data. By default this node alone",
    ),
    text(
        "join",
        None,
        "HOST:PORT,…",
        "Client addresses of nodes of a cluster that is there: this node joins it, under an id that it is given, and votes once it has caught up; ignored once there is data",
    ),
    Setting {
        name: "join_token",
        kind: Kind::Secret,
        default: None,
        placeholder: "TOKEN",
        help: "What quorate cluster add printed; a cluster that listens on loopback only lets nodes join without it",
    },
    text(
        "join_ca_file",
        None,
        "FILE",
        "Who signs the certificates of those client addresses (PEM); without it they are asked without TLS",
    ),
    Setting {
        name: "learner",
        kind: Kind::Switch,
        default: Some("false"),
        placeholder: "BOOL",
        help: "Join without a vote",
    },
    Setting {
        name: "insecure",
        kind: Kind::Switch,
        default: Some("false"),
        placeholder: "BOOL",
        help: "Allow listening beyond loopback without TLS, or without asking callers who they are",
    },
    text("log_format", Some("text"), "text|json", "How log lines look"),
    text(
        "log_level",
        Some("info"),
        "FILTER",
        "What is logged: error, warn, info, debug, trace, or a filter such as info,quorate_consensus=debug",
    ),
    text(
        "tls.cert_file",
        None,
        "FILE",
        "The certificate that the client port and the HTTP port show (PEM, with those between it and its authority); without it they speak plainly. All files here are read again when they change",
    ),
    text("tls.key_file", None, "FILE", "Its key (PEM)"),
    text(
        "tls.client_ca_file",
        None,
        "FILE",
        "Who signs the certificates of clients (PEM): those may show one instead of a token",
    ),
    text(
        "tls.peer_cert_file",
        None,
        "FILE",
        "The certificate that this node shows to the other nodes, as a server and as a client (PEM)",
    ),
    text("tls.peer_key_file", None, "FILE", "Its key (PEM)"),
    text(
        "tls.peer_ca_file",
        None,
        "FILE",
        "The cluster's own authority (PEM): whoever has a certificate from it is taken for a node, so nobody else may",
    ),
    Setting {
        name: "auth.enabled",
        kind: Kind::Switch,
        default: Some("false"),
        placeholder: "BOOL",
        help: "Serve only callers that show a token or a certificate, as far as their roles allow",
    },
    text(
        "auth.admin_token_file",
        None,
        "FILE",
        "A file with a token that may do everything, to make the first roles and tokens with; read again when it changes",
    ),
    number("limits.key_bytes_max", "1024", "Bytes of a key, at most 1024"),
    number("limits.value_bytes_max", "1048576", "Bytes of a value, at most 1048576"),
    number("limits.request_bytes_max", "2097152", "Bytes of one request message, at most 16777216"),
    number(
        "limits.proposal_bytes_max",
        "33554432",
        "Bytes of writes on their way through this node; past it new ones are refused",
    ),
    number(
        "limits.connections_max",
        "10000",
        "Client connections at once; past it new ones are closed",
    ),
    number(
        "limits.streams_per_connection_max",
        "1024",
        "Requests at once on one client connection",
    ),
    number(
        "metrics.queues_max",
        "100",
        "Queues that /metrics shows by name, those with most jobs, at most 1000; 0 shows none",
    ),
    number("raft.heartbeat_ms", "100", "Milliseconds between the leader's heartbeats"),
    number(
        "raft.election_timeout_min_ms",
        "300",
        "Milliseconds without a heartbeat after which a follower may stand for election, the shortest draw",
    ),
    number("raft.election_timeout_max_ms", "500", "The longest draw"),
    number(
        "storage.log_memtable_bytes",
        "16777216",
        "Bytes of one memtable of the log; there are two",
    ),
    number(
        "storage.state_memtable_bytes",
        "16777216",
        "Bytes of one memtable of the state; there are two",
    ),
    number("storage.block_cache_bytes", "33554432", "Bytes of blocks cached in memory"),
    number(
        "storage.tail_cache_bytes",
        "33554432",
        "Bytes of the newest log entries kept in memory",
    ),
    number(
        "storage.snapshot_log_bytes",
        "268435456",
        "Bytes of log after which a snapshot is taken and what lies behind it is purged",
    ),
    number(
        "storage.snapshot_every_ms",
        "3600000",
        "Time after which a snapshot is taken if anything was written since the last one",
    ),
    number(
        "storage.snapshot_send_bytes_per_second",
        "33554432",
        "How fast a node that was away is sent a snapshot, or log; 0: as fast as the network takes it",
    ),
    number(
        "storage.log_keep_entries",
        "20000",
        "Log entries kept behind a snapshot, at most, so that a node that was away shortly needs none",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_make_flags_and_variables() {
        let setting = Setting::named("raft.heartbeat_ms").unwrap();
        assert_eq!(setting.flag(), "raft-heartbeat-ms");
        assert_eq!(setting.variable(), "QUORATE_RAFT_HEARTBEAT_MS");
    }

    #[test]
    fn no_two_settings_share_a_flag_or_a_variable() {
        let mut flags: Vec<String> = SETTINGS.iter().map(Setting::flag).collect();
        let mut variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        flags.sort();
        flags.dedup();
        variables.sort();
        variables.dedup();
        assert_eq!((flags.len(), variables.len()), (SETTINGS.len(), SETTINGS.len()));
    }
}
