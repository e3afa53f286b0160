//! What a node is made to believe of its clock and its disk, by a library that is loaded into it
//! (`shim.cpp`, compiled here): how far its wall clock is off, how long a sync takes, whether it fails.

use crate::process::NodeId;
use anyhow::{Context as _, Result, ensure};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("shim.cpp");
/// Where in a node's file each thing is; little endian, eight bytes each.
const CLOCK_MS: u64 = 0;
const SYNC_MS: u64 = 8;
const SYNC_FAILS: u64 = 16;
const BYTES: u64 = 24;

/// The library, and a file for each node.
#[derive(Clone)]
pub(crate) struct Shim {
    directory: PathBuf,
}

impl Shim {
    /// Compiles the library into a directory of its own.
    ///
    /// # Errors
    /// When there is no g++, which RocksDB needs as well.
    pub(crate) fn compile(directory: &Path) -> Result<Self> {
        let (source, directory) = (directory.join("shim.cpp"), directory.to_owned());
        fs::write(&source, SOURCE).context("the shim can't be written")?;
        let mut compiler = Command::new("g++");
        compiler.args(["-shared", "-fPIC", "-O1"]).arg(&source);
        compiler.arg("-o").arg(directory.join("shim.so"));
        let output = compiler.output().context("g++ can't be run; install it")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { directory })
    }

    /// Loads it into a process that is about to start.
    pub(super) fn put_into(&self, command: &mut Command, node: NodeId) -> Result<()> {
        let path = self.file(node);
        if !path.exists() {
            File::create(&path)?.set_len(BYTES).context("no file for a node's shim")?;
        }
        command.env("LD_PRELOAD", self.directory.join("shim.so")).env("CHAOS_SHIM", path);
        Ok(())
    }

    /// The node's wall clock is so far off, from now on.
    pub(crate) fn set_clock(&self, node: NodeId, off_ms: i64) -> Result<()> {
        self.write(node, CLOCK_MS, off_ms.to_le_bytes())
    }

    /// Each sync of the node takes so much longer, from now on.
    pub(crate) fn slow_syncs(&self, node: NodeId, by_ms: u64) -> Result<()> {
        self.write(node, SYNC_MS, by_ms.to_le_bytes())
    }

    /// Each sync of the node fails, or none.
    pub(crate) fn fail_syncs(&self, node: NodeId, fail: bool) -> Result<()> {
        self.write(node, SYNC_FAILS, u64::from(fail).to_le_bytes())
    }

    fn file(&self, node: NodeId) -> PathBuf {
        self.directory.join(format!("shim-{node}"))
    }

    fn write(&self, node: NodeId, at: u64, bytes: [u8; 8]) -> Result<()> {
        let file = File::options().write(true).open(self.file(node));
        let written = file.and_then(|file| file.write_all_at(&bytes, at));
        written.with_context(|| format!("node {node} can't be told of its clock or disk"))
    }
}
