//! What is done with jobs: pushes, pulls, and what workers say of them.

use super::{at_most, job_id, key, leased, queue_name};
use crate::grpc::Refused;
use crate::wire::{Invalid, caller, guard, invalid, namespace, txn::each, unexpected};
use quorate_proto::v1;
use quorate_state::limits::{
    DEDUPE_WINDOW_MS_MAX, JOB_CONTENT_TYPE_BYTES_MAX, JOB_DELAY_MS_MAX, JOB_HEADER_BYTES_MAX,
    JOB_HEADERS_MAX, JOB_NOTE_BYTES_MAX, JOB_VISIBILITY_MS_MAX, JOBS_PER_CALL_MAX, Limits,
    PULL_WAIT_MS_MAX,
};
use quorate_state::query::{JobItem, JobStanding};
use quorate_state::{
    AssignedJob, Attachment, Command, Dedupe, Delay, Envelope, GroupId, JobFate, NewJob, Outcome,
    PullRequest, PushedJob, QueueAck, QueueCancel, QueueExtend, QueueNack, QueueProgress,
    QueuePull, QueuePush, Revision, Verdict,
};

/// The last millisecond of the year 9999: what lies beyond is a negative number, or another unit.
const UNIX_MS_MAX: u64 = 253_402_300_799_999;

pub(crate) fn push(request: v1::PushRequest, limits: &Limits) -> Result<Envelope, Invalid> {
    let v1::PushRequest { namespace: name, origin, queue, jobs } = request;
    Ok(Envelope {
        namespace: namespace(name)?,
        caller: caller(&origin)?,
        guard: guard(origin)?,
        command: Command::QueuePush(new_jobs(queue, jobs, limits)?),
    })
}

pub(in crate::wire) fn new_jobs(
    queue: String,
    jobs: Vec<v1::NewJob>,
    limits: &Limits,
) -> Result<QueuePush, Invalid> {
    if jobs.is_empty() {
        return Err(invalid("NO_JOBS", "the push has no jobs; give it one or more"));
    }
    let (count, count_max) = (jobs.len() as u64, JOBS_PER_CALL_MAX as u64);
    at_most("TOO_MANY_JOBS", "the number of jobs in one push", count, count_max)?;
    let jobs = each("jobs", jobs, |job| new_job(job, limits))?;
    Ok(QueuePush { queue: queue_name(queue)?, jobs })
}

pub(super) fn new_job(job: v1::NewJob, limits: &Limits) -> Result<NewJob, Invalid> {
    let v1::NewJob {
        payload,
        content_type,
        headers,
        priority,
        delay_ms,
        not_before_ms,
        ttl_ms,
        group,
        dedupe_key,
        dedupe_window_ms,
    } = job;
    let length = payload.len() as u64;
    if length > limits.value_bytes_max {
        return Err(invalid(
            "PAYLOAD_TOO_LARGE",
            format!(
                "the payload is {length} bytes long, the limit is {}; store it elsewhere, and push \
                 a reference to it",
                limits.value_bytes_max
            ),
        ));
    }
    let what = "the length of the content type in bytes";
    let length = content_type.len() as u64;
    at_most("CONTENT_TYPE_TOO_LONG", what, length, JOB_CONTENT_TYPE_BYTES_MAX)?;
    let count = headers.len() as u64;
    at_most("TOO_MANY_HEADERS", "the number of headers", count, JOB_HEADERS_MAX as u64)?;
    let bytes = headers.iter().map(|header| header.name.len() + header.value.len());
    let (what, bytes) = ("the headers' bytes together", bytes.sum::<usize>() as u64);
    at_most("HEADERS_TOO_LARGE", what, bytes, JOB_HEADER_BYTES_MAX)?;
    Ok(NewJob {
        payload,
        content_type,
        headers: headers.into_iter().map(|header| (header.name, header.value)).collect(),
        priority: u8::try_from(priority).map_err(|_| {
            invalid("INVALID_PRIORITY", format!("priority {priority} is out of range; 0 to 255"))
        })?,
        delay: delay(delay_ms, not_before_ms)?,
        ttl_ms: ttl(ttl_ms)?,
        group: key("INVALID_GROUP", "group key", group)?,
        dedupe: dedupe(key("INVALID_DEDUPE_KEY", "dedupe key", dedupe_key)?, dedupe_window_ms)?,
    })
}

