//! Jobs as they are pushed.

use super::{at_most, key, queue_name};
use crate::grpc::Refused;
use crate::wire::{Invalid, caller, guard, invalid, namespace, txn::each, unexpected};
use quorate_proto::v1;
use quorate_state::limits::{
    DEDUPE_WINDOW_MS_MAX, JOB_CONTENT_TYPE_BYTES_MAX, JOB_DELAY_MS_MAX, JOB_HEADER_BYTES_MAX,
    JOB_HEADERS_MAX, JOBS_PER_CALL_MAX, Limits,
};
use quorate_state::{
    Command, Dedupe, Delay, Envelope, GroupId, NewJob, Outcome, PushedJob, QueuePush,
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_state::{JobId, Revision};

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
    fn an_outcome_becomes_an_answer() {
        let revision = Revision(4_096);
        let jobs = vec![PushedJob { id: JobId(7), duplicate: true }];
        let answer = pushed(Outcome::QueuePush { jobs, revision }, GroupId(0)).unwrap();
        assert_eq!(answer.jobs, [v1::PushedJob { job_id: 7, duplicate: true }]);
    }
}
