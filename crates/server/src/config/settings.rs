//! All settings of `quorate serve`, in one table: the flag, the environment variable and the key
//! in the file all follow from the name.

use quorate_state::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

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
    /// The least and the greatest number it may be; none when it is no number.
    pub bounds: Option<(u64, u64)>,
    /// Whether it names a file that is read again when it changes.
    pub watched: bool,
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

    /// What its value is counted in, by the end of its name.
    #[must_use]
    pub fn unit(&self) -> Option<&'static str> {
        let counted = self.name.strip_suffix("_max").unwrap_or(self.name);
        let counted = counted.strip_suffix("_min").unwrap_or(counted);
        [
            ("_bytes_per_second", "bytes per second"),
            ("_per_second", "per second"),
            ("_bytes", "bytes"),
            ("_ms", "milliseconds"),
        ]
        .into_iter()
        .find_map(|(end, unit)| counted.ends_with(end).then_some(unit))
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
    Setting { name, kind: Kind::Text, default, placeholder, bounds: None, watched: false, help }
}

/// Names a file that is read again when it changes.
const fn watched(name: &'static str, help: &'static str) -> Setting {
    Setting { watched: true, ..text(name, None, "FILE", help) }
}

const fn switch(name: &'static str, help: &'static str) -> Setting {
    Setting { kind: Kind::Switch, ..text(name, Some("false"), "BOOL", help) }
}

const fn number(
    name: &'static str,
    default: &'static str,
    bounds: (u64, u64),
    help: &'static str,
) -> Setting {
    let bounds = Some(bounds);
    Setting { kind: Kind::Number, bounds, ..text(name, Some(default), "N", help) }
}

/// The table, in the order `--help` and the example file have.
pub static SETTINGS: &[Setting] = &[
    number(
        "node_id",
        "1",
        (1, (1 << 53) - 1),
        "This node's id; never given to another node, not even after its disk is lost",
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
        kind: Kind::Secret,
        ..text(
            "join_token",
            None,
            "TOKEN",
            "What quorate cluster add printed; a cluster that listens on loopback only lets nodes join without it",
        )
    },
    text(
        "join_ca_file",
        None,
        "FILE",
        "Who signs the certificates of those client addresses (PEM); without it they are asked without TLS",
    ),
    switch("learner", "Join without a vote"),
    switch(
        "insecure",
        "Allow listening beyond loopback without TLS, or without asking callers who they are",
    ),
    text("log_format", Some("text"), "text|json", "How log lines look"),
    text(
        "log_level",
        Some("info"),
        "FILTER",
        "What is logged: error, warn, info, debug, trace, or a filter such as info,quorate_consensus=debug",
    ),
    watched(
        "tls.cert_file",
        "The certificate that the client port and the HTTP port show (PEM, with those between it and its authority); without it they speak plainly",
    ),
    watched("tls.key_file", "Its key (PEM)"),
    watched(
        "tls.client_ca_file",
        "Who signs the certificates of clients (PEM): those may show one instead of a token",
    ),
    watched(
        "tls.peer_cert_file",
        "The certificate that this node shows to the other nodes, as a server and as a client (PEM)",
    ),
    watched("tls.peer_key_file", "Its key (PEM)"),
    watched(
        "tls.peer_ca_file",
        "The cluster's own authority (PEM): whoever has a certificate from it is taken for a node, so nobody else may",
    ),
    switch(
        "auth.enabled",
        "Serve only callers that show a token or a certificate, as far as their roles allow",
    ),
    watched(
        "auth.admin_token_file",
        "A file with a token that may do everything, to make the first roles and tokens with",
    ),
    number("limits.key_bytes_max", "1024", (1, KEY_BYTES_MAX), "Bytes of a key"),
    number("limits.value_bytes_max", "1048576", (1, VALUE_BYTES_MAX), "Bytes of a value"),
    number("limits.request_bytes_max", "2097152", (4096, 16 << 20), "Bytes of one request message"),
    number(
        "limits.proposal_bytes_max",
        "33554432",
        (4 << 20, 4 << 30),
        "Bytes of writes on their way through this node; past it new ones are refused",
    ),
    number(
        "limits.connections_max",
        "10000",
        (1, 1_000_000),
        "Client connections at once; past it new ones are closed",
    ),
    number(
        "limits.streams_per_connection_max",
        "1024",
        (1, 65_536),
        "Requests at once on one client connection",
    ),
    number(
        "limits.message_timeout_ms",
        "30000",
        (100, 600_000),
        "Milliseconds that a request may take to arrive, from its beginning to its end; past it the call is refused",
    ),
    number(
        "limits.per_caller.connections_max",
        "0",
        (0, 1_000_000),
        "Connections of one caller at once; past it his calls on a new one are refused, or it is closed where nobody is asked who he is; 0: no bound",
    ),
    number(
        "limits.per_caller.in_flight_max",
        "100000",
        (0, 1_000_000_000),
        "Requests of one caller at once that are not answered yet, those in pipelines included; past it new ones are refused; 0: no bound",
    ),
    number(
        "limits.per_caller.streams_max",
        "0",
        (0, 1_000_000_000),
        "Calls of one caller at once whose answers are a stream: pipelines, watches, consumers, subscriptions; past it new ones are refused; 0: no bound",
    ),
    number(
        "limits.per_caller.requests_per_second",
        "0",
        (0, 1_000_000_000),
        "Requests of one caller a second, a second's worth of which may come at once; past it new ones are refused; 0: no bound",
    ),
    number(
        "limits.per_caller.request_bytes_per_second",
        "0",
        (0, 1_000_000_000),
        "Bytes of requests of one caller a second, likewise; 0: no bound",
    ),
    number(
        "metrics.queues_max",
        "100",
        (0, 1_000),
        "Queues that /metrics shows by name, those with most jobs; 0 shows none",
    ),
    number("raft.heartbeat_ms", "100", (5, 60_000), "Milliseconds between the leader's heartbeats"),
    number(
        "raft.election_timeout_min_ms",
        "300",
        (20, 600_000),
        "Milliseconds without a heartbeat after which a follower may stand for election, the shortest draw",
    ),
    number("raft.election_timeout_max_ms", "500", (20, 600_000), "The longest draw"),
    number(
        "storage.log_memtable_bytes",
        "16777216",
        (64 << 10, 1 << 30),
        "Bytes of one memtable of the log; there are two",
    ),
    number(
        "storage.state_memtable_bytes",
        "16777216",
        (64 << 10, 1 << 30),
        "Bytes of one memtable of the state; there are two",
    ),
    number(
        "storage.block_cache_bytes",
        "33554432",
        (1 << 20, 1 << 38),
        "Bytes of blocks cached in memory",
    ),
    number(
        "storage.tail_cache_bytes",
        "33554432",
        (1 << 20, 1 << 34),
        "Bytes of the newest log entries kept in memory",
    ),
    number(
        "storage.snapshot_log_bytes",
        "268435456",
        (1 << 10, 1 << 40),
        "Bytes of log after which a snapshot is taken and what lies behind it is purged",
    ),
    number(
        "storage.snapshot_every_ms",
        "3600000",
        (100, 30 * 86_400_000),
        "Time after which a snapshot is taken if anything was written since the last one",
    ),
    number(
        "storage.snapshot_send_bytes_per_second",
        "33554432",
        (0, 1 << 40),
        "How fast a node that was away is sent a snapshot, or log; 0: as fast as the network takes it",
    ),
    number(
        "storage.log_keep_entries",
        "20000",
        (1, 1 << 30),
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
