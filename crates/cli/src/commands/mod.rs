//! The commands, one file per group.

pub(crate) mod auth;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod bus;
pub(crate) mod cache;
pub(crate) mod certs;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod kv;
pub(crate) mod lock;
pub(crate) mod queue;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod shell;
pub(crate) mod top;
pub(crate) mod txn;
mod version;
mod watch;

use crate::cli::Command;
use crate::exit::Failure;
use crate::output::Output;

/// Runs a command to its end.
pub(crate) fn run(command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve.run(output),
        Command::Dev(dev) => dev.run(output),
        Command::Kv(kv) => kv.run(output),
        Command::Cache(cache) => cache.run(output),
        Command::Txn(txn) => txn.run(output),
        Command::Lock(lock) => lock.run(output),
        Command::Queue(queue) => queue.run(output),
        Command::Bus(bus) => bus.run(output),
        Command::Session(session) => session.run(output),
        Command::Cluster(cluster) => cluster.run(output),
        Command::Auth(auth) => auth.run(output),
        Command::Health(health) => health.run(output),
        Command::Backup(backup) => backup.run(output),
        Command::Doctor(doctor) => doctor.run(output),
        Command::Top(top) => top.run(output),
        Command::Bench(bench) => bench.run(output),
        Command::Certs(certs) => certs.run(output),
        Command::Completions(completions) => completions.run(output),
        Command::Man(man) => man.run(output),
        Command::Config(config) => config.run(output),
        Command::Version => version::run(output),
    }
}
