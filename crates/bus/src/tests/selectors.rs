//! Which selectors select which channels, alone and in a table of all of them.

use super::{property, selector};
use crate::limits::{ALIKE_MAX, SELECTOR_BYTES_MAX};
use crate::{Interest, Refusal, Selector};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Row = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Pattern, what it selects, what it does not.
const TABLE: &[Row] = &[
    (
        "user.*",
        &["user.created", "user.", "user.profile.updated", "user.*"],
        &["user", "users.a", "a.user.b", "User.created"],
    ),
    ("*.error", &["db.error", ".error", "db.pool.error"], &["error", "db.errors", "db.error.x"]),
    ("config:*", &["config:", "config:a:b"], &["config", "conf:a", "config;a"]),
    ("job.?", &["job.1", "job.?", "job.*"], &["job.", "job.12"]),
    ("job.??", &["job.12", "job.\u{e9}"], &["job.1", "job.123"]),
    ("node[1-3]", &["node1", "node2", "node3"], &["node", "node4", "node12", "node[1-3]"]),
    ("node[3-1]", &["node1", "node3"], &["node0", "node-"]),
    ("node[^1-3]", &["node4", "nodea", "node^"], &["node1", "node", "node44"]),
    ("[ab]*[^z]", &["ab", "b.c", "a.zz.a"], &["a", "az", "cb"]),
    (r"a\*b", &["a*b"], &["ab", "axb", r"a\*b"]),
    (r"a\*b*", &["a*b", "a*bc"], &["ab", "axb"]),
    (r"*\?", &["?", "why?"], &["", "why"]),
    (r"[\]\-]x", &["]x", "-x"], &["x", r"\x"]),
    (r"\config", &["config"], &[r"\config"]),
    ("exact", &["exact"], &["exac", "exact.", "exactly", "Exact"]),
    ("*", &["a", "*", "anything.at/all \u{1f980}"], &[]),
    ("**", &["a"], &[]),
    ("user.**", &["user.a", "user."], &["user"]),
    ("a*b*c", &["abc", "a.b.c", "abbcc"], &["ab", "acb", "abcx"]),
    ("*a*", &["a", "bab"], &["b"]),
    ("*[0-9].log", &["a1.log", "7.log"], &["a.log", "1.logs"]),
    ("caf\u{e9}.*", &["caf\u{e9}.a"], &["cafe.a"]),
];

#[test]
fn select_what_they_say() {
    let mut table = Interest::default();
    for (text, ..) in TABLE {
        table.insert("", &selector(text), *text);
    }
    for (text, yes, no) in TABLE {
        let one = selector(text);
        for channel in *yes {
            assert!(one.matches(channel), "{text} {channel}");
        }
        for channel in *no {
            assert!(!one.matches(channel), "{text} {channel}");
        }
        for channel in yes.iter().chain(*no) {
            let mut found = Vec::new();
            table.matches("", channel, |text| found.push(*text));
            found.sort_unstable();
            let all = TABLE.iter().filter(|(text, ..)| selector(text).matches(channel));
            // Of `*` and `**` only the latter was kept: they are one.
            let mut all: Vec<&str> = all
                .map(|(text, ..)| *text)
                .filter(|text| !["*", "user.*"].contains(text))
                .collect();
            all.sort_unstable();
            assert_eq!(found, all, "{channel}");
            table.matches("elsewhere", channel, |_| panic!("another namespace"));
        }
    }
}

