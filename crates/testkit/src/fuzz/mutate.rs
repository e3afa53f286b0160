//! Makes an input of a valid encoding: whole, damaged in some places, or nothing but noise.

use super::rng::Rng;

/// Bytes of an input, at most: above the limits of names and small frames, and cheap enough for millions.
pub const INPUT_BYTES_MAX: usize = 64 << 10;
/// Numbers at whose edges things go wrong.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    16,
    63,
    127,
    128,
    250,
    251,
    255,
    256,
    1_024,
    65_535,
    65_536,
    1 << 24,
    (1 << 31) - 1,
    1 << 32,
    1 << 53,
    (1 << 63) - 1,
    u64::MAX,
];

/// An input of a decoder. `example` makes valid encodings; `words` are what its language is made of.
pub(super) fn input(rng: &mut Rng, example: fn(&mut Rng) -> Vec<u8>, words: &[&str]) -> Vec<u8> {
    if rng.one_in(16) {
        let most = if rng.one_in(16) { 4_096 } else { 96 };
        let length = rng.below(most);
        return rng.bytes(length);
    }
    let mut input = example(rng);
    // Examples are made up themselves, and what is behind the first checks sees nothing else.
    if rng.one_in(4) {
        return input;
    }
    let mut changes = 1;
    while changes < 8 && rng.one_in(2) {
        changes += 1;
    }
    for _ in 0..changes {
        change(rng, &mut input, example, words);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

/// Changes one thing.
fn change(rng: &mut Rng, input: &mut Vec<u8>, example: fn(&mut Rng) -> Vec<u8>, words: &[&str]) {
    let at = rng.below(input.len() + 1);
    match rng.below(14) {
        // A bit is flipped.
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        // A byte is another one.
        2 | 3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = if rng.one_in(2) { rng.byte() } else { *rng.pick(&[0, 1, 127, 128, 255]) };
            }
        }
        // The end is missing.
        4 => input.truncate(at),
        // Something is missing.
        5 => drop(input.drain(at..(at + 1 + rng.below(16)).min(input.len()).max(at))),
        // Something comes in between.
        6 => {
            let length = 1 + rng.below(8);
            let noise = rng.bytes(length);
            input.splice(at..at, noise);
        }
        // A number, in one of the ways in which lengths are written.
        7 => {
            let number = number(rng);
            input.splice(at..at, number);
        }
        8 => {
            let number = number(rng);
            let end = (at + number.len()).min(input.len());
            input.splice(at..end, number);
        }
        // Something comes twice, or many times.
        9 => {
            let end = (at + 1 + rng.below(64)).min(input.len()).max(at);
            let piece = input[at..end].to_vec();
            let times = if rng.one_in(32) { rng.below(1 << 10) } else { 1 + rng.below(3) };
            let room = INPUT_BYTES_MAX.saturating_sub(input.len()) / piece.len().max(1);
            input.splice(end..end, piece.repeat(times.min(room)));
        }
        // Something is somewhere else.
        10 => {
            let end = (at + 1 + rng.below(32)).min(input.len()).max(at);
            let piece: Vec<u8> = input.drain(at..end).collect();
            let to = rng.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        // The end of another one.
        11 | 12 => {
            let other = example(rng);
            let from = rng.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        // A word of the language.
        _ => {
            if let Some(word) = words.get(rng.below(words.len())) {
                let end = if rng.one_in(2) { (at + word.len()).min(input.len()) } else { at };
                input.splice(at..end, word.bytes());
            }
        }
    }
}

/// A number as one of the encodings has it.
fn number(rng: &mut Rng) -> Vec<u8> {
    let mut value = *rng.pick(&EDGES);
    if rng.one_in(2) {
        value = value.wrapping_add(rng.next_u64() % 5).wrapping_sub(2);
    }
    match rng.below(6) {
        // Protobuf: seven bits a byte.
        0 | 1 => {
            let mut bytes = Vec::new();
            while value >= 0x80 {
                bytes.push(value.to_le_bytes()[0] | 0x80);
                value >>= 7;
            }
            bytes.push(value.to_le_bytes()[0]);
            bytes
        }
        // bincode: one byte, or a tag and the number.
        2 => match value {
            0..=250 => vec![value.to_le_bytes()[0]],
            251..=0xffff => [&[251][..], &value.to_le_bytes()[..2]].concat(),
            0x1_0000..=0xffff_ffff => [&[252][..], &value.to_le_bytes()[..4]].concat(),
            _ => [&[253][..], &value.to_le_bytes()].concat(),
        },
        // Ours: big endian.
        3 => value.to_be_bytes()[6..].to_vec(),
        4 => value.to_be_bytes()[4..].to_vec(),
        _ => value.to_be_bytes().to_vec(),
    }
}
