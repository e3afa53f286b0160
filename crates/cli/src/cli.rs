//! The command line's own grammar: the top level; each command has its arguments in its file.

use crate::commands::{
    auth, backup, bench, bus, cache, certs, cluster, config, dev, doctor, health, kv, lock, queue,
    serve, session, shell, top, txn,
};
use crate::output::Format;
use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 condition failed, lock not acquired or lease lost,
5 unavailable, 6 outcome unknown (the write may have happened; read before repeating it).";

/// A clustered, replicated broker in one binary.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// How results are written.
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node; without arguments a broker of one node, on loopback, data in ./quorate-data.
    Serve(Box<serve::Serve>),
    /// Run a whole cluster on this machine, for development.
    Dev(dev::Dev),
    /// Keys and values.
    Kv(kv::Kv),
    /// A cache: values with a ttl, tags, and one builder at a time.
    Cache(cache::Cache),
    /// Several operations on keys at once, all or none, on conditions.
    Txn(txn::Txn),
    /// Locks with fencing tokens: mutual exclusion, leader election.
    Lock(lock::Lock),
    /// Task queues: jobs that are done at least once.
    Queue(queue::Queue),
    /// The message bus: publish and subscribe, ask and answer.
    Bus(bus::Bus),
    /// Sessions, which own locks.
    Session(session::Session),
    /// The cluster: status, members, leadership.
    Cluster(cluster::Cluster),
    /// Who may do what: tokens, roles, names in certificates.
    Auth(auth::Auth),
    /// Everything in one file, and a new cluster from it.
    Backup(backup::Backup),
    /// What is wrong with a cluster or a machine, and what to do about it.
    Doctor(doctor::Doctor),
    /// The cluster live in a terminal: nodes, throughput, queues, locks, the cache, the bus, sessions.
    Top(top::Top),
    /// Whether a node lives and serves, as its HTTP port says.
    Health(health::Health),
    /// Certificates for nodes and clients.
    Certs(certs::Certs),
    /// Configuration of a node.
    Config(config::Config),
    /// Measure a running cluster.
    Bench(bench::Bench),
    /// What a shell needs to complete command lines.
    Completions(shell::Completions),
    /// Pages for man.
    Man(shell::Man),
    /// The version of this binary.
    Version,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_promised_invocations_parse() {
        for line in [
            "quorate serve",
            "quorate serve --node-id 1 --data-dir d --client-listen 127.0.0.1:8811 --peer-listen 127.0.0.1:8812 --http-listen 127.0.0.1:8813 --initial-cluster 1=127.0.0.1:8812,2=127.0.0.1:8822",
            "quorate serve --config quorate.toml --insecure --raft-heartbeat-ms 50",
            "quorate dev --nodes 3 --data-dir d --base-port 8811",
            "quorate dev",
            "quorate kv set k v --ttl 30s",
            "quorate kv set k - --if-version 3",
            "quorate kv set k v --if-absent -o json --endpoints a:1,b:2",
            "quorate --output json kv get k --stale --namespace shop --timeout 500ms",
            "quorate kv del k",
            "quorate kv incr k --by -5",
            "quorate kv incr k",
            "quorate cluster status -o json",
            "quorate certs create --dir d --node 1=node-1,10.0.0.1 --node 2=b --client ann --days 30 --renew",
            "quorate kv get k --ca-file ca.pem --cert-file c.pem --key-file k.pem --token-file t",
            "quorate kv get k --tls",
            "quorate completions zsh",
            "quorate man --dir d",
            "quorate config check --skip-files",
            "quorate auth token create ci --role writer --ttl 90d -o json",
            "quorate auth token list",
            "quorate auth token revoke 0123456789abcdef",
            "quorate auth role put writer --allow kv:read,write:user.* --allow bus:publish:* --in-namespace shop",
            "quorate auth role list -o json",
            "quorate auth role delete writer",
            "quorate auth subject put ann --role writer",
            "quorate auth whoami",
            "quorate health --http https://127.0.0.1:8813 --ca-file ca.pem --live",
            "quorate cluster members -o table",
            "quorate kv list user.*",
            "quorate kv list --prefix user. --keys-only --limit 5",
            "quorate kv list * --count",
            "quorate kv del-pattern user.*",
            "quorate kv incr k --by-float 0.5",
            "quorate kv watch user.*",
            "quorate kv watch user.* --from-revision 4096 --count 3 --timeout 5s -o json",
            "quorate kv watch --prefix user. --key a --key b --keys-only",
            "quorate cache set k v --ttl 30s --stale-for 1m --tag a --tag b --guard l:7",
            "quorate cache set k - -o json",
            "quorate cache set k -5",
            "quorate cache get k --linearizable --allow-stale -o json",
            "quorate cache del k",
            "quorate cache del-pattern products:*",
            "quorate cache del-pattern --prefix products: --step-keys 1000",
            "quorate cache invalidate-tags a b --namespace shop",
            "quorate cache touch k --ttl 1h",
            "quorate cache touch k",
            "quorate cache get-or-build k --ttl 1h --tag a --build-lease 5s --wait 10s -- sh -c exit",
            "quorate cache get-or-build k -- env -o --ttl",
            "quorate cache stats -o json",
            "quorate cache resize 512MiB",
            "quorate bench cache --op near --clients 4 --in-flight 8 --seconds 5 --value-bytes 256 --keys 1000 --via any -o json",
            "quorate bench cache --op get-linearizable --plot latency.svg",
            "quorate bench cache",
            "quorate txn transfer.json --namespace shop",
            "quorate txn - -o json --timeout 2s",
            "quorate bench kv --clients 64 --in-flight 4 --seconds 5 --value-bytes 256 --keys 1000 --op mixed --via any --unary -o json",
            "quorate bench kv --plot latency.svg",
            "quorate bench lock --clients 16 --seconds 5 --contended -o json",
            "quorate lock acquire l --ttl 30s -o json",
            "quorate lock acquire l --ttl 30s --wait 10s --shared",
            "quorate lock acquire l --permits 3",
            "quorate lock release l --token 7",
            "quorate lock renew l --token 7",
            "quorate lock inspect l -o json",
            "quorate lock list",
            "quorate lock list job.*",
            "quorate lock force-release l",
            "quorate lock watch l --count 2 --timeout 5s -o json",
            "quorate lock run l --ttl 30s --wait 10s -- sh -c exit",
            "quorate lock run l -- env -o --token",
            "quorate kv set k v --guard l:7",
            "quorate kv del k --guard l:7",
            "quorate kv incr k --by-float 2 --guard a:b:7",
            "quorate kv del-pattern k* --guard l:7",
            "quorate txn - --guard l:7",
            "quorate queue push q p --delay 5s --priority 9 --dedupe-key k --dedupe-window 1m",
            "quorate queue push q - --not-before 2026-01-31T18:30:00Z --group g --ttl 1h --header a=b --header c=d --content-type text/plain --guard l:7 -o json",
            "quorate queue push q -5",
            "quorate queue push q --lines",
            "quorate queue pull q --count 3 --wait 5s -o json",
            "quorate queue work q --parallel 4 --max-jobs 9 -- sh -c exit",
            "quorate queue ack q 17 --lease 23",
            "quorate queue nack q 17 --lease 23 --delay 5s --error why",
            "quorate queue nack q 17 --lease 23 --dead",
            "quorate queue nack q 17 --lease 23 --return",
            "quorate queue extend q 17 --lease 23 --for 1m",
            "quorate queue progress q 17 --lease 23 0.5 half",
            "quorate queue peek q --count 16",
            "quorate queue get q 17",
            "quorate queue list q --state ready --payloads --limit 5 -o json",
            "quorate queue stats q -o json",
            "quorate queue stats q --watch --every 1s --count 2",
            "quorate queue queues",
            "quorate queue queues mail.*",
            "quorate queue pause q",
            "quorate queue resume q",
            "quorate queue purge q",
            "quorate queue redrive q",
            "quorate queue redrive q 17 18",
            "quorate queue cancel q 17",
            "quorate queue update q --visibility 1m --attempts 3 --backoff 1s..5m --jitter 50 --dead-to d --keep-done 1h --jobs-max 9 --when-full drop-oldest --parallel-max 2 --rate 100/1s --dedupe-window 5m",
            "quorate queue delete q",
            "quorate bench queue --clients 4 --in-flight 8 --seconds 5 --value-bytes 256 --queue q -o json",
            "quorate bench bus --clients 4 --in-flight 8 --subscribers 100 --op pattern --seconds 5 --value-bytes 256 -o json",
            "quorate bus pub c p",
            "quorate bus pub c - --content-type text/plain --header a=b --header c=d -o json",
            "quorate bus pub c -5",
            "quorate bus sub a.* b --count 3 --timeout 5s --queue-group g -o json",
            "quorate bus sub c",
            "quorate bus request c p --timeout 5s",
            "quorate bus request c - --header a=b -o json",
            "quorate bus reply c --with pong --count 1",
            "quorate bus reply c.* --queue-group g --parallel 4 -- sh -c cat",
            "quorate bus channels",
            "quorate bus channels user.* -o json",
            "quorate session list -o json",
            "quorate session close 7",
            "quorate cluster transfer-leader",
            "quorate cluster transfer-leader 2",
            "quorate cluster repair --data-dir d --endpoints a:1",
            "quorate backup save f --endpoints a:1,b:2 -o json",
            "quorate backup save f --stale --force --format jsonl --timeout 10s",
            "quorate backup verify f -o json",
            "quorate backup info f",
            "quorate backup restore f --data-dir d --node-id 1 --client-listen 127.0.0.1:8811 --peer-listen 127.0.0.1:8812",
            "quorate backup restore f --config quorate.toml",
            "quorate doctor",
            "quorate doctor --endpoints a:1,b:2 --timeout 2s -o json",
            "quorate doctor --data-dir d -o json",
            "quorate doctor --config quorate.toml --data-dir d",
            "quorate top",
            "quorate top --endpoints a:1 --namespace n --interval 500ms --page queues",
            "quorate top --once --page bus -o json",
            "quorate config check",
            "quorate config check quorate.toml",
            "quorate config check quorate.toml --node-id 2 --insecure",
            "quorate version",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}\n{error}");
            }
        }
    }

    #[test]
    fn contradictions_and_bare_numbers_are_usage_errors() {
        for (line, says) in [
            ("quorate kv set k v --ttl 30", "30s"),
            ("quorate kv set k v --if-version 3 --if-absent", "cannot be used with"),
            ("quorate kv set k", "VALUE"),
            ("quorate kv watch", "PATTERN"),
            ("quorate kv watch k --from-revision 0", "0"),
            ("quorate kv get k --timeout 5", "5s"),
            ("quorate serve --node-idd 1", "--node-id"),
            ("quorate dev --nodes 0", "0"),
            ("quorate cluster transfer-leader two", "two"),
            ("quorate cluster repair", "--data-dir"),
            ("quorate backup save", "FILE"),
            ("quorate backup save f --format csv", "csv"),
            ("quorate backup restore", "FILE"),
            ("quorate cache set k v --ttl 30", "30s"),
            ("quorate cache set k v --stale-for 30s", "--ttl"),
            ("quorate cache get-or-build k", "CMD"),
            ("quorate cache get-or-build k --build-lease 11m -- true", "10m"),
            ("quorate cache invalidate-tags", "T"),
            ("quorate cache del-pattern", "PATTERN"),
            ("quorate cache resize 512", "512MiB"),
            ("quorate cache resize 1KiB", "64GiB"),
            ("quorate bench cache --plot latency.svg", "--op"),
            ("quorate lock acquire", "NAME"),
            ("quorate lock acquire l --ttl 30", "30s"),
            ("quorate lock acquire l --ttl 0s", "no time"),
            ("quorate lock acquire l --ttl 2h", "at most 1h"),
            ("quorate lock acquire l --wait 25h", "24h"),
            ("quorate lock acquire l --shared --permits 2", "cannot be used with"),
            ("quorate lock acquire l --permits 0", "0"),
            ("quorate lock release l", "--token"),
            ("quorate lock release l --token 0", "0"),
            ("quorate lock renew l --token x", "x"),
            ("quorate lock watch l --count 0", "0"),
            ("quorate lock run l", "CMD"),
            ("quorate lock run l true", "true"),
            ("quorate kv set k v --guard l", "report:17"),
            ("quorate txn - --guard 7", "report:17"),
            ("quorate queue push q", "PAYLOAD"),
            ("quorate queue push q p --lines", "cannot be used with"),
            ("quorate queue push q p --delay 5", "5s"),
            ("quorate queue push q p --delay 5s --not-before 7", "cannot be used with"),
            ("quorate queue push q p --not-before tomorrow", "2026-01-31T18:30:00Z"),
            ("quorate queue push q p --dedupe-window 5s", "--dedupe-key"),
            ("quorate queue push q p --header a", "trace=17"),
            ("quorate queue push q p --priority 256", "256"),
            ("quorate queue pull q --count 129", "129"),
            ("quorate queue pull q --wait 2h", "1h"),
            ("quorate queue work q", "CMD"),
            ("quorate queue ack q 17", "--lease"),
            ("quorate queue ack q x --lease 23", "x"),
            ("quorate queue nack q 17 --lease 23 --dead --return", "cannot be used with"),
            ("quorate queue nack q 17 --lease 23 --dead --delay 5s", "cannot be used with"),
            ("quorate queue progress q 17 --lease 23 50", "0.25"),
            ("quorate queue stats q --count 2", "--watch"),
            ("quorate queue update q --backoff 5m..1s", "longer"),
            ("quorate queue update q --rate 100", "100/1s"),
            ("quorate queue update q --jitter 50", "--backoff"),
            ("quorate queue update q --dead-to d --dead-discard", "cannot be used with"),
            ("quorate bus pub c", "PAYLOAD"),
            ("quorate bus pub c p --header a", "trace=17"),
            ("quorate bus sub", "PATTERN"),
            ("quorate bus sub c --count 0", "0"),
            ("quorate bus request c p --timeout 5", "5s"),
            ("quorate bus reply c", "--with"),
            ("quorate bus reply c --with pong -- cat", "cannot be used with"),
            ("quorate bus reply c --parallel 0 --with x", "0"),
            ("quorate bench bus --op both", "both"),
            ("quorate doctor --data-dir", "DIR"),
            ("quorate doctor 2", "2"),
            ("quorate top --interval 10ms", "100ms"),
            ("quorate top --page kv", "sessions"),
            ("quorate session close x", "x"),
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(says), "{line}\n{error}");
        }
    }

    #[test]
    fn help_lists_the_commands_and_the_exit_status() {
        let help = Cli::command().render_long_help().to_string();
        for word in [
            "serve", "dev", "kv", "cache", "txn", "lock", "queue", "bus", "session", "cluster",
            "doctor", "top", "config", "version",
        ] {
            assert!(help.contains(word), "{word} is not in\n{help}");
        }
        assert!(help.contains("Exit status: 0 ok") && help.contains("lock not acquired"), "{help}");
    }
}
