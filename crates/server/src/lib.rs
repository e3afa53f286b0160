//! The server of Quorate: puts a node together from configuration, storage, consensus and network,
//! and serves clients.
//!
//! # Guarantees
//! - Every failed call says with a code, a stable word and a text what went wrong, and whether a
//!   mutation may still have an effect. A call is answered before its caller's deadline.
//! - Limits are checked at the door, once: nothing behind [`config`] and `wire` checks again.
//! - Nothing that comes in over a port can make the node panic or hold memory without a bound.
//! - A node that has failed for good ends its process with an error; one that is told to stop hands
//!   leadership over and answers what is under way first.
//! - A slow client of a watch costs one message and its selectors, and holds up nobody.
//! - A slow subscriber of the bus costs its buffer, and hears what it missed; it holds up nobody.
//! - A slow reader of the log never holds up a request, and neither does a collector of traces.
//!
//! # Three ways to start
//! - [`process::run`]: the real thing. TCP, RocksDB, signals; consensus has threads of its own.
//! - [`Node::builder`]: the same inside another program, without what is a process's: signals, the log.
//! - [`Server::start`]: the same services over connections and a node made elsewhere. Opens no
//!   socket, file or thread, so a simulation can run several in one.
//!
//! # Deliberately absent
//! - TLS and authentication. Without them a node listens on loopback only, unless told otherwise.

mod access;
pub mod backup;
mod bus;
mod cache;
pub mod config;
mod connections;
mod dashboard;
mod embedded;
mod exposition;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
pub mod host;
mod http;
mod join;
mod limits;
pub mod logging;
mod metrics;
mod news;
pub mod process;
mod schedules;
mod seldom;
mod server;
mod tls;
mod trace;
mod watch;
mod wire;

pub use embedded::{Node, NodeBuilder, Stopped};
pub use limits::CallerLimits;
pub use quorate_consensus::{ELECTIONS_MAX, FREE_BYTES_MIN};
pub use quorate_state::HAS_PLANTED_FAULTS;
#[cfg(feature = "planted-faults")]
pub use quorate_state::planted;
pub use server::{Auth, Server, ServerOptions};
pub use tls::{AuthFiles, ClientPort, PeerPort, TlsFiles};
