//! `quorate backup`: everything a cluster holds, in one file, and a new cluster from it.

mod info;
mod restore;
mod save;
mod verify;

pub(super) use save::download;

use crate::exit::Failure;
use crate::output::{Output, table};
use crate::{size, when};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use quorate_server::backup::{End, Error, Header};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `quorate backup …`
#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Save everything the cluster holds, consistent at one revision, from any node
    Save(save::Save),
    /// Read a whole backup, and check every byte of it
    Verify(verify::Verify),
    /// Show what a backup is of
    Info(info::Info),
    /// Make a node's data directory from a backup: a new cluster, of this node alone, that others
    /// join
    Restore(restore::Restore),
}

impl Backup {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Save(save) => save.run(output),
            Command::Verify(verify) => verify.run(output),
            Command::Info(info) => info.run(output),
            Command::Restore(restore) => restore.run(output),
        }
    }
}

/// Failures of backups as commands tell them.
pub(super) fn failed(error: Error) -> Failure {
    match error {
        Error::Unfit(why) => Failure::Usage(why),
        error => Failure::Other(anyhow::Error::new(error)),
    }
}

/// A bar over bytes, on stderr; hidden where nobody looks.
pub(super) fn bar(output: Output, what: &'static str) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template(
        "{msg} {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
    );
    bar.set_style(style.expect("the template is right"));
    bar.set_message(what);
    bar
}

/// A bar as the server's functions want it.
pub(super) fn shown_on(bar: &ProgressBar) -> impl FnMut(u64, u64) + '_ {
    |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    }
}

fn header_json(header: &Header) -> Value {
    let members: Vec<u64> = header.membership.membership.nodes.keys().map(|node| node.0).collect();
    json!({
        "cluster_id": header.cluster_id,
        "node_id": header.node_id,
        "version": header.version,
        "feature_level": header.feature_level,
        "revision": header.revision,
        "term": header.applied.term,
        "applied": header.applied.index,
        "made": when::text(time(header.made_wall_ms)),
        "linearizable": header.linearizable,
        "members": members,
    })
}

fn time(wall_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(wall_ms)
}

/// A backup as one object.
fn whole_json(header: &Header, end: &End) -> Value {
    let mut object = header_json(header);
    object["rows"] = json!(end.rows);
    object["bytes"] = json!(end.bytes);
    object["checksum"] = json!(end.checksum);
    object
}

fn header_rows(header: &Header) -> Vec<Vec<String>> {
    let members: Vec<String> =
        header.membership.membership.nodes.keys().map(ToString::to_string).collect();
    let kind = if header.linearizable {
        "all that was acknowledged before"
    } else {
        "what its node had applied (--stale)"
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    vec![
        row("cluster", header.cluster_id.clone()),
        row("members", members.join(", ")),
        row("revision", header.revision.to_string()),
        row("log", format!("entry {} of term {}", header.applied.index, header.applied.term)),
        row("made", when::text(time(header.made_wall_ms))),
        row("by", format!("node {}, quorate {}", header.node_id, header.version)),
        row("holds", kind.to_owned()),
    ]
}

fn header_text(header: &Header) -> String {
    table(&["BACKUP", ""], &header_rows(header))
}

fn whole_text(header: &Header, end: &End) -> String {
    let mut rows = header_rows(header);
    rows.push(vec!["rows".to_owned(), end.rows.to_string()]);
    rows.push(vec!["bytes".to_owned(), size::rough(end.bytes)]);
    rows.push(vec!["checksum".to_owned(), end.checksum.clone()]);
    table(&["BACKUP", ""], &rows)
}
