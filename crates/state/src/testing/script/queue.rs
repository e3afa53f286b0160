//! The words for queues: `queue <what> <queue> ...` and `consumer <what> ...`.

use super::{Parsed, attachment, millis, positional, session, string, text};
use crate::{
    Backoff, Command, ConsumerAttach, ConsumerDetach, ConsumerDetachNode, ConsumerId,
    ConsumerResize, DeadLetters, Dedupe, Delay, JobId, JobLease, LeasedJob, NewJob, NodeId,
    PullRequest, QueueAck, QueueCancel, QueueChange, QueueDelete, QueueExtend, QueueNack,
    QueuePause, QueueProgress, QueuePull, QueuePurge, QueuePush, QueueRedrive, QueueUpdate, Rate,
    Redriven, Repeats, ScheduleDelete, ScheduleId, ScheduleNext, SchedulePut, SessionId, Verdict,
    WhenFull,
};
use goldenscript::ArgumentConsumer;
use std::collections::BTreeMap;
use std::str::FromStr;

pub(super) fn queue(args: &mut ArgumentConsumer<'_>) -> Parsed<Command> {
    let word = positional(args, "what to do with the queue")?;
    let queue = string(positional(args, "queue")?)?;
    Ok(match word {
        "push" => Command::QueuePush(QueuePush { jobs: new_jobs(args)?, queue }),
        "pull" => Command::QueuePull(QueuePull {
            request: PullRequest {
                queue,
                count: number(args, "count")?.unwrap_or(1),
                wait_ms: args.take_key("wait").map_or(Ok(0), millis)?,
            },
            attachment: attachment(args)?,
        }),
        "ack" => Command::QueueAck(QueueAck { job: leased(queue, args)? }),
        "nack" => {
            let job = leased(queue, args)?;
            let verdict = match args.take_key("verdict") {
                None => {
                    Verdict::Retry { delay_ms: args.take_key("delay").map(millis).transpose()? }
                }
                Some("dead") => Verdict::Dead,
                Some("return") => Verdict::Return,
                Some(other) => return Err(format!("no such verdict: {other}").into()),
            };
            let error = string(args.take_key("error").unwrap_or_default())?;
            Command::QueueNack(QueueNack { job, verdict, error })
        }
        "extend" => {
            let for_ms = args.take_key("for").map(millis).transpose()?;
            Command::QueueExtend(QueueExtend { job: leased(queue, args)?, for_ms })
        }
        "progress" => {
            let permille = number(args, "permille")?.unwrap_or(0);
            let note = string(args.take_key("note").unwrap_or_default())?;
            Command::QueueProgress(QueueProgress { job: leased(queue, args)?, permille, note })
        }
        "cancel" => {
            let id = JobId(positional(args, "job")?.parse()?);
            Command::QueueCancel(QueueCancel { queue, id })
        }
        "update" => Command::QueueUpdate(QueueUpdate { queue, change: change(args)? }),
        "pause" => Command::QueuePause(QueuePause { queue, paused: true }),
        "resume" => Command::QueuePause(QueuePause { queue, paused: false }),
        "purge" => Command::QueuePurge(QueuePurge { queue }),
        "delete" => Command::QueueDelete(QueueDelete { queue }),
        "redrive" => {
            let mut ids = Vec::new();
            while let Some(id) = args.next_pos() {
                ids.push(JobId(id.parse()?));
            }
            let which = match ids.is_empty() {
                false => Redriven::Jobs(ids),
                true => Redriven::After {
                    after: number(args, "after")?.map(JobId),
                    jobs_max: number(args, "max")?.unwrap_or(u64::MAX),
                },
            };
            Command::QueueRedrive(QueueRedrive { queue, which })
        }
        other => return Err(format!("no such queue command: {other}").into()),
    })
}

pub(super) fn consumer(
    args: &mut ArgumentConsumer<'_>,
    sessions: &BTreeMap<String, SessionId>,
) -> Parsed<Command> {
    let word = positional(args, "what the consumer does")?;
    let subject = positional(args, "queue, consumer or node")?;
    let window = number(args, "window")?.unwrap_or(1);
    Ok(match word {
        "attach" => Command::ConsumerAttach(ConsumerAttach {
            queue: string(subject)?,
            consumer: number(args, "again")?.map(ConsumerId),
            session: args.take_key("session").map(|name| session(name, sessions)).transpose()?,
            window,
            attachment: attachment(args)?,
        }),
        "detach" => Command::ConsumerDetach(ConsumerDetach {
            consumer: ConsumerId(subject.parse()?),
            attachment: attachment(args)?,
            delivered: JobLease(number(args, "delivered")?.unwrap_or(0)),
        }),
        "detach-node" => {
            Command::ConsumerDetachNode(ConsumerDetachNode { node: NodeId(subject.parse()?) })
        }
        "resize" => Command::ConsumerResize(ConsumerResize {
            consumer: ConsumerId(subject.parse()?),
            attachment: attachment(args)?,
            window,
        }),
        other => return Err(format!("no such consumer command: {other}").into()),
    })
}

