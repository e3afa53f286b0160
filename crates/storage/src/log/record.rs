//! How log rows are laid out in the database: keys in log order, values with a checksum.
//!
//! ```text
//! key    group u32 BE | kind u8 | index u64 BE (0 for all kinds but an entry)
//! value  version u8 | crc32c(key, body) u32 BE | body
//! entry  payload kind u8 | term u64 BE | payload
//! vote   as its owner encoded it
//! purge mark   position | index u64 BE below which the entries are gone from the database
//! commit mark  nothing, or position, or position | index u64 BE of what of it the log held
//! position     term u64 BE | index u64 BE
//! ```
//! The checksum covers the key, so a row that turns up in another place is noticed too. The bytes
//! are frozen by a test below.

use super::{LogEntry, Payload};
use bytes::Bytes;
use quorate_state::{EntryBody, GroupId, LogIndex, LogPosition, Term, codec};

/// Layout of every value.
const VERSION: u8 = 1;
/// Bytes in front of a value's body.
const HEADER_BYTES: usize = 5;
/// Bytes in front of an entry's payload.
const ENTRY_HEADER_BYTES: usize = HEADER_BYTES + 9;
/// Bytes of a position.
const POSITION_BYTES: usize = 16;
/// Bytes that an entry costs beside its payload, in memory and on disk, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A key of the log's database.
pub(crate) type Key = [u8; 13];

/// What a row is. The numbers are part of the format, and order the rows of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// Where the log begins.
    Purged,
    /// The vote.
    Vote,
    /// How far the group has committed.
    Committed,
    /// An entry.
    Entry(LogIndex),
}

/// The key of a row.
pub(crate) fn key(group: GroupId, row: Row) -> Key {
    let (kind, index) = match row {
        Row::Purged => (1, 0),
        Row::Vote => (2, 0),
        Row::Committed => (3, 0),
        Row::Entry(index) => (4, index.0),
    };
    let mut key = [0; 13];
    key[..4].copy_from_slice(&group.0.to_be_bytes());
    key[4] = kind;
    key[5..].copy_from_slice(&index.to_be_bytes());
    key
}

/// The index in an entry's key; none when it is another row's or another group's.
pub(crate) fn entry_index(group: GroupId, bytes: &[u8]) -> Option<LogIndex> {
    let bytes: &Key = bytes.try_into().ok()?;
    let (front, index) = bytes.split_at(5);
    let first = key(group, Row::Entry(LogIndex(0)));
    if front != &first[..5] {
        return None;
    }
    Some(LogIndex(u64::from_be_bytes(index.try_into().ok()?)))
}

/// The value of a row with this body.
pub(crate) fn encode_row(key: &Key, body: &[&[u8]]) -> Vec<u8> {
    let mut value =
        Vec::with_capacity(HEADER_BYTES + body.iter().map(|part| part.len()).sum::<usize>());
    value.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    for part in body {
        value.extend_from_slice(part);
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), &value[HEADER_BYTES..]);
    value[1..HEADER_BYTES].copy_from_slice(&crc.to_be_bytes());
    value
}

/// The body of a row, once it is known to be what was written. The error says what is wrong.
pub(crate) fn decode_row<'a>(key: &Key, value: &'a [u8]) -> Result<&'a [u8], String> {
    let Some((&[version, a, b, c, d], body)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("{} bytes are too few for a row", value.len()));
    };
    if version != VERSION {
        return Err(format!("unknown row version {version}, this build reads {VERSION}"));
    }
    let stored = u32::from_be_bytes([a, b, c, d]);
    let computed = crc32c::crc32c_append(crc32c::crc32c(key), body);
    if stored != computed {
        return Err(format!("checksum mismatch: stored {stored:08x}, computed {computed:08x}"));
    }
    Ok(body)
}

/// The value of an entry's row.
pub(crate) fn encode_entry(key: &Key, entry: &LogEntry) -> Vec<u8> {
    let term = entry.position.term.0.to_be_bytes();
    match &entry.payload {
        Payload::Blank => encode_row(key, &[&[0], &term]),
        Payload::Commands(body) => encode_row(key, &[&[1], &term, body.encoded()]),
        Payload::Membership(membership) => {
            encode_row(key, &[&[2], &term, &codec::encode(membership)])
        }
    }
}

/// The entry in a row. Commands stay encoded; they are checked by this row's checksum.
pub(crate) fn decode_entry(key: &Key, index: LogIndex, value: &Bytes) -> Result<LogEntry, String> {
    let body = decode_row(key, value)?;
    let Some((&[kind, ref term @ ..], payload)) = body.split_first_chunk::<9>() else {
        return Err(format!("{} bytes are too few for an entry", body.len()));
    };
    let payload = match kind {
        0 if payload.is_empty() => Payload::Blank,
        1 => {
            let encoded = value.slice(ENTRY_HEADER_BYTES..);
            Payload::Commands(EntryBody::from_encoded(encoded))
        }
        2 => Payload::Membership(codec::decode(payload).map_err(|error| error.to_string())?),
        _ => return Err(format!("unknown payload kind {kind} with {} bytes", payload.len())),
    };
    let term = Term(u64::from_be_bytes(*term));
    Ok(LogEntry { position: LogPosition { term, index }, payload })
}

