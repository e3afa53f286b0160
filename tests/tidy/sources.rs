//! Rules on the text of source files.

use super::workspace::{Source, sources};
use super::{assert_found, assert_none};

/// Libraries, and the one directory whose files may name them.
const OWNED: &[(&str, &str)] = &[("openraft", "crates/consensus/"), ("rocksdb", "crates/storage/")];

fn opening_breaches(sources: &[Source]) -> Vec<String> {
    let silent = sources.iter().filter(|source| {
        let first = source.text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|words| words.trim().is_empty())
    });
    silent
        .map(|source| {
            format!("{}: the first line must be `//!` and say what the file is for", source.path)
        })
        .collect()
}

/// The names that a line of code uses as the root of a path, or imports. What a comment says does
/// not count: there a library may be spoken of.
fn named_libraries(line: &str) -> Vec<&str> {
    // A web address has slashes too.
    let comment = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
    let code = &line[..comment.unwrap_or(line.len())];
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    let mut seen = 0;
    while let Some(offset) = code[seen..].find(is_part) {
        let begin = seen + offset;
        let end = code[begin..].find(|c| !is_part(c)).map_or(code.len(), |length| begin + length);
        let (before, after) = (code[..begin].trim_end(), code[end..].trim_start());
        let imported = before.ends_with("use") || before.ends_with("extern crate");
        if imported || after.starts_with("::") {
            names.push(&code[begin..end]);
        }
        seen = end;
    }
    names
}

fn owner_breaches(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    for Source { path, text } in sources {
        for (number, line) in (1..).zip(text.lines()) {
            for name in named_libraries(line) {
                for (library, owner) in OWNED {
                    // With its companions: openraft_rt, librocksdb_sys.
                    let companion = name.trim_start_matches("lib").strip_prefix(library);
                    let meant =
                        companion.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
                    if meant && !path.starts_with(owner) {
                        breaches.push(format!(
                            "{path}:{number}: names {name}, which only {owner} may: use the types \
                             that {owner} has for it"
                        ));
                    }
                }
            }
        }
    }
    breaches
}

#[test]
fn every_file_begins_with_what_it_is_for() {
    assert_none(&opening_breaches(&sources(&["crates", "tests"], ".rs")));
}

#[test]
fn only_the_owner_of_a_library_names_it() {
    assert_none(&owner_breaches(&sources(&["crates", "tests"], ".rs")));
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn planted_files_without_an_opening_are_found() {
    let breaches = opening_breaches(&[
        source("fine.rs", "//! Does things.\nfn f() {}"),
        source("code.rs", "fn f() {}\n//! Too late."),
        source("comment.rs", "// Not a doc comment."),
        source("blank.rs", "//!\n//! Too late."),
        source("empty.rs", ""),
    ]);
    assert_found(&breaches, &["code.rs", "comment.rs", "blank.rs", "empty.rs"]);
}

#[test]
fn planted_names_of_owned_libraries_are_found() {
    // Put together, so that this file does not break the rule itself.
    let (raft, rocks) = (["open", "raft"].concat(), ["rocks", "db"].concat());
    let lines = [
        format!("use {raft}::Raft;"),
        format!("    let x: Vec<{raft}::LogId> = f();"),
        format!("use {raft};"),
        format!("pub(crate) use {raft}_rt::AsyncRuntime; // why"),
        format!("extern crate {rocks};"),
        format!("f(lib{rocks}_sys :: rocks_version())"),
    ];
    for line in &lines {
        let breaches =
            owner_breaches(&[source("crates/server/src/a.rs", &format!("//! A.\n{line}"))]);
        assert_found(&breaches, &["crates/server/src/a.rs:2: names"]);
        let owner =
            if line.contains(&raft) { "crates/consensus/src/a.rs" } else { "crates/storage/a.rs" };
        assert_none(&owner_breaches(&[source(owner, line)]));
    }
    for line in [
        format!("// as {raft}::Raft does"),
        format!("let {raft} = 1;"),
        format!("let text = \"{rocks} is full\"; // {rocks}::DB"),
        format!("my_{raft}::f();"),
        format!("use crate::{raft}ish::A;"),
    ] {
        assert_none(&owner_breaches(&[source("crates/server/src/a.rs", &line)]));
    }
}
