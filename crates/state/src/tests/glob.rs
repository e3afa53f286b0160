//! Patterns against a naive model of what they are made of.

use super::property;
use crate::glob::{Pattern, covers};
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

/// Few letters, so that all short names of them, and of one that no pattern names, can be tried.
fn short_part() -> impl Strategy<Value = Part> {
    let letter = || prop_oneof![Just(b'a'), Just(b'b')];
    let ranges = vec((letter(), letter()), 1..3);
    prop_oneof![
        3 => Just(Part::Run),
        2 => Just(Part::Any),
        4 => letter().prop_map(Part::Byte),
        2 => (any::<bool>(), ranges).prop_map(|(negated, ranges)| Part::Class { negated, ranges }),
    ]
}

fn written(parts: &[Part]) -> Vec<u8> {
    let mut text = Vec::new();
    parts.iter().for_each(|part| part.write(&mut text));
    text
}

/// All names of up to six of the letters `a`, `b` and `c`.
fn short_names() -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..6 {
        let to = all.len();
        for at in from..to {
            all.extend([b'a', b'b', b'c'].map(|letter| [&all[at][..], &[letter]].concat()));
        }
        from = to;
    }
    all
}

/// True is never said wrongly. Half of what is asked lies along the rule, so that it has to be true.
#[test]
fn a_glob_that_covers_another_matches_all_that_it_does() {
    let names = short_names();
    let under = vec(vec(short_part(), 0..3), 5);
    let drawn = (vec(short_part(), 1..6), vec(short_part(), 1..6), under, any::<[u8; 5]>());
    let name = "a_glob_that_covers_another_matches_all_that_it_does";
    property(name, 4_000, &drawn, |(rule, other, under, picks)| {
        let mut along = Vec::new();
        for ((part, under), pick) in rule.iter().zip(under).zip(picks) {
            match (part, [b'a', b'b', b'c'].get(usize::from(pick % 4))) {
                (Part::Run, _) => along.extend(under),
                (part, Some(byte)) if part.takes(*byte) => along.push(Part::Byte(*byte)),
                (part, _) => along.push(part.clone()),
            }
        }
        let rule_text = written(&rule);
        prop_assert!(covers(&rule_text, &rule_text));
        prop_assert!(covers(b"*", &rule_text));
        if !along.is_empty() {
            prop_assert!(covers(&rule_text, &written(&along)), "{:?} {:?}", rule, along);
        }
        for asked in [along, other] {
            if covers(&rule_text, &written(&asked)) {
                let wrong = |name: &&Vec<u8>| naive(&asked, name) && !naive(&rule, name);
                prop_assert_eq!(names.iter().find(wrong), None, "{:?} {:?}", rule, asked);
            }
        }
        Ok(())
    });
}

#[test]
fn a_beginning_covers_what_begins_so() {
    let drawn = (vec(byte(), 0..3), vec(part(), 1..6));
    property("a_beginning_covers_what_begins_so", 2_000, &drawn, |(begin, asked)| {
        let mut rule = Vec::new();
        begin.iter().for_each(|byte| escape(*byte, &mut rule));
        rule.push(b'*');
        let asked = written(&asked);
        if Pattern::parse(&asked).unwrap().literal_prefix().starts_with(&begin) {
            prop_assert!(covers(&rule, &asked), "{:?} {:?}", rule, asked);
        }
        Ok(())
    });
}
