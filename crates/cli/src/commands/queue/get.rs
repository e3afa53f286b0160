//! `quorate queue get`: a job with all that is known of it.

use super::{cause, one_line, shown, state};
use crate::commands::kv;
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::Output;
use crate::when;
use clap::Args;
use quorate_client::queue::{JobInfo, JobState};

/// `quorate queue get`
#[derive(Debug, Args)]
pub(super) struct Get {
    queue: String,
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    job_id: u64,
    /// Take whatever the asked node has; works without a quorum
    #[arg(long)]
    stale: bool,
}

impl Get {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let Self { queue, job_id, stale } = self;
        let job = connect.run(async |client| {
            let get = client.queue().get_job(&queue, job_id);
            Ok(if stale { get.stale().await? } else { get.await? })
        })?;
        match job {
            Some(job) => output.result(|| shown(&job, true), || text(&job)),
            None => Err(Failure::NotFound(format!(
                "queue {queue:?} has no job {job_id}, and none of its dead letters is it"
            ))),
        }
    }
}

/// A line for each thing that is known.
fn text(job: &JobInfo) -> String {
    let mut lines = vec![format!("job {} of queue {}", job.id, one_line(&job.queue))];
    lines.push(match (job.state, job.not_before) {
        (_, Some(at)) => format!("delayed until {}", when::text(at)),
        (JobState::Delayed, None) => format!("delayed for {}", duration::rough(job.state_for)),
        (JobState::Leased, None) => {
            let left = duration::rough(job.state_for);
            format!("leased under {} for {left}", job.lease.unwrap_or(0))
        }
        (JobState::Done, None) => format!("done, kept for {}", duration::rough(job.state_for)),
        (other, None) => state(other).to_owned(),
    });
    lines.push(format!(
        "pushed {}, priority {}, delivered {} times",
        when::text(job.pushed_at),
        job.priority,
        job.attempts
    ));
    if let Some(ttl) = job.remaining_ttl {
        lines.push({
            let ttl = duration::rough(ttl);
            format!("given up in {ttl} if it was not delivered")
        });
    }
    if !job.group.is_empty() {
        lines.push(format!("group {}", kv::text(&job.group)));
    }
    if let (Some(from), Some(died)) = (&job.from_queue, job.death_cause) {
        lines.push(format!("a dead letter from queue {}: {}", one_line(from), cause(died)));
    }
    if let Some(progress) = &job.progress {
        let note = one_line(&progress.note);
        lines.push(format!(
            "{:.1} % {} {note}",
            progress.fraction * 100.0,
            when::text(progress.at)
        ));
    }
    for failure in &job.failures {
        let (attempt, at) = (failure.attempt, when::text(failure.at));
        let error = match failure.error.as_str() {
            "" => "its lease ran out".to_owned(),
            error => one_line(error),
        };
        lines.push(format!("attempt {attempt} failed {at}: {error}"));
    }
    for (name, value) in &job.headers {
        lines.push(format!("header {}: {}", one_line(name), kv::text(value)));
    }
    if !job.content_type.is_empty() {
        lines.push(format!("content type {}", one_line(&job.content_type)));
    }
    lines.push(format!("payload {}", kv::text(&job.payload)));
    lines.join("\n")
}
