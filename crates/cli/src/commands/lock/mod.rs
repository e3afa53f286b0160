//! `quorate lock`: acquire, release, renew, inspect, list, force-release, watch, run.

mod acquire;
mod force_release;
pub(super) mod guard;
mod inspect;
mod list;
mod release;
mod renew;
mod run;
mod watch;

use crate::connect::Connect;
use crate::duration::{self, millis};
use crate::exit::Failure;
use crate::output::{Output, id};
use clap::{Args, Subcommand};
use quorate_client::lock::{Acquire, Holder, Mode};
use quorate_client::{Client, lock::LockState};
use serde_json::{Value, json};
use std::time::Duration;

/// The leases that a cluster grants.
const TTL_MIN: Duration = Duration::from_millis(100);
const TTL_MAX: Duration = Duration::from_secs(3_600);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(86_400);
/// A session lives at least this long.
const SESSION_TTL_MIN: Duration = Duration::from_secs(1);

/// `quorate lock …`
#[derive(Debug, Args)]
pub(crate) struct Lock {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a lock, to be renewed and released by whoever knows the token that is printed.
    Acquire(acquire::Acquire),
    /// Give a lock back; exit status 3 if it is not held under the token.
    Release(release::Release),
    /// Keep a lock for another ttl; exit status 4 if it is not held under the token.
    Renew(renew::Renew),
    /// Show who holds a lock, and how many wait for it.
    Inspect(inspect::Inspect),
    /// List the locks that are held or waited for.
    List(list::List),
    /// Take a lock from all its holders, when they hang; exit status 3 if there are none.
    ForceRelease(force_release::ForceRelease),
    /// Write a line about who holds a lock, now and whenever that changes.
    Watch(watch::Watch),
    /// Run a command while holding a lock.
    Run(run::Run),
}

impl Lock {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Acquire(acquire) => acquire.run(&connect, output),
            Command::Release(release) => release.run(&connect, output),
            Command::Renew(renew) => renew.run(&connect, output),
            Command::Inspect(inspect) => inspect.run(&connect, output),
            Command::List(list) => list.run(&connect, output),
            Command::ForceRelease(force) => force.run(&connect, output),
            Command::Watch(watch) => watch.run(&connect, output),
            Command::Run(run) => run.run(&connect, output),
        }
    }
}

/// How a lock is asked for.
#[derive(Debug, Args)]
struct Terms {
    /// The lock is lost when it is not renewed for this long, 100ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_ttl)]
    ttl: Duration,
    /// Wait in line for it, up to 24h; by default it is taken now or not at all
    #[arg(long, value_name = "DURATION", value_parser = parse_wait)]
    wait: Option<Duration>,
    /// Share it with others that ask for it shared: a read lock
    #[arg(long, conflicts_with = "permits")]
    shared: bool,
    /// Share it with others that ask for the same number, while fewer than those hold it: a
    /// semaphore
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    permits: Option<u32>,
}

impl Terms {
    fn request(&self, client: &Client, name: &str) -> Acquire {
        let acquire = client.locks().acquire(name).ttl(self.ttl);
        let acquire = match self.wait {
            Some(wait) => acquire.wait(wait),
            None => acquire.no_wait(),
        };
        match (self.shared, self.permits) {
            (true, _) => acquire.shared(),
            (false, Some(permits)) => acquire.permits(permits),
            (false, None) => acquire,
        }
    }

    /// See [`session_ttl`].
    fn session_ttl(&self) -> Duration {
        session_ttl(self.ttl)
    }
}

/// The ttl of the session that holds a lock: nothing longer is wanted of it.
pub(super) fn session_ttl(ttl: Duration) -> Duration {
    ttl.max(SESSION_TTL_MIN)
}

/// A lock's lease.
pub(super) fn parse_ttl(text: &str) -> Result<Duration, String> {
    match duration::parse_positive(text)? {
        ttl if ttl < TTL_MIN => Err(format!("a lock's ttl is at least 100ms, not {text}")),
        ttl if ttl > TTL_MAX => Err(format!("a lock's ttl is at most 1h, not {text}")),
        ttl => Ok(ttl),
    }
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        wait if wait > WAIT_MAX => Err(format!("a lock is waited for 24h at most, not {text}")),
        wait => Ok(wait),
    }
}

/// A lock as a document.
fn shown(lock: &LockState) -> Value {
    let holders: Vec<Value> = lock.holders.iter().map(shown_holder).collect();
    json!({
        "name": lock.name,
        "held": !holders.is_empty(),
        "holders": holders,
        "waiters": lock.waiters,
    })
}

fn shown_holder(holder: &Holder) -> Value {
    let mut shown = json!({
        "token": id(holder.fencing_token),
        "session": id(holder.session_id),
        "mode": mode(holder.mode),
        "ttl_ms": millis(holder.ttl),
        "held_ms": millis(holder.held),
        "revision": id(holder.revision),
    });
    if let Mode::Permit { of } = holder.mode {
        shown["permits"] = of.into();
    }
    shown
}

pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Exclusive => "exclusive",
        Mode::Shared => "shared",
        Mode::Permit { .. } => "permit",
        _ => "unknown",
    }
}

/// The columns of [`row`].
const HEADER: &[&str] = &["TOKEN", "SESSION", "MODE", "TTL", "HELD FOR"];

/// A line about a holder.
fn row(holder: &Holder) -> Vec<String> {
    let mode = match holder.mode {
        Mode::Permit { of } => format!("permit of {of}"),
        other => mode(other).to_owned(),
    };
    vec![
        holder.fencing_token.to_string(),
        holder.session_id.to_string(),
        mode,
        format!("{:?}", holder.ttl),
        format!("{:?}", holder.held),
    ]
}

/// A name on one line, whatever is in it.
fn printable(name: &str) -> String {
    match name.contains(char::is_control) {
        true => name.escape_debug().to_string(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_and_waits_have_their_bounds() {
        assert_eq!(parse_ttl("100ms"), Ok(TTL_MIN));
        assert_eq!(parse_ttl("1h"), Ok(TTL_MAX));
        for (text, says) in [("0s", "no time"), ("99ms", "100ms"), ("61m", "1h"), ("30", "30s")] {
            assert!(parse_ttl(text).is_err_and(|error| error.contains(says)), "{text}");
        }
        assert_eq!(parse_wait("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_wait("24h"), Ok(WAIT_MAX));
        assert!(parse_wait("25h").is_err_and(|error| error.contains("24h")));
    }

    #[test]
    fn a_free_lock_is_shown_as_one() {
        let mut free = LockState::default();
        free.name = "a".to_owned();
        let shown = shown(&free);
        assert_eq!(shown, json!({ "name": "a", "held": false, "holders": [], "waiters": 0 }));
        assert_eq!(printable("a b"), "a b");
        assert_eq!(printable("a\nb"), "a\\nb");
    }
}
