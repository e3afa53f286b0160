//! `quorate cluster repair`: a node whose state is damaged gets that of its cluster.

use crate::commands::backup::{bar, download, failed, shown_on};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::Context as _;
use clap::Args;
use quorate_client::BackupFormat;
use quorate_server::backup;
use serde_json::json;
use std::path::PathBuf;

const AFTER_HELP: &str = "\
For a node that refused to start because its state or its snapshot is damaged. Run it on that node's machine,
while the node is stopped, with the endpoints of the others. Its log and its votes stay as they are; if those are
damaged as well, the node can't be repaired, and is replaced (quorate cluster replace).";

/// Give a stopped node whose state is damaged the state of its cluster.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Repair {
    /// The data directory of the node
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

impl Repair {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { data_dir } = self;
        // Before anything is fetched: it may be hopeless, or a node may run on it.
        backup::check_repair(&data_dir).map_err(failed)?;
        let mut fetched =
            tempfile::Builder::new()
                .prefix(backup::FETCHED)
                .tempfile_in(&data_dir)
                .with_context(|| format!("can't create a file in {}", data_dir.display()))?;
        connect.run(async |client| {
            download(&client, BackupFormat::Backup, false, &mut fetched, output).await
        })?;
        let bar = bar(output, "repairing");
        let repaired = backup::repair(fetched.path(), &data_dir, &mut shown_on(&bar));
        bar.finish_and_clear();
        let repaired = repaired.map_err(failed)?;
        let node = repaired.node_id;
        output.done(
            || {
                json!({
                    "node_id": node.0,
                    "applied": repaired.header.applied.index,
                    "rows": repaired.end.rows,
                })
            },
            || {
                format!(
                    "node {node} has the state of its cluster up to entry {} ({} rows); start it as \
                     before",
                    repaired.header.applied.index, repaired.end.rows
                )
            },
        )
    }
}
