//! What the client decodes: answers of a node.

use crate::fuzz::messages::message;
use crate::fuzz::{Decoder, Memory};
use quorate_client::fuzzing;

pub(super) const DECODERS: &[Decoder] = &[Decoder {
    name: "client-answers",
    decode: fuzzing::answers,
    example: |rng| message(rng, "quorate.v1.PipelineResponse"),
    words: &["NOT_LEADER", "COMPACTED", "\u{0}", "é"],
    memory: Memory::PROTOBUF,
}];
