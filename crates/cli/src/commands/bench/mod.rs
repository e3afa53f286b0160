//! `quorate bench`: measures a running cluster.

mod bus;
mod cache;
mod kv;
mod lock;
mod measured;
mod plot;
mod queue;
mod running;
mod timing;

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
    /// Reads, writes and builds values of the cache.
    Cache(cache::Cache),
    /// Acquires and releases locks.
    Lock(lock::Lock),
    /// Pushes jobs, takes and acknowledges them.
    Queue(queue::Queue),
    /// Publishes messages, and receives them at many subscribers.
    Bus(bus::Bus),
}

impl Bench {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Kv(kv) => kv.run(output),
            Command::Cache(cache) => cache.run(output),
            Command::Lock(lock) => lock.run(output),
            Command::Queue(queue) => queue.run(output),
            Command::Bus(bus) => bus.run(output),
        }
    }
}
