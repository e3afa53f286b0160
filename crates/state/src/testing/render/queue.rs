//! Queues, jobs and consumers as a reader of a golden script sees them.

use super::{Names, attachment, bytes, session};
use crate::query::{JobItem, JobStanding, PullStanding, QueueItem};
use crate::rows::{
    ConsumerRow, JobBodyRow, JobNoteRow, JobRow, JobState, PullState, QueueCountsRow, QueueRow,
    ScheduleRow, Wants,
};
use crate::{
    AssignedJob, DeadLetters, DeathCause, JobCounts, JobFailure, JobFate, JobProgress, PushedJob,
    QueueOptions, QueueTotals, Repeats, WhenFull,
};

pub(super) fn pushed(jobs: &[PushedJob]) -> String {
    let one = |job: &PushedJob| match job.duplicate {
        true => format!("{} duplicate", job.id),
        false => job.id.to_string(),
    };
    // A call has up to 128.
    match jobs {
        [first, .., last] if jobs.len() > 4 => {
            format!("{} ... {} ({} jobs)", one(first), one(last), jobs.len())
        }
        jobs => jobs.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn assigned(jobs: &[AssignedJob]) -> String {
    let all: Vec<String> = jobs.iter().map(one_assigned).collect();
    format!("[{}]", all.join("; "))
}

pub(super) fn one_assigned(job: &AssignedJob) -> String {
    format!("{} lease={} attempt={}", job.id, job.lease, job.attempt)
}

pub(super) fn fate(fate: JobFate) -> String {
    match fate {
        JobFate::Ready => "ready".to_owned(),
        JobFate::Delayed { delay_ms } => format!("delayed {delay_ms}ms"),
        JobFate::Dead => "dead".to_owned(),
    }
}

fn options(options: &QueueOptions) -> String {
    let QueueOptions {
        visibility_ms,
        attempts_max,
        backoff,
        dead_letters,
        keep_done_ms,
        jobs_max,
        when_full,
        parallel_max,
        rate,
        dedupe_window_ms,
    } = options;
    let dead_letters = match dead_letters {
        DeadLetters::Own => "own".to_owned(),
        DeadLetters::To(to) => format!("{to:?}"),
        DeadLetters::Discard => "discarded".to_owned(),
    };
    let when_full = match when_full {
        WhenFull::Reject => "reject",
        WhenFull::DropOldest => "drop-oldest",
    };
    let rate =
        rate.map_or_else(String::new, |rate| format!(" rate={}/{}ms", rate.jobs, rate.per_ms));
    format!(
        "visibility={visibility_ms}ms attempts={attempts_max} backoff={}{}ms..{}ms-{} \
         dead-letters={dead_letters} keep-done={keep_done_ms}ms max={jobs_max} {when_full} \
         parallel={parallel_max}{rate} dedupe={dedupe_window_ms}ms",
        if backoff.exponential { "x2 " } else { "" },
        backoff.base_ms,
        backoff.cap_ms,
        backoff.jitter_permille
    )
}

fn jobs(jobs: &JobCounts) -> String {
    let JobCounts { ready, delayed, leased, done, body_bytes } = jobs;
    format!("ready={ready} delayed={delayed} leased={leased} done={done} bytes={body_bytes}")
}

/// Those that are not 0.
fn totals(totals: &QueueTotals) -> String {
    let QueueTotals {
        pushed,
        duplicates,
        delivered,
        acked,
        nacked,
        lapsed,
        died,
        dropped,
        cancelled,
    } = *totals;
    let all = [
        ("pushed", pushed),
        ("duplicates", duplicates),
        ("delivered", delivered),
        ("acked", acked),
        ("nacked", nacked),
        ("lapsed", lapsed),
        ("died", died),
        ("dropped", dropped),
        ("cancelled", cancelled),
    ];
    let all = all.iter().filter(|(_, count)| *count > 0);
    let all: Vec<String> = all.map(|(name, count)| format!("{name}={count}")).collect();
    format!("{{{}}}", all.join(" "))
}

pub(super) fn queue_row(row: &QueueRow) -> String {
    let paused = if row.paused { " paused" } else { "" };
    format!(" id={} era={}{paused} {}", row.id, row.era, options(&row.options))
}

pub(super) fn counts_row(row: &QueueCountsRow) -> String {
    let next: Vec<String> = row.next.iter().map(ToString::to_string).collect();
    let oldest = row.oldest_ready_ms.map_or_else(String::new, |ms| format!(" oldest={ms}ms"));
    let wake = row.wake_ms.map_or_else(String::new, |ms| format!(" wake={ms}ms"));
    let bucket = match row.bucket.at_ms {
        0 => String::new(),
        at_ms => format!(" tokens={}@{at_ms}ms", row.bucket.tokens),
    };
    format!(
        " {} {} cursor={}{bucket}{wake}{oldest} next=[{}]",
        jobs(&row.jobs),
        totals(&row.totals),
        row.cursor,
        next.join(" ")
    )
}

pub(super) fn job_row(row: &JobRow) -> String {
    let JobRow {
        priority,
        state,
        ready_ms,
        attempts,
        pushed_wall_ms,
        expires_ms,
        group,
        from,
        noted,
        body_bytes,
    } = row;
    let state = match state {
        JobState::Ready => "ready".to_owned(),
        JobState::Delayed => "delayed".to_owned(),
        JobState::DelayedUntil { wall_ms } => format!("delayed until {wall_ms}ms"),
        JobState::Leased { lease, consumer, until_ms } => {
            let to = consumer.map_or_else(String::new, |id| format!(" consumer={id}"));
            format!("leased {lease}{to} until={until_ms}ms")
        }
        JobState::Done { until_ms } => format!("done until={until_ms}ms"),
    };
    let expires = expires_ms.map_or_else(String::new, |ms| format!(" expires={ms}ms"));
    let group = group
        .as_ref()
        .map_or_else(String::new, |group| format!(" group={}#{}", bytes(&group.key), group.order));
    let from = from.as_ref().map_or_else(String::new, |from| format!(" from={from:?}"));
    let noted = if *noted { " noted" } else { "" };
    format!(
        " {state} priority={priority} ready={ready_ms}ms attempts={attempts} \
         pushed={pushed_wall_ms}ms{expires}{group}{from}{noted} bytes={body_bytes}"
    )
}

pub(super) fn body_row(row: &JobBodyRow<'_>) -> String {
    let headers = row.headers.iter().map(|(name, value)| format!(" {name}:{}", bytes(value)));
    let kind = match row.content_type {
        "" => String::new(),
        kind => format!(" type={kind}"),
    };
    format!(" {}{kind}{}", bytes(row.payload), headers.collect::<String>())
}

fn notes(
    failures: &[JobFailure],
    death: Option<DeathCause>,
    progress: Option<&JobProgress>,
) -> String {
    let failures = failures.iter().map(|failure| {
        let error = bytes(failure.error.as_bytes());
        format!(" [attempt {} at {}ms: {error}]", failure.attempt, failure.wall_ms)
    });
    let death = death.map_or_else(String::new, |cause| format!(" dead: {cause:?}"));
    let progress = progress.map_or_else(String::new, |progress| {
        format!(" progress={} {:?} at {}ms", progress.permille, progress.note, progress.wall_ms)
    });
    format!("{}{death}{progress}", failures.collect::<String>())
}

pub(super) fn note_row(row: &JobNoteRow) -> String {
    notes(&row.failures, row.death, row.progress.as_ref())
}

pub(super) fn consumer_row(row: &ConsumerRow, names: &Names) -> String {
    let of = row.session.map_or_else(String::new, |id| format!(" session={}", session(id, names)));
    let wants = match &row.wants {
        Wants::Window(window) => format!("window={window}"),
        Wants::Pull { count, until_ms, state } => {
            let state = match state {
                PullState::Waiting => "waiting".to_owned(),
                PullState::Answered(jobs) => format!("answered {}", assigned(jobs)),
                PullState::TimedOut => "timed-out".to_owned(),
                PullState::Left { wait_until_ms } => format!("left wait-until={wait_until_ms}ms"),
            };
            format!("pull count={count} until={until_ms}ms {state}")
        }
    };
    format!(" queue={}{of} {} {wants}", row.queue, attachment(row.attachment))
}

pub(crate) fn queue(item: &QueueItem) -> String {
    let paused = if item.paused { " paused" } else { "" };
    let age = item.oldest_ready_age_ms.map_or_else(String::new, |ms| format!(" oldest={ms}ms"));
    format!(
        "{}{paused} dead={}{age} {} {}",
        jobs(&item.jobs),
        item.dead,
        totals(&item.totals),
        options(&item.options)
    )
}

pub(crate) fn job(item: &JobItem) -> String {
    let standing = match item.standing {
        JobStanding::Ready => "ready".to_owned(),
        JobStanding::Delayed { for_ms } => format!("delayed for {for_ms}ms"),
        JobStanding::DelayedUntil { wall_ms } => format!("delayed until {wall_ms}ms"),
        JobStanding::Leased { lease, consumer, for_ms } => {
            let to = consumer.map_or_else(String::new, |id| format!(" to {id}"));
            format!("leased {lease}{to} for {for_ms}ms")
        }
        JobStanding::Done { for_ms } => format!("done for {for_ms}ms"),
    };
    let ttl = item.remaining_ttl_ms.map_or_else(String::new, |ms| format!(" ttl={ms}ms"));
    let group =
        item.group.as_ref().map_or_else(String::new, |key| format!(" group={}", bytes(key)));
    let from = item.from.as_ref().map_or_else(String::new, |from| format!(" from={from:?}"));
    let body = item.body.as_ref().map_or_else(String::new, |body| {
        let headers = body.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        let (content_type, payload) = (&body.content_type[..], &body.payload[..]);
        body_row(&JobBodyRow { content_type, headers, payload })
    });
    format!(
        "{} {standing} priority={} attempts={} pushed={}ms{ttl}{group}{from}{}{body}",
        item.id,
        item.priority,
        item.attempts,
        item.pushed_wall_ms,
        notes(&item.failures, item.death, item.progress.as_ref())
    )
}

pub(crate) fn pull(standing: &PullStanding) -> String {
    match standing {
        PullStanding::Waiting(place) => format!("waiting {}", attachment(*place)),
        PullStanding::Answered(jobs, place) => {
            format!("answered {} {}", assigned(jobs), attachment(*place))
        }
        PullStanding::TimedOut => "timed out".to_owned(),
    }
}

pub(super) fn schedule_row(row: &ScheduleRow) -> String {
    let repeats = match &row.repeats {
        Repeats::Every { ms } => format!("every {ms}ms"),
        Repeats::Cron { text, zone } => format!("cron {text:?} {zone:?}"),
    };
    let next = match (row.next_wall_ms, row.asks) {
        (Some(at_ms), _) => format!(" next={at_ms}ms"),
        (None, true) => " asks".to_owned(),
        (None, false) => " over".to_owned(),
    };
    let last = row.last_wall_ms.map_or_else(String::new, |at_ms| format!(" last={at_ms}ms"));
    format!(
        " id={} to {:?} {} {repeats}{next}{last} pushed={} refused={}",
        row.id,
        row.queue,
        bytes(&row.job.payload),
        row.pushed,
        row.refused
    )
}
