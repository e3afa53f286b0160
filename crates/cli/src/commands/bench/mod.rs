//! `quorate bench`: measures a running cluster.

mod kv;
mod measured;
mod plot;

use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, Subcommand};

/// `quorate bench …`
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sets or gets keys as fast as the cluster answers.
    Kv(kv::Kv),
}

impl Bench {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Kv(kv) => kv.run(output),
        }
    }
}
