//! Key-value: what its operations share.

use crate::keys::{Clock, DeadlineKind};
use crate::limits::KEY_BYTES_MAX;
use crate::rows::KvRow;
use crate::scope::{Scope, within};
use crate::{DeleteCause, Expect, Rejection, Revision, SessionId, Txn, expiry, history};

pub(crate) mod delete;
pub(crate) mod delete_pattern;
pub(crate) mod expire;
pub(crate) mod increment;
pub(crate) mod increment_float;
pub(crate) mod owned;
pub(crate) mod set;
pub(crate) mod walk;

pub(crate) fn check_key(key: &[u8]) -> Result<(), Rejection> {
    if key.is_empty() {
        return Err(Rejection::Invalid("the key is empty; name one of 1 byte or more".to_owned()));
    }
    within("key bytes", key.len(), KEY_BYTES_MAX)
}

/// Holds `expect` against the key as it is now (none when it is absent or expired).
fn check_expect(expect: Expect, live: Option<&KvRow<'_>>) -> Result<(), Rejection> {
    let version = live.map(|row| row.version);
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => version.is_none(),
        Expect::Version(expected) => version == Some(expected),
    };
    if holds { Ok(()) } else { Err(Rejection::ConditionFailed { version }) }
}

/// Version and create revision that the next write of a key gives it.
fn successor(live: Option<&KvRow<'_>>, revision: Revision) -> (u64, Revision) {
    live.map_or((1, revision), |row| (row.version + 1, row.create_revision))
}

/// Writes the row at `key` in place of `stored` (expired or not), keeps the deadlines exact, and
/// records the change. A key that expired and was not swept yet ends here, so that the history
/// has every end of a key.
fn replace(scope: &mut Scope<'_>, key: &[u8], stored: Option<&KvRow<'_>>, row: &KvRow<'_>) {
    let old_deadline_ms = stored.and_then(|row| row.deadline_ms);
    if old_deadline_ms != row.deadline_ms {
        if let Some(deadline_ms) = old_deadline_ms {
            expiry::unschedule(scope, Clock::Lease, deadline_ms, DeadlineKind::Kv, key);
        }
        if let Some(deadline_ms) = row.deadline_ms {
            expiry::schedule(scope, Clock::Lease, deadline_ms, DeadlineKind::Kv, key);
        }
    }
    owned::pass(scope, key, stored.and_then(|row| row.owner), row.owner);
    scope.txn.put(key, &row.encode());
    if stored.is_some_and(|stored| !stored.is_live(scope.lease_ms())) {
        history::deleted(scope, key, DeleteCause::Expired);
    }
    history::set(scope, key, row);
}

/// Deletes the row at `key`, and what belongs to it.
fn remove(
    scope: &mut Scope<'_>,
    key: &[u8],
    deadline_ms: Option<u64>,
    owner: Option<SessionId>,
    cause: DeleteCause,
) {
    if let Some(deadline_ms) = deadline_ms {
        expiry::unschedule(scope, Clock::Lease, deadline_ms, DeadlineKind::Kv, key);
    }
    owned::pass(scope, key, owner, None);
    scope.txn.delete(key);
    history::deleted(scope, key, cause);
}
