//! Fuzzing of everything that decodes: what comes over a network, what is read from a disk, what people
//! write.
//!
//! ```text
//! examples (valid, made up) ──► mutate ──► decoder ──► accepted, and what was accepted comes back the
//!      ▲ messages, world                                same; or refused
//!      └── seed, number of the input                   never: a panic, memory out of proportion, hours
//! ```
//!
//! An input depends on the seed, the decoder and its number alone, so any of them can be made again.
//! This knows nothing of coverage; `fuzz/` has the same decoders as targets of a fuzzer that does.
//!
//! # A new decoder
//! One line in a file of `decoders`, a function in `fuzzing` of the crate that it is in, and a target in
//! `fuzz/`.

pub mod decoders;
mod measure;
mod messages;
mod mutate;
mod rng;
mod runner;
mod world;

pub use measure::Counting;
pub use mutate::INPUT_BYTES_MAX;
pub use rng::Rng;
pub use runner::{Found, Plan, Row, input_of, run, run_one};

/// Something that decodes.
#[derive(Clone, Copy)]
pub struct Decoder {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Takes any bytes, and says whether it accepted them. A panic is a failure.
    pub decode: fn(&[u8]) -> bool,
    /// Makes something valid, or nearly so.
    pub example: fn(&mut Rng) -> Vec<u8>,
    /// What its language is made of.
    pub words: &'static [&'static str],
    /// What an input may take.
    pub memory: Memory,
}

/// How much memory an input may take: proportional to its bytes, and so much besides.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Whatever the input is.
    pub bytes: usize,
    /// For each byte of it.
    pub for_each: usize,
}

impl Memory {
    /// Of most: error texts and small buffers, and structs whose fields take a byte each on the wire.
    pub const USUAL: Self = Self { bytes: 64 << 10, for_each: 64 };
    /// Of what `quorate_state::codec` decodes: it takes a length prefix at its word up to 16 MiB for a
    /// byte string, and up to 1 MiB for each list that is open.
    pub const CODEC: Self = Self { bytes: (16 << 20) + (4 << 20), ..Self::USUAL };
    /// Of protobuf: a field of two bytes becomes a struct of some hundred; how many fields there may be is
    /// bounded by `quorate_proto::codec`.
    pub const PROTOBUF: Self = Self { for_each: 512, ..Self::USUAL };

    /// What an input of so many bytes may take.
    #[must_use]
    pub fn of(self, input_bytes: usize) -> usize {
        self.bytes + self.for_each * input_bytes
    }
}

/// The decoder of this name.
#[must_use]
pub fn named(name: &str) -> Option<Decoder> {
    decoders::all().into_iter().find(|decoder| decoder.name == name)
}

/// What a target of `fuzz/` does with an input.
///
/// # Panics
/// When there is no such decoder, and when it does.
pub fn decode(name: &str, bytes: &[u8]) {
    let decoder = named(name).unwrap_or_else(|| panic!("there is no decoder {name}"));
    (decoder.decode)(bytes);
}
