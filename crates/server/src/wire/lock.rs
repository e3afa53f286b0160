//! Lock requests and answers.

use super::kv::{Freshness, freshness, selector, unselectable};
use super::{Invalid, caller, guard, invalid, lock_name, namespace, unexpected};
use crate::grpc::Refused;
use bytes::Bytes;
use quorate_proto::v1;
use quorate_state::limits::{LOCK_HOLDERS_MAX, LOCK_TTL_MS_MAX, LOCK_TTL_MS_MIN, LOCK_WAIT_MS_MAX};
use quorate_state::query::{LockItem, LockPage};
use quorate_state::{
    Attachment, Caller, Command, Envelope, FencingToken, GroupId, HeldLock, KeySelection,
    KeySelector, LockAcquire, LockCancel, LockForceRelease, LockRelease, LockRequest, Outcome,
    Revision, Sequence, SessionId, Share,
};

pub(crate) fn acquire(
    request: v1::LockAcquireRequest,
    attachment: Attachment,
) -> Result<Envelope, Invalid> {
    let caller = caller(&request.origin)?;
    in_session(&caller)?;
    let (ttl_ms, wait_ms) = (ttl(request.ttl_ms)?, request.wait_ms);
    if wait_ms > LOCK_WAIT_MS_MAX {
        return Err(invalid(
            "INVALID_WAIT",
            format!("a wait of {wait_ms} ms is too long; the limit is {LOCK_WAIT_MS_MAX} ms"),
        ));
    }
    let share = share(request.mode, request.permits)?;
    let name = lock_name(request.name)?;
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller,
        guard: guard(request.origin)?,
        command: Command::LockAcquire(LockAcquire {
            request: LockRequest { name, share, ttl_ms, wait_ms },
            attachment,
        }),
    })
}

/// Only a session can hold a lock.
pub(super) fn in_session(caller: &Caller) -> Result<(), Invalid> {
    match caller {
        Caller::Session { .. } => Ok(()),
        Caller::Anonymous | Caller::Idempotency { .. } => Err(invalid(
            "NO_SESSION",
            "a lock is held by a session: open one, and send the request in it with a sequence",
        )),
    }
}

pub(super) fn ttl(ttl_ms: u64) -> Result<u64, Invalid> {
    if (LOCK_TTL_MS_MIN..=LOCK_TTL_MS_MAX).contains(&ttl_ms) {
        return Ok(ttl_ms);
    }
    Err(invalid(
        "INVALID_TTL",
        format!(
            "a lock's ttl of {ttl_ms} ms is out of range; it must be from {LOCK_TTL_MS_MIN} to {LOCK_TTL_MS_MAX} ms"
        ),
    ))
}

pub(super) fn share(mode: i32, permits: u32) -> Result<Share, Invalid> {
    let mode = v1::LockMode::try_from(mode).map_err(|_| {
        invalid("UNKNOWN_MODE", format!("mode {mode} is unknown to this version; 1 is exclusive"))
    })?;
    if mode != v1::LockMode::Permit && permits != 0 {
        return Err(invalid(
            "INVALID_PERMITS",
            "permits are given, but the mode is not LOCK_MODE_PERMIT; choose one of the two",
        ));
    }
    Ok(match mode {
        v1::LockMode::Unspecified | v1::LockMode::Exclusive => Share::Exclusive,
        v1::LockMode::Shared => Share::Shared,
        v1::LockMode::Permit if (1..=LOCK_HOLDERS_MAX).contains(&(permits as usize)) => {
            Share::Permit { of: permits }
        }
        v1::LockMode::Permit => {
            return Err(invalid(
                "INVALID_PERMITS",
                format!("{permits} permits are out of range; from 1 to {LOCK_HOLDERS_MAX}"),
            ));
        }
    })
}

/// The answer to an `Acquire`.
pub(crate) fn granted(
    token: FencingToken,
    ttl_ms: u64,
    revision: Revision,
    waited: bool,
    group: GroupId,
) -> v1::LockAcquireResponse {
    v1::LockAcquireResponse {
        fencing_token: token.0,
        ttl_ms,
        waited,
        revision: revision.0,
        group_id: group.0,
    }
}

