//! `quorate queue`: push, pull and settle jobs, run a command for each, look after queues.

mod ack;
mod cancel;
mod delete;
mod extend;
mod get;
mod list;
mod nack;
mod pause;
mod peek;
mod progress;
mod pull;
mod purge;
mod push;
mod queues;
mod redrive;
mod schedule;
mod stats;
mod update;
mod work;

use crate::connect::Connect;
use crate::duration::{self, millis};
use crate::exit::Failure;
use crate::output::{Output, put_bytes};
use crate::when;
use clap::{Args, Subcommand};
use quorate_client::NewJob;
use quorate_client::queue::{DeathCause, JobInfo, JobState};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// `quorate queue …`
#[derive(Debug, Args)]
pub(crate) struct Queue {
    #[command(flatten)]
    connect: Connect,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a job, or one for each line of stdin; prints the job's id.
    Push(Box<push::Push>),
    /// Take jobs that are ready, to be settled by whoever knows the lease that is printed.
    Pull(pull::Pull),
    /// Run a command for each job as it becomes ready.
    Work(work::Work),
    /// Say that a job is done; exit status 4 if it is not leased under the lease.
    Ack(ack::Ack),
    /// Say that a job is not done; exit status 4 if it is not leased under the lease.
    Nack(nack::Nack),
    /// Make a lease last longer; exit status 4 if it has ended.
    Extend(extend::Extend),
    /// Note how far the work on a job is; exit status 4 if its lease has ended.
    Progress(progress::Progress),
    /// Show the jobs that come next, without taking them.
    Peek(peek::Peek),
    /// Show a job with all that is known of it; exit status 3 if there is none.
    Get(get::Get),
    /// List the jobs of a queue, in the order they were pushed.
    List(list::List),
    /// Show how many jobs a queue has, and what has happened in it.
    Stats(stats::Stats),
    /// List the queues there are.
    Queues(queues::Queues),
    /// Stop deliveries; pushes are taken, and what is being worked on goes on.
    Pause(pause::Pause),
    /// Let deliveries go on.
    Resume(pause::Resume),
    /// Take all jobs out of a queue, those that are worked on, too.
    Purge(purge::Purge),
    /// Put dead letters back into the queue they came from.
    Redrive(redrive::Redrive),
    /// Push a job again and again.
    Schedule(schedule::Schedule),
    /// Take a job out of its queue, whatever it is doing; exit status 3 if it is not in it.
    Cancel(cancel::Cancel),
    /// Make a queue, or change how it works.
    Update(Box<update::Update>),
    /// Delete a queue with all its jobs; exit status 3 if there is none. Its dead letters stay.
    Delete(delete::Delete),
}

impl Queue {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Self { connect, command } = self;
        match command {
            Command::Push(push) => push.run(&connect, output),
            Command::Pull(pull) => pull.run(&connect, output),
            Command::Work(work) => work.run(&connect, output),
            Command::Ack(ack) => ack.run(&connect, output),
            Command::Nack(nack) => nack.run(&connect, output),
            Command::Extend(extend) => extend.run(&connect, output),
            Command::Progress(progress) => progress.run(&connect, output),
            Command::Peek(peek) => peek.run(&connect, output),
            Command::Get(get) => get.run(&connect, output),
            Command::List(list) => list.run(&connect, output),
            Command::Stats(stats) => stats.run(&connect, output),
            Command::Queues(queues) => queues.run(&connect, output),
            Command::Pause(pause) => pause.run(&connect, output),
            Command::Resume(resume) => resume.run(&connect, output),
            Command::Purge(purge) => purge.run(&connect, output),
            Command::Schedule(schedule) => schedule.run(&connect, output),
            Command::Redrive(redrive) => redrive.run(&connect, output),
            Command::Cancel(cancel) => cancel.run(&connect, output),
            Command::Update(update) => update.run(&connect, output),
            Command::Delete(delete) => delete.run(&connect, output),
        }
    }
}

/// A job that was delivered, as it is named to settle it.
#[derive(Debug, Args)]
struct Leased {
    queue: String,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    job_id: u64,
    /// What it was delivered under
    #[arg(long, value_name = "LEASE", value_parser = clap::value_parser!(u64).range(1..))]
    lease: u64,
}

/// What can be said of a job that is pushed, once or again and again.
#[derive(Debug, Args)]
struct JobArgs {
    /// Jobs of a higher one come first, 0 to 255
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u8,
    /// It is given up when it was not delivered for this long, up to 366d; by default never
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    ttl: Option<Duration>,
    /// Goes with it; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// Of the payload, such as application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

impl JobArgs {
    fn job(&self, payload: Vec<u8>) -> NewJob {
        let mut job = NewJob::new(payload).priority(self.priority);
        if let Some(ttl) = self.ttl {
            job = job.ttl(ttl);
        }
        for (name, value) in &self.header {
            job = job.header(name, value.clone());
        }
        match &self.content_type {
            Some(content_type) => job.content_type(content_type),
            None => job,
        }
    }
}

pub(super) fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not a name and a value, such as trace=17")),
    }
}

/// An id of the queue: always a string, so that no reader rounds it.
fn id(id: u64) -> Value {
    Value::from(id.to_string())
}

fn state(state: JobState) -> &'static str {
    match state {
        JobState::Ready => "ready",
        JobState::Delayed => "delayed",
        JobState::Leased => "leased",
        JobState::Done => "done",
        JobState::Dead => "dead",
        _ => "unknown",
    }
}