#[test]
fn have_one_text_for_one_meaning_where_it_is_plain() {
    for (text, canonical, exact) in [
        ("a", "a", Some("a")),
        (r"\a\b", "ab", Some("ab")),
        (r"a\*", r"a\*", Some("a*")),
        (r"a\]", "a]", Some("a]")),
        (r"\\", r"\\", Some(r"\")),
        ("a.**", "a.*", None),
        (r"\a.*", "a.*", None),
        ("**.a", "*.a", None),
        (r"*\*a", r"*\*a", None),
        ("**", "*", None),
        ("a**b", "a**b", None),
        ("[a]", "[a]", None),
    ] {
        let one = selector(text);
        assert_eq!((one.text(), one.exact()), (canonical, exact), "{text}");
        assert_eq!(selector(canonical), one, "its text is it");
        assert_eq!(one.to_string(), canonical);
    }
    assert_eq!(Selector::channel("a*[b").unwrap(), selector(r"a\*\[b"));
    assert!(Selector::channel("a*[b").unwrap().matches("a*[b"));
}

#[test]
fn refuse_what_is_none() {
    for text in ["", "a[", "a[]", "a\\"] {
        assert!(Selector::parse(text).is_err(), "{text}");
    }
    let longest = "a".repeat(SELECTOR_BYTES_MAX);
    assert!(Selector::parse(&longest).is_ok());
    let error = Selector::parse(&(longest + "a"));
    let what = "a pattern";
    let (actual, max) = (SELECTOR_BYTES_MAX + 1, SELECTOR_BYTES_MAX);
    assert_eq!(error, Err(Refusal::Length { what, actual, max }));
    assert!(Selector::channel("").is_err());
    assert!(Selector::channel(&"*".repeat(SELECTOR_BYTES_MAX / 2 + 1)).is_err());
}

#[test]
fn share_a_place_only_where_a_match_looks_at_all_of_them() {
    let mut table = Interest::default();
    for text in ["a", "a*", "*a", "a?", "a*b", "a[b]", "*a?", "?*bc", "x?bc", "b?*bc"] {
        table.insert("", &selector(text), ());
    }
    for (text, alike) in [
        ("a", 0),
        ("a*", 0),
        ("*a", 0),
        ("a?x", 3),
        ("b?c", 0),
        ("*?*", 1),
        ("[y]*bc", 3),
        ("ab*bc", 0),
    ] {
        assert_eq!(table.alike("", &selector(text)), alike, "{text}");
        assert!(alike < ALIKE_MAX);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String, u32),
    Remove(String),
    Match(String),
}

/// A table does what a list would do, and holds nothing when everything was removed.
#[test]
fn a_table_is_a_list_that_is_fast() {
    // Few letters, so that texts share beginnings, and long runs of them for long labels.
    let text = r"(a|b|é|\*|\?|\[ab\]|\\\*|abcabcabcabcabcabcabcabcabc){1,6}";
    let name = r"(a|b|c|é|\*|abcabcabcabcabcabcabcabcabc){1,6}";
    let step = prop_oneof![
        4 => (text, any::<u32>()).prop_map(|(text, value)| Step::Insert(text, value)),
        2 => text.prop_map(Step::Remove),
        4 => name.prop_map(Step::Match),
    ];
    let steps = prop::collection::vec(step, 1..120);
    property("a_table_is_a_list", 2_000, &steps, |steps| {
        let mut table = Interest::default();
        let mut list: BTreeMap<Selector, u32> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(text, value) => {
                    let one = selector(&text);
                    prop_assert_eq!(table.insert("n", &one, value), list.insert(one, value));
                }
                Step::Remove(text) => {
                    let one = selector(&text);
                    prop_assert_eq!(table.get("n", &one), list.get(&one));
                    prop_assert_eq!(table.remove("n", &one), list.remove(&one));
                }
                Step::Match(name) => {
                    let mut found = Vec::new();
                    table.matches("n", &name, |value| found.push(*value));
                    found.sort_unstable();
                    let all = list.iter().filter(|(one, _)| one.matches(&name));
                    let mut all: Vec<u32> = all.map(|(_, value)| *value).collect();
                    all.sort_unstable();
                    prop_assert_eq!(found, all, "{}", name);
                }
            }
            table.each_row(|_| {});
            prop_assert_eq!(table.len(), list.len());
        }
        let mut texts = Vec::new();
        table.each("n", |text, is_pattern, _| texts.push((text.to_owned(), is_pattern)));
        texts.sort_unstable();
        let all = list.keys().map(|one| (one.text().to_owned(), one.exact().is_none()));
        prop_assert_eq!(texts, all.collect::<Vec<_>>());
        for one in list.keys() {
            prop_assert!(table.remove("n", one).is_some());
            table.each_row(|_| {});
        }
        prop_assert!(table.is_empty());
        Ok(())
    });
}
