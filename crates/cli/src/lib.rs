//! The command line of Quorate: a node, a cluster for development, and the commands that talk to
//! one.
//!
//! # Guarantees
//! - Exit status: 0 ok, 1 error, 2 usage, 3 not found, 4 condition failed or lock not acquired,
//!   5 unavailable, 6 outcome unknown; `lock run`: that of what it runs, 125 when the lock was lost.
//! - Results go to stdout, everything else to stderr; with `-o json` results and failures of
//!   commands are JSON, one object per line.
//! - A command that changes something and is repeated by its own retries has one effect: it
//!   carries an idempotency key. Only `lock acquire` and `lock run` have a session, which owns the
//!   lock, and `queue work` has one, which owns what it works on.
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
mod output;
mod when;

use clap::Parser;
use std::process::ExitCode;

/// Runs the command line this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let output = output::Output::new(cli.output);
    match commands::run(cli.command, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.error(&failure);
            ExitCode::from(failure.status())
        }
    }
}