pub(crate) fn cancel(request: v1::LockCancelRequest) -> Result<Envelope, Invalid> {
    if request.session_id == 0 || request.sequence == 0 {
        return Err(invalid(
            "INVALID_ORIGIN",
            "name the session and the sequence that the lock was asked for under",
        ));
    }
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: Caller::Anonymous,
        guard: None,
        command: Command::LockCancel(LockCancel {
            session: SessionId(request.session_id),
            sequence: Sequence(request.sequence),
        }),
    })
}

pub(crate) fn cancelled(outcome: Outcome) -> Result<v1::LockCancelResponse, Refused> {
    match outcome {
        Outcome::LockRelease { released, .. } => {
            Ok(v1::LockCancelResponse { cancelled: released > 0 })
        }
        other => Err(unexpected(other)),
    }
}

pub(crate) fn renew(request: v1::LockRenewRequest) -> Result<HeldLock, Invalid> {
    Ok(HeldLock {
        namespace: namespace(request.namespace)?,
        name: lock_name(request.name)?,
        token: token(request.fencing_token)?,
    })
}

pub(crate) fn release(request: v1::LockReleaseRequest) -> Result<Envelope, Invalid> {
    let release =
        LockRelease { name: lock_name(request.name)?, token: token(request.fencing_token)? };
    Ok(Envelope {
        namespace: namespace(request.namespace)?,
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        command: Command::LockRelease(release),
    })
}

