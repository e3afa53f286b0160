//! What the fuzzers call: each function takes any bytes as one of this crate's encodings, asserts what
//! must hold of what it accepted, and says whether it did.

use crate::float::Float;
use crate::glob::{Pattern, covers};
use crate::limits::KEY_BYTES_MAX;
use crate::query::{KvList, KvShow};
use crate::{
    AccessTokenId, Envelope, GroupId, KeySelector, Machine, Membership, MemoryTables, NodeId,
    Outcome, StoredMembership, Txn, codec, invariants, keys, query, restore,
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::ops::ControlFlow;

/// The group that the rows of [`tables`] are of.
pub const GROUP: GroupId = GroupId(0);

/// The payload of a log entry.
pub fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = codec::decode_batch(bytes) else { return false };
    let encoded = codec::encode_batch(&batch);
    assert_eq!(
        codec::decode_batch(&encoded).as_ref(),
        Ok(&batch),
        "it is another one encoded anew"
    );
    true
}

/// A command as one node forwards it to another.
pub fn envelope(bytes: &[u8]) -> bool {
    let Ok(envelope) = codec::decode::<Envelope>(bytes) else { return false };
    let encoded = codec::encode_envelope(&envelope);
    assert_eq!(codec::decode(&encoded).as_ref(), Ok(&envelope), "it is another one encoded anew");
    true
}

/// What became of a command, as the leader answers it.
pub fn outcome(bytes: &[u8]) -> bool {
    comes_back::<Outcome>(bytes)
}

/// Who belongs to the cluster, as it stands in the log and in a snapshot.
pub fn membership(bytes: &[u8]) -> bool {
    let alone = comes_back::<Membership>(bytes);
    comes_back::<StoredMembership>(bytes) || alone
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = codec::decode::<T>(bytes) else { return false };
    let encoded = codec::encode(&value);
    assert_eq!(codec::decode::<T>(&encoded).as_ref(), Ok(&value), "it is another one encoded anew");
    true
}

/// Rows of the tables: a length of two bytes and a key, a length of two bytes and a value, and so on.
/// All there is to read is read of them, and a machine opened on them, as after a restart.
pub fn tables(bytes: &[u8]) -> bool {
    let mut tables = MemoryTables::default();
    let mut rest = bytes;
    while let Some((key, value)) = row(&mut rest) {
        let _ = keys::parse(GROUP, key);
        if restore::is_row_key(GROUP, key) {
            tables.put(key, value);
        }
    }
    let whole = invariants::check(&tables, GROUP).is_ok();
    let opened = Machine::open(GROUP, &tables).is_ok();
    let _ = query::kv_get(&tables, GROUP, "shop", b"key");
    let _ = query::cache_get(&tables, GROUP, "shop", b"key");
    let _ = query::cache_build(&tables, GROUP, "shop", b"key");
    let _ = query::cache_usage(&tables, GROUP);
    let _ = query::cache_candidates(&tables, GROUP, None, usize::MAX);
    let _ = query::sessions(&tables, GROUP);
    let _ = query::member_addresses(&tables, GROUP, NodeId(1));
    let _ = query::member_plans(&tables, GROUP);
    let _ = query::access_token(&tables, GROUP, AccessTokenId(7));
    let _ = query::access_tokens(&tables, GROUP);
    let _ = query::access_roles(&tables, GROUP);
    let _ = query::access_subjects(&tables, GROUP);
    let _ = query::next_deadline_ms(&tables, GROUP, 0..=u64::MAX);
    let all = KeySelector::Prefix(Bytes::new()).select().expect("an empty prefix selects all");
    let list =
        KvList { after: None, show: KvShow::Items, items_max: usize::MAX, bytes_max: usize::MAX };
    let _ = query::kv_list(&tables, GROUP, "shop", &all, &list);
    let _ = query::export(&tables, GROUP, &mut |_| ControlFlow::Continue(()));
    whole && opened
}

fn row<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut field = || {
        let (length, behind) = rest.split_first_chunk()?;
        let (field, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
        *rest = behind;
        Some(field)
    };
    Some((field()?, field()?))
}

/// A pattern, and behind its first line the names that it is held against, a line each.
pub fn pattern(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let text = lines.next().unwrap_or_default();
    let Ok(pattern) = Pattern::parse(text) else { return false };
    let bound = |length: usize| length * length / 4 + length;
    for name in lines.filter(|name| name.len() as u64 <= KEY_BYTES_MAX) {
        let mut steps = 0;
        let matched = pattern.matches_counting(name, &mut steps);
        assert!(steps <= bound(name.len()), "{steps} steps for {} bytes", name.len());
        if matched {
            assert!(name.starts_with(pattern.literal_prefix()), "it begins otherwise");
        }
        if let Some(literal) = pattern.literal() {
            assert_eq!(matched, name == literal, "there is one name that it matches");
        }
        if pattern.is_prefix() {
            assert_eq!(matched, name.starts_with(pattern.literal_prefix()), "it is a beginning");
        }
    }
    assert!(covers(text, text) && covers(b"*", text), "it covers itself, and `*` covers all");
    let selection = KeySelector::Pattern(Bytes::copy_from_slice(text)).select();
    assert!(selection.is_ok(), "a pattern selects keys");
    true
}

/// A value that is a number to be added to.
pub fn float(bytes: &[u8]) -> bool {
    let Some(number) = Float::parse(bytes) else { return false };
    let Some(sum) = number.plus(Float::ZERO) else { return true };
    let text = sum.to_string();
    assert_eq!(Float::parse(text.as_bytes()), Some(sum), "{text} is another number");
    true
}
