//! What the state machine decodes: log entries, commands, outcomes, rows, patterns, numbers.

use crate::fuzz::world::world;
use crate::fuzz::{Decoder, Memory, Rng};
use quorate_state::fuzzing;
use quorate_state::{
    Batch, LogIndex, Machine, Member, Membership, MemoryTables, NodeId, StoredMembership, codec,
};

pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "batch",
        decode: fuzzing::batch,
        example: |rng| rng.pick(&world().batches).clone(),
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "apply",
        decode: apply,
        example: |rng| rng.pick(&world().batches).clone(),
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "envelope",
        decode: fuzzing::envelope,
        example: |rng| rng.pick(&world().envelopes).clone(),
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "outcome",
        decode: fuzzing::outcome,
        example: |rng| rng.pick(&world().outcomes).clone(),
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "membership",
        decode: fuzzing::membership,
        example: membership,
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "tables",
        decode: fuzzing::tables,
        example: rows,
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "pattern",
        decode: fuzzing::pattern,
        example: pattern,
        words: PATTERN_WORDS,
        memory: PATTERN,
    },
    Decoder {
        name: "float",
        decode: fuzzing::float,
        example: |rng| {
            let texts = ["0", "0.1", "-1.5e3", "+.5", "1e308", "-0", "9007199254740993", "5e-324"];
            rng.pick(&texts).as_bytes().to_vec()
        },
        words: &["e", "E-", "+", "-", ".", "0", "999", "e308", "inf", "NaN", "_"],
        memory: Memory::USUAL,
    },
];

/// What stands between two `*` is a list of its own; a pattern has at most a kibibyte.
pub(super) const PATTERN: Memory = Memory { for_each: 256, ..Memory::USUAL };

pub(super) const PATTERN_WORDS: &[&str] =
    &["*", "?", "[", "]", "[^", "-", "\\", "[a-c]", "\n", "user.", "é", "**"];

/// A log entry that decodes is applied, whatever it says: no entry may take every node down that has it.
fn apply(bytes: &[u8]) -> bool {
    let Ok(batch) = codec::decode_batch(bytes) else { return false };
    let mut tables = MemoryTables::default();
    let mut machine = Machine::open(fuzzing::GROUP, &tables).expect("empty tables are fine");
    let mut index = 0;
    let mut apply = |batch: &Batch| {
        index += 1;
        machine.apply(&mut tables, LogIndex(index), batch).map(|applied| applied.outcomes.len())
    };
    // So that there is a session, a job, a key that it may be about.
    for before in &world().first {
        apply(before).expect("it was applied before");
    }
    apply(&batch).is_ok()
}

fn membership(rng: &mut Rng) -> Vec<u8> {
    let member = |rng: &mut Rng| Member {
        uuid: u128::from(rng.next_u64()) << rng.below(65),
        peer_addr: "127.0.0.1:8812".to_owned(),
        client_addr: "127.0.0.1:8811".to_owned(),
    };
    let nodes = (1..=3).map(|node| (NodeId(node), member(rng))).collect();
    let membership =
        Membership { voters: vec![[NodeId(1), NodeId(2)].into(), [NodeId(3)].into()], nodes };
    if rng.one_in(2) {
        return codec::encode(&membership);
    }
    codec::encode(&StoredMembership { position: Some(Default::default()), membership })
}

/// Some rows, so that there is something to read beside the one that is damaged.
fn rows(rng: &mut Rng) -> Vec<u8> {
    let count = 1 + rng.below(6);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let (key, value) = rng.pick(&world().rows);
        for field in [key, value] {
            let length = u16::try_from(field.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(&field[..length.into()]);
        }
    }
    bytes
}

/// A pattern, and names below it.
pub(super) fn pattern(rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..1 + rng.below(8) {
        let pieces = ["user", ".", "*", "?", "[a-c]", "[^x]", r"\*", "a", "created", "é", "**"];
        text.push_str(rng.pick::<&str>(&pieces));
    }
    for _ in 0..rng.below(4) {
        text.push('\n');
        for _ in 0..rng.below(12) {
            text.push_str(rng.pick::<&str>(&["user", ".", "a", "b", "created", "x", "é", "*"]));
        }
    }
    text.into_bytes()
}