fn delay(delay_ms: u64, not_before_ms: u64) -> Result<Delay, Invalid> {
    if delay_ms > 0 && not_before_ms > 0 {
        return Err(invalid(
            "INVALID_DELAY",
            "the job has both delay_ms and not_before_ms; say one of the two",
        ));
    }
    at_most("INVALID_DELAY", "delay_ms", delay_ms, JOB_DELAY_MS_MAX)?;
    if not_before_ms > UNIX_MS_MAX {
        return Err(invalid(
            "INVALID_DELAY",
            format!(
                "not_before_ms is {not_before_ms}, which is negative or beyond the year 9999; give \
                 the Unix time in milliseconds"
            ),
        ));
    }
    Ok(match (delay_ms, not_before_ms) {
        (0, 0) => Delay::None,
        (0, wall_ms) => Delay::Until { wall_ms },
        (ms, _) => Delay::For { ms },
    })
}

fn ttl(ttl_ms: Option<u64>) -> Result<Option<u64>, Invalid> {
    match ttl_ms {
        Some(ttl_ms) if !(1..=JOB_DELAY_MS_MAX).contains(&ttl_ms) => Err(invalid(
            "INVALID_TTL",
            format!(
                "a job's ttl of {ttl_ms} ms is out of range; it must be from 1 to \
                 {JOB_DELAY_MS_MAX} ms, or absent"
            ),
        )),
        ttl_ms => Ok(ttl_ms),
    }
}

fn dedupe(key: Option<bytes::Bytes>, window_ms: u64) -> Result<Option<Dedupe>, Invalid> {
    let reason = "INVALID_DEDUPE_WINDOW";
    at_most(reason, "dedupe_window_ms", window_ms, DEDUPE_WINDOW_MS_MAX)?;
    match key {
        None if window_ms > 0 => {
            Err(invalid(reason, "the job has a dedupe window and no dedupe key; give it one"))
        }
        None => Ok(None),
        Some(key) => Ok(Some(Dedupe { key, window_ms: (window_ms > 0).then_some(window_ms) })),
    }
}

