//! What is done with jobs: pulls, and what workers say of them.

use super::{at_most, job_id, leased, queue_name};
use crate::grpc::Refused;
use crate::wire::{Invalid, caller, guard, invalid, namespace, unexpected};
use quorate_proto::v1;
use quorate_state::limits::{
    JOB_DELAY_MS_MAX, JOB_NOTE_BYTES_MAX, JOB_VISIBILITY_MS_MAX, JOBS_PER_CALL_MAX,
    PULL_WAIT_MS_MAX,
};
use quorate_state::query::{JobItem, JobStanding};
use quorate_state::{
    AssignedJob, Attachment, Command, Envelope, GroupId, JobFate, Outcome, PullRequest, QueueAck,
    QueueCancel, QueueExtend, QueueNack, QueueProgress, QueuePull, Revision, Verdict,
};

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

    use quorate_state::{JobId, JobLease, NodeId};

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
