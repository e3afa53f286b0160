//! `quorate queue pull`: takes jobs, to be settled by whoever knows their leases.

use super::{id, put_marks};
use crate::commands::kv;
use crate::connect::Connect;
use crate::duration;
use crate::duration::millis;
use crate::exit::Failure;
use crate::output::{Output, put_bytes, table};
use crate::when;
use clap::Args;
use quorate_client::Job;
use serde_json::{Map, Value};
use std::time::Duration;

/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

const AFTER_HELP: &str = "\
The jobs are leased for the queue's visibility timeout, whatever becomes of this command; who does not
settle them in time gets them again, or somebody else does. Without a job nothing is printed.

Example:
  job=$(quorate queue pull emails --wait 30s -o json)
  quorate queue ack emails $(jq -r '.id, \"--lease\", .lease' <<< \"$job\")";

/// `quorate queue pull`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Pull {
    queue: String,
    /// How many at most, 1 to 128; fewer when that is what is ready
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=128))]
    count: u32,
    /// Wait for one, up to 1h; by default only what is ready is taken
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_wait, hide_default_value = true)]
    wait: Duration,
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        wait if wait > WAIT_MAX => Err(format!("a job is waited for 1h at most, not {text}")),
        wait => Ok(wait),
    }
}

impl Pull {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue, count, wait } = self;
        connect.run(async |client| {
            let jobs = client.queue().pull(&queue).count(count).wait(wait).await?;
            if output.is_json() {
                for job in jobs {
                    let line = shown(&job).to_string();
                    // Written or not: it is leased, and not ours to settle.
                    let _ = job.leave();
                    output.line(&line)?;
                }
                return Ok(());
            }
            if jobs.is_empty() {
                output.note("there was no job");
                return Ok(());
            }
            let rows: Vec<_> = jobs.iter().map(row).collect();
            for job in jobs {
                let _ = job.leave();
            }
            output.line(&table(&["ID", "LEASE", "ATTEMPT", "LEASED FOR", "PAYLOAD"], &rows))
        })
    }
}

fn shown(job: &Job) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", id(job.id()));
    put("attempt", job.attempt().into());
    put("lease", id(job.lease()));
    put("lease_ms", millis(job.remaining()).into());
    put("priority", job.priority().into());
    put("pushed_unix_ms", when::unix_ms(job.pushed_at()).into());
    put_bytes(&mut object, "payload", job.payload());
    let headers = job.headers().map(|(name, value)| (name, &value[..]));
    put_marks(&mut object, job.content_type(), headers, job.group());
    object.into()
}

fn row(job: &Job) -> Vec<String> {
    vec![
        job.id().to_string(),
        job.lease().to_string(),
        job.attempt().to_string(),
        duration::rough(job.remaining() + Duration::from_millis(500)),
        kv::text(job.payload()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_its_bound() {
        assert_eq!(parse_wait("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_wait("1h"), Ok(WAIT_MAX));
        assert!(parse_wait("61m").is_err_and(|error| error.contains("1h")));
    }
}