fn cause(cause: DeathCause) -> &'static str {
    match cause {
        DeathCause::Attempts => "attempts",
        DeathCause::Rejected => "rejected",
        DeathCause::Expired => "expired",
        _ => "unknown",
    }
}

/// What goes with a payload, where there is any.
pub(super) fn put_marks<'a>(
    object: &mut Map<String, Value>,
    content_type: &str,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    group: &[u8],
) {
    if !content_type.is_empty() {
        object.insert("content_type".to_owned(), content_type.into());
    }
    let headers: Vec<Value> = headers
        .map(|(name, value)| {
            let mut header = Map::new();
            header.insert("name".to_owned(), name.into());
            put_bytes(&mut header, "value", value);
            header.into()
        })
        .collect();
    if !headers.is_empty() {
        object.insert("headers".to_owned(), headers.into());
    }
    if !group.is_empty() {
        put_bytes(object, "group", group);
    }
}

/// A job as a document; its payload only where it was asked for.
fn shown(job: &JobInfo, payload: bool) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
    put("id", id(job.id));
    put("queue", job.queue.as_str().into());
    put("state", state(job.state).into());
    match job.state {
        JobState::Delayed if job.not_before.is_none() => {
            put("ready_in_ms", millis(job.state_for).into())
        }
        JobState::Leased => put("lease_ms", millis(job.state_for).into()),
        JobState::Done => put("kept_ms", millis(job.state_for).into()),
        _ => {}
    }
    if let Some(at) = job.not_before {
        put("not_before_unix_ms", when::unix_ms(at).into());
    }
    if let Some(lease) = job.lease {
        put("lease", id(lease));
    }
    put("attempts", job.attempts.into());
    put("priority", job.priority.into());
    put("pushed_unix_ms", when::unix_ms(job.pushed_at).into());
    if let Some(ttl) = job.remaining_ttl {
        put("remaining_ttl_ms", millis(ttl).into());
    }
    if let Some(from) = &job.from_queue {
        put("from_queue", from.as_str().into());
    }
    if let Some(died) = job.death_cause {
        put("death_cause", cause(died).into());
    }
    let failures: Vec<Value> = job
        .failures
        .iter()
        .map(|failure| {
            json!({
                "attempt": failure.attempt,
                "unix_ms": when::unix_ms(failure.at),
                "error": failure.error,
            })
        })
        .collect();
    put("failures", failures.into());
    if let Some(progress) = &job.progress {
        put(
            "progress",
            json!({
                "fraction": progress.fraction,
                "note": progress.note,
                "unix_ms": when::unix_ms(progress.at),
            }),
        );
    }
    if payload {
        put_bytes(&mut object, "payload", &job.payload);
        let headers = job.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
        put_marks(&mut object, &job.content_type, headers, &job.group);
    } else if !job.group.is_empty() {
        put_bytes(&mut object, "group", &job.group);
    }
    object.into()
}

/// The columns of [`row`].
const HEADER: &[&str] = &["ID", "STATE", "ATTEMPTS", "PRIORITY", "PUSHED", "ABOUT"];

/// A line about a job.
fn row(job: &JobInfo) -> Vec<String> {
    let mut about = Vec::new();
    match (job.state, job.not_before) {
        (_, Some(at)) => about.push(format!("not before {}", when::text(at))),
        (JobState::Delayed, None) => {
            about.push(format!("ready in {}", duration::rough(job.state_for)))
        }
        (JobState::Leased, None) => {
            about.push(format!("leased for {}", duration::rough(job.state_for)))
        }
        (JobState::Done, None) => {
            about.push(format!("kept for {}", duration::rough(job.state_for)))
        }
        _ => {}
    }
    if let Some(progress) = &job.progress {
        about.push(format!("{:.0} % {}", progress.fraction * 100.0, one_line(&progress.note)));
    }
    if let (Some(from), Some(died)) = (&job.from_queue, job.death_cause) {
        about.push(format!("from {}: {}", one_line(from), cause(died)));
    }
    if let Some(failure) = job.failures.last() {
        about.push(one_line(&failure.error));
    }
    vec![
        job.id.to_string(),
        state(job.state).to_owned(),
        job.attempts.to_string(),
        job.priority.to_string(),
        when::text(job.pushed_at),
        about.join("; "),
    ]
}

/// A text on one line, whatever is in it, and not too long of one.
fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let line: String = text.escape_debug().to_string();
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let header = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_header("a=b=c"), header("a", "b=c"));
        assert_eq!(parse_header("a="), header("a", ""));
        assert!(parse_header("a").is_err() && parse_header("=b").is_err());
    }

    #[test]
    fn ids_are_strings_and_lines_are_lines() {
        assert_eq!(id(7).to_string(), r#""7""#);
        assert_eq!(one_line("a\nb"), "a\\nb");
        assert_eq!(one_line(&"é".repeat(101)).chars().count(), 101);
    }

    #[test]
    fn what_goes_with_a_payload_is_shown_where_there_is_any() {
        let mut object = Map::new();
        put_marks(&mut object, "", std::iter::empty(), b"");
        assert!(object.is_empty());
        let headers = [("a", &b"1"[..]), ("a", &[0xff][..])];
        put_marks(&mut object, "text/plain", headers.into_iter(), b"g");
        let expected = json!({
            "content_type": "text/plain",
            "headers": [{ "name": "a", "value": "1" }, { "name": "a", "value_base64": "/w==" }],
            "group": "g",
        });
        assert_eq!(Value::from(object), expected);
    }
}
