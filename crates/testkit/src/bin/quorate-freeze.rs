//! Behind `scripts/freeze-data`: fills a node of a given build with something of what users
//! store, kills it, and keeps its data directory with what clients read from it.

#![allow(clippy::print_stdout, reason = "a program for people")]

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use quorate_proto::v1::StatusRequest;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_testkit::frozen::{Expected, FrozenNode, fill, read};
use quorate_testkit::process::find_binary;
use quorate_testkit::program;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Freezes a data directory, to be opened by every later build.
///
/// Writes DIRECTORY/NAME.tar.gz, and DIRECTORY/NAME.json with what is expected of it. Nothing
/// that is there is overwritten: what was frozen never changes.
#[derive(Debug, Parser)]
#[command(name = "quorate-freeze")]
struct Arguments {
    /// What it is called: the version that wrote it
    name: String,
    /// Where it is kept
    #[arg(long, default_value = "tests/compat/data")]
    directory: PathBuf,
    /// The binary that writes it; the one beside this program unless given
    #[arg(long)]
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run("quorate-freeze", run(arguments))
}

async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { name, directory, binary } = arguments;
    let binary = binary.map_or_else(find_binary, Ok)?;
    let archive = directory.join(format!("{name}.tar.gz"));
    let expected = directory.join(format!("{name}.json"));
    for path in [&archive, &expected] {
        ensure!(!path.exists(), "{} is there already; choose another name", path.display());
    }
    let work = tempfile::tempdir().context("could not make a directory")?;
    let node = FrozenNode::start(&binary, &work.path().join("data")).await?;
    let channel = node.connect().await?;
    let handles = fill(&channel).await?;
    let contents = read(&channel).await?;
    let status = ClusterServiceClient::new(channel).status(StatusRequest::default()).await?;
    let version = status.into_inner().nodes.first().map(|node| node.version.clone());
    node.kill().await?;

    fs::create_dir_all(&directory)?;
    let packed = Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-czf"])
        .arg(&archive)
        .arg("-C")
        .arg(work.path())
        .arg("data")
        .status();
    ensure!(packed.context("could not run tar")?.success(), "tar has failed");
    let version = version.unwrap_or_default();
    let text = serde_json::to_string_pretty(&Expected { version, handles, contents })?;
    fs::write(&expected, text + "\n")?;
    let kib = fs::metadata(&archive)?.len() >> 10;
    println!("{} ({kib} KiB) and {}", archive.display(), expected.display());
    Ok(())
}
