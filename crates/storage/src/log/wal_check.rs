//! Finds the damaged record of a RocksDB write-ahead log.
//!
//! RocksDB refuses to open a log with a damaged record but does not always say which file it is
//! in. The format is stable and small: blocks of 32 KiB; in them records of
//! `{masked crc32c u32 LE, length u16 LE, type u8}` and a payload; nothing spans two blocks.

use crate::files::names_in;
use std::fs;
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// Records of other types have longer headers; the options in use never write them.
const TYPE_LAST: u8 = 4;

/// The first damaged record in the write-ahead logs of the database in `dir`: file, offset and
/// what is wrong with it. An incomplete record at the end of a file is no damage.
pub(crate) fn find_damage(dir: &Path) -> Option<(PathBuf, u64, String)> {
    let names = names_in(dir).ok()?;
    for name in names.iter().filter(|name| name.ends_with(".log")) {
        let path = dir.join(name);
        let content = fs::read(&path).ok()?;
        if let Some((offset, what)) = damage_in(&content) {
            return Some((path, u64::try_from(offset).unwrap_or(u64::MAX), what));
        }
    }
    None
}

fn damage_in(content: &[u8]) -> Option<(usize, String)> {
    for (number, block) in content.chunks(BLOCK_BYTES).enumerate() {
        let mut at = 0;
        while let Some((header, rest)) = block[at..].split_first_chunk::<HEADER_BYTES>() {
            let &[a, b, c, d, low, high, kind] = header;
            let len = usize::from(u16::from_le_bytes([low, high]));
            if kind == 0 && len == 0 {
                // Zeros: space that was allocated ahead, to the end of the block.
                break;
            }
            let offset = number * BLOCK_BYTES + at;
            let Some(payload) = rest.get(..len) else {
                // Incomplete; damage unless it is the end of the file.
                if block.len() == BLOCK_BYTES {
                    return Some((offset, format!("a record of {len} bytes passes its block")));
                }
                return None;
            };
            let stored = u32::from_le_bytes([a, b, c, d]);
            let computed = mask(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
            if kind <= TYPE_LAST && stored != computed {
                return Some((
                    offset,
                    format!("stored checksum {stored:08x}, computed {computed:08x}"),
                ));
            }
            at += HEADER_BYTES + len;
        }
    }
    None
}

/// RocksDB stores checksums in this form, so that a checksum of data holding one stays good.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}
