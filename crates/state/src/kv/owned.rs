//! Keys that end with a session.

use super::remove;
use crate::keys::{self, Key};
use crate::rows::KvRow;
use crate::scope::Scope;
use crate::{DeleteCause, Fatal, Read, SessionId, Txn, session};
use std::ops::ControlFlow;

/// Notes that a key changes from one owner to another; none is nobody.
pub(super) fn pass(
    scope: &mut Scope<'_>,
    key: &[u8],
    from: Option<SessionId>,
    to: Option<SessionId>,
) {
    if from == to {
        return;
    }
    if let Some(id) = from {
        scope.txn.delete(&keys::session_key(scope.group, id, key));
        session::disown_key(scope, id);
    }
    if let Some(id) = to {
        scope.txn.put(&keys::session_key(scope.group, id, key), &[]);
        session::own_key(scope, id);
    }
}

/// Deletes the keys of a session that ended; answers how many.
pub(crate) fn session_ended(scope: &mut Scope<'_>, id: SessionId) -> Result<usize, Fatal> {
    let (from, to) = keys::session_keys(scope.group, id);
    let mut owned = Vec::new();
    scope.txn.scan(&from, &to, &mut |key, _| {
        owned.push(key.to_vec());
        ControlFlow::Continue(())
    })?;
    for own in &owned {
        let Some(Key::Owned(_, rest)) = keys::parse(scope.group, own) else {
            return Err(Fatal::Invariant(format!("SESSION_KEY holds the key {own:02x?}")));
        };
        let key = keys::kv_of_rest(scope.group, rest);
        let Some(stored) = scope.txn.get(&key)? else {
            return Err(Fatal::Invariant(format!("session {id} owns the absent key {key:02x?}")));
        };
        // Expired or not: its sweep would not find its owner any more.
        let row = KvRow::decode(&stored)?;
        let cause = match row.is_live(scope.lease_ms()) {
            true => DeleteCause::SessionEnded,
            false => DeleteCause::Expired,
        };
        let (deadline_ms, owner) = (row.deadline_ms, row.owner);
        remove(scope, &key, deadline_ms, owner, cause);
    }
    Ok(owned.len())
}