pub(crate) fn released(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::LockReleaseResponse, Refused> {
    match outcome {
        Outcome::LockRelease { released, revision } => Ok(v1::LockReleaseResponse {
            released: released > 0,
            revision: revision.0,
            group_id: group.0,
        }),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn force_release(request: v1::LockForceReleaseRequest) -> Result<Envelope, Invalid> {
    Ok(Envelope {
        caller: caller(&request.origin)?,
        guard: guard(request.origin)?,
        namespace: namespace(request.namespace)?,
        command: Command::LockForceRelease(LockForceRelease { name: lock_name(request.name)? }),
    })
}

pub(crate) fn force_released(
    outcome: Outcome,
    group: GroupId,
) -> Result<v1::LockForceReleaseResponse, Refused> {
    match outcome {
        Outcome::LockRelease { released, revision } => {
            Ok(v1::LockForceReleaseResponse { released, revision: revision.0, group_id: group.0 })
        }
        other => Err(unexpected(other)),
    }
}

/// A checked `Inspect`.
#[derive(Clone, Debug)]
pub(crate) struct Inspect {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) fresh: Freshness,
}

pub(crate) fn inspect(request: v1::LockInspectRequest) -> Result<Inspect, Invalid> {
    Ok(Inspect {
        namespace: namespace(request.namespace)?,
        name: lock_name(request.name)?,
        fresh: freshness(request.consistency, request.min_revision)?,
    })
}

pub(crate) fn watch(request: v1::LockWatchRequest) -> Result<(String, String), Invalid> {
    Ok((namespace(request.namespace)?, lock_name(request.name)?))
}

/// A checked `List`.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) namespace: String,
    pub(crate) selection: KeySelection,
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
    pub(crate) fresh: Freshness,
}

pub(crate) fn list(request: v1::LockListRequest) -> Result<List, Invalid> {
    let selector = selector(request.selector).unwrap_or(KeySelector::Prefix(Bytes::new()));
    let after = (!request.cursor.is_empty()).then_some(request.cursor);
    Ok(List {
        namespace: namespace(request.namespace)?,
        selection: selector.select().map_err(|rejection| unselectable(&rejection))?,
        after: after.map(lock_name).transpose()?,
        limit: match request.limit {
            0 => 100,
            some => some.min(1_000) as usize,
        },
        fresh: freshness(request.consistency, request.min_revision)?,
    })
}

pub(crate) fn listed(page: LockPage, revision: Revision, group: GroupId) -> v1::LockListResponse {
    v1::LockListResponse {
        locks: page.locks.into_iter().map(|(name, item)| entry(name, Some(item))).collect(),
        cursor: page.cursor.unwrap_or_default(),
        revision: revision.0,
        group_id: group.0,
    }
}

pub(crate) fn entry(name: String, item: Option<LockItem>) -> v1::LockEntry {
    let item = item.unwrap_or_default();
    let holders = item.holders.into_iter().map(|holder| {
        let (mode, permits) = match holder.share {
            Share::Exclusive => (v1::LockMode::Exclusive, 0),
            Share::Shared => (v1::LockMode::Shared, 0),
            Share::Permit { of } => (v1::LockMode::Permit, of),
        };
        v1::LockHolder {
            fencing_token: holder.token.0,
            session_id: holder.session.0,
            mode: mode.into(),
            permits,
            ttl_ms: holder.ttl_ms,
            held_ms: holder.held_ms,
            revision: holder.revision.0,
        }
    });
    v1::LockEntry { name, holders: holders.collect(), waiters: item.waiters }
}

pub(super) fn token(token: u64) -> Result<FencingToken, Invalid> {
    match token {
        0 => Err(invalid(
            "NO_TOKEN",
            "fencing_token is 0; name the token that the grant answered, which inspect shows too",
        )),
        some => Ok(FencingToken(some)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::LockAcquireRequest {
        let origin = v1::Origin { session_id: 4, sequence: 1, floor: 1, ..Default::default() };
        v1::LockAcquireRequest {
            origin: Some(origin),
            name: "l".to_owned(),
            ttl_ms: 30_000,
            ..Default::default()
        }
    }

    fn reason(request: v1::LockAcquireRequest) -> &'static str {
        acquire(request, Attachment::default()).unwrap_err().reason
    }

    #[test]
    fn an_acquire_becomes_its_command() {
        let asked = v1::LockAcquireRequest { mode: 3, permits: 7, wait_ms: 5, ..request() };
        let attachment = Attachment { node: quorate_state::NodeId(3), call: 9 };
        let Command::LockAcquire(command) = acquire(asked, attachment).unwrap().command else {
            panic!("no acquire")
        };
        let name = "l".to_owned();
        let share = Share::Permit { of: 7 };
        let expected = LockRequest { name, share, ttl_ms: 30_000, wait_ms: 5 };
        assert_eq!(command, LockAcquire { request: expected, attachment });
    }

    #[test]
    fn an_acquire_out_of_bounds_is_refused() {
        assert_eq!(reason(v1::LockAcquireRequest { origin: None, ..request() }), "NO_SESSION");
        for ttl_ms in [0, 99, 3_600_001, u64::MAX] {
            assert_eq!(reason(v1::LockAcquireRequest { ttl_ms, ..request() }), "INVALID_TTL");
        }
        let wait_ms = 86_400_001;
        assert_eq!(reason(v1::LockAcquireRequest { wait_ms, ..request() }), "INVALID_WAIT");
        let name = String::new();
        assert_eq!(reason(v1::LockAcquireRequest { name, ..request() }), "LOCK_NAME_EMPTY");
        let name = "x".repeat(1025);
        assert_eq!(reason(v1::LockAcquireRequest { name, ..request() }), "LOCK_NAME_TOO_LONG");
        assert_eq!(reason(v1::LockAcquireRequest { mode: 9, ..request() }), "UNKNOWN_MODE");
        for (mode, permits) in [(1, 2), (3, 0), (3, 1001)] {
            let wrong = v1::LockAcquireRequest { mode, permits, ..request() };
            assert_eq!(reason(wrong), "INVALID_PERMITS");
        }
    }

    #[test]
    fn a_token_must_be_named() {
        let asked = v1::LockReleaseRequest { name: "l".to_owned(), ..Default::default() };
        assert_eq!(release(asked).unwrap_err().reason, "NO_TOKEN");
        let asked = v1::LockRenewRequest { name: "l".to_owned(), ..Default::default() };
        assert_eq!(renew(asked).unwrap_err().reason, "NO_TOKEN");
        assert_eq!(cancel(Default::default()).unwrap_err().reason, "INVALID_ORIGIN");
    }
}
