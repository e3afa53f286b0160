//! `quorate lock run`: a command that runs while a lock is held, and not a moment longer if that can
//! be helped.

use super::Terms;
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::Context;
use clap::Args;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use quorate_client::{Client, Lock};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::Instant;

/// How long a command has to end by itself when its lock is lost.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked whether what the command started has ended too.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Exit status when the lock was lost.
const LOST: u8 = 125;
/// Exit status when there is such a command, but it can't be run.
const NOT_EXECUTABLE: u8 = 126;
/// Exit status when there is no such command.
const NOT_FOUND: u8 = 127;
/// A process that a signal ends has the signal's number and this as its exit status.
const SIGNALLED: u8 = 128;

const AFTER_HELP: &str = "\
The lock is renewed while CMD runs, and released when it ends. CMD finds in its environment
  QUORATE_FENCING_TOKEN  what the lock is held under
  QUORATE_LOCK_NAME      its name
  QUORATE_ENDPOINTS, QUORATE_NAMESPACE  as they were given to this command
SIGTERM, SIGINT and SIGHUP are passed on to it.

When the lock is lost, CMD and all it has started get SIGTERM, and after 5 seconds SIGKILL. Until then
it may do what it does without the lock; a guard keeps that from having an effect:
  quorate lock run report -- sh -c \\
    'quorate kv set report/today done --guard $QUORATE_LOCK_NAME:$QUORATE_FENCING_TOKEN'
With a terminal as its stdin, CMD stays in the foreground and only CMD itself gets the signals. If this
command is killed (SIGKILL), CMD goes on, and the lock ends with its ttl.

Exit status: CMD's own (128 and the signal's number when a signal ended it), 125 when the lock was
lost, 126 when CMD can't be run, 127 when there is no CMD, 4 when the lock was not acquired; CMD did
not run then.";

/// `quorate lock run`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Run {
    name: String,
    #[command(flatten)]
    terms: Terms,
    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        connect.run_in_session(self.terms.session_ttl(), async |client| {
            // Before anything is asked for, so that no signal finds us without a handler.
            let mut signals = Signals::new()?;
            let ran = self.run_locked(&client, connect, &mut signals, output).await;
            // Frees whatever is not released yet. If it fails, that ends with its ttl.
            let _ = client.close().await;
            ran
        })
    }

    async fn run_locked(
        &self,
        client: &Client,
        connect: &Connect,
        signals: &mut Signals,
        output: Output,
    ) -> Result<(), Failure> {
        let lock = tokio::select! {
            lock = self.terms.request(client, &self.name) => lock?,
            signal = signals.next() => return Err(Failure::Ran(by_signal(signal as i32))),
        };
        let started = Running::start(self.command(connect, lock.fencing_token()));
        let mut running = match started {
            Ok(running) => running,
            Err(error) => {
                self.release(lock, output).await;
                return Err(self.not_run(&error));
            }
        };
        let ended = loop {
            tokio::select! {
                biased;
                ended = running.child.wait() => break ended.context("can't wait for the command")?,
                () = lock.lost() => {
                    // Whatever it is now, it is not ours to give back.
                    let token = lock.leave();
                    running.end().await;
                    return Err(self.lost(token, "the command was ended"));
                }
                signal = signals.next() => running.pass_on(signal),
            }
        };
        let (token, was_held) = (lock.fencing_token(), !lock.is_lost());
        // The cluster knows best; only when it can't be asked, our own count has to do.
        if !self.release(lock, output).await.unwrap_or(was_held) {
            return Err(self.lost(token, "the command had not ended by then"));
        }
        match exit_status(ended) {
            0 => Ok(()),
            status => Err(Failure::Ran(status)),
        }
    }

    fn command(&self, connect: &Connect, token: u64) -> Command {
        // The parser has seen to it that there is one.
        let mut command = Command::new(self.command.first().cloned().unwrap_or_default());
        command
            .args(self.command.iter().skip(1))
            .env("QUORATE_FENCING_TOKEN", token.to_string())
            .env("QUORATE_LOCK_NAME", &self.name)
            .env("QUORATE_ENDPOINTS", connect.endpoints().collect::<Vec<_>>().join(","))
            .env("QUORATE_NAMESPACE", connect.namespace());
        command
    }

    /// Whether it was held until now, if the cluster can tell.
    async fn release(&self, lock: Lock, output: Output) -> Option<bool> {
        match lock.release().await {
            Ok(released) => Some(released),
            Err(error) => {
                output.note(&format!(
                    "quorate: lock {:?} was not released, and ends with its ttl: {error} ({})",
                    self.name,
                    error.reason()
                ));
                None
            }
        }
    }

    fn lost(&self, token: u64, and: &str) -> Failure {
        Failure::Run {
            status: LOST,
            reason: "LOCK_LOST",
            message: format!("lock {:?}, held under token {token}, was lost; {and}", self.name),
        }
    }

    fn not_run(&self, error: &io::Error) -> Failure {
        let command = self.command.first().cloned().unwrap_or_default();
        let (status, reason) = match error.kind() {
            io::ErrorKind::NotFound => (NOT_FOUND, "COMMAND_NOT_FOUND"),
            _ => (NOT_EXECUTABLE, "COMMAND_NOT_EXECUTABLE"),
        };
        let message = format!("can't run {}: {error}", command.to_string_lossy());
        Failure::Run { status, reason, message }
    }
}

/// The status that a shell would see.
fn exit_status(ended: ExitStatus) -> u8 {
    match (ended.code(), ended.signal()) {
        // 0 to 255 on every system we run on.
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => by_signal(signal.unwrap_or(0)),
    }
}

fn by_signal(signal: i32) -> u8 {
    SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(0))
}

/// A command that runs.
struct Running {
    child: Child,
    pid: Pid,
    /// Whether it leads a process group of its own, so that signals reach all it has started. With
    /// a terminal it must not: only the foreground group may read from that.
    leads_group: bool,
}

impl Running {
    fn start(mut command: Command) -> io::Result<Self> {
        let leads_group = !io::stdin().is_terminal();
        if leads_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok(Self { child, pid: Pid::from_raw(pid), leads_group })
    }

    /// Passes on a signal that this process got.
    fn pass_on(&self, signal: Signal) {
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
    async fn end(&mut self) {
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
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| unix::signal(kind).context("can't handle signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
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
