//! What nodes say to each other, and the vote on the disk.

use crate::fuzz::messages::message;
use crate::fuzz::{Decoder, Memory, Rng};
use quorate_consensus::fuzzing;

/// What another node sends may hold encodings of the state machine.
const FRAME: Memory = Memory { bytes: Memory::CODEC.bytes, for_each: Memory::PROTOBUF.for_each };

pub(super) const DECODERS: &[Decoder] = &[
    Decoder {
        name: "append-request",
        decode: fuzzing::append_request,
        example: |rng| message(rng, "quorate.peer.v1.AppendRequest"),
        words: &[],
        memory: FRAME,
    },
    Decoder {
        name: "append-response",
        decode: fuzzing::append_response,
        example: |rng| message(rng, "quorate.peer.v1.AppendResponse"),
        words: &[],
        memory: FRAME,
    },
    Decoder {
        name: "vote",
        decode: fuzzing::vote,
        example: |rng| kinds(rng, &["VoteRequest", "VoteResponse", "TransferLeaderRequest"]),
        words: &[],
        memory: FRAME,
    },
    Decoder {
        name: "saved-vote",
        decode: fuzzing::saved_vote,
        example: |rng| rng.pick(&fuzzing::saved_votes()).clone(),
        words: &[],
        memory: Memory::CODEC,
    },
    Decoder {
        name: "snapshot-frame",
        decode: fuzzing::snapshot_frame,
        example: |rng| kinds(rng, &["SnapshotRequest", "SnapshotResponse"]),
        words: &["../", "CURRENT"],
        memory: FRAME,
    },
    Decoder {
        name: "forward-frame",
        decode: fuzzing::forward_frame,
        example: |rng| kinds(rng, &["ForwardRequests", "ForwardResponses"]),
        words: &["NOT_LEADER", "DEADLINE"],
        memory: FRAME,
    },
    Decoder {
        name: "hello",
        decode: fuzzing::hello,
        example: |rng| match rng.one_in(4) {
            true => message(rng, "quorate.peer.v1.Hello"),
            false => rng.pick(&fuzzing::hellos()).clone(),
        },
        words: &["c-1"],
        memory: FRAME,
    },
];

/// A message of one of these kinds, behind the number of the kind.
fn kinds(rng: &mut Rng, kinds: &[&str]) -> Vec<u8> {
    let kind = rng.below(kinds.len());
    let body = message(rng, &format!("quorate.peer.v1.{}", kinds[kind]));
    [&[u8::try_from(kind).expect("there are a few")][..], &body].concat()
}
