//! Durable storage: Raft log, hard state, state tables, snapshots, identity.
mod error;
pub mod log;
pub mod snapshot;
pub mod state;
pub use error::Error;