pub(crate) fn pushed(outcome: Outcome, group: GroupId) -> Result<v1::PushResponse, Refused> {
    match outcome {
        Outcome::QueuePush { jobs, revision } => Ok(v1::PushResponse {
            jobs: pushed_jobs(jobs),
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

pub(in crate::wire) fn pushed_jobs(jobs: Vec<PushedJob>) -> Vec<v1::PushedJob> {
    let job = |job: PushedJob| v1::PushedJob { job_id: job.id.0, duplicate: job.duplicate };
    jobs.into_iter().map(job).collect()
}

pub(crate) fn pull(request: v1::PullRequest, attachment: Attachment) -> Result<Envelope, Invalid> {
    let v1::PullRequest { namespace: name, origin, queue, count, wait_ms } = request;
    if count == 0 || count as usize > JOBS_PER_CALL_MAX {
        return Err(invalid(
            "INVALID_COUNT",
            format!("a pull of {count} jobs is out of range; from 1 to {JOBS_PER_CALL_MAX}"),
        ));
    }
    at_most("INVALID_WAIT", "wait_ms", wait_ms, PULL_WAIT_MS_MAX)?;
    let request = PullRequest { queue: queue_name(queue)?, count, wait_ms };
    Ok(Envelope {
        namespace: namespace(name)?,
        caller: caller(&origin)?,
        guard: guard(origin)?,
        command: Command::QueuePull(QueuePull { request, attachment }),
    })
}

/// The answer to a `Pull`.
pub(crate) fn pulled(
    jobs: Vec<v1::DeliveredJob>,
    revision: Revision,
    group: GroupId,
) -> v1::PullResponse {
    v1::PullResponse { jobs, revision: revision.0, group_id: group.0 }
}

/// A job as its worker gets it.
pub(crate) fn delivered(assigned: &AssignedJob, item: JobItem) -> v1::DeliveredJob {
    let JobItem { standing, priority, pushed_wall_ms, group, body, .. } = item;
    let body = body.unwrap_or_default();
    v1::DeliveredJob {
        job_id: assigned.id.0,
        lease: assigned.lease.0,
        attempt: assigned.attempt,
        lease_ms: match standing {
            JobStanding::Leased { for_ms, .. } => for_ms,
            _ => 0,
        },
        payload: body.payload,
        content_type: body.content_type,
        headers: super::headers(body.headers),
        priority: priority.into(),
        pushed_unix_ms: pushed_wall_ms,
        group: group.unwrap_or_default(),
    }
}

pub(crate) fn ack(request: v1::AckRequest) -> Result<Envelope, Invalid> {
    let job = leased(request.queue, request.job_id, request.lease)?;
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueAck(QueueAck { job }),
    })
}

pub(crate) fn acked(outcome: Outcome, group: GroupId) -> Result<v1::AckResponse, Refused> {
    match outcome {
        Outcome::QueueAck { revision } => {
            Ok(v1::AckResponse { revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn nack(request: v1::NackRequest) -> Result<Envelope, Invalid> {
    let delay_ms = request.delay_ms;
    let asked = v1::NackVerdict::try_from(request.verdict).map_err(|_| {
        let verdict = request.verdict;
        invalid(
            "UNKNOWN_VERDICT",
            format!(
                "verdict {verdict} is unknown to this version; 1 is retry, 2 is dead, 3 is return"
            ),
        )
    })?;
    let verdict = match asked {
        v1::NackVerdict::Unspecified | v1::NackVerdict::Retry => {
            at_most("INVALID_DELAY", "delay_ms", delay_ms.unwrap_or(0), JOB_DELAY_MS_MAX)?;
            Verdict::Retry { delay_ms }
        }
        v1::NackVerdict::Dead | v1::NackVerdict::Return if delay_ms.is_some() => {
            return Err(invalid(
                "INVALID_DELAY",
                "delay_ms is given, but the job is not to be tried again; use the verdict RETRY",
            ));
        }
        v1::NackVerdict::Dead => Verdict::Dead,
        v1::NackVerdict::Return => Verdict::Return,
    };
    let job = leased(request.queue, request.job_id, request.lease)?;
    let error = cut(request.error);
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueNack(QueueNack { job, verdict, error }),
    })
}

/// Whole characters from the beginning of a text: no more of it is kept, so no more goes into the
/// log.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(JOB_NOTE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

pub(crate) fn nacked(outcome: Outcome, group: GroupId) -> Result<v1::NackResponse, Refused> {
    match outcome {
        Outcome::QueueNack { fate, revision } => {
            let (state, delay_ms) = match fate {
                JobFate::Ready => (v1::JobState::Ready, 0),
                JobFate::Delayed { delay_ms } => (v1::JobState::Delayed, delay_ms),
                JobFate::Dead => (v1::JobState::Dead, 0),
            };
            let (state, revision, group_id) = (state.into(), revision.0, group.0);
            Ok(v1::NackResponse { state, delay_ms, revision, group_id })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn extend(request: v1::ExtendRequest) -> Result<Envelope, Invalid> {
    let reason = "INVALID_EXTENSION";
    let for_ms = at_most(reason, "extend_ms", request.extend_ms, JOB_VISIBILITY_MS_MAX)?;
    let job = leased(request.queue, request.job_id, request.lease)?;
    let extend = QueueExtend { job, for_ms: (for_ms > 0).then_some(for_ms) };
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueExtend(extend),
    })
}

pub(crate) fn extended(outcome: Outcome, _: GroupId) -> Result<v1::ExtendResponse, Refused> {
    match outcome {
        Outcome::QueueExtend { lease_ms, .. } => Ok(v1::ExtendResponse { lease_ms }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn progress(request: v1::ProgressRequest) -> Result<Envelope, Invalid> {
    at_most("INVALID_PROGRESS", "permille", request.permille.into(), 1_000)?;
    let job = leased(request.queue, request.job_id, request.lease)?;
    let (permille, note) = (request.permille, cut(request.note));
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueProgress(QueueProgress { job, permille, note }),
    })
}

pub(crate) fn progressed(outcome: Outcome, _: GroupId) -> Result<v1::ProgressResponse, Refused> {
    match outcome {
        Outcome::Done => Ok(v1::ProgressResponse {}),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn cancel(request: v1::CancelRequest) -> Result<Envelope, Invalid> {
    let cancel = QueueCancel { queue: queue_name(request.queue)?, id: job_id(request.job_id)? };
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueCancel(cancel),
    })
}

pub(crate) fn cancelled(outcome: Outcome, group: GroupId) -> Result<v1::CancelResponse, Refused> {
    match outcome {
        Outcome::QueueCancel { cancelled, was_leased, revision } => Ok(v1::CancelResponse {
            cancelled,
            was_leased,
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_state::{JobId, JobLease, NodeId, PushedJob};

    fn of(job: v1::NewJob) -> v1::PushRequest {
        v1::PushRequest { queue: "q".into(), jobs: vec![job], ..Default::default() }
    }

    fn pushes(job: v1::NewJob) -> NewJob {
        match push(of(job), &Limits::default()).unwrap().command {
            Command::QueuePush(push) => push.jobs.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_push_becomes_its_command() {
        let header = v1::JobHeader { name: "trace".into(), value: "7".into() };
        let job = pushes(v1::NewJob {
            payload: "p".into(),
            content_type: "text/plain".into(),
            headers: vec![header],
            priority: 255,
            delay_ms: 5_000,
            not_before_ms: 0,
            ttl_ms: Some(60_000),
            group: "g".into(),
            dedupe_key: "d".into(),
            dedupe_window_ms: 9,
        });
        let expected = NewJob {
            payload: "p".into(),
            content_type: "text/plain".into(),
            headers: vec![("trace".into(), "7".into())],
            priority: 255,
            delay: Delay::For { ms: 5_000 },
            ttl_ms: Some(60_000),
            group: Some("g".into()),
            dedupe: Some(Dedupe { key: "d".into(), window_ms: Some(9) }),
        };
        assert_eq!(job, expected);
        assert_eq!(pushes(v1::NewJob::default()), NewJob::default());
        let at = v1::NewJob { not_before_ms: 1_800_000_000_000, ..Default::default() };
        assert_eq!(pushes(at).delay, Delay::Until { wall_ms: 1_800_000_000_000 });
        let key = v1::NewJob { dedupe_key: "d".into(), ..Default::default() };
        assert_eq!(pushes(key).dedupe.unwrap().window_ms, None);
    }

    #[test]
    fn a_job_out_of_bounds_is_refused_and_named() {
        let header = |bytes| v1::JobHeader { name: "n".into(), value: vec![0; bytes].into() };
        let long = |bytes: usize| Bytes::from(vec![7; bytes]);
        // As -1 arrives.
        let negative = u64::MAX;
        let none = v1::NewJob::default;
        for (reason, job) in [
            ("PAYLOAD_TOO_LARGE", v1::NewJob { payload: long((1 << 20) + 1), ..none() }),
            ("CONTENT_TYPE_TOO_LONG", v1::NewJob { content_type: "x".repeat(256), ..none() }),
            ("TOO_MANY_HEADERS", v1::NewJob { headers: vec![header(1); 65], ..none() }),
            ("HEADERS_TOO_LARGE", v1::NewJob { headers: vec![header(4_096); 2], ..none() }),
            ("INVALID_PRIORITY", v1::NewJob { priority: 256, ..none() }),
            ("INVALID_PRIORITY", v1::NewJob { priority: u32::MAX, ..none() }),
            ("INVALID_DELAY", v1::NewJob { delay_ms: 31_622_400_001, ..none() }),
            ("INVALID_DELAY", v1::NewJob { delay_ms: negative, ..none() }),
            ("INVALID_DELAY", v1::NewJob { delay_ms: 1, not_before_ms: 1, ..none() }),
            ("INVALID_DELAY", v1::NewJob { not_before_ms: negative, ..none() }),
            ("INVALID_TTL", v1::NewJob { ttl_ms: Some(0), ..none() }),
            ("INVALID_TTL", v1::NewJob { ttl_ms: Some(negative), ..none() }),
            ("INVALID_GROUP", v1::NewJob { group: long(256), ..none() }),
            ("INVALID_DEDUPE_KEY", v1::NewJob { dedupe_key: long(256), ..none() }),
            ("INVALID_DEDUPE_WINDOW", v1::NewJob { dedupe_window_ms: 1, ..none() }),
            ("INVALID_DEDUPE_WINDOW", v1::NewJob { dedupe_window_ms: negative, ..none() }),
        ] {
            let jobs = vec![none(), job];
            let request = v1::PushRequest { queue: "q".into(), jobs, ..Default::default() };
            let Invalid { reason: seen, message } = push(request, &Limits::default()).unwrap_err();
            assert_eq!(seen, reason, "{message}");
            assert!(message.starts_with("jobs[1]: "), "{message}");
        }
        pushes(v1::NewJob { payload: long(1 << 20), headers: vec![header(127); 64], ..none() });
    }

    #[test]
    fn a_push_has_jobs_and_a_queue() {
        let reason = |request| push(request, &Limits::default()).unwrap_err().reason;
        let jobs = |count| v1::PushRequest {
            queue: "q".into(),
            jobs: vec![v1::NewJob::default(); count],
            ..Default::default()
        };
        assert_eq!(reason(jobs(0)), "NO_JOBS");
        assert_eq!(reason(jobs(129)), "TOO_MANY_JOBS");
        assert!(push(jobs(128), &Limits::default()).is_ok());
        assert_eq!(reason(v1::PushRequest { queue: String::new(), ..jobs(1) }), "QUEUE_NAME_EMPTY");
        let long = v1::PushRequest { queue: "q".repeat(513), ..jobs(1) };
        assert_eq!(reason(long), "QUEUE_NAME_TOO_LONG");
    }

    #[test]
    fn a_pull_becomes_its_command_within_bounds() {
        let attachment = Attachment { node: NodeId(3), call: 9 };
        let asked = |count, wait_ms| {
            pull(
                v1::PullRequest { queue: "q".into(), count, wait_ms, ..Default::default() },
                attachment,
            )
        };
        let request = PullRequest { queue: "q".into(), count: 128, wait_ms: 3_600_000 };
        let expected = Command::QueuePull(QueuePull { request, attachment });
        assert_eq!(asked(128, 3_600_000).unwrap().command, expected);
        for count in [0, 129, u32::MAX] {
            assert_eq!(asked(count, 0).unwrap_err().reason, "INVALID_COUNT");
        }
        for wait_ms in [3_600_001, u64::MAX] {
            assert_eq!(asked(1, wait_ms).unwrap_err().reason, "INVALID_WAIT");
        }
    }

    #[test]
    fn what_a_worker_says_names_the_job_and_the_lease() {
        let request = |job_id, lease| v1::AckRequest {
            queue: "q".into(),
            job_id,
            lease,
            ..Default::default()
        };
        assert_eq!(ack(request(0, 1)).unwrap_err().reason, "NO_JOB");
        assert_eq!(ack(request(1, 0)).unwrap_err().reason, "NO_LEASE");
        let Command::QueueAck(acked) = ack(request(1, 2)).unwrap().command else { panic!("none") };
        assert_eq!((acked.job.id, acked.job.lease), (JobId(1), JobLease(2)));

        let extend_by = |extend_ms| {
            let (queue, job_id, lease) = ("q".into(), 1, 2);
            extend(v1::ExtendRequest { queue, job_id, lease, extend_ms, ..Default::default() })
        };
        let Command::QueueExtend(queues) = extend_by(0).unwrap().command else { panic!("none") };
        assert_eq!(queues.for_ms, None);
        assert_eq!(extend_by(43_200_001).unwrap_err().reason, "INVALID_EXTENSION");
        let (queue, permille) = ("q".into(), 1_001);
        let progress_of = v1::ProgressRequest { queue, permille, ..Default::default() };
        assert_eq!(progress(progress_of).unwrap_err().reason, "INVALID_PROGRESS");
        assert_eq!(cancel(Default::default()).unwrap_err().reason, "QUEUE_NAME_EMPTY");
    }

    #[test]
    fn a_nack_has_a_verdict_and_a_short_reason() {
        let asked = |verdict, delay_ms, error: &str| {
            nack(v1::NackRequest {
                queue: "q".into(),
                job_id: 1,
                lease: 2,
                verdict,
                delay_ms,
                error: error.into(),
                ..Default::default()
            })
        };
        let command = |envelope: Envelope| match envelope.command {
            Command::QueueNack(nack) => nack,
            other => panic!("{other:?}"),
        };
        for (verdict, delay_ms, expected) in [
            (0, None, Verdict::Retry { delay_ms: None }),
            (1, Some(0), Verdict::Retry { delay_ms: Some(0) }),
            (2, None, Verdict::Dead),
            (3, None, Verdict::Return),
        ] {
            assert_eq!(command(asked(verdict, delay_ms, "e").unwrap()).verdict, expected);
        }
        for (verdict, delay_ms) in [(1, Some(u64::MAX)), (2, Some(1)), (3, Some(0))] {
            assert_eq!(asked(verdict, delay_ms, "").unwrap_err().reason, "INVALID_DELAY");
        }
        for unknown in [4, -1, i32::MAX] {
            assert_eq!(asked(unknown, None, "").unwrap_err().reason, "UNKNOWN_VERDICT");
        }
        // Two bytes each: the last one would be torn.
        let long = format!("x{}", "é".repeat(1_000));
        assert_eq!(command(asked(0, None, &long).unwrap()).error.len(), 1_023);
    }

    #[test]
    fn outcomes_become_answers() {
        let revision = Revision(4_096);
        let jobs = vec![PushedJob { id: JobId(7), duplicate: true }];
        let answer = pushed(Outcome::QueuePush { jobs, revision }, GroupId(0)).unwrap();
        assert_eq!(answer.jobs, [v1::PushedJob { job_id: 7, duplicate: true }]);
        for (fate, state, delay_ms) in [
            (JobFate::Ready, v1::JobState::Ready, 0),
            (JobFate::Delayed { delay_ms: 9 }, v1::JobState::Delayed, 9),
            (JobFate::Dead, v1::JobState::Dead, 0),
        ] {
            let answer = nacked(Outcome::QueueNack { fate, revision }, GroupId(0)).unwrap();
            assert_eq!((answer.state(), answer.delay_ms), (state, delay_ms));
        }
        assert!(progressed(Outcome::Done, GroupId(0)).is_ok());
        assert!(matches!(acked(Outcome::Done, GroupId(0)), Err(Refused::Mismatched(_))));
    }
}
