//! `quorate queue update`: makes a queue, or changes how it works.

use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use clap::{Args, ValueEnum};
use quorate_client::queue::{Backoff, DeadLetters, Rate, UpdateQueue, WhenFull};
use serde_json::json;
use std::time::Duration;

const AFTER_HELP: &str = "\
What is not named stays as it is; jobs that are being worked on keep the time they were given. When
nothing is ever said: visibility 30s, 5 attempts, backoff 1s..5m, dead letters to QUEUE.dead, done jobs
not kept, 1000000 jobs (100000 in a queue of dead letters) and then refused, any number at once as fast
as can be, dedupe keys for 5m.

Example:
  quorate queue update emails --visibility 2m --attempts 10 --backoff 5s..10m --rate 50/1s";

/// `quorate queue update`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Update {
    queue: String,
    /// A job is delivered again when it is neither settled nor extended for this long, 1s to 12h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    visibility: Option<Duration>,
    /// A job that was delivered so often is given up when it fails again; 0: never
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// How long a job that failed waits: 5s each time, or 1s..5m doubling
    #[arg(long, value_name = "WAIT|FIRST..LONGEST", value_parser = parse_backoff)]
    backoff: Option<Backoff>,
    /// Up to so many percent of a wait are taken off at random; by default 20 of one that doubles
    #[arg(long, value_name = "PERCENT", requires = "backoff", value_parser = clap::value_parser!(u32).range(0..=100))]
    jitter: Option<u32>,
    /// Jobs that are given up go to the queue of this name
    #[arg(long, value_name = "QUEUE", conflicts_with_all = ["dead_own", "dead_discard"])]
    dead_to: Option<String>,
    /// Jobs that are given up go to QUEUE.dead
    #[arg(long, conflicts_with = "dead_discard")]
    dead_own: bool,
    /// Jobs that are given up are gone
    #[arg(long)]
    dead_discard: bool,
    /// How long jobs are kept after they were done, up to 30d; 0s: not at all
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    keep_done: Option<Duration>,
    /// How many jobs it holds, up to 5000000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=5_000_000))]
    jobs_max: Option<u64>,
    /// What happens to a push beyond that
    #[arg(long, value_enum, value_name = "WHAT")]
    when_full: Option<Full>,
    /// How many of its jobs may be worked on at once, in the whole cluster; 0: any number
    #[arg(long, value_name = "N")]
    parallel_max: Option<u32>,
    /// How many jobs it delivers in a time, such as 100/1s; off: any number
    #[arg(long, value_name = "JOBS/DURATION", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// How long dedupe keys are remembered, up to 24h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    dedupe_window: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Full {
    /// It is refused
    Reject,
    /// Those that have been ready for longest, of the lowest priority, are dropped for it
    DropOldest,
}

fn parse_backoff(text: &str) -> Result<Backoff, String> {
    let Some((base, cap)) = text.split_once("..") else {
        return Ok(Backoff::fixed(duration::parse(text)?));
    };
    let (base, cap) = (duration::parse_positive(base)?, duration::parse_positive(cap)?);
    match base <= cap {
        true => Ok(Backoff::exponential(base, cap)),
        false => Err(format!("{text}: the first wait is longer than the longest")),
    }
}

fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("{text:?} is no rate; write it such as 100/1s or 1/10m, or off");
    if text == "off" {
        return Ok(Rate { jobs: 0, per: Duration::from_secs(1) });
    }
    let (jobs, per) = text.split_once('/').ok_or_else(wrong)?;
    let jobs = jobs.parse().ok().filter(|jobs| *jobs > 0).ok_or_else(wrong)?;
    Ok(Rate { jobs, per: duration::parse_positive(per)? })
}

impl Update {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let done = connect
            .run(async |client| Ok(self.change(client.queue().update(&self.queue)).await?))?;
        output.done(
            || json!({ "queue": self.queue, "created": done.created, "revision": done.revision }),
            || (if done.created { "created" } else { "updated" }).to_owned(),
        )
    }

    fn change(&self, mut update: UpdateQueue) -> UpdateQueue {
        if let Some(visibility) = self.visibility {
            update = update.visibility(visibility);
        }
        if let Some(attempts) = self.attempts {
            update = update.attempts_max(attempts);
        }
        if let Some(mut backoff) = self.backoff {
            if let Some(percent) = self.jitter {
                backoff.jitter_permille = percent * 10;
            }
            update = update.backoff(backoff);
        }
        let dead_letters = match (&self.dead_to, self.dead_own, self.dead_discard) {
            (Some(to), ..) => Some(DeadLetters::To(to.clone())),
            (None, true, _) => Some(DeadLetters::Own),
            (None, false, true) => Some(DeadLetters::Discard),
            (None, false, false) => None,
        };
        if let Some(dead_letters) = dead_letters {
            update = update.dead_letters(&dead_letters);
        }
        if let Some(keep) = self.keep_done {
            update = update.keep_done(keep);
        }
        if let Some(jobs) = self.jobs_max {
            update = update.jobs_max(jobs);
        }
        if let Some(when_full) = self.when_full {
            update = update.when_full(match when_full {
                Full::Reject => WhenFull::Reject,
                Full::DropOldest => WhenFull::DropOldest,
            });
        }
        if let Some(jobs) = self.parallel_max {
            update = update.parallel_max(jobs);
        }
        if let Some(rate) = self.rate {
            update = update.rate(rate);
        }
        match self.dedupe_window {
            Some(window) => update.dedupe_window(window),
            None => update,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_is_a_wait_or_two() {
        let secs = Duration::from_secs;
        assert_eq!(parse_backoff("5s"), Ok(Backoff::fixed(secs(5))));
        assert_eq!(parse_backoff("0s"), Ok(Backoff::fixed(Duration::ZERO)));
        assert_eq!(parse_backoff("1s..5m"), Ok(Backoff::exponential(secs(1), secs(300))));
        for wrong in ["", "5", "1s..", "..5m", "5m..1s", "1s..5m..9m", "1s...5m"] {
            assert!(parse_backoff(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        assert_eq!(parse_rate("100/1s"), Ok(Rate { jobs: 100, per: Duration::from_secs(1) }));
        assert_eq!(parse_rate("off").map(|rate| rate.jobs), Ok(0));
        for wrong in ["", "100", "0/1s", "100/s", "100/1", "/1s", "x/1s"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
