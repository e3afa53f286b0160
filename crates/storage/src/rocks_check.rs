//! Looks at the files that RocksDB reads when it opens, for what it does not tell or not survive.
//!
//! It refuses a damaged record but does not always say which file it is in. On one whose type was
//! damaged into that of a recycled file it waits for ever (11.8, since its pull request 12643). And
//! it goes over an end that is torn off in a write-ahead log when the next one, of a build that did
//! not track them, does not say what it builds on.
//!
//! The format is stable and small: blocks of 32 KiB; in them fragments of
//! `{masked crc32c u32 LE, length u16 LE, type u8}` and a payload; no fragment spans two blocks. A
//! record is one fragment or several. In a write-ahead log it begins with
//! `{sequence number u64 LE, count of the writes in it u32 LE}`. In front of them may be one fragment
//! that says where the write-ahead log before this one ended.

use crate::Error;
use crate::files::{io_error, names_in, read_small};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
/// A record in one fragment; the first, a middle and the last fragment of one. The options in use
/// write no others.
const TYPE_FULL: u8 = 1;
const TYPE_FIRST: u8 = 2;
const TYPE_MIDDLE: u8 = 3;
const TYPE_LAST: u8 = 4;
/// The end of the write-ahead log before this one.
const TYPE_PREDECESSOR: u8 = 130;
/// Bytes of a pointer to a manifest, at most: its name and the end of the line.
const POINTER_BYTES_MAX: u64 = 64;
/// Bytes at the beginning of a record in a write-ahead log.
const RECORD_HEADER_BYTES: usize = 12;

/// What there is in a directory, when nothing in it is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) write_ahead_logs: usize,
    /// Sequence numbers are missing between two write-ahead logs. What was in the earlier one may be
    /// in tables; if not, RocksDB drops what lies behind.
    pub(crate) hole: bool,
    /// The last sequence number in any of them; 0 without one.
    pub(crate) last: u64,
}

/// Refuses a database whose manifest or write-ahead logs are damaged, or have a hole that RocksDB
/// would not see. An incomplete record at the end of a log is no damage.
pub(crate) fn check(dir: &Path) -> Result<Found, Error> {
    let mut found = Found::default();
    if !dir.is_dir() {
        return Ok(found);
    }
    if let Some(manifest) = manifest(dir)? {
        read(&manifest)?;
    }
    let mut before: Option<(PathBuf, Extent)> = None;
    for path in write_ahead_logs(dir)? {
        found.write_ahead_logs += 1;
        let extent = read(&path)?;
        let Some(sequences) = extent.sequences.clone() else {
            // Nothing in it that is whole: it only lengthens what the one before it lacks.
            if let Some((_, before)) = &mut before {
                before.torn |= extent.torn;
            }
            continue;
        };
        found.last = found.last.max(sequences.end.saturating_sub(1));
        if let Some((earlier, known)) = before {
            let end = known.sequences.as_ref().map_or(sequences.start, |known| known.end);
            if end < sequences.start {
                found.hole = true;
                if known.torn && !extent.tracked {
                    return Err(untracked(&earlier, end, &path, sequences.start));
                }
            }
        }
        before = Some((path, extent));
    }
    Ok(found)
}

