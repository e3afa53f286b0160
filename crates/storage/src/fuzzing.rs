//! What the fuzzers call: each function takes any bytes as something that this crate reads from the
//! disk, asserts what must hold of what it accepted, and says whether it did.
//!
//! A checksum refuses almost everything that was changed. So each of these also looks at what the bytes
//! would be under a checksum that fits: what is behind it must hold as well, because a checksum is no
//! promise about a disk that was written by a faulty version.

use crate::log::record::{self, Committed, Key, Row};
use crate::log::{LogEntry, Payload, sync_mark};
use crate::snapshot::{SnapshotFile, manifest};
use crate::state::AppliedMeta;
use crate::state::generation::{self, Pointer};
use crate::{identity, sealed};
use bytes::Bytes;
use quorate_state::{
    Batch, EntryBody, GroupId, LogIndex, LogPosition, Member, Membership, NodeId, StoredMembership,
    Term, codec,
};
use std::path::Path;

/// The entry whose row [`log_record`] reads.
const ENTRY: LogIndex = LogIndex(258);

fn key(row: Row) -> Key {
    record::key(GroupId(0), row)
}

/// The value of a row of the log: of an entry, or of one of the two marks.
pub fn log_record(bytes: &[u8]) -> bool {
    let entry = key(Row::Entry(ENTRY));
    let value = Bytes::copy_from_slice(bytes);
    let as_it_is = record::decode_entry(&entry, ENTRY, &value).is_ok();
    let _ = record::entry_term(bytes);
    let _ = record::entry_index(GroupId(0), bytes);
    // Version and checksum are in front.
    let Some(body) = bytes.get(5..) else { return false };
    let value = Bytes::from(record::encode_row(&entry, &[body]));
    let entry_read = record::decode_entry(&entry, ENTRY, &value);
    if let Ok(read) = &entry_read {
        let encoded = record::encode_entry(&entry, read);
        match &read.payload {
            // A membership may have been written another way.
            Payload::Membership(_) => {
                let again = record::decode_entry(&entry, ENTRY, &encoded.into());
                let again = again.expect("what was encoded decodes");
                assert_eq!(format!("{again:?}"), format!("{read:?}"));
            }
            Payload::Blank | Payload::Commands(_) => assert_eq!(encoded, value),
        }
        let _ = record::weight(read);
    }
    let mark = record::decode_committed(body);
    if let Some(mark) = mark {
        let mark_key = key(Row::Committed);
        let encoded = record::encode_committed(&mark_key, mark);
        let row = record::decode_row(&mark_key, &encoded).expect("it was just encoded");
        assert_eq!(record::decode_committed(row), Some(mark));
    }
    as_it_is || entry_read.is_ok() || mark.is_some()
}

/// Rows as they are written.
#[must_use]
pub fn log_records(batches: &[Batch]) -> Vec<Vec<u8>> {
    let position = LogPosition { term: Term(3), index: ENTRY };
    let mut payloads = vec![Payload::Blank, Payload::Membership(membership())];
    payloads.extend(batches.iter().map(|batch| Payload::Commands(EntryBody::new(batch))));
    let entry = key(Row::Entry(ENTRY));
    let mut rows: Vec<_> = payloads
        .into_iter()
        .map(|payload| record::encode_entry(&entry, &LogEntry { position, payload }))
        .collect();
    let mark = key(Row::Committed);
    let held = Some(LogIndex(7));
    rows.push(record::encode_committed(&mark, Committed::default()));
    rows.push(record::encode_committed(&mark, Committed { position: Some(position), held: None }));
    rows.push(record::encode_committed(&mark, Committed { position: Some(position), held }));
    rows.push(record::encode_purged(&key(Row::Purged), position, ENTRY));
    rows
}

fn membership() -> Membership {
    let member = |uuid| Member {
        uuid,
        peer_addr: "127.0.0.1:8812".to_owned(),
        client_addr: "127.0.0.1:8811".to_owned(),
    };
    Membership {
        voters: vec![[NodeId(1), NodeId(2)].into(), [NodeId(2), NodeId(3)].into()],
        nodes: (1..=3).map(|node| (NodeId(node), member(u128::from(node) << 100))).collect(),
    }
}

/// The file beside the log that says how far it was synced.
pub fn synced_mark(bytes: &[u8]) -> bool {
    sync_mark::newest(bytes).is_some()
}

