//! Durable storage: Raft log, hard state, state tables, snapshots, identity.
mod error;
mod files;
pub mod identity;
pub mod log;
pub mod memory;
mod rocks;
mod sealed;
pub mod snapshot;
pub mod state;
mod stores;
mod tuning;
pub use error::Error;
pub use files::available_bytes;
pub use rocks::Budget;
pub use stores::{Offload, Storage, Stores};
pub use tuning::Tuning;
