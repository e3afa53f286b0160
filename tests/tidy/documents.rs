//! The documents speak of files that exist.

use super::workspace::{Source, root};
use super::{assert_found, assert_none};
use std::fs;

/// A quotation that begins with one of these is a path from the root.
const DIRECTORIES: &[&str] = &["crates/", "proto/", "tests/", "scripts/", "docs/", "deploy/"];

/// What stands between backticks in the running text, by line; not what is in fenced blocks, which
/// show commands and their output.
fn quotations(text: &str) -> Vec<(usize, &str)> {
    let mut quotations = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let inside = line.split('`').skip(1).step_by(2);
            quotations.extend(inside.map(|quotation| (number, quotation)));
        }
    }
    quotations
}

/// The path in a quotation: without arguments (`scripts/test --fast`), an item or a line in the
/// file (`a.rs::f`, `a.rs:7`), and from a pattern (`crates/*/src`) on the directory before it.
fn quoted_path(quotation: &str) -> Option<&str> {
    DIRECTORIES.iter().find(|directory| quotation.starts_with(**directory))?;
    let end = quotation.find(|c: char| c.is_whitespace() || c == ':').unwrap_or(quotation.len());
    let path = &quotation[..end];
    let Some(pattern) = path.find(['*', '{', '<', '[', '…']) else { return Some(path) };
    let directory = path[..pattern].rfind('/').map_or(0, |slash| slash + 1);
    Some(&path[..directory])
}

fn path_breaches(document: &Source, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let quotations = quotations(&document.text).into_iter();
    let paths =
        quotations.filter_map(|(number, quotation)| Some((number, quoted_path(quotation)?)));
    let missing = paths.filter(|(_, path)| !exists(path));
    missing
        .map(|(number, path)| {
            format!(
                "{}:{number}: there is no `{path}`: correct the path, or remove it if the file went",
                document.path
            )
        })
        .collect()
}

fn assert_paths_exist(name: &str) {
    let text = fs::read_to_string(root().join(name))
        .unwrap_or_else(|error| panic!("could not read {name}, which has to exist: {error}"));
    let document = Source { path: name.to_owned(), text };
    assert_none(&path_breaches(&document, |path| root().join(path).exists()));
}

#[test]
fn paths_in_the_architecture_exist() {
    assert_paths_exist("ARCHITECTURE.md");
}

#[test]
fn paths_in_the_readme_exist() {
    assert_paths_exist("README.md");
}

#[test]
fn paths_in_the_handbooks_exist() {
    let docs = fs::read_dir(root().join("docs")).expect("there are documents");
    for entry in docs {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_string_lossy();
        // Beside them is the book that was made of them.
        if name.ends_with(".md") {
            assert_paths_exist(&format!("docs/{name}"));
        }
    }
}

#[test]
fn planted_paths_are_found() {
    let text = "See `crates/a/src/lib.rs`, `crates/gone.rs` and `other/gone`.\n\
                ```\n`crates/fenced`\n```\n\
                `scripts/test --all` and `scripts/gone --all`, `crates/a/src/lib.rs:7`\n\
                `crates/*/src`, `crates/{a,b}`, `tests/gone/*.rs`, `crates/a/gone.rs::f`";
    let document = Source { path: "README.md".to_owned(), text: text.to_owned() };
    let existing = ["crates/", "crates/a/src/lib.rs", "scripts/test"];
    let breaches = path_breaches(&document, |path| existing.contains(&path));
    let expected = [
        "README.md:1: there is no `crates/gone.rs`",
        "README.md:5: there is no `scripts/gone`",
        "README.md:6: there is no `tests/gone/`",
        "README.md:6: there is no `crates/a/gone.rs`",
    ];
    assert_found(&breaches, &expected);
}
