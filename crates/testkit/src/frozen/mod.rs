//! Data directories as a build left them, to be opened by every later one.
//!
//! A frozen directory is an archive and, beside it, what clients read from it before its node was
//! killed: `tests/compat/data/<name>.tar.gz` and `<name>.json`. The program `quorate-freeze` makes
//! one with any build's binary, and the test `compat` opens them all. It holds what users store
//! ([`fill`]; not consumers, builds of the cache, invitations and plans for members), in a snapshot and in the log behind it.
//!
//! Both talk to the node by the generated types alone: what is frozen of the wire, too.

mod fill;
mod node;
mod read;

pub use fill::fill;
pub use node::FrozenNode;
pub use read::read;

use quorate_proto::v1::Origin;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longer than any test takes, and any release lives: a month, in lease time.
pub const LONG_MS: u64 = 30 * 24 * 3_600_000;
/// The lock that is held, and waited for.
pub const LOCK: &str = "leader";
/// The queue with jobs in every state.
pub const QUEUE: &str = "work";
/// The key that was added to under [`IDEMPOTENCY_KEY`].
pub const COUNTER: &str = "counter";
/// What is to be recognised when it is sent again.
pub const IDEMPOTENCY_KEY: &str = "frozen-increment";
/// The key that ends with its session.
pub const EPHEMERAL: &str = "ephemeral";
/// The tag that all entries of the cache have.
pub const TAG: &str = "all";

/// What is expected of a frozen directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expected {
    /// What the build that wrote it said it is.
    pub version: String,
    /// What one needs to go on where its clients were.
    pub handles: Handles,
    /// What clients read: see [`read`].
    pub contents: Value,
}

/// What clients knew when the node was killed.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Handles {
    /// The session that holds the lock, and owns [`EPHEMERAL`].
    pub owner: u64,
    /// What the lock is held under.
    pub token: u64,
    /// The session whose first request waits for the lock.
    pub waiter: u64,
    /// The job that was delivered.
    pub job: u64,
    /// What it was delivered under.
    pub lease: u64,
    /// What [`COUNTER`] was after it was added to.
    pub counted: i64,
}

/// The origin of a request of a session that has answered all before.
#[must_use]
pub fn in_session(session_id: u64, sequence: u64) -> Option<Origin> {
    Some(Origin { session_id, sequence, floor: sequence, ..Origin::default() })
}

/// The origin of a request that is recognised by a key.
#[must_use]
pub fn once(key: &str) -> Option<Origin> {
    Some(Origin { idempotency_key: key.as_bytes().to_vec().into(), ..Origin::default() })
}
