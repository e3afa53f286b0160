//! Real processes under everything that goes wrong, and ten kinds of work whose answers are checked.
//!
//! The shape of a run:
//! - `net`: each node in a network namespace of its own, every packet through a switch of the test.
//!   Where the machine does not allow that, nodes are on loopback, and only what needs neither network
//!   nor disk of their own happens; the run says so.
//! - `shim`: what a node is made to believe of its clock and its disk.
//! - [`plan`]: what happens when. Drawn from a seed, or read from a file; JSON lines, so that a plan can
//!   be kept, cut down by hand and run again.
//! - `nemesis`: carries the plan out, and repairs everything at its end.
//! - `work`, beside this module: what is called, and what must hold of the answers.
//! - `report`, `plot`: a table and a picture of it all.
//!
//! Guarantees:
//! - A violation is one: each checker takes an unknown outcome for one that may have happened or not,
//!   and a wall clock for nothing.
//! - A workload that did too little to show anything fails the run, and so does a fault of the plan that
//!   did not come about.
//! - An unknown outcome while nothing was wrong, nor had been for a while, fails the run.
//! - Histories are kept as JSON lines, with the plan, the journal of the nemesis and the logs of the
//!   nodes; after a failure the data of the nodes as well.
//!
//! What may differ between two runs of one plan: everything but the plan. Processes, kernels and clocks
//! are real. For what repeats itself exactly there is [`crate::sim`].

mod members;
mod nemesis;
mod net;
mod partition;
pub mod plan;
mod plot;
mod report;
mod run;
mod shim;

pub use nemesis::Happened;
pub use plot::draw;
pub use report::{summary, table};
pub use run::{Hosts, Outcome, RECOVERY_MAX, Settings, run};
