//! A command that is run for the user: its process group, the signals it gets, how it ended.

use crate::exit::Failure;
use anyhow::Context;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::Instant;

/// How long a command has to end by itself when it may not go on.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether what the command started has ended too.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Exit status when there is such a command, but it can't be run.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status when there is no such command.
const NOT_FOUND: u8 = 127;
/// A process that a signal ends has the signal's number and this as its exit status.
const SIGNALLED: u8 = 128;

/// The failure of a command that was not started.
pub(crate) fn not_run(command: &[OsString], error: &io::Error) -> Failure {
    let command = command.first().cloned().unwrap_or_default();
    let (status, reason) = match error.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, "COMMAND_NOT_FOUND"),
        _ => (NOT_EXECUTABLE, "COMMAND_NOT_EXECUTABLE"),
    };
    let message = format!("can't run {}: {error}", command.to_string_lossy());
    Failure::Run { status, reason, message }
}

/// The status that a shell would see.
pub(crate) fn exit_status(ended: ExitStatus) -> u8 {
    match (ended.code(), ended.signal()) {
        // 0 to 255 on every system we run on.
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => by_signal(signal.unwrap_or(0)),
    }
}

/// As a shell tells that a signal ended a command.
pub(crate) fn by_signal(signal: i32) -> u8 {
    SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(0))
}

/// A command that runs.
pub(crate) struct Running {
    pub(crate) child: Child,
    pid: Pid,
    /// Whether it leads a process group of its own, so that signals reach all it has started.
    leads_group: bool,
}

impl Running {
    pub(crate) fn start(mut command: Command, leads_group: bool) -> io::Result<Self> {
        if leads_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Self { child, pid: Pid::from_raw(pid), leads_group })
    }

    /// Passes on a signal that this process got.
    pub(crate) fn pass_on(&self, signal: Signal) {
        // From a terminal they reach the command as well; it should not get them twice.
        if self.leads_group || signal == Signal::SIGTERM {
            self.send(signal);
        }
    }

    /// Whether there was anybody to send it to.
    fn send(&self, signal: impl Into<Option<Signal>>) -> bool {
        let sent = match self.leads_group {
            true => killpg(self.pid, signal),
            // A process that was waited for is no more: its number may be another's.
            false if self.child.id().is_none() => return false,
            false => kill(self.pid, signal),
        };
        sent.is_ok()
    }

    /// Ends it, and what it has started: with some time to do it in order.
    pub(crate) async fn end(&mut self) {
        let until = Instant::now() + GRACE;
        self.send(Signal::SIGTERM);
        // A failure shows below: it is still there.
        let _ = tokio::time::timeout_at(until, self.child.wait()).await;
        while Instant::now() < until && self.send(None) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.send(Signal::SIGKILL);
        let _ = self.child.wait().await;
    }
}

/// The signals that are passed on.
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let on = |kind| unix::signal(kind).context("can't handle signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(exit_status(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_status(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_status(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(exit_status(ExitStatus::from_raw(Signal::SIGTERM as i32)), 143);
        assert_eq!(exit_status(ExitStatus::from_raw(Signal::SIGKILL as i32)), 137);
    }
}
