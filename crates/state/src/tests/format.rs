//! Frozen bytes: what a build wrote, every later build reads, and writes the same.
//!
//! `testdata/format/<kind>.hex` has a line for each sample: its name and its encoding. A line is
//! never changed or removed. `UPDATE_FORMAT=1` adds the lines of samples that have none yet.

use super::samples;
use crate::dedupe::request_hash;
use crate::{Caller, Envelope, codec};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

#[test]
fn commands_are_frozen() {
    check_values("commands", &samples::commands());
}

#[test]
fn batches_are_frozen() {
    check_values("batches", &samples::batches());
}

#[test]
fn outcomes_are_frozen() {
    check_values("outcomes", &samples::outcomes());
}

#[test]
fn rejections_are_frozen() {
    check_values("rejections", &samples::rejections());
}

#[test]
fn rows_are_frozen() {
    let rows = samples::rows();
    let keys = rows.iter().map(|(name, key, _)| (name.clone(), key.clone())).collect();
    check("keys", &keys);
    let values = rows.iter().map(|(name, _, value)| (name.clone(), value.clone())).collect();
    check("rows", &values);
}

/// The hash of a request is stored, so how it is made is a format too.
#[test]
fn request_hashes_are_frozen() {
    let hash = |(name, command)| {
        let (namespace, caller) = ("ns".to_owned(), Caller::Anonymous);
        let hash = request_hash(&Envelope { namespace, caller, guard: None, command });
        (name, hash.to_be_bytes().to_vec())
    };
    check("request_hashes", &samples::commands().into_iter().map(hash).collect());
}

fn check_values<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    kind: &str,
    samples: &[(String, T)],
) {
    let encoded = samples.iter().map(|(name, value)| (name.clone(), codec::encode(value)));
    let frozen = check(kind, &encoded.collect());
    for (name, value) in samples {
        assert_eq!(&codec::decode::<T>(&frozen[name]).unwrap(), value, "{kind} {name} decoded");
    }
}

/// Compares with the file; answers what it has.
fn check(kind: &str, samples: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format").join(format!("{kind}.hex"));
    let mut text = std::fs::read_to_string(&file).unwrap_or_default();
    let mut frozen = BTreeMap::new();
    for line in text.lines() {
        let (name, hex) = line.split_once(' ').expect("a line is a name and bytes");
        assert!(
            frozen.insert(name.to_owned(), from_hex(hex)).is_none(),
            "{kind} {name} is there twice"
        );
    }
    for (name, bytes) in samples {
        match frozen.get(name) {
            Some(before) => assert_eq!(
                to_hex(bytes),
                to_hex(before),
                "the encoding of {kind} {name} changed: older nodes and disks could not read it"
            ),
            None if updates() => {
                text += &format!("{name} {}\n", to_hex(bytes));
                frozen.insert(name.clone(), bytes.clone());
            }
            None => panic!("{kind} {name} is not frozen yet; run once with UPDATE_FORMAT=1"),
        }
    }
    for name in frozen.keys() {
        assert!(samples.contains_key(name), "{kind} {name} is frozen and has no sample any more");
    }
    if updates() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    frozen
}

#[expect(
    clippy::disallowed_methods,
    reason = "new samples are frozen at the wish of whoever adds them"
)]
fn updates() -> bool {
    std::env::var("UPDATE_FORMAT").is_ok_and(|value| value == "1")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex} has half a byte");
    let digits = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect()
}
