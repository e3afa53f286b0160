//! `quorate backup restore`: a node's data directory from a backup.

use super::{bar, failed, shown_on, whole_json};
use crate::commands::serve::Settings;
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_server::backup;
use serde_json::json;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
The node takes the flags, variables and file that quorate serve takes: give it the same as the node will be
started with, above all --data-dir, --node-id and the addresses. Its directory must be empty.

What is restored is a new cluster, of this node alone. Start it (quorate serve), and let the others join with
empty directories (quorate serve --join). Stop the nodes of the old cluster first: they are told apart by the
cluster's id, but clients would go to both. Revisions, fencing tokens and the ids of jobs go on far above what
the old one can have reached since; sessions are not restored, so locks are free, and jobs that
consumers had are free again as if those had died; those of queue pull stay leased until their leases end.";

/// Makes a node's data directory from a backup.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    /// The config file of the node; without it there is none
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

impl Restore {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { file, config, settings } = self;
        let config =
            settings.load(config.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
        if config.join.is_some() {
            return Err(Failure::Usage(
                "a node that joins a cluster gets what that has; restore without --join".to_owned(),
            ));
        }
        let bar = bar(output, "restoring");
        let restored = backup::restore(&file, &config, &mut shown_on(&bar));
        bar.finish_and_clear();
        let restored = restored.map_err(failed)?;
        let (node, dir) = (config.node_id, config.data_dir.display().to_string());
        output.done(
            || {
                json!({
                    "cluster_id": restored.cluster_id,
                    "node_id": node.0,
                    "data_dir": dir,
                    "backup": whole_json(&restored.header, &restored.end),
                })
            },
            || {
                format!(
                    "{} rows of cluster {}, revision {}, are in {dir} now, as node {node} of the new \
                     cluster {}\n\nStart it with quorate serve and the same settings, and let other \
                     nodes join it:\n\n  quorate serve --data-dir DIR --join {}",
                    restored.end.rows,
                    restored.header.cluster_id,
                    restored.header.revision,
                    restored.cluster_id,
                    config.client_address(config.client_listen.port),
                )
            },
        )
    }
}
