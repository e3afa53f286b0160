//! A cluster of real `quorate serve` processes, on loopback unless they have [`Hosts`] of their own, to be killed, paused and restarted.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use quorate_testkit::process::ProcessCluster;
//!
//! let mut cluster = ProcessCluster::start(3).await?;
//! let leader = cluster.wait_ready().await?;
//! cluster.kill(leader).await?;
//! cluster.wait_ready().await?; // the two others have a leader
//! cluster.restart(leader).await?;
//! cluster.wait_same_state().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Guarantees:
//! - What runs is the binary that ships, called as a user calls it.
//! - A node keeps its ports and its directory for as long as its cluster, also while it is down.
//!   No other cluster on the machine is given one of these ports.
//! - A node that ended by itself is an error of whatever is done to it or waited for next.
//! - Every wait has a deadline; past it the error says what each node answered last.
//! - Nodes that were started with [`Options::test_control`] can be cut off from each other, by
//!   themselves: no privileges are needed for that.
//! - Dropping the cluster kills its processes. If the test failed (it panics, or a method of the
//!   cluster failed), the directory with data and logs is kept, and its path and the last lines of
//!   the logs are printed; else it is removed. A node that panicked fails the test.
//!
//! Deliberately absent: a death signal for the children of a killed test, which needs unsafe code.
//! They are in the test's process group, which is what test runners and terminals kill.

mod binary;
mod cluster;
mod control;
mod host;
mod logs;
mod node;
mod options;
mod ports;
mod status;

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod fake_node;

pub use binary::{BINARY_ENV, find_binary};
pub use cluster::{NodeId, ProcessCluster};
pub use host::{Addrs, Host, Hosts};
pub use logs::LogScan;
pub use options::{KEEP_ENV, Options};
pub use ports::PortLease;