/// The term in an entry's row. Only the database's own checksums vouch for it: for looking at
/// many rows.
pub(crate) fn entry_term(value: &[u8]) -> Option<Term> {
    let term = value.get(HEADER_BYTES + 1..ENTRY_HEADER_BYTES)?;
    Some(Term(u64::from_be_bytes(term.try_into().ok()?)))
}

/// The commit mark as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) position: Option<LogPosition>,
    /// What of it the log held when it was stored. Both travel in one stream with the entries,
    /// so a log that recovers with the mark has at least these.
    pub(crate) held: Option<LogIndex>,
}

/// The value of the purge mark.
pub(crate) fn encode_purged(key: &Key, through: LogPosition, hidden_from: LogIndex) -> Vec<u8> {
    let position = encode_position(through);
    encode_row(key, &[&position, &hidden_from.0.to_be_bytes()])
}

/// The value of the commit mark.
pub(crate) fn encode_committed(key: &Key, committed: Committed) -> Vec<u8> {
    let Some(position) = committed.position else { return encode_row(key, &[]) };
    let position = encode_position(position);
    match committed.held {
        None => encode_row(key, &[&position]),
        Some(held) => encode_row(key, &[&position, &held.0.to_be_bytes()]),
    }
}

/// The commit mark in a row's body.
pub(crate) fn decode_committed(body: &[u8]) -> Option<Committed> {
    if body.is_empty() {
        return Some(Committed::default());
    }
    let (position, held) = decode_mark(body)?;
    Some(Committed { position: Some(position), held })
}

/// A position, and an index if one follows.
pub(crate) fn decode_mark(body: &[u8]) -> Option<(LogPosition, Option<LogIndex>)> {
    let (position, rest) = body.split_first_chunk::<POSITION_BYTES>()?;
    let index = match rest {
        [] => None,
        rest => Some(LogIndex(u64::from_be_bytes(rest.try_into().ok()?))),
    };
    Some((decode_position(*position), index))
}

/// A position as bytes.
fn encode_position(position: LogPosition) -> [u8; POSITION_BYTES] {
    let mut bytes = [0; POSITION_BYTES];
    bytes[..8].copy_from_slice(&position.term.0.to_be_bytes());
    bytes[8..].copy_from_slice(&position.index.0.to_be_bytes());
    bytes
}

/// The position in these bytes.
fn decode_position(bytes: [u8; POSITION_BYTES]) -> LogPosition {
    let number = u128::from_be_bytes(bytes);
    let half = |shifted: u128| {
        u64::try_from(shifted & u128::from(u64::MAX)).expect("64 bits were masked out")
    };
    LogPosition { term: Term(half(number >> 64)), index: LogIndex(half(number)) }
}

