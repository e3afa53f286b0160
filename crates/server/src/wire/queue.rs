//! Queue requests and answers.

mod jobs;
mod options;
mod push;
mod reads;
mod schedules;

pub(crate) use jobs::*;
pub(crate) use options::*;
pub(crate) use push::*;
pub(crate) use reads::*;
pub(crate) use schedules::*;

use super::{Invalid, caller, guard, invalid, namespace, unexpected};
use crate::grpc::Refused;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::limits::{
    CONSUMER_WINDOW_MAX, JOB_KEY_BYTES_MAX, JOBS_PER_CALL_MAX, QUEUE_NAME_BYTES_MAX,
    REDRIVE_PER_ENTRY_MAX,
};
use quorate_state::{
    Command, ConsumerId, Envelope, GroupId, JobId, JobLease, LeasedJob, Outcome, QueueDelete,
    QueuePause, QueuePurge, QueueRedrive, Redriven, SessionId,
};

/// Checks the name of a queue.
pub(super) fn queue_name(name: String) -> Result<String, Invalid> {
    let length = name.len() as u64;
    if length == 0 {
        return Err(invalid(
            "QUEUE_NAME_EMPTY",
            "the queue's name is empty; give at least one byte",
        ));
    }
    if length > QUEUE_NAME_BYTES_MAX {
        return Err(invalid(
            "QUEUE_NAME_TOO_LONG",
            format!("the queue's name is {length} bytes long, the limit is {QUEUE_NAME_BYTES_MAX}"),
        ));
    }
    Ok(name)
}

/// Checks a number against what it may be at most.
fn at_most(reason: &'static str, what: &str, value: u64, max: u64) -> Result<u64, Invalid> {
    if value > max {
        return Err(invalid(reason, format!("{what} is {value}, the limit is {max}")));
    }
    Ok(value)
}

/// Checks a group key or a dedupe key; an empty one is none.
fn key(reason: &'static str, what: &str, key: Bytes) -> Result<Option<Bytes>, Invalid> {
    at_most(
        reason,
        &format!("the length of the {what} in bytes"),
        key.len() as u64,
        JOB_KEY_BYTES_MAX,
    )?;
    Ok((!key.is_empty()).then_some(key))
}

fn job_id(id: u64) -> Result<JobId, Invalid> {
    match id {
        0 => Err(invalid("NO_JOB", "job_id is 0; name the job that was pushed or delivered")),
        id => Ok(JobId(id)),
    }
}

/// A job under the lease of its delivery.
pub(super) fn leased(queue: String, id: u64, lease: u64) -> Result<LeasedJob, Invalid> {
    if lease == 0 {
        return Err(invalid(
            "NO_LEASE",
            "lease is 0; name the one that the job was delivered under",
        ));
    }
    Ok(LeasedJob { queue: queue_name(queue)?, id: job_id(id)?, lease: JobLease(lease) })
}

/// A checked first message of a `Consume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) namespace: String,
    pub(crate) queue: String,
    pub(crate) session: Option<SessionId>,
    /// None: a new one.
    pub(crate) consumer: Option<ConsumerId>,
    pub(crate) window: u32,
}

pub(crate) fn open(open: v1::ConsumeOpen) -> Result<Open, Invalid> {
    if open.window == 0 {
        return Err(invalid(
            "INVALID_WINDOW",
            format!("the window is 0; give from 1 to {CONSUMER_WINDOW_MAX} jobs"),
        ));
    }
    Ok(Open {
        namespace: namespace(open.namespace)?,
        queue: queue_name(open.queue)?,
        session: (open.session_id > 0).then_some(SessionId(open.session_id)),
        consumer: (open.consumer_id > 0).then_some(ConsumerId(open.consumer_id)),
        window: window(open.window)?,
    })
}

/// Checks how many jobs a consumer wants to have.
pub(crate) fn window(window: u32) -> Result<u32, Invalid> {
    at_most("INVALID_WINDOW", "the window", window.into(), CONSUMER_WINDOW_MAX.into())?;
    Ok(window)
}

pub(crate) fn pause(request: v1::PauseRequest) -> Result<Envelope, Invalid> {
    let v1::PauseRequest { namespace, origin, queue } = request;
    pausing(namespace, origin, queue, true)
}

pub(crate) fn resume(request: v1::ResumeRequest) -> Result<Envelope, Invalid> {
    let v1::ResumeRequest { namespace, origin, queue } = request;
    pausing(namespace, origin, queue, false)
}

fn pausing(
    name: String,
    origin: Option<v1::Origin>,
    queue: String,
    paused: bool,
) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        namespace: namespace(name)?,
        caller: caller(&origin)?,
        guard: guard(origin)?,
        command: Command::QueuePause(QueuePause { queue: queue_name(queue)?, paused }),
    })
}

