//! How the programs behind the scripts run: to their end, or until somebody stops them.

use anyhow::{Context as _, Result, bail};
use std::future::Future;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work`, and tells on stderr why it failed. On SIGINT, SIGTERM or SIGHUP it is dropped, and
/// with it what it holds: a cluster ends its processes and removes its directory.
#[allow(clippy::print_stderr, reason = "a program for people and scripts")]
pub fn run(name: &str, work: impl Future<Output = Result<()>>) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.context("could not start").and_then(|runtime| {
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            tokio::select! {
                result = work => result,
                _ = interrupt.recv() => bail!("interrupted"),
                _ = terminate.recv() => bail!("terminated"),
                _ = hang_up.recv() => bail!("the terminal is gone"),
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
