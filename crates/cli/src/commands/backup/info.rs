//! `quorate backup info`: what a backup is of.

use super::{failed, header_json, header_text};
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_server::backup;
use std::path::PathBuf;

/// Shows what the file says of itself; whether all of it is whole, verify finds out.
#[derive(Debug, Args)]
pub(super) struct Info {
    file: PathBuf,
}

impl Info {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let header = backup::info(&self.file).map_err(failed)?;
        output.result(|| header_json(&header), || header_text(&header))
    }
}
