//! Writers that never stop, remember what they were promised, and hold the cluster to it.
//!
//! ```no_run
//! # async fn test(endpoints: Vec<String>) -> anyhow::Result<()> {
//! use quorate_testkit::load::{Load, Plan};
//!
//! let load = Load::start(&endpoints, Plan::default()).await?;
//! // ... kill, pause and restart nodes ...
//! let ledgers = load.stop().await?;
//! let totals = ledgers.verify(&endpoints).await?;
//! println!("{} writes were acknowledged, and all of them are there", totals.acknowledged);
//! # Ok(())
//! # }
//! ```
//!
//! Guarantees:
//! - Each writer has keys and a counter that nobody else writes, and one call at a time, so what
//!   the cluster may hold is known exactly: the last acknowledged value, or one of the later ones
//!   whose outcome is unknown. A write that failed as not applied must never show.
//! - Versions and sums are checked with every answer, so a lost or doubled write is noticed even
//!   where a later one covers it.
//! - Most writers wait until they are answered, whoever dies meanwhile: to them no outcome may stay
//!   unknown, and a counter that they share must be exactly the sum of what was acknowledged.
//! - The others give up early; of their shared counter only the unknown ones may be missing.
//! - Time without an acknowledged write is measured where it is felt: in the writers.

mod failover;
mod ledger;
mod meter;
mod summary;
mod writer;

pub use failover::{Failover, Kill, KillRound, Report, wait_healthy};
pub use ledger::{Ledgers, Totals};
pub use meter::Gap;
pub use summary::{Summary, table};
pub use writer::{Load, Plan};
