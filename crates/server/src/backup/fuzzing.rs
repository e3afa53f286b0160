//! What the fuzzers call on backup files.

use super::format::{HEAD_BYTES, Header, MAGIC};
use super::read::Backup;
use super::write::save;
use quorate_state::{GroupId, LogIndex, LogPosition, Read, Term, codec};
use std::ops::ControlFlow;
use std::path::Path;

/// A backup file, as it is and with checksums of its parts that fit: see [`crate::fuzzing`].
pub fn backup(bytes: &[u8]) -> bool {
    let as_it_is = read(bytes);
    read(&resealed(bytes)) || as_it_is
}

fn read(bytes: &[u8]) -> bool {
    let Ok(backup) = Backup::begin(Path::new("a.backup"), bytes, bytes.len() as u64) else {
        return false;
    };
    let mut rows = 0;
    let read = backup.rows(&mut |at, of| assert!(at <= of, "{at} of {of} bytes are read"), |_| {
        rows += 1;
        Ok(())
    });
    read.is_ok_and(|(_, end)| {
        assert_eq!(end.rows, rows, "it hands out as many rows as it counts");
        true
    })
}

/// The same with right checksums in front of as many parts as there are whole.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    let mut at = MAGIC.len() + 1;
    while let Some((head, behind)) =
        file.get(at..).and_then(<[u8]>::split_first_chunk::<HEAD_BYTES>)
    {
        let [_, a, b, c, d, ..] = *head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(body) = behind.get(..length) else { break };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..5]), body);
        file[at + 5..at + HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        at += HEAD_BYTES + length;
    }
    file
}

/// A file as it is written.
#[must_use]
pub fn backup_of(tables: &dyn Read) -> Vec<u8> {
    let header = Header {
        cluster_id: "c-1".to_owned(),
        node_id: 2,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: codec::FEATURE_LEVEL,
        group_id: 0,
        applied: LogPosition { term: Term(3), index: LogIndex(7) },
        revision: 7 << 12,
        made_wall_ms: 1_700_000_000_000,
        linearizable: true,
        membership: Default::default(),
    };
    let mut file = Vec::new();
    save(&header, tables, GroupId(0), &mut |piece, _| {
        file.extend(piece);
        ControlFlow::Continue(())
    })
    .expect("tables in memory are written");
    file
}
