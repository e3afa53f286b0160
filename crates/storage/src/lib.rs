//! Durable storage of one node: the Raft log and hard state of all its groups, and for each group
//! the applied state and the newest snapshot.
//!
//! ```text
//! <data directory>/identity.json, LOCK         whose it is; one process at a time
//! <data directory>/log/                        entries, votes, commit marks: the durability
//! <data directory>/groups/<id>/state/          applied state; behind the log after a crash
//! <data directory>/groups/<id>/snapshots/      checkpoints of the state
//! ```
//!
//! # Guarantees
//! - **A completion means on disk.** A [`log::Completion`] is called with `Ok` only after the
//!   device was synced with the write, and with everything submitted before it. All groups share
//!   one stream and one sync; see `log::flusher`.
//! - **Damage is told, not passed on.** Every log row has a checksum over its key and value, every
//!   table block and record of RocksDB has one, and so do the small files. What is missing without
//!   a wrong checksum is found by comparing: the log with how far it was synced (`log::sync_mark`)
//!   and with its commit mark, each entry with the one before it, each write-ahead log with the
//!   next (`log::recovery`), the state with the log, each file of a snapshot with its checksum before
//!   it is sent. All of these stop the node, or, where a read finds them, are noted for whoever does
//!   ([`Failures`]).
//! - **A commit is all or nothing**, also in a crash: one write batch, with the applied position
//!   in it. After a crash the state opens right after some earlier commit.
//! - **An install is all or nothing**: a new directory, then one rename. Readers keep what they
//!   have until they drop it.
//! - **A failure is final.** After a write or sync has failed nothing becomes durable any more: a
//!   failed sync may have dropped what it was to write, so it is never repeated.
//!
//! # Invariants
//! `purged ≤ applied (flushed) ≤ synced ≤ last`, by index. Opening refuses what breaks them, except
//! by an install that a crash interrupted, which it finishes (`stores`). Two of them are duties of
//! the caller:
//! - It purges the log only up to a snapshot that [`snapshot::SnapshotStore::build`] returned or
//!   [`state::StateStore::install`] installed: only that much of the state is certainly on disk.
//! - It commits an entry to the state only when [`log::LogStore::synced`] covers it, since the
//!   state may reach the disk at any moment.
//!
//! # Deliberately absent
//! Raft itself, the meaning of any row, networks, clocks and retries. A write-ahead log of the
//! state: the Raft log is one. Repair: a damaged copy is replaced by a new node, not guessed at.
//!
//! # Example
//! ```
//! use bytes::Bytes;
//! use quorate_state::GroupId;
//! use quorate_storage::{Stores, Tuning};
//!
//! let dir = tempfile::tempdir()?;
//! let stores = Stores::open(dir.path(), GroupId(1), &Tuning::default())?;
//! let (done, result) = std::sync::mpsc::channel();
//! let vote = Bytes::from_static(b"term 1, node 2");
//! stores.log.save_vote(vote.clone(), Box::new(move |synced| done.send(synced).unwrap()))?;
//! result.recv()??;
//! assert_eq!(stores.log.vote()?, Some(vote));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod durations;
mod error;
mod failures;
mod files;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod log;
pub mod memory;
mod rocks;
mod rocks_check;
mod sealed;
pub mod snapshot;
pub mod state;
mod stores;
mod tuning;

pub use durations::{Durations, Histogram, Recent};
pub use error::Error;
pub use failures::Failures;
pub use files::available_bytes;
pub use rocks::Budget;
pub use stores::{Offload, Storage, Stores};
pub use tuning::Tuning;
