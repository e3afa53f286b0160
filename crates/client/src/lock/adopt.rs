//! Takes over a lock of which only the token is known.

use super::held::Grant;
use super::{Lock, Locks, inspect, renew};
use crate::Error;
use crate::call::Effect;
use crate::client::CallOptions;
use tokio::time::Instant;

pub(super) async fn adopt(
    locks: &Locks,
    name: String,
    token: u64,
    options: &CallOptions,
) -> Result<Lock, Error> {
    let plan = locks.inner.plan("lock adopt", Effect::Read, options);
    // Before the renewal: what is lost in between is not renewed.
    let state = inspect::send(locks, &plan, &name).await?;
    let holder = state.holders.into_iter().find(|holder| holder.fencing_token == token);
    let Some(holder) = holder else {
        return Err(Error::LockLost {
            reason: "LOCK_LOST".to_owned(),
            message: format!(
                "lock {name:?} is not held under token {token}: it was lost or given back; acquire \
                 it again before you go on"
            ),
        });
    };
    let renewed_at = Instant::now();
    let left = renew::send(locks, &plan, &name, token).await?;
    let grant = Grant { token, revision: holder.revision, session_id: holder.session_id };
    Ok(Lock::new(locks.clone(), name, grant, renewed_at + left))
}