/// The manifest that the pointer names; none before there is a pointer.
///
/// RocksDB tells of a damaged one by the name of a manifest that never was.
fn manifest(dir: &Path) -> Result<Option<PathBuf>, Error> {
    let pointer = dir.join("CURRENT");
    let Some(content) = read_small(&pointer, POINTER_BYTES_MAX)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&content);
    let named = text.strip_suffix('\n').filter(|name| {
        name.strip_prefix("MANIFEST-")
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    match named.map(|name| dir.join(name)) {
        Some(manifest) if manifest.is_file() => Ok(Some(manifest)),
        _ => Err(Error::Corrupt {
            location: pointer.display().to_string(),
            reason: format!("it names {text:?}, and there is no such manifest"),
        }),
    }
}

/// A write-ahead log whose end is missing may not be followed by one that goes on behind that and
/// does not say so: recovery might replay one after the other as if nothing had been between them.
///
/// A power failure may do this, too: neither may have been synced, and a disk writes what is not
/// in any order. What remains is still a log that this node never had.
fn untracked(earlier: &Path, end: u64, later: &Path, start: u64) -> Error {
    Error::Corrupt {
        location: earlier.display().to_string(),
        reason: format!(
            "its end is torn off, and sequence numbers {end} to {} with it, which {} builds on",
            start - 1,
            later.display()
        ),
    }
}

/// The write-ahead logs in `dir`, oldest first.
fn write_ahead_logs(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut logs: Vec<(u64, PathBuf)> = names_in(dir)?
        .iter()
        .filter_map(|name| Some((name.strip_suffix(".log")?.parse().ok()?, dir.join(name))))
        .collect();
    logs.sort();
    Ok(logs.into_iter().map(|(_, path)| path).collect())
}

/// What the complete records of a file cover.
#[derive(Debug, Default, PartialEq, Eq)]
struct Extent {
    /// Their sequence numbers; none without a record. Of no meaning in a manifest.
    sequences: Option<Range<u64>>,
    /// Something follows the last of them.
    torn: bool,
    /// It says where the write-ahead log before it ended.
    tracked: bool,
}

fn read(path: &Path) -> Result<Extent, Error> {
    let content = fs::read(path).map_err(|error| io_error("read", path, &error))?;
    extent_of(&content).map_err(|(offset, reason)| Error::Corrupt {
        location: format!("{} at offset {offset}", path.display()),
        reason,
    })
}

/// Walks over the records; the error says where one is damaged, and how.
fn extent_of(content: &[u8]) -> Result<Extent, (usize, String)> {
    let mut sequences: Option<Range<u64>> = None;
    let mut tracked = false;
    // The beginning of the record that is under way.
    let mut record: Vec<u8> = Vec::new();
    let mut end = 0;
    'blocks: for (number, block) in content.chunks(BLOCK_BYTES).enumerate() {
        let mut at = 0;
        while let Some((header, rest)) = block[at..].split_first_chunk::<HEADER_BYTES>() {
            let &[a, b, c, d, low, high, kind] = header;
            let len = usize::from(u16::from_le_bytes([low, high]));
            let offset = number * BLOCK_BYTES + at;
            if kind == 0 && len == 0 {
                // Zeros: space that was allocated ahead, to the end of the block.
                break;
            }
            if is_recycled(kind) {
                return Err((offset, format!("a record of type {kind}, which is never written")));
            }
            let Some(payload) = rest.get(..len) else {
                // Incomplete; damage unless it is the end of the file.
                if block.len() == BLOCK_BYTES {
                    return Err((offset, format!("a record of {len} bytes passes its block")));
                }
                break 'blocks;
            };
            let stored = u32::from_le_bytes([a, b, c, d]);
            let computed = mask(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
            if stored != computed {
                let reason = format!("stored checksum {stored:08x}, computed {computed:08x}");
                return Err((offset, reason));
            }
            at += HEADER_BYTES + len;
            match kind {
                TYPE_FULL | TYPE_FIRST => record.clear(),
                TYPE_MIDDLE | TYPE_LAST => {}
                TYPE_PREDECESSOR => {
                    tracked = true;
                    end = number * BLOCK_BYTES + at;
                    continue;
                }
                _ => continue,
            }
            let wanted = RECORD_HEADER_BYTES - record.len();
            record.extend_from_slice(&payload[..len.min(wanted)]);
            if kind == TYPE_FULL || kind == TYPE_LAST {
                end = number * BLOCK_BYTES + at;
                if let Some(Range { start, end: next }) = sequences_of(&record) {
                    let start = sequences.map_or(start, |known| known.start);
                    sequences = Some(start..next);
                }
            }
        }
    }
    Ok(Extent { sequences, torn: end < content.len(), tracked })
}

/// The sequence numbers of the writes in a record that begins so.
fn sequences_of(record: &[u8]) -> Option<Range<u64>> {
    let (first, count) = record.split_first_chunk::<8>()?;
    let first = u64::from_le_bytes(*first);
    let count = u32::from_le_bytes(count.try_into().ok()?);
    Some(first..first.checked_add(u64::from(count))?)
}

/// The types that RocksDB takes for those of a recycled file, whatever else is in the record.
fn is_recycled(kind: u8) -> bool {
    matches!(kind, 5..=8 | 11 | 131)
}

/// RocksDB stores checksums in this form, so that a checksum of data holding one stays good.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(kind: u8, payload: &[u8]) -> Vec<u8> {
        let crc = mask(crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload));
        let len = u16::try_from(payload.len()).expect("it is short");
        [&crc.to_le_bytes()[..], &len.to_le_bytes(), &[kind], payload].concat()
    }

    /// A record of one write, with this sequence number.
    fn write(sequence: u64) -> Vec<u8> {
        [&sequence.to_le_bytes()[..], &1_u32.to_le_bytes(), b"key and value"].concat()
    }

    fn extent(sequences: Range<u64>, torn: bool) -> Result<Extent, (usize, String)> {
        Ok(Extent { sequences: Some(sequences), torn, tracked: false })
    }

    #[test]
    fn records_in_one_fragment_and_in_several_are_counted() {
        assert_eq!(extent_of(&[]), Ok(Extent::default()));
        let mut content = fragment(TYPE_FULL, &write(5));
        assert_eq!(extent_of(&content), extent(5..6, false));
        // The header of the record itself is in three parts.
        let record = write(6);
        for (kind, part) in
            [(TYPE_FIRST, &record[..5]), (TYPE_MIDDLE, &record[5..9]), (TYPE_LAST, &record[9..])]
        {
            assert_eq!(extent_of(&content), extent(5..6, kind != TYPE_FIRST));
            content.extend(fragment(kind, part));
        }
        assert_eq!(extent_of(&content), extent(5..7, false));
        for len in 1..content.len() {
            let cut = extent_of(&content[..len]).expect("a cut is no damage");
            assert!(cut.torn || len == fragment(TYPE_FULL, &write(5)).len(), "cut at {len}");
        }
        content.extend([0; 100]);
        assert_eq!(extent_of(&content), extent(5..7, true));
    }

    #[test]
    fn every_flipped_bit_is_damage_or_the_end() {
        let content = [fragment(TYPE_FULL, &write(5)), fragment(TYPE_FULL, &write(6))].concat();
        let mut told = 0;
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match extent_of(&damaged) {
                Err(_) => told += 1,
                // A length that is too long.
                Ok(extent) => assert!(extent.torn, "bit {bit}"),
            }
        }
        assert!(told > content.len() * 7, "only {told} were told");
    }

    /// What a write-ahead log says of the one before it is no record and no torn end.
    #[test]
    fn the_end_of_the_log_before_is_no_torn_end() {
        let predecessor = fragment(TYPE_PREDECESSOR, &[7; 24]);
        let tracked = Extent { tracked: true, ..Extent::default() };
        assert_eq!(extent_of(&predecessor), Ok(tracked));
        let content = [predecessor, fragment(TYPE_FULL, &write(5))].concat();
        let extent = extent_of(&content).expect("it is whole");
        assert_eq!(extent, Extent { sequences: Some(5..6), torn: false, tracked: true });
    }

    /// RocksDB never comes back from them, also where they are no whole record.
    #[test]
    fn types_of_recycled_files_are_damage_everywhere() {
        for kind in [5, 6, 7, 8, 11, 131] {
            let mut content = fragment(TYPE_FULL, &write(5));
            let offset = content.len();
            content.extend(fragment(kind, b"whatever"));
            for len in [content.len(), offset + HEADER_BYTES] {
                let (at, reason) = extent_of(&content[..len]).expect_err("it is damage");
                assert_eq!(at, offset);
                assert!(reason.contains(&format!("type {kind}")), "{reason}");
            }
        }
    }
}