/// Such files as they are written.
#[must_use]
pub fn synced_marks() -> Vec<Vec<u8>> {
    [0, 258, u64::MAX].map(sync_mark::initial).into()
}

/// The file that says whose a directory is.
pub fn identity(bytes: &[u8]) -> bool {
    let path = Path::new("data");
    let Ok(found) = identity::parse(path, bytes) else { return false };
    let encoded = identity::encode(&found).expect("what was read can be written");
    let again = identity::parse(path, &encoded).expect("what was written can be read");
    assert_eq!(again, found);
    true
}

/// Such a file as it is written, and as earlier versions wrote it.
#[must_use]
pub fn identities() -> Vec<Vec<u8>> {
    let earlier = r#"{"format":1,"cluster_id":null,"node_id":2,"uuid":"01234567-89ab-4def-8123-456789abcdef"}"#;
    let joins = earlier.replace("null", r#""c-1""#).replace('}', r#","joins":true,"left":true}"#);
    let texts = [earlier.to_owned(), joins];
    let path = Path::new("data");
    let sealed = texts.iter().map(|text| {
        let identity = identity::parse(path, text.as_bytes()).expect("it is an identity");
        identity::encode(&identity).expect("it encodes")
    });
    let sealed: Vec<_> = sealed.collect();
    texts.into_iter().map(String::into_bytes).chain(sealed).collect()
}

/// The list of a snapshot's files, as it is stored beside them.
pub fn snapshot_manifest(bytes: &[u8]) -> bool {
    let as_it_is = manifest::parse(bytes).is_ok();
    let Ok((meta, files)) = manifest::parse(&resealed(bytes)) else { return as_it_is };
    let encoded = manifest::encode(&meta, &files);
    assert_eq!(manifest::parse(&encoded), Ok((meta, files.clone())));
    snapshot_files(files)
}

/// What a node is told of a snapshot that it is to be sent, before it creates anything by it.
pub fn snapshot_files(files: Vec<SnapshotFile>) -> bool {
    for file in &files {
        let _ = manifest::parse_dir_name(&file.name);
    }
    manifest::check(Path::new("data"), &files, 1 << 40).is_ok()
}

/// Such lists as they are written.
#[must_use]
pub fn snapshot_manifests() -> Vec<Vec<u8>> {
    let file = |name: &str, len| SnapshotFile { name: name.to_owned(), len, crc32c: 7 };
    let files = [file("CURRENT", 16), file("000012.sst", 1 << 20), file("MANIFEST-000005", 300)];
    let position = LogPosition { term: Term(3), index: ENTRY };
    let membership = StoredMembership { position: Some(position), membership: membership() };
    let meta = AppliedMeta { applied: Some(position), membership };
    vec![manifest::encode(&meta, &files), manifest::encode(&AppliedMeta::default(), &files[..1])]
}

/// The pointer to the state's current directory, and the two rows of the state beside the tables.
pub fn state_pointer(bytes: &[u8]) -> bool {
    let as_it_is = sealed::open::<Pointer>(bytes).is_ok();
    let pointer = sealed::open::<Pointer>(&resealed(bytes));
    if let Ok(pointer) = pointer {
        assert_eq!(sealed::open(&sealed::seal(&pointer)), Ok(pointer));
        let _ = generation::generation_dir(Path::new("data"), pointer.generation);
    }
    let rows = generation::decode_applied(Some(bytes)).is_ok()
        || generation::decode_membership(Some(bytes)).is_ok();
    as_it_is || pointer.is_ok() || rows
}

/// Such files and rows as they are written.
#[must_use]
pub fn state_pointers() -> Vec<Vec<u8>> {
    let position = LogPosition { term: Term(3), index: ENTRY };
    let membership = StoredMembership { position: Some(position), membership: membership() };
    vec![
        sealed::seal(&Pointer { generation: 2, installed: Some(position) }),
        sealed::seal(&Pointer::default()),
        codec::encode(&position),
        codec::encode(&membership),
    ]
}

/// The same with the checksum that fits.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let encoded = bytes.split_last_chunk::<4>().map_or(&[][..], |(encoded, _)| encoded);
    let mut sealed = encoded.to_vec();
    sealed.extend(crc32c::crc32c(encoded).to_be_bytes());
    sealed
}
