//! `quorate queue schedule`: jobs that are pushed again and again.

use super::JobArgs;
use crate::commands::kv;
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, put_bytes};
use crate::when;
use clap::{Args, Subcommand};
use quorate_client::queue::{Repeats, ScheduleInfo};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

const AFTER_HELP: &str = "\
Example:
  quorate queue schedule put daily reports '{\"kind\": \"daily\"}' --cron '0 6 * * MON-FRI' \\
      --time-zone Europe/Berlin
  quorate queue schedule put heartbeat checks ping --every 30s";

/// `quorate queue schedule …`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Schedule {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Push a job at each of many times; a schedule of that name is replaced.
    Put(Box<Put>),
    /// Delete a schedule; exit status 3 if there is none. Jobs that it pushed stay.
    Delete(Delete),
    /// List the schedules there are.
    List(List),
}

#[derive(Debug, Args)]
struct Put {
    /// What it is called
    name: String,
    /// Where the jobs go
    queue: String,
    /// The payload; - reads it from stdin, to the last byte
    #[arg(allow_hyphen_values = true)]
    payload: OsString,
    /// So often, 1s at least; the first time after one period
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse_positive,
        required_unless_present = "cron",
        conflicts_with = "cron"
    )]
    every: Option<Duration>,
    /// At these times: minute, hour, day of the month, month, day of the week; a sixth field in front
    /// has seconds
    #[arg(long, value_name = "TEXT")]
    cron: Option<String>,
    /// The times are those of this zone, as Europe/Berlin; by default UTC
    #[arg(
        long,
        value_name = "ZONE",
        // Not that it requires --cron: a conflict of that with --every would overrule it.
        conflicts_with = "every",
        default_value = "",
        hide_default_value = true
    )]
    time_zone: String,
    #[command(flatten)]
    of_job: JobArgs,
}

#[derive(Debug, Args)]
struct Delete {
    name: String,
}

#[derive(Debug, Args)]
struct List {
    /// Those whose names match: * any run, ? one, [a-c] a class, \ takes the next as it is
    #[arg(default_value = "*")]
    pattern: OsString,
    /// Take whatever the asked node has; works without a quorum
    #[arg(long)]
    stale: bool,
}

impl Schedule {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        match self.command {
            Command::Put(put) => put.run(connect, output),
            Command::Delete(delete) => delete.run(connect, output),
            Command::List(list) => list.run(connect, output),
        }
    }
}

impl Put {
    fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name, queue, payload, every, cron, time_zone, of_job } = self;
        let repeats = match (every, cron) {
            (Some(period), _) => Repeats::Every(period),
            (None, text) => Repeats::cron_in(text.unwrap_or_default(), time_zone),
        };
        let job = of_job.job(kv::payload(payload)?);
        let put = connect.run(async |client| {
            let schedule = client.queue().schedule(&name, &queue, job, repeats);
            Ok(schedule.await?)
        })?;
        output.done(
            || {
                json!({
                    "schedule": name,
                    "created": put.created,
                    "next_unix_ms": put.next.map(when::unix_ms),
                    "revision": put.revision,
                })
            },
            || {
                let done = if put.created { "made" } else { "replaced" };
                match put.next {
                    Some(next) => format!("{done}; first at {}", when::text(next)),
                    None => done.to_owned(),
                }
            },
        )
    }
}

impl Delete {
    fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { name } = self;
        let deleted = connect.run(async |client| Ok(client.queue().unschedule(&name).await?))?;
        output.done(
            || json!({ "schedule": name, "deleted": deleted }),
            || (if deleted { "deleted" } else { "there was none" }).to_owned(),
        )?;
        match deleted {
            true => Ok(()),
            false => Err(Failure::NotFound(format!("there is no schedule {name:?}"))),
        }
    }
}

impl List {
    fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let header = &["SCHEDULE", "QUEUE", "REPEATS", "NEXT", "LAST", "PUSHED", "REFUSED"];
        connect.run(async |client| {
            let list = client.queue().schedules(self.pattern.as_bytes());
            let list = if self.stale { list.stale() } else { list };
            output.items(list.stream(), header, shown, |schedule| vec![row(schedule)]).await
        })
    }
}

fn shown(schedule: &ScheduleInfo) -> Value {
    let mut shown = Map::new();
    shown.insert("schedule".to_owned(), json!(schedule.name));
    shown.insert("queue".to_owned(), json!(schedule.queue));
    put_bytes(&mut shown, "payload", &schedule.payload);
    match &schedule.repeats {
        Repeats::Every(period) => {
            shown.insert("every".to_owned(), json!(duration::text(*period)));
        }
        Repeats::Cron { text, time_zone } => {
            shown.insert("cron".to_owned(), json!(text));
            shown.insert("time_zone".to_owned(), json!(zone(time_zone)));
        }
        // The client knows more ways than this program.
        other => {
            shown.insert("repeats".to_owned(), json!(format!("{other:?}")));
        }
    }
    shown.insert("next_unix_ms".to_owned(), json!(schedule.next.map(when::unix_ms)));
    shown.insert("last_unix_ms".to_owned(), json!(schedule.last.map(when::unix_ms)));
    shown.insert("pushed".to_owned(), json!(schedule.pushed));
    shown.insert("refused".to_owned(), json!(schedule.refused));
    Value::Object(shown)
}

fn zone(name: &str) -> &str {
    if name.is_empty() { "UTC" } else { name }
}

fn row(schedule: &ScheduleInfo) -> Vec<String> {
    let moment = |at: Option<_>| at.map_or_else(|| "-".to_owned(), when::text);
    vec![
        kv::text(schedule.name.as_bytes()),
        kv::text(schedule.queue.as_bytes()),
        match &schedule.repeats {
            Repeats::Every(period) => format!("every {}", duration::text(*period)),
            Repeats::Cron { text, time_zone } => format!("{text} ({})", zone(time_zone)),
            other => format!("{other:?}"),
        },
        moment(schedule.next),
        moment(schedule.last),
        schedule.pushed.to_string(),
        schedule.refused.to_string(),
    ]
}
