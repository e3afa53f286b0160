//! `quorate lock run`: a command that runs while a lock is held, and not a moment longer if that can
//! be helped.

use super::Terms;
use crate::child::{self, Running, Signals};
use crate::connect::Connect;
use crate::exit::Failure;
use crate::output::Output;
use anyhow::Context;
use clap::Args;
use quorate_client::{Client, Lock};
use std::ffi::OsString;
use std::io::IsTerminal;
use tokio::process::Command;

/// Exit status when the lock was lost.
const LOST: u8 = 125;

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
            signal = signals.next() => return Err(Failure::Ran(child::by_signal(signal as i32))),
        };
        // With a terminal it must not: only the foreground group may read from that.
        let leads_group = !std::io::stdin().is_terminal();
        let started = Running::start(self.command(connect, lock.fencing_token()), leads_group);
        let mut running = match started {
            Ok(running) => running,
            Err(error) => {
                self.release(lock, output).await;
                return Err(child::not_run(&self.command, &error));
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
        match child::exit_status(ended) {
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
            .envs(connect.environment());
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
}
