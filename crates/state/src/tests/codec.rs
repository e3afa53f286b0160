//! Decoding takes any bytes and answers, one way or the other.

use super::{property, samples};
use crate::codec::{self, CodecError, FEATURE_LEVEL, FORMAT};
use crate::limits::ENTRY_COMMANDS_MAX;
use crate::query::{KvList, KvShow};
use crate::rows::{
    AnswerRow, CacheBuildRow, CacheMetaRow, CacheRow, CacheTagRow, IdempotencyRow, KvRow,
    MemberAddrRow, MetaRow, SessionRow,
};
use crate::{
    Batch, Caller, Command, EntryBody, Envelope, FeatureLevel, KeySelector, Machine, MemoryTables,
    NodeId, Outcome, Rejection, Txn, invariants, query, testing::GROUP,
};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

/// Tries every type there is; the point is that each comes back.
fn decode_as_everything(bytes: &[u8]) -> usize {
    [
        codec::decode::<Batch>(bytes).is_ok(),
        codec::decode::<Command>(bytes).is_ok(),
        codec::decode::<Outcome>(bytes).is_ok(),
        codec::decode::<Rejection>(bytes).is_ok(),
        codec::decode::<MetaRow>(bytes).is_ok(),
        codec::decode::<SessionRow>(bytes).is_ok(),
        codec::decode::<AnswerRow>(bytes).is_ok(),
        codec::decode::<IdempotencyRow>(bytes).is_ok(),
        codec::decode::<MemberAddrRow>(bytes).is_ok(),
        KvRow::decode(bytes).is_ok(),
        CacheRow::decode(bytes).is_ok(),
        codec::decode::<CacheTagRow>(bytes).is_ok(),
        codec::decode::<CacheBuildRow>(bytes).is_ok(),
        codec::decode::<CacheMetaRow>(bytes).is_ok(),
    ]
    .into_iter()
    .filter(|ok| *ok)
    .count()
}

#[test]
fn arbitrary_bytes_never_panic() {
    let bytes = (any::<bool>(), vec(any::<u8>(), 0..200));
    property("arbitrary_bytes_never_panic", 5_000, &bytes, |(headed, bytes)| {
        let head = if headed { &[FORMAT, FEATURE_LEVEL][..] } else { &[] };
        decode_as_everything(&[head, &bytes].concat());
        Ok(())
    });
}

