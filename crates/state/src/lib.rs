//! The deterministic state machine of Quorate: commands in, outcomes and table changes out.
//!
//! ```text
//!  log entry ──► Machine::apply ──► outcomes (to the callers), events (to whoever waits)
//!                  │        ▲
//!            put,  │        │ get, scan
//!            delete▼        │
//!                 Txn: ordered byte-key tables ──► Read: query::*, on any view, any thread
//! ```
//!
//! # Guarantees
//! - **Same entries, same bytes.** Two replicas that apply the same entries hold the same rows and
//!   give the same outcomes, whatever their clocks, hash seeds or transaction sizes. The rolling
//!   digest ([`query::digest`]) shows the first entry where that is not so.
//! - **One effect per request.** A request with a session's sequence or an idempotency key is
//!   executed at most once; a repetition gets the outcome of the first, rejections included.
//! - **All or nothing.** A command checks everything before it writes anything; the writes of a
//!   [`Transaction`] are kept aside until all of its operations went through, and what it changed
//!   in memory is put back when one did not.
//! - **Every change has its event.** A key's change and its row in the history are one batch; the
//!   events of a command share its revision, and replaying them gives the keys
//!   ([`query::kv_history`]).
//! - **Two kinds of failure.** A [`Rejection`] is an outcome; a [`Fatal`] stops the node. Neither
//!   ever becomes the other.
//! - **Bounded work.** An entry has at most [`limits::ENTRY_COMMANDS_MAX`] commands and sweeps at
//!   most [`limits::EXPIRE_PER_ENTRY_MAX`] items; what could take longer, as deleting by a pattern
//!   or ending sessions, is done in steps of so many keys, rows and bytes per entry ([`limits`]).
//!
//! # Invariants
//! Written down, and checked, in [`invariants`]. What the machine keeps in memory can be derived
//! from the tables at any time: [`Machine::open`] does, after a restart or a snapshot.
//!
//! # Deliberately absent
//! Threads, sockets, files, wall clocks, randomness, hash maps: time and identity come in with the
//! entry. Floating point, but for the one addition in [`Float`]'s file. No wire types either; the
//! server converts them at its door.
//! Membership and blank entries never come here; they are the consensus layer's.
//!
//! # Example
//! ```
//! use quorate_state::{
//!     Batch, Caller, Command, Envelope, GroupId, KvSet, LogIndex, Machine, MemoryTables, Outcome,
//!     Revision, Stamp, query,
//! };
//!
//! let group = GroupId(1);
//! let mut tables = MemoryTables::default();
//! let mut machine = Machine::open(group, &tables)?;
//!
//! let set = KvSet {
//!     key: "greeting".into(),
//!     value: "hello".into(),
//!     ttl_ms: Some(30_000),
//!     expect: Default::default(),
//!     owner: None,
//! };
//! let batch = Batch {
//!     stamp: Stamp { lease_ms: 100, wall_ms: 1_700_000_000_000 },
//!     commands: vec![Envelope {
//!         namespace: String::new(),
//!         caller: Caller::Anonymous,
//!         guard: None,
//!         command: Command::KvSet(set),
//!     }],
//! };
//! let applied = machine.apply(&mut tables, LogIndex(1), &batch)?;
//! assert_eq!(applied.outcomes, [Outcome::KvSet { version: 1, revision: Revision(1 << 12) }]);
//!
//! let item = query::kv_get(&tables, group, "", b"greeting")?.expect("it was just set");
//! assert_eq!(item.value, "hello");
//! assert_eq!(item.remaining_ttl_ms, Some(30_000));
//! # Ok::<(), quorate_state::Fatal>(())
//! ```

// Each ban and its reason are in this crate's clippy.toml.
#![deny(clippy::disallowed_types, clippy::disallowed_methods, clippy::float_arithmetic)]

mod access;
mod bounded;
mod bus;
mod cache;
pub mod codec;
mod command;
mod dedupe;
mod digest;
mod entry;
mod event;
mod expiry;
mod float;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod glob;
mod history;
mod ids;
pub mod invariants;
mod keys;
mod kv;
pub mod limits;
mod lock;
mod machine;
mod member;
mod membership;
mod memory;
mod outcome;
mod overlay;
#[cfg(feature = "planted-faults")]
pub mod planted;
pub mod query;
mod queue;
mod rejection;
pub mod restore;
mod rows;
mod schedule;
mod scope;
mod selector;
mod session;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod transaction;
mod txn;
mod undo;
mod walk;

/// Whether faults can be planted in this build, which is for tests then.
pub const HAS_PLANTED_FAULTS: bool = cfg!(feature = "planted-faults");

pub use bus::check_publication;
pub use command::*;
pub use entry::*;
pub use event::*;
pub use float::Float;
pub use history::{DeleteCause, HistoryPosition};
pub use ids::*;
pub use machine::*;
pub use membership::*;
pub use memory::MemoryTables;
pub use outcome::*;
pub use overlay::{Overlay, Writes};
pub use rejection::*;
pub use rows::{DeathCause, JobCounts, JobFailure, JobProgress, QueueTotals};
pub use selector::{KeySelection, KeySelector};
pub use txn::*;
