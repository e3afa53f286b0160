//! Consensus: one Raft group's replica behind the façade [`Replica`].
//!
//! # Guarantees
//! - A command that [`Replica::propose`] answers was fsynced by a majority, and applied where it
//!   was proposed, before the answer.
//! - A failed command says whether it may still have an effect ([`field@Failure::unknown`]); what is
//!   called not applied never takes effect.
//! - [`Replica::read`] is linearizable on every node: each read is behind a ReadIndex round that
//!   began after it. No leases, so no assumption about clocks.
//! - A node only speaks with the cluster, node and data directory it means; a wiped directory is
//!   told from the one that was admitted.
//! - Storage failures stop the node ([`Replica::ended`]); so does its being removed from the cluster.
//! - What is planned for members comes about, whoever leads: one step at a time, each from the
//!   membership it finds.
//! - Nothing goes into the log that a member could not read, and no node takes part that could not read
//!   what may be in it: the cluster's feature level is raised once all members know a higher one.
//!
//! # Invariants
//! - purged ≤ snapshot ≤ applied ≤ committed ≤ last, and applied ≤ what this node's own log has on
//!   disk.
//! - Lease time never runs faster than a monotonic clock, and only while a leader has a quorum.
//! - A forwarded request is never forwarded again.
//!
//! # Deliberately absent
//! - openraft's types: nothing of it is visible outside this crate, and no other crate names it.
//! - Leases for reads, log reversion, restoring leadership after a restart.
//! - More than one group; a way back to a quorum for a cluster that has lost it.
//!
//! The way of a write: [`Replica::propose`] → (forward → net::service on the leader) →
//! proposer → openraft → log_adapter / net::raft_network → machine_adapter → outcome.

mod admission;
mod anew;
mod announce;
mod aside;
mod backlog;
mod barrier;
mod bootstrap;
mod catch_up;
mod clock;
mod cuts;
mod failure;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
pub mod io;
mod keep_alive;
mod lane;
mod leader;
mod leaps;
mod leases;
mod levels;
mod log_adapter;
mod machine_adapter;
mod maintenance;
mod members;
mod net;
mod node;
mod pace;
#[cfg(feature = "planted-faults")]
mod planted;
mod proposer;
mod removal;
mod replica;
pub mod runtime;
mod status;
#[cfg(test)]
mod storage_suite;
mod trace;
mod transfer;
mod turns;
mod types;
mod weight;
mod wire;

pub use admission::Origin;
pub use anew::begin_anew;
pub use aside::{AsideDowns, AsideUps, LeaderWatch};
pub use bootstrap::StartError;
pub use clock::{SystemClock, WallClock};
pub use failure::{Failure, Reason};
pub use health::{ELECTIONS_MAX, SyncTimes};
pub use lane::{Lane, Submission};
pub use leaps::Leaps;
pub use machine_adapter::Applied;
pub use maintenance::FREE_BYTES_MIN;
pub use node::{Joined, Left, Node, NodeOptions};
pub use pace::{SnapshotRule, Timing};
pub use proposer::Committed;
pub use replica::{Applies, Counters, Ended, Load, Replica};
pub use status::{ClockOffset, Heard, NodeStatus, Role};
pub use trace::{Passage, Trace};