pub(crate) fn paused(outcome: Outcome, group: GroupId) -> Result<v1::PauseResponse, Refused> {
    match outcome {
        Outcome::QueueUpdate { revision, .. } => {
            Ok(v1::PauseResponse { revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn resumed(outcome: Outcome, group: GroupId) -> Result<v1::ResumeResponse, Refused> {
    match outcome {
        Outcome::QueueUpdate { revision, .. } => {
            Ok(v1::ResumeResponse { revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn purge(request: v1::PurgeRequest) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueuePurge(QueuePurge { queue: queue_name(request.queue)? }),
    })
}

pub(crate) fn purged(outcome: Outcome, group: GroupId) -> Result<v1::PurgeResponse, Refused> {
    match outcome {
        Outcome::QueuePurge { jobs, revision, .. } => {
            Ok(v1::PurgeResponse { purged: jobs, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn delete(request: v1::DeleteQueueRequest) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueDelete(QueueDelete { queue: queue_name(request.queue)? }),
    })
}

pub(crate) fn deleted(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::DeleteQueueResponse, Refused> {
    match outcome {
        Outcome::QueuePurge { found, jobs, revision } => Ok(v1::DeleteQueueResponse {
            deleted: found,
            jobs,
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn redrive(request: v1::RedriveRequest) -> Result<Envelope, Invalid> {
    let which = if request.job_ids.is_empty() {
        Redriven::After {
            after: (request.cursor > 0).then_some(JobId(request.cursor)),
            jobs_max: match request.limit {
                0 => REDRIVE_PER_ENTRY_MAX,
                some => some.min(REDRIVE_PER_ENTRY_MAX),
            },
        }
    } else {
        if request.cursor > 0 {
            return Err(invalid(
                "INVALID_CURSOR",
                "the request names jobs and has a cursor, too; jobs that are named are put back in \
                 one step",
            ));
        }
        let named = request.job_ids.len() as u64;
        at_most("TOO_MANY_JOBS", "the number of jobs", named, JOBS_PER_CALL_MAX as u64)?;
        Redriven::Jobs(request.job_ids.into_iter().map(job_id).collect::<Result<_, _>>()?)
    };
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::QueueRedrive(QueueRedrive { queue: queue_name(request.queue)?, which }),
    })
}

pub(crate) fn redriven(outcome: Outcome, group: GroupId) -> Result<v1::RedriveResponse, Refused> {
    match outcome {
        Outcome::QueueRedrive { moved, cursor, revision } => Ok(v1::RedriveResponse {
            moved,
            cursor: cursor.map_or(0, |id| id.0),
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::Revision;

    #[test]
    fn a_stream_is_opened_with_a_window_of_its_size() {
        let asked = |window| v1::ConsumeOpen { queue: "q".into(), window, ..Default::default() };
        for wrong in [0, 1_001, u32::MAX] {
            assert_eq!(open(asked(wrong)).unwrap_err().reason, "INVALID_WINDOW");
        }
        let new = open(asked(1_000)).unwrap();
        assert_eq!((new.session, new.consumer, new.window), (None, None, 1_000));
        let again = v1::ConsumeOpen { session_id: 7, consumer_id: 9, ..asked(1) };
        let again = open(again).unwrap();
        assert_eq!((again.session, again.consumer), (Some(SessionId(7)), Some(ConsumerId(9))));
        let nameless = v1::ConsumeOpen { window: 1, ..Default::default() };
        assert_eq!(open(nameless).unwrap_err().reason, "QUEUE_NAME_EMPTY");
        let long = v1::ConsumeOpen { queue: "q".repeat(513), ..asked(1) };
        assert_eq!(open(long).unwrap_err().reason, "QUEUE_NAME_TOO_LONG");
        // Later the window may be shut.
        assert_eq!(window(0), Ok(0));
        assert_eq!(window(1_001).unwrap_err().reason, "INVALID_WINDOW");
    }

    #[test]
    fn a_redrive_is_of_named_jobs_or_a_step() {
        let which = |request| match redrive(request).unwrap().command {
            Command::QueueRedrive(redrive) => redrive.which,
            other => panic!("{other:?}"),
        };
        let asked = || v1::RedriveRequest { queue: "q".into(), ..Default::default() };
        let step = |after, jobs_max| Redriven::After { after, jobs_max };
        assert_eq!(which(asked()), step(None, 1_000));
        let next = v1::RedriveRequest { cursor: 5, limit: 7, ..asked() };
        assert_eq!(which(next), step(Some(JobId(5)), 7));
        assert_eq!(which(v1::RedriveRequest { limit: u64::MAX, ..asked() }), step(None, 1_000));
        let named = |job_ids| v1::RedriveRequest { job_ids, ..asked() };
        assert_eq!(which(named(vec![3, 4])), Redriven::Jobs(vec![JobId(3), JobId(4)]));
        let reason = |request| redrive(request).unwrap_err().reason;
        assert_eq!(reason(named(vec![3, 0])), "NO_JOB");
        assert_eq!(reason(named(vec![3; 129])), "TOO_MANY_JOBS");
        assert_eq!(reason(v1::RedriveRequest { cursor: 1, ..named(vec![3]) }), "INVALID_CURSOR");
        assert_eq!(reason(Default::default()), "QUEUE_NAME_EMPTY");
    }

    #[test]
    fn one_outcome_answers_each_of_its_requests() {
        let revision = Revision(4_096);
        let updated = || Outcome::QueueUpdate { created: true, revision };
        assert_eq!(paused(updated(), GroupId(0)).unwrap().revision, 4_096);
        assert_eq!(resumed(updated(), GroupId(0)).unwrap().revision, 4_096);
        let gone = || Outcome::QueuePurge { found: true, jobs: 3, revision };
        assert_eq!(purged(gone(), GroupId(0)).unwrap().purged, 3);
        let answer = deleted(gone(), GroupId(0)).unwrap();
        assert!(answer.deleted && answer.jobs == 3);
        assert!(matches!(purged(Outcome::Done, GroupId(0)), Err(Refused::Mismatched(_))));
        let moved = Outcome::QueueRedrive { moved: 2, cursor: None, revision };
        let answer = redriven(moved, GroupId(0)).unwrap();
        assert_eq!((answer.moved, answer.cursor), (2, 0));
    }
}