/// About how many bytes an entry takes, on disk and on the wire.
pub(crate) fn weight(entry: &LogEntry) -> usize {
    ENTRY_OVERHEAD_BYTES
        + match &entry.payload {
            Payload::Blank => 0,
            Payload::Commands(body) => body.encoded().len(),
            // Rare and small: an estimate does.
            Payload::Membership(membership) => 128 * membership.nodes.len(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::{Batch, Caller, Command, Envelope, Member, Membership, NodeId, Stamp};

    const GROUP: GroupId = GroupId(7);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn entry(index: u64, payload: Payload) -> LogEntry {
        LogEntry { position: LogPosition { term: Term(3), index: LogIndex(index) }, payload }
    }

    fn commands() -> Payload {
        Payload::Commands(EntryBody::new(&Batch {
            stamp: Stamp { lease_ms: 5, wall_ms: 6 },
            commands: vec![Envelope {
                namespace: String::from("n"),
                caller: Caller::Anonymous,
                guard: None,
                command: Command::Tick,
            }],
        }))
    }

    fn membership() -> Payload {
        Payload::Membership(Membership {
            voters: vec![[NodeId(1)].into()],
            nodes: [(
                NodeId(1),
                Member {
                    uuid: 9,
                    peer_addr: String::from("a:1"),
                    client_addr: String::from("a:2"),
                },
            )]
            .into(),
        })
    }

    fn encoded(entry: &LogEntry) -> (Key, Vec<u8>) {
        let key = key(GROUP, Row::Entry(entry.position.index));
        let value = encode_entry(&key, entry);
        (key, value)
    }

    /// Directories written by one version are read by the next: these bytes never change.
    #[test]
    fn bytes_are_frozen() {
        assert_eq!(hex(&key(GROUP, Row::Purged)), "00000007010000000000000000");
        assert_eq!(hex(&key(GROUP, Row::Vote)), "00000007020000000000000000");
        assert_eq!(hex(&key(GROUP, Row::Committed)), "00000007030000000000000000");
        assert_eq!(hex(&key(GROUP, Row::Entry(LogIndex(258)))), "00000007040000000000000102");
        let (_, blank) = encoded(&entry(258, Payload::Blank));
        assert_eq!(hex(&blank), "01392186a1000000000000000003");
        let body = EntryBody::from_encoded(Bytes::from_static(b"as it was proposed"));
        let (_, commands) = encoded(&entry(258, Payload::Commands(body)));
        assert_eq!(
            hex(&commands),
            "014ca0e2bc0100000000000000036173206974207761732070726f706f736564"
        );
        let (_, membership) = encoded(&entry(258, membership()));
        assert_eq!(
            hex(&membership),
            "01f5ea9806020000000000000003010101010101010903613a3103613a32"
        );
    }

    #[test]
    fn bytes_of_marks_are_frozen() {
        let position = LogPosition { term: Term(3), index: LogIndex(258) };
        let purged = encode_purged(&key(GROUP, Row::Purged), position, LogIndex(17));
        assert_eq!(hex(&purged), "0163aa8b8b000000000000000300000000000001020000000000000011");
        let committed = |position, held| {
            hex(&encode_committed(&key(GROUP, Row::Committed), Committed { position, held }))
        };
        assert_eq!(committed(None, None), "01de8f2654");
        assert_eq!(committed(Some(position), None), "0112dcf61b00000000000000030000000000000102");
        assert_eq!(
            committed(Some(position), Some(LogIndex(257))),
            "01d42482cd000000000000000300000000000001020000000000000101"
        );
    }

    #[test]
    fn marks_come_back() {
        let position = LogPosition { term: Term(3), index: LogIndex(258) };
        for (position, held) in
            [(None, None), (Some(position), None), (Some(position), Some(LogIndex(257)))]
        {
            let key = key(GROUP, Row::Committed);
            let committed = Committed { position, held };
            let value = encode_committed(&key, committed);
            let body = decode_row(&key, &value).expect("it was whole");
            assert_eq!(decode_committed(body), Some(committed));
        }
        let key = key(GROUP, Row::Purged);
        let value = encode_purged(&key, position, LogIndex(17));
        let body = decode_row(&key, &value).expect("it was whole");
        assert_eq!(decode_mark(body), Some((position, Some(LogIndex(17)))));
        for len in (0..body.len()).filter(|len| *len != POSITION_BYTES) {
            assert_eq!(decode_mark(&body[..len]), None, "{len} bytes are no mark");
        }
    }

    #[test]
    fn the_term_is_found_without_decoding() {
        for payload in [Payload::Blank, commands(), membership()] {
            let (_, value) = encoded(&entry(258, payload));
            assert_eq!(entry_term(&value), Some(Term(3)));
        }
        assert_eq!(entry_term(&[0; ENTRY_HEADER_BYTES - 1]), None);
    }

    #[test]
    fn every_payload_comes_back() {
        for payload in [Payload::Blank, commands(), membership()] {
            let entry = entry(1, payload);
            let (key, value) = encoded(&entry);
            let back = decode_entry(&key, LogIndex(1), &Bytes::from(value)).expect("it was whole");
            assert_eq!(format!("{:?}", back.position), format!("{:?}", entry.position));
            match (&back.payload, &entry.payload) {
                (Payload::Blank, Payload::Blank) => {}
                (Payload::Commands(back), Payload::Commands(entry)) => {
                    assert_eq!(back.encoded(), entry.encoded());
                }
                (Payload::Membership(back), Payload::Membership(entry)) => assert_eq!(back, entry),
                other => panic!("another payload came back: {other:?}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (key, value) = encoded(&entry(1, commands()));
        for bit in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            decode_entry(&key, LogIndex(1), &Bytes::from(damaged)).expect_err("bit was flipped");
        }
        for len in 0..value.len() {
            let cut = Bytes::copy_from_slice(&value[..len]);
            decode_entry(&key, LogIndex(1), &cut).expect_err("it was cut");
        }
    }

    #[test]
    fn a_row_in_another_place_is_noticed() {
        let (_, value) = encoded(&entry(1, commands()));
        let elsewhere = key(GROUP, Row::Entry(LogIndex(2)));
        decode_entry(&elsewhere, LogIndex(2), &Bytes::from(value)).expect_err("it was moved");
    }

    #[test]
    fn keys_tell_their_index_and_group() {
        let entry = key(GROUP, Row::Entry(LogIndex(u64::MAX)));
        assert_eq!(entry_index(GROUP, &entry), Some(LogIndex(u64::MAX)));
        assert_eq!(entry_index(GroupId(8), &entry), None);
        assert_eq!(entry_index(GROUP, &key(GROUP, Row::Committed)), None);
        assert_eq!(entry_index(GROUP, b"short"), None);
    }

    #[test]
    fn positions_come_back() {
        let position = LogPosition { term: Term(u64::MAX - 1), index: LogIndex(u64::MAX) };
        assert_eq!(decode_position(encode_position(position)), position);
    }
}
