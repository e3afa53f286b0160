//! What Quorate is tested with, by its own tests and by those of its users.
//!
//! Users find what they need at the top: [`TestBroker`], a broker in memory whose time can be advanced;
//! [`TestCluster`], a cluster in memory, and [`ProcessCluster`], one of processes, whose nodes can be killed
//! and cut off from each other. `docs/testing.md` shows how.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), quorate_client::Error> {
//! use quorate_testkit::{TestBroker, Time as _};
//!
//! let broker = TestBroker::start().await;
//! let held = broker.client().locks().acquire("reports").ttl(10.s()).await?;
//! broker.advance(10.s()).await;
//! let next = broker.client().locks().acquire("reports").no_wait().await?;
//! assert!(next.fencing_token() > held.fencing_token());
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! - [`chaos`]: real processes under everything that goes wrong, and ten kinds of work that are checked.
//! - [`collector`]: takes the traces that nodes send.
//! - [`conformance`]: what every adapter of `quorate_client::broker` has to do, as checks.
//! - [`frozen`]: data directories as earlier builds left them.
//! - `fuzz`, with the feature `fuzzing`: every decoder there is, fed what is nearly right.
//! - [`history`]: one recorder of what clients asked and were told, and one checker that says
//!   whether a linearizable service could have answered like that.
//! - [`in_memory`]: a broker, or a cluster, inside the process of a test, whose time can be advanced.
//! - [`load`]: writers that remember what was acknowledged to them, and check that it is there.
//! - [`process`]: a cluster of real `quorate serve` processes that can be killed, paused and
//!   restarted.
//! - [`program`]: how the programs behind the scripts run.
//! - [`redis_server`]: a real Redis server, for the adapter that uses one.
//! - [`repeat`]: commands that a failing test prints, so that they can be pasted.
//! - [`scale`]: what the programs share that fill a cluster and measure.
//! - [`sim`]: the whole cluster in one thread and in simulated time, replayable by seed.
//! - `work`: ten kinds of work whose answers are checked, done by [`chaos`] and by [`sim`].
//!
//! Deliberately absent: the workloads of single tests. They live with the test that needs them.

#![deny(missing_docs)]

pub mod chaos;
pub mod collector;
pub mod conformance;
pub mod frozen;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod history;
pub mod in_memory;
pub mod load;
pub mod process;
pub mod program;
pub mod redis_server;
pub mod repeat;
pub mod scale;
pub mod sim;
mod work;

pub use in_memory::{TestBroker, TestCluster, Time};
pub use process::ProcessCluster;

/// What the handbook shows compiles, and runs where that needs no processes.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
struct Testing;

/// As above.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
struct Embedding;
