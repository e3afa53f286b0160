//! `quorate backup verify`: whether a backup is as it was written.

use super::{bar, failed, shown_on, whole_json, whole_text};
use crate::exit::Failure;
use crate::output::Output;
use clap::Args;
use quorate_server::backup;
use std::path::PathBuf;

/// Reads the whole file: checksums of each part, order and number of the rows, and the checksum over all
/// of them, which is that of the nodes' state at that revision.
#[derive(Debug, Args)]
pub(super) struct Verify {
    file: PathBuf,
}

impl Verify {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        let bar = bar(output, "verifying");
        let verified = backup::verify(&self.file, &mut shown_on(&bar));
        bar.finish_and_clear();
        let (header, end) = verified.map_err(failed)?;
        output.result(
            || {
                let mut object = whole_json(&header, &end);
                object["ok"] = true.into();
                object
            },
            || format!("{}\n\nok", whole_text(&header, &end)),
        )
    }
}
