//! TLS from files: certificates, keys and authorities, read again when they change.
//!
//! ```text
//!  ServerFiles ─┐                 ┌─► rustls::ServerConfig   for each connection the newest
//!               ├─► Reloading ────┤
//!  ClientFiles ─┘   (look again)  └─► rustls::ClientConfig
//! ```
//!
//! # Guarantees
//! - **What is in force works.** Files that can't be read, that do not belong together or that are half
//!   written change nothing: what was read before stays, and the error says which file, and why.
//! - **No connection is dropped by a change.** A connection keeps what it was made with; the next one
//!   is made with what is there then.
//! - **TLS 1.3 only**, with the cipher suites of rustls and ring.
//! - **No secret is told.** Errors name files and what is wrong with them, never what is in them.
//!
//! # Deliberately absent
//! Sockets and tasks: who uses a [`Reloading`] decides when it looks. Revocation lists: certificates
//! that are to end early end with their authority, or are kept short-lived.

mod client;
mod error;
mod expiry;
#[cfg(feature = "issue")]
pub mod issue;
mod name;
mod pem;
mod reload;
mod server;
mod subject;

pub use client::ClientFiles;
pub use error::Error;
pub use expiry::expires_unix_s;
pub use name::server_name;
pub use pem::read as read_file;
pub use reload::{Reload, Reloading, Source};
pub use server::ServerFiles;
pub use subject::subject;

/// The protocol of gRPC, as it is agreed on in a handshake.
pub const HTTP_2: &[u8] = b"h2";
/// The protocol of browsers and probes.
pub const HTTP_1: &[u8] = b"http/1.1";
