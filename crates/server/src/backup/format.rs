//! The file: what its parts are, and how each is told from damage.
//!
//! ```text
//! "quorate backup\0" version: u8
//! part*   where a part is  kind: u8, length: u32 BE, CRC-32C of kind, length and body: u32 BE, body
//!
//! kind 1  header, first and once: JSON
//! kind 2  rows, any number of times: one zstd frame of [key length: u32 BE][key][value length: u32 BE][value]…,
//!         keys in ascending order over all of them
//! kind 3  end, last and once: JSON
//! ```

use quorate_state::{LogPosition, StoredMembership};
use serde::{Deserialize, Serialize};

/// What the file begins with.
pub(super) const MAGIC: [u8; 15] = *b"quorate backup\0";
/// The version of the format.
pub(super) const VERSION: u8 = 1;
/// Bytes before a part's body.
pub(super) const HEAD_BYTES: usize = 9;
/// Bytes of a part's body, at most: rows of [`RAW_BYTES_MAX`] that zstd could do nothing about.
pub(super) const BODY_BYTES_MAX: usize = RAW_BYTES_MAX + (1 << 20);
/// Bytes of rows in one part, at most: [`BLOCK_BYTES`] and one row more.
pub(super) const RAW_BYTES_MAX: usize = 8 << 20;
/// Bytes of rows after which a part is closed.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// How hard zstd works: its default, which is faster than any disk or network it goes to.
pub(super) const ZSTD_LEVEL: i32 = 3;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Header = 1,
    Rows = 2,
    End = 3,
}

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Header),
            2 => Some(Self::Rows),
            3 => Some(Self::End),
            _ => None,
        }
    }
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster it is of.
    pub cluster_id: String,
    /// The node that made it.
    pub node_id: u64,
    /// The version of that.
    pub version: String,
    /// The feature level that a reader of its rows must know.
    pub feature_level: u8,
    /// The group.
    pub group_id: u32,
    /// The last entry that is in it.
    pub applied: LogPosition,
    /// The revision it is consistent at.
    pub revision: u64,
    /// Wall time, by that node's clock, at which it was made.
    pub made_wall_ms: u64,
    /// Whether the node had made sure that it contained all that was acknowledged before.
    pub linearizable: bool,
    /// Who belonged to the cluster.
    pub membership: StoredMembership,
}

/// What is behind the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How many rows there are.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// XXH3 of the header's body, in hexadecimal digits: these rows belong to that header.
    pub header: String,
    /// What the nodes' checksum is of the same state: see [`quorate_state::query::checksum`]. In
    /// hexadecimal digits.
    pub checksum: String,
}

/// A part, whole.
pub(super) fn part(kind: Kind, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("bodies are bounded far below 4 GiB");
    let mut part = Vec::with_capacity(HEAD_BYTES + body.len());
    part.push(kind as u8);
    part.extend(len.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&part), body);
    part.extend(crc.to_be_bytes());
    part.extend(body);
    part
}

/// The beginning of a file.
pub(super) fn opening() -> Vec<u8> {
    [&MAGIC[..], &[VERSION]].concat()
}
