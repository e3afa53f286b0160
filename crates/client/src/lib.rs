//! The Rust client of Quorate.
//!
//! ```no_run
//! use quorate_client::{Client, Error};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::builder().endpoints(["127.0.0.1:8811", "127.0.0.1:8821"]).connect()?;
//! let kv = client.kv();
//!
//! let written = kv.set("greeting", "hello").ttl(Duration::from_secs(60)).await?;
//! let entry = kv.get("greeting").await?.expect("it was set a moment ago");
//! assert_eq!(entry.value, "hello");
//!
//! // Compare and set: somebody else may have been faster.
//! match kv.set("greeting", "good morning").if_version(written.version).await {
//!     Ok(written) => println!("now at version {}", written.version),
//!     Err(Error::ConditionFailed { version, .. }) => println!("it is at {version:?} by now"),
//!     // The answer was lost, and with it the knowledge whether the write happened.
//!     Err(error @ Error::Indeterminate { .. }) => println!("look before you repeat it: {error}"),
//!     Err(error) => return Err(error),
//! }
//! println!("{} visits", kv.increment("visits", 1).await?.value);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/quickstart.rs` is the same as a whole program: start a broker (`quorate serve`, or
//! `quorate dev --nodes 3`), then
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example quickstart`.
//! `examples/transfer.rs` moves money between two accounts with compare-and-set over both; see
//! [`txn`].
//!
//! `examples/watch.rs` keeps a copy of some keys by listing and watching them.
//!
//! `examples/cached_query.rs` caches a query that only one process at a time makes; see [`cache`].
//!
//! `examples/five_handles.rs` uses the five services through [`broker`], over a cluster or over Redis.
//!
//! Beside it, `leader_election.rs` and `fenced_write.rs` show what [`Locks`] are for, `pub_sub.rs` and
//! `work_coordination.rs` what the [`Bus`] is for.
//!
//! # What it guarantees
//!
//! - **A mutation has one effect, however often it was sent.** Each carries (session, sequence), or
//!   an idempotency key, and every retry repeats it. Nothing is ever sent again under a new name
//!   once it may have had its effect.
//! - **Failed and unknown are told apart.** [`Error::Indeterminate`] says that a mutation may have
//!   had its effect; every other error says that it has not, and will not (but for [`Error::NoReply`]:
//!   the message was sent, and not answered). An answer without the cluster's own mark counts as
//!   unknown.
//! - **A deadline holds**, retries, waiting and connecting included.
//! - **Any node will do.** Seeds are asked in random order; members and leader are learnt. A node
//!   that refuses, breaks or is silent is passed over, and tried again later.
//! - **What any node may answer is never older than what was seen**: reads of the cache carry the
//!   newest revision that any answer told of; see [`cache`].
//! - **Retries do not become the load**: they are spread by full jitter and limited by a
//!   [`RetryBudget`].
//! - **A watch sees each change once, in order**, those of one revision together, whatever becomes of
//!   the nodes; or it says [`Error::Compacted`], or that no node could be found in time.
//! - **A subscription sees each message at most once, in order**, and is told where some are missing.
//!   A message that is published has no name: once it may have been, it is not sent again.
//! - **Everything is bounded**: nodes, connections, sessions, and 1 024 unanswered mutations per
//!   namespace, past which calls wait for room, in order.
//!
//! # Invariants
//!
//! - `floor <= each unanswered sequence < floor + 1024` in every session (`window.rs`).
//! - A session's life is counted from the moment its keep-alive was sent, so it ends here before it
//!   ends in the cluster (`session.rs`).
//! - Time is tokio's, randomness has one source, connections have one: [`Dial`]. With
//!   [`Options::seed`] and a network of one's own, every run can be repeated.
//!
//! # The way of a call
//!
//! ```text
//! KeyValue, Cache, Locks, …        builds a request          bus/, cache/, kv/, lock/, queue/, txn/, …
//!   Inner::mutate          gives it a name: ticket of a session, or key   client.rs, session.rs
//!     Engine::call         attempts until answered or the deadline   call.rs, retry.rs
//!       Nodes::pick        which node                                nodes.rs
//!       Pool::connect      a connection to it                        pool.rs, dial.rs
//!       TraceContext       the span it is made in, if any            trace.rs
//!       Pipe::call         its place in the connection's pipeline    pipe.rs, method.rs
//!       Failure            what a status means                       failure.rs, error.rs
//! ```

#![deny(missing_docs)]

mod auth;
mod backup;
pub mod broker;
pub mod bus;
pub mod cache;
mod call;
mod client;
mod cluster;
mod credentials;
mod dial;
mod error;
mod failure;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod incoming;
pub mod kv;
pub mod lock;
mod method;
mod nodes;
mod options;
mod paged;
mod patience;
mod pipe;
mod pool;
pub mod queue;
mod random;
mod retry;
mod seen;
mod session;
mod sessions;
mod trace;
pub mod txn;
mod window;

pub use auth::{
    Action as AuthAction, Auth, Identity, NewToken, Role as AuthRole, Rule as AuthRule,
    Scope as AuthScope, Subject, TokenInfo,
};
pub use backup::{BackupFormat, BackupPiece};
pub use bus::{Bus, BusEvent, Content, Message, Subscription};
pub use cache::{Cache, CacheEntry};
pub use client::Client;
pub use cluster::{
    ClockOffset, Cluster, FsyncTimes, Member, MemberAim, MemberPlan, Members, NodeStatus, Role,
    StateHash, Status,
};
pub use credentials::Tls;
pub use dial::{Dial, Io, Tcp};
pub use error::Error;
pub use kv::{Entry, KeyValue};
pub use lock::{Lock, LockGuard, Locks};
pub use nodes::Routing;
pub use options::Options;
pub use queue::{Job, NewJob, Queue};
pub use retry::RetryBudget;
pub use sessions::{SessionInfo, Sessions};
pub use trace::TraceContext;
pub use txn::{Transaction, TxnOutcome, TxnResult};
