//! Types generated from `proto/`, the codec they are sent with, and nothing else.
//!
//! Only `server::wire`, `client` and `consensus::wire` look inside: everywhere else the domain
//! types of `quorate-state` are spoken.

pub mod codec;
pub mod inspect;

/// Descriptions of all messages and services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The public API.
#[allow(clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// Node to node.
#[allow(clippy::all, reason = "generated code")]
pub mod peer {
    tonic::include_proto!("quorate.peer.v1");
}

/// Names of the metadata keys beside the messages.
pub mod metadata {
    /// Trailer of a failed call: `not_applied` or `unknown`.
    pub const OUTCOME: &str = "quorate-outcome";
    /// Trailer of a failed call: a stable upper-case word.
    pub const REASON: &str = "quorate-reason";
    /// Trailer of a failed condition: the version the key has; absent when the key is.
    pub const VERSION: &str = "quorate-version";
    /// Trailer of a watch whose changes are gone: the oldest revision one can begin from.
    pub const OLDEST_REVISION: &str = "quorate-oldest-revision";
    /// Metadata of every answer: client address of the leader.
    pub const LEADER: &str = "quorate-leader";
    /// Metadata of every call between nodes: an encoded `Hello`.
    pub const HELLO: &str = "quorate-peer-bin";
}
