//! `quorate bench`: measures a running cluster.

mod kv;
mod lock;
mod measured;
mod plot;
mod queue;
mod running;

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
    /// Acquires and releases locks.
    Lock(lock::Lock),
    /// Pushes jobs, takes and acknowledges them.
    Queue(queue::Queue),
}

impl Bench {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Kv(kv) => kv.run(output),
            Command::Lock(lock) => lock.run(output),
            Command::Queue(queue) => queue.run(output),
        }
    }
}
