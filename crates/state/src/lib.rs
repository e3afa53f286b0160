//! The deterministic state machine of Quorate: commands in, outcomes and table changes out.
pub mod codec;
mod command;
mod entry;
mod ids;
pub mod limits;
mod machine;
mod membership;
mod outcome;
pub mod query;
mod txn;
pub use command::*;
pub use entry::*;
pub use ids::*;
pub use machine::*;
pub use membership::*;
pub use outcome::*;
pub use txn::*;
