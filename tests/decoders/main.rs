//! Every decoder, fed a few thousand inputs that are nearly right; and the fuzzer itself, fed decoders
//! that are nearly right. `scripts/fuzz` does the same with as many as one likes.

use quorate_testkit::fuzz::{Counting, Decoder, Memory, Plan, decoders, input_of, run, run_one};
use quorate_testkit::repeat::cargo;
use std::path::Path;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SEED: u64 = 20_260_101;
const INPUTS: u64 = 2_000;

const PLAN: Plan = Plan { seed: SEED, from: 0, inputs: INPUTS, jobs: 2 };

#[test]
fn every_decoder_takes_or_refuses_whatever_it_is_given() {
    let mut failed = Vec::new();
    for decoder in decoders::all() {
        match run(&decoder, &PLAN) {
            Ok(row) => {
                assert_eq!(row.inputs, INPUTS);
                let refused = row.inputs - row.accepted;
                // One that takes nothing is not fuzzed behind its first check.
                if row.accepted == 0 || refused == 0 {
                    failed.push(format!("{}: {row:?}", decoder.name));
                }
            }
            Err(found) => failed.push(format!(
                "{}: {}\n  again: scripts/fuzz --decoder {} --seed {SEED} --from {} --inputs 1",
                decoder.name, found.what, decoder.name, found.number
            )),
        }
    }
    assert!(failed.is_empty(), "{}\n(built with {})", failed.join("\n"), cargo());
}

#[test]
fn every_decoder_has_a_target_of_the_fuzzer_with_coverage() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(directory.join("Cargo.toml")).expect("it is there");
    let targets = std::fs::read_dir(directory.join("targets")).expect("there are some").count();
    assert_eq!(targets, decoders::all().len(), "a target is missing, or of no decoder");
    for decoder in decoders::all() {
        let path = format!("targets/{}.rs", decoder.name.replace('-', "_"));
        let named = format!("name = \"{}\"\npath = \"{path}\"", decoder.name);
        assert!(manifest.contains(&named), "fuzz/Cargo.toml has no target {}", decoder.name);
        let text = std::fs::read_to_string(directory.join(&path)).expect("it has a file");
        assert!(text.contains(&format!("\"{}\"", decoder.name)), "{path} is of another decoder");
    }
}

#[test]
fn the_names_of_decoders_are_their_own() {
    let mut names: Vec<_> = decoders::all().iter().map(|decoder| decoder.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// A decoder with a fault: a length in front, and as many bytes.
fn planted(name: &'static str, decode: fn(&[u8]) -> bool) -> Decoder {
    Decoder {
        name,
        decode,
        example: |rng| {
            let length = rng.below(16);
            let mut bytes = vec![u8::try_from(length).expect("it is small")];
            bytes.extend(rng.bytes(length));
            bytes
        },
        words: &[],
        memory: Memory::USUAL,
    }
}

/// What is found in a planted decoder, which the input that is reported shows again.
fn found(decoder: &Decoder) -> String {
    let plan = Plan { inputs: 100_000, ..PLAN };
    let found = run(decoder, &plan).expect_err("it has a fault");
    assert_eq!(found.input, input_of(decoder, SEED, found.number), "the input can be made again");
    let again = run_one(decoder, SEED, found.number, &found.input).expect_err("it fails again");
    assert_eq!(again.number, found.number);
    again.what
}

#[test]
fn a_decoder_that_panics_is_caught() {
    let decoder = planted("planted-panic", |bytes| {
        let Some((length, rest)) = bytes.split_first() else { return false };
        // A length that nothing has.
        let body = &rest[..usize::from(*length)];
        body.len() == rest.len()
    });
    let what = found(&decoder);
    assert!(what.contains("panics") && what.contains("out of range"), "{what}");
}

#[test]
fn a_decoder_that_panics_on_one_value_is_caught() {
    let decoder = planted("planted-value", |bytes| {
        assert_ne!(bytes.get(1..3), Some(&[0xff, 0xff][..]), "this one it can't bear");
        !bytes.is_empty()
    });
    let what = found(&decoder);
    assert!(what.contains("this one it can't bear"), "{what}");
}

#[test]
fn a_decoder_that_believes_a_length_is_caught() {
    let decoder = planted("planted-memory", |bytes| {
        let Some((length, rest)) = bytes.split_first_chunk() else { return false };
        let length = u32::from_be_bytes(*length) as usize;
        // Below what would end the process; any real fault of this kind is above.
        let body: Vec<u8> = Vec::with_capacity(length.min(64 << 20));
        body.capacity() == rest.len()
    });
    let what = found(&decoder);
    assert!(what.contains("bytes of memory"), "{what}");
}

#[test]
fn a_decoder_that_keeps_too_much_of_many_small_things_is_caught() {
    let decoder = planted("planted-growth", |bytes| {
        let kept: Vec<Vec<u8>> = bytes.iter().map(|_| vec![0; 4 << 10]).collect();
        !kept.is_empty()
    });
    let what = found(&decoder);
    assert!(what.contains("bytes of memory"), "{what}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "to take time is what it is for")]
fn a_decoder_that_takes_too_long_is_caught() {
    let decoder = planted("planted-time", |bytes| {
        if bytes.first() == Some(&0xff) {
            std::thread::sleep(Duration::from_millis(1_100));
        }
        true
    });
    let what = found(&decoder);
    assert!(what.contains("is allowed"), "{what}");
}

#[test]
fn inputs_depend_on_their_seed_and_number_alone() {
    for decoder in decoders::all() {
        let inputs = |seed| (0..50).map(|at| input_of(&decoder, seed, at)).collect::<Vec<_>>();
        assert_eq!(inputs(1), inputs(1), "{}", decoder.name);
        assert_ne!(inputs(1), inputs(2), "{}", decoder.name);
    }
}