#[test]
fn damaged_encodings_never_panic() {
    let encodings: Vec<Vec<u8>> = samples::batches()
        .iter()
        .map(|(_, batch)| codec::encode(batch))
        .chain(samples::commands().iter().map(|(_, command)| codec::encode(command)))
        .chain(samples::rows().into_iter().map(|(_, _, value)| value))
        .filter(|encoding| !encoding.is_empty())
        .collect();
    let damage = (0..encodings.len(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>());
    property("damaged_encodings_never_panic", 5_000, &damage, |(which, at, byte, cut)| {
        let mut encoding = encodings[which].clone();
        let at = at.index(encoding.len());
        encoding[at] = byte;
        if cut {
            encoding.truncate(at);
        }
        decode_as_everything(&encoding);
        Ok(())
    });
}

#[test]
fn reading_damaged_rows_never_panics() {
    let rows = samples::rows();
    let damage = (0..rows.len(), vec(any::<u8>(), 0..3), any::<bool>(), vec(any::<u8>(), 0..20));
    property("reading_damaged_rows_never_panics", 5_000, &damage, |(which, key, headed, value)| {
        let mut tables = MemoryTables::default();
        for (_, key, value) in &rows {
            tables.put(key, value);
        }
        let head = if headed { &[FORMAT, FEATURE_LEVEL][..] } else { &[] };
        tables.put(&[&rows[which].1[..], &key].concat(), &[head, &value].concat());
        let _ = invariants::check(&tables, GROUP);
        let _ = Machine::open(GROUP, &tables);
        let _ = query::kv_get(&tables, GROUP, "ns", b"key");
        let _ = query::cache_get(&tables, GROUP, "ns", b"key");
        let _ = query::cache_build(&tables, GROUP, "ns", b"key");
        let _ = query::cache_usage(&tables, GROUP);
        let _ = query::cache_candidates(&tables, GROUP, None, usize::MAX);
        let _ = query::sessions(&tables, GROUP);
        let _ = query::member_addresses(&tables, GROUP, NodeId(3));
        let _ = query::next_deadline_ms(&tables, GROUP, 0..=u64::MAX);
        let all = KeySelector::Prefix(Bytes::new()).select().unwrap();
        let list = KvList {
            after: None,
            show: KvShow::Items,
            items_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let _ = query::kv_list(&tables, GROUP, "ns", &all, &list);
        Ok(())
    });
}

#[test]
fn headers_tell_what_is_wrong() {
    let command = codec::encode(&Command::Tick);
    assert_eq!(codec::decode::<Command>(&[]), Err(CodecError::Truncated(0)));
    assert_eq!(codec::decode::<Command>(&command[..1]), Err(CodecError::Truncated(1)));

    let mut other_format = command.clone();
    other_format[0] = FORMAT + 1;
    assert_eq!(codec::decode::<Command>(&other_format), Err(CodecError::Format(FORMAT + 1)));

    let mut newer = command.clone();
    newer[1] = FEATURE_LEVEL + 1;
    assert_eq!(codec::decode::<Command>(&newer), Err(CodecError::FeatureLevel(FEATURE_LEVEL + 1)));

    let mut longer = command;
    longer.push(0);
    assert_eq!(
        codec::decode::<Command>(&longer),
        Err(CodecError::Body("1 bytes follow it".to_owned()))
    );
}

/// A newer build in an older cluster: it reads more than it writes.
#[test]
fn what_is_understood_is_not_what_is_written() {
    const { assert!(FeatureLevel::FIRST.0 < FEATURE_LEVEL) };
    let command = codec::encode(&Command::Tick);
    let envelope = codec::encode_envelope(&ticks(1).commands[0]);
    let batch = codec::encode_batch(&ticks(1));
    let (_, _, row) = samples::rows().swap_remove(0);
    for encoding in [&command, &envelope[..], &batch[..], &row] {
        assert_eq!(encoding[..2], [FORMAT, FeatureLevel::FIRST.0]);
    }
    let newest = codec::encode_for(FeatureLevel::NEWEST, &Command::Tick, 0);
    assert_eq!(newest[..2], [FORMAT, FEATURE_LEVEL]);
    assert_eq!(codec::decode::<Command>(&newest), Ok(Command::Tick));
    let newer = codec::encode_for(FeatureLevel(FEATURE_LEVEL + 1), &Command::Tick, 0);
    let error = codec::decode::<Command>(&newer).unwrap_err().to_string();
    assert!(error.contains("upgrade this node"), "{error}");
}

fn ticks(count: usize) -> Batch {
    let tick = Envelope {
        namespace: String::new(),
        caller: Caller::Anonymous,
        guard: None,
        command: Command::Tick,
    };
    Batch { commands: vec![tick; count], ..Batch::default() }
}

#[test]
fn batches_decode_up_to_the_bound() {
    let largest = ticks(ENTRY_COMMANDS_MAX);
    assert_eq!(codec::decode_batch(&codec::encode_batch(&largest)), Ok(largest));
    let error = codec::decode_batch(&codec::encode_batch(&ticks(ENTRY_COMMANDS_MAX + 1)));
    assert!(matches!(error, Err(CodecError::Body(_))), "{error:?}");
}

#[test]
fn entry_bodies_decode_what_they_encode() {
    for (name, batch) in samples::batches() {
        let proposed = EntryBody::new(&batch);
        assert_eq!(proposed.batch(), Ok(batch.clone()), "{name}");
        let received = EntryBody::from_encoded(proposed.encoded().clone());
        assert_eq!(received.batch(), Ok(batch.clone()), "{name}");
    }
    let garbage = EntryBody::from_encoded(Bytes::from_static(b"garbage"));
    assert_eq!(garbage.batch(), Err(CodecError::Format(b'g')));
}

/// Same request, same hash; anything else about it, another one.
#[test]
fn fingerprints_tell_requests_apart() {
    let mut hashes = std::collections::BTreeSet::new();
    let commands = samples::commands();
    for (_, command) in &commands {
        for namespace in ["", "ns"] {
            let hash = codec::fingerprint(&(namespace, command));
            assert_eq!(hash, codec::fingerprint(&(namespace.to_owned(), command.clone())));
            hashes.insert(hash);
        }
    }
    assert_eq!(hashes.len(), commands.len() * 2);
}
