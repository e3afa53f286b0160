//! Makes a backup from a view.

use super::format::{self, BLOCK_BYTES, End, Header, Kind, RAW_BYTES_MAX, ZSTD_LEVEL};
use quorate_state::query::{self, Checksum};
use quorate_state::{Fatal, GroupId, Read};
use std::ops::ControlFlow;
use xxhash_rust::xxh3::xxh3_64;

/// Takes what comes next of the file, and how many rows are in it so far; breaks when nobody wants
/// the rest.
pub(crate) type Sink<'a> = dyn FnMut(Vec<u8>, u64) -> ControlFlow<()> + 'a;

/// Why a backup was not made whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfinished {
    /// Nobody wants it any more.
    #[error("whoever asked for it is gone")]
    Unwanted,
    /// The tables failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// Something in them can't be written down.
    #[error("{0}")]
    Row(String),
}

/// Writes the whole file; reads all of the group's tables, in constant memory. Blocks.
pub(crate) fn save(
    header: &Header,
    tables: &dyn Read,
    group: GroupId,
    sink: &mut Sink<'_>,
) -> Result<(), Unfinished> {
    let encoded = serde_json::to_vec(header)
        .map_err(|error| Unfinished::Row(format!("the header does not encode: {error}")))?;
    let mut writer =
        Writer { block: Vec::new(), rows: 0, bytes: 0, sum: Checksum::default(), sink };
    let opening = [format::opening(), format::part(Kind::Header, &encoded)].concat();
    writer.hand_out(opening)?;
    let mut stopped = Ok(());
    let (from, to) = query::group_range(group);
    let scanned = tables.scan(&from, &to, &mut |key, value| {
        stopped = writer.row(key, value);
        if stopped.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    stopped?;
    scanned.map_err(Fatal::from)?;
    writer.close_block()?;
    let end = End {
        header: format!("{:016x}", xxh3_64(&encoded)),
        rows: writer.rows,
        bytes: writer.bytes,
        checksum: format!("{:016x}", writer.sum.digest()),
    };
    let end = serde_json::to_vec(&end)
        .map_err(|error| Unfinished::Row(format!("the end does not encode: {error}")))?;
    writer.hand_out(format::part(Kind::End, &end))
}

struct Writer<'a, 's> {
    block: Vec<u8>,
    rows: u64,
    bytes: u64,
    sum: Checksum,
    sink: &'a mut Sink<'s>,
}

impl Writer<'_, '_> {
    fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Unfinished> {
        let bytes = 8 + key.len() + value.len();
        if bytes > RAW_BYTES_MAX - BLOCK_BYTES {
            return Err(Unfinished::Row(format!("a row has {bytes} bytes, too many for a backup")));
        }
        self.sum.row(key, value);
        for field in [key, value] {
            let len = u32::try_from(field.len()).expect("it was just bounded");
            self.block.extend(len.to_be_bytes());
            self.block.extend(field);
        }
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        if self.block.len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), Unfinished> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = zstd::bulk::compress(&self.block, ZSTD_LEVEL)
            .map_err(|error| Unfinished::Row(format!("rows could not be compressed: {error}")))?;
        self.block.clear();
        self.hand_out(format::part(Kind::Rows, &packed))
    }

    fn hand_out(&mut self, piece: Vec<u8>) -> Result<(), Unfinished> {
        match (self.sink)(piece, self.rows) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Unfinished::Unwanted),
        }
    }
}
