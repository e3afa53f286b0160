//! What Quorate is tested with, by its own tests and by those of its users.
//!
//! - [`chaos`]: real processes under everything that goes wrong, and ten kinds of work that are checked.
//! - [`collector`]: takes the traces that nodes send.
//! - [`conformance`]: what every adapter of `quorate_client::broker` has to do, as checks.
//! - [`frozen`]: data directories as earlier builds left them.
//! - `fuzz`, with the feature `fuzzing`: every decoder there is, fed what is nearly right.
//! - [`history`]: one recorder of what clients asked and were told, and one checker that says
//!   whether a linearizable service could have answered like that.
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

pub mod chaos;
pub mod collector;
pub mod conformance;
pub mod frozen;
#[cfg(feature = "fuzzing")]
pub mod fuzz;
pub mod history;
pub mod load;
pub mod process;
pub mod program;
pub mod redis_server;
pub mod repeat;
pub mod scale;
pub mod sim;
mod work;
