//! The command line of Quorate: a node, a cluster for development, and the commands that talk to
//! one.
//!
//! # Guarantees
//! - Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 condition failed or lock not acquired,
//!   5 unavailable, 6 outcome unknown; `lock run`: that of what it runs, 125 when the lock was lost;
//!   it, `queue work`, `bus reply` and `cache get-or-build`: 126 and 127 when what they are to run can't
//!   be run, as a shell has it.
//! - Results go to stdout, everything else to stderr; with `-o json` results and failures of
//!   commands are JSON, one object per line.
//! - A command that changes something and is repeated by its own retries has one effect: it
//!   carries an idempotency key. Only `bus pub` and `bus request` have none, and are not repeated
//!   once they may have been heard. Sessions have those that own something: `lock acquire`, `lock run`
//!   and a `txn` that acquires locks, whose locks are the session's, and `queue work`, whose jobs
//!   are. The connections of `bench` have one as those of an application have.
//!
//! # Deliberately absent
//! - Anything a program would link: this is a library only so that two binaries can share it
//!   (`quorate`, and for tests `quorate-planted`).

mod child;
mod cli;
mod commands;
mod connect;
mod duration;
mod exit;
mod http;
mod output;
mod size;
mod when;

use clap::Parser;
use std::process::ExitCode;

/// Runs the command line this process was started with. With planted faults in it, because another
/// package of the same build has asked for them, it only says so.
#[must_use]
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if quorate_server::HAS_PLANTED_FAULTS && !matches!(cli.command, cli::Command::Version) {
        let output = output::Output::new(cli.output);
        output.error(&exit::Failure::Other(anyhow::anyhow!(PLANTED)));
        return ExitCode::FAILURE;
    }
    run(cli)
}

/// What `quorate` says when it has been built with planted faults.
const PLANTED: &str = "this build has planted faults; build quorate without the feature \
                       planted-faults, or use quorate-planted";

/// As [`main`], with the fault that the environment names.
#[cfg(feature = "planted-faults")]
#[must_use]
pub fn main_planted() -> ExitCode {
    use quorate_server::planted::{Fault, VARIABLE, plant_in_this_process};

    let cli = cli::Cli::parse();
    if let Some(name) = std::env::var_os(VARIABLE) {
        match name.to_string_lossy().parse::<Fault>() {
            Ok(fault) => plant_in_this_process(fault),
            Err(unknown) => {
                let failure = exit::Failure::Usage(format!("{VARIABLE}: {unknown}"));
                output::Output::new(cli.output).error(&failure);
                return ExitCode::from(failure.status());
            }
        }
    }
    run(cli)
}

fn run(cli: cli::Cli) -> ExitCode {
    let output = output::Output::new(cli.output);
    match commands::run(cli.command, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.error(&failure);
            ExitCode::from(failure.status())
        }
    }
}
