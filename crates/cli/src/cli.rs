//! The command line's own grammar: the top level; each command has its arguments in its file.

use crate::commands::{bench, cluster, config, dev, kv, serve, txn};
use crate::output::Format;
use clap::{Parser, Subcommand};

const AFTER_HELP: &str = "\
Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 condition failed, 5 unavailable,
6 outcome unknown (the write may have happened; read before repeating it).";

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
    /// Several operations on keys at once, all or none, on conditions.
    Txn(txn::Txn),
    /// The cluster: status, members, leadership.
    Cluster(cluster::Cluster),
    /// Configuration of a node.
    Config(config::Config),
    /// Measure a running cluster.
    Bench(bench::Bench),
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
            "quorate cluster members -o table",
            "quorate kv list user.*",
            "quorate kv list --prefix user. --keys-only --limit 5",
            "quorate kv list * --count",
            "quorate kv del-pattern user.*",
            "quorate kv incr k --by-float 0.5",
            "quorate kv watch user.*",
            "quorate kv watch user.* --from-revision 4096 --count 3 --timeout 5s -o json",
            "quorate kv watch --prefix user. --key a --key b --keys-only",
            "quorate txn transfer.json --namespace shop",
            "quorate txn - -o json --timeout 2s",
            "quorate bench kv --clients 64 --in-flight 4 --seconds 5 --value-bytes 256 --keys 1000 --op mixed --via any --unary -o json",
            "quorate bench kv --plot latency.svg",
            "quorate cluster transfer-leader",
            "quorate cluster transfer-leader 2",
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
        ] {
            let error = parse(line).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(says), "{line}\n{error}");
        }
    }

    #[test]
    fn help_lists_the_commands_and_the_exit_status() {
        let help = Cli::command().render_long_help().to_string();
        for word in
            ["serve", "dev", "kv", "txn", "cluster", "config", "version", "Exit status: 0 ok"]
        {
            assert!(help.contains(word), "{word} is not in\n{help}");
        }
    }
}
