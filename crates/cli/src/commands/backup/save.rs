//! `quorate backup save`: a file with everything the cluster holds.

use super::{bar, failed, shown_on, whole_json, whole_text};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_client::{BackupFormat, Client};
use quorate_server::backup;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use tempfile::NamedTempFile;

/// Saves everything the cluster holds into a file.
#[derive(Debug, Args)]
pub(super) struct Save {
    #[command(flatten)]
    connect: Connect,
    /// Where to; what is there already is kept, unless --force is given
    file: PathBuf,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Take whatever the node that answers has applied; works without a quorum
    #[arg(long)]
    stale: bool,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For quorate backup restore: complete, compressed, checksummed
    #[default]
    Backup,
    /// For other programs: what users stored, a JSON object a line
    Jsonl,
}

impl Save {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, file, format, stale, force } = self;
        if file.exists() && !force {
            return Err(Failure::Usage(format!(
                "{} is there already; give another name, or --force to replace it",
                file.display()
            )));
        }
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Beside its place, and with its name only once it is whole, verified and on disk.
        let mut partial = tempfile::Builder::new()
            .prefix(".quorate-backup-")
            .tempfile_in(directory)
            .with_context(|| format!("can't create a file in {}", directory.display()))?;
        let wire = match format {
            Format::Backup => BackupFormat::Backup,
            Format::Jsonl => BackupFormat::Jsonl,
        };
        let rows = connect
            .run(async |client| download(&client, wire, stale, &mut partial, output).await)?;
        let verified = match format {
            Format::Jsonl => None,
            Format::Backup => {
                let bar = bar(output, "verifying");
                let verified = backup::verify(partial.path(), &mut shown_on(&bar));
                bar.finish_and_clear();
                Some(verified.map_err(failed)?)
            }
        };
        let kept = if force { partial.persist(&file) } else { partial.persist_noclobber(&file) };
        let bytes = kept
            .map_err(|error| error.error)
            .and_then(|kept| Ok(kept.metadata()?.len()))
            .with_context(|| format!("can't name it {}", file.display()))?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .with_context(|| format!("can't sync {}", directory.display()))?;
        let name = file.display().to_string();
        output.done(
            || match &verified {
                Some((header, end)) => {
                    let mut object = whole_json(header, end);
                    object["file"] = json!(name);
                    object["file_bytes"] = json!(bytes);
                    object
                }
                None => json!({ "file": name, "file_bytes": bytes, "lines": rows }),
            },
            || match &verified {
                Some((header, end)) => {
                    format!("{}\n\nsaved as {name}, {bytes} bytes", whole_text(header, end))
                }
                None => format!("{rows} lines saved as {name}, {bytes} bytes"),
            },
        )
    }
}

/// Writes a backup into a file, and syncs it; answers how many rows (or lines) it has.
pub(in crate::commands) async fn download(
    client: &Client,
    format: BackupFormat,
    stale: bool,
    into: &mut NamedTempFile,
    output: Output,
) -> Result<u64, Failure> {
    let bar = if output.is_json() { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("saving {wide_bar} {pos}/~{len} rows, {eta} left");
    bar.set_style(style.expect("the template is right"));
    let pieces = client.cluster().backup(format, stale).await?;
    let mut pieces = pin!(pieces);
    let mut rows = 0;
    while let Some(piece) = pieces.try_next().await? {
        into.write_all(&piece.data).context("can't write the backup")?;
        rows = piece.rows;
        bar.set_length(piece.rows_estimate.max(piece.rows));
        bar.set_position(piece.rows);
    }
    into.as_file().sync_all().context("can't sync the backup")?;
    bar.finish_and_clear();
    Ok(rows)
}
