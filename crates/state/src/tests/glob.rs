//! Patterns against a naive model of what they are made of.

use super::property;
use crate::glob::Pattern;
use proptest::collection::vec;
use proptest::prelude::*;

/// A part of a pattern before it is text.
#[derive(Clone, Debug)]
enum Part {
    Run,
    Any,
    Byte(u8),
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Part {
    fn write(&self, text: &mut Vec<u8>) {
        match self {
            Self::Run => text.push(b'*'),
            Self::Any => text.push(b'?'),
            Self::Byte(byte) => escape(*byte, text),
            Self::Class { negated, ranges } => {
                text.extend(if *negated { &b"[^"[..] } else { b"[" });
                for (first, last) in ranges {
                    escape(*first, text);
                    if first != last {
                        text.push(b'-');
                        escape(*last, text);
                    }
                }
                text.push(b']');
            }
        }
    }

    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Run => false,
            Self::Any => true,
            Self::Byte(only) => *only == byte,
            Self::Class { negated, ranges } => {
                let within = |(a, b): &(u8, u8)| (a.min(b)..=a.max(b)).contains(&&byte);
                ranges.iter().any(within) != *negated
            }
        }
    }
}

/// Escapes what means something somewhere; more than need be, which is allowed.
fn escape(byte: u8, text: &mut Vec<u8>) {
    if b"*?[]^-\\".contains(&byte) {
        text.push(b'\\');
    }
    text.push(byte);
}

/// As one would say it: a run is nothing, or a byte and the same run again.
fn naive(parts: &[Part], name: &[u8]) -> bool {
    let Some((part, rest)) = parts.split_first() else { return name.is_empty() };
    let after_byte = name.split_first();
    match part {
        Part::Run => naive(rest, name) || after_byte.is_some_and(|(_, after)| naive(parts, after)),
        part => after_byte.is_some_and(|(byte, after)| part.takes(*byte) && naive(rest, after)),
    }
}

/// Few bytes, so that they meet: letters, what means something in a pattern, and both ends.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        6 => prop_oneof![Just(b'a'), Just(b'b')],
        2 => prop_oneof![Just(b'*'), Just(b'?'), Just(b'['), Just(b']'), Just(b'^'), Just(b'-'),
            Just(b'\\')],
        1 => prop_oneof![Just(0), Just(0xff)],
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let ranges = || vec(prop_oneof![byte().prop_map(|only| (only, only)), (byte(), byte())], 1..4);
    prop_oneof![
        3 => Just(Part::Run),
        1 => Just(Part::Any),
        5 => byte().prop_map(Part::Byte),
        1 => (any::<bool>(), ranges())
            .prop_map(|(negated, ranges)| Part::Class { negated, ranges }),
    ]
}

#[test]
fn patterns_match_as_the_model_does() {
    let drawn = (vec(part(), 1..10), vec(vec(byte(), 0..12), 1..8));
    property("patterns_match_as_the_model_does", 5_000, &drawn, |(parts, names)| {
        let mut text = Vec::new();
        parts.iter().for_each(|part| part.write(&mut text));
        let pattern = Pattern::parse(&text).unwrap();
        for name in names {
            let mut steps = 0;
            let matches = pattern.matches_counting(&name, &mut steps);
            prop_assert_eq!(matches, naive(&parts, &name), "{:?} {:?}", &text, &name);
            prop_assert!(steps <= (name.len() + 1) * parts.len(), "{} steps", steps);
            prop_assert!(!matches || name.starts_with(pattern.literal_prefix()));
            if let Some(only) = pattern.literal() {
                prop_assert_eq!(matches, name == only);
            }
            if pattern.is_prefix() {
                prop_assert_eq!(matches, name.starts_with(pattern.literal_prefix()));
            }
        }
        Ok(())
    });
}

#[test]
fn any_bytes_are_a_pattern_or_are_not() {
    let drawn = (vec(prop_oneof![byte(), any::<u8>()], 0..20), vec(byte(), 0..12));
    property("any_bytes_are_a_pattern_or_are_not", 5_000, &drawn, |(text, name)| {
        if let Ok(pattern) = Pattern::parse(&text) {
            let _ = pattern.matches(&name);
        }
        Ok(())
    });
}