pub(super) fn schedule(args: &mut ArgumentConsumer<'_>) -> Parsed<Command> {
    let word = positional(args, "what to do with the schedule")?;
    let name = string(positional(args, "schedule")?)?;
    Ok(match word {
        "put" => {
            let queue = string(positional(args, "queue")?)?;
            let next_wall_ms = args.take_key("next").map(millis).transpose()?;
            let repeats = match args.take_key("cron") {
                Some(cron) => Repeats::Cron {
                    text: string(cron)?,
                    zone: string(args.take_key("zone").unwrap_or_default())?,
                },
                None => {
                    let every = args.take_key("every").ok_or("every= or cron= is missing")?;
                    Repeats::Every { ms: millis(every)? }
                }
            };
            let job = new_jobs(args)?.into_iter().next().ok_or("a payload is missing")?;
            Command::SchedulePut(SchedulePut { name, queue, job, repeats, next_wall_ms })
        }
        "next" => Command::ScheduleNext(ScheduleNext {
            name,
            id: ScheduleId(positional(args, "id")?.parse()?),
            next_wall_ms: args.take_key("at").map(millis).transpose()?,
        }),
        "delete" => Command::ScheduleDelete(ScheduleDelete { name }),
        other => return Err(format!("no such schedule command: {other}").into()),
    })
}

fn number<T: FromStr<Err: std::error::Error + 'static>>(
    args: &mut ArgumentConsumer<'_>,
    key: &str,
) -> Parsed<Option<T>> {
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

/// A job for each payload, all with the same options.
fn new_jobs(args: &mut ArgumentConsumer<'_>) -> Parsed<Vec<NewJob>> {
    let delay = match (args.take_key("delay"), args.take_key("until")) {
        (Some(delay), _) => Delay::For { ms: millis(delay)? },
        (None, Some(until)) => Delay::Until { wall_ms: millis(until)? },
        (None, None) => Delay::None,
    };
    let window_ms = args.take_key("window").map(millis).transpose()?;
    let dedupe = match args.take_key("dedupe") {
        Some(key) => Some(Dedupe { key: text(key)?, window_ms }),
        None => None,
    };
    let mut headers = Vec::new();
    if let Some(header) = args.take_key("header") {
        let (name, value) = header.split_once(':').ok_or("header= is <name>:<value>")?;
        headers.push((string(name)?, text(value)?));
    }
    let job = NewJob {
        payload: Default::default(),
        content_type: string(args.take_key("type").unwrap_or_default())?,
        headers,
        priority: number(args, "priority")?.unwrap_or(0),
        delay,
        ttl_ms: args.take_key("ttl").map(millis).transpose()?,
        group: args.take_key("group").map(text).transpose()?,
        dedupe,
    };
    let mut jobs = Vec::new();
    while let Some(payload) = args.next_pos() {
        jobs.push(NewJob { payload: text(payload)?, ..job.clone() });
    }
    // As many as are too many for one push, for example.
    if let Some(copies) = number::<usize>(args, "copies")? {
        jobs = jobs.iter().cycle().take(copies).cloned().collect();
    }
    Ok(jobs)
}

/// `<job> lease=<lease>`
fn leased(queue: String, args: &mut ArgumentConsumer<'_>) -> Parsed<LeasedJob> {
    let id = JobId(positional(args, "job")?.parse()?);
    let lease = JobLease(number(args, "lease")?.ok_or("lease= is missing")?);
    Ok(LeasedJob { queue, id, lease })
}

fn change(args: &mut ArgumentConsumer<'_>) -> Parsed<QueueChange> {
    let mut time = |key| args.take_key(key).map(millis).transpose();
    let visibility_ms = time("visibility")?;
    let keep_done_ms = time("keep-done")?;
    let dedupe_window_ms = time("dedupe-window")?;
    Ok(QueueChange {
        visibility_ms,
        attempts_max: number(args, "attempts")?,
        backoff: args.take_key("backoff").map(backoff).transpose()?,
        dead_letters: match args.take_key("dead-letters") {
            None => None,
            Some("own") => Some(DeadLetters::Own),
            Some("discard") => Some(DeadLetters::Discard),
            Some(to) => Some(DeadLetters::To(string(to)?)),
        },
        keep_done_ms,
        jobs_max: number(args, "jobs-max")?,
        when_full: match args.take_key("when-full") {
            None => None,
            Some("reject") => Some(WhenFull::Reject),
            Some("drop-oldest") => Some(WhenFull::DropOldest),
            Some(other) => return Err(format!("a full queue can't {other}").into()),
        },
        parallel_max: number(args, "parallel")?,
        rate: match args.take_key("rate") {
            None => None,
            Some(rate) => {
                let (jobs, per) = rate.split_once('/').ok_or("rate= is <jobs>/<time>")?;
                Some(Rate { jobs: jobs.parse()?, per_ms: millis(per)? })
            }
        },
        dedupe_window_ms,
    })
}

/// `fixed:<base>` or `doubling:<base>:<cap>`, without jitter; or that and `:<jitter permille>`.
fn backoff(text: &str) -> Parsed<Backoff> {
    let parts: Vec<&str> = text.split(':').collect();
    Ok(match parts[..] {
        ["fixed", base] => {
            let base_ms = millis(base)?;
            Backoff { exponential: false, base_ms, cap_ms: base_ms, jitter_permille: 0 }
        }
        ["doubling", base, cap] | ["doubling", base, cap, _] => Backoff {
            exponential: true,
            base_ms: millis(base)?,
            cap_ms: millis(cap)?,
            jitter_permille: parts.get(3).map_or(Ok(0), |jitter| jitter.parse())?,
        },
        _ => return Err(format!("no such backoff: {text}").into()),
    })
}
