//! What the storage decodes: rows of the log, and the small files beside it.

use crate::fuzz::world::world;
use crate::fuzz::{Decoder, Memory, Rng};
use quorate_storage::fuzzing;
use std::sync::OnceLock;

pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "log-record",
        decode: fuzzing::log_record,
        example: |rng| {
            static ROWS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
            one_of(rng, ROWS.get_or_init(|| fuzzing::log_records(&world().decoded)))
        },
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "sync-mark",
        decode: fuzzing::synced_mark,
        example: |rng| one_of(rng, &fuzzing::synced_marks()),
        words: &[],
        memory: Memory::USUAL,
    },
    Decoder {
        name: "identity",
        decode: fuzzing::identity,
        example: |rng| one_of(rng, &fuzzing::identities()),
        words: &[
            "\"",
            "{",
            "}",
            "[",
            ":",
            ",",
            "null",
            "true",
            "1e9",
            "\\u0000",
            "\"crc32c\"",
            "\"joining\"",
            "\"left\"",
        ],
        memory: Memory::USUAL,
    },
    Decoder {
        name: "snapshot-manifest",
        decode: fuzzing::snapshot_manifest,
        example: |rng| one_of(rng, &fuzzing::snapshot_manifests()),
        words: &["../", "CURRENT", ".", "/"],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "state-pointer",
        decode: fuzzing::state_pointer,
        example: |rng| one_of(rng, &fuzzing::state_pointers()),
        words: &[],
        memory: Memory::CODEC,
    },
];

fn one_of(rng: &mut Rng, examples: &[Vec<u8>]) -> Vec<u8> {
    rng.pick(examples).clone()
}
