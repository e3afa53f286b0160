//! Node to node: who calls whom ([`hello`]), the channels ([`peers`]), openraft's network on them
//! ([`raft_network`], [`append_stream`], [`log_pace`]), and the service on the other side ([`service`], [`snapshot_service`]).

mod append_stream;
mod forwarded;
pub(crate) mod hello;
mod log_pace;
pub(crate) mod peers;
pub(crate) mod raft_network;
pub(crate) mod service;
pub(crate) mod snapshot_service;
