//! Who may depend on whom.

use super::workspace::{Kind, Package, packages};
use super::{assert_found, assert_none};
use std::collections::BTreeMap;

/// The crates of the workspace, and for each which others of the workspace it may use.
const LAYERS: &[(&str, &[&str])] = &[
    ("quorate-state", &[]),
    ("quorate-storage", &["quorate-state"]),
    ("quorate-bus", &["quorate-state"]),
    ("quorate-proto", &[]),
    ("quorate-tls", &[]),
    ("quorate-consensus", &["quorate-state", "quorate-storage", "quorate-proto"]),
    (
        "quorate-server",
        &[
            "quorate-proto",
            "quorate-state",
            "quorate-storage",
            "quorate-consensus",
            "quorate-bus",
            "quorate-tls",
        ],
    ),
    ("quorate-client", &["quorate-proto", "quorate-tls"]),
    ("quorate-cli", &["quorate-client", "quorate-server", "quorate-tls"]),
    (
        "quorate-testkit",
        &[
            "quorate-server",
            "quorate-client",
            "quorate-consensus",
            "quorate-storage",
            "quorate-state",
            "quorate-bus",
            "quorate-proto",
        ],
    ),
    // The last ones are crates under test.
    (
        "quorate-tests",
        &[
            "quorate-testkit",
            "quorate-client",
            "quorate-proto",
            "quorate-state",
            "quorate-storage",
            "quorate-bus",
            "quorate-consensus",
            "quorate-server",
        ],
    ),
    ("quorate-book", &["quorate-client", "quorate-testkit"]),
];

/// What the tests of a crate may use besides. They may not reach up the layers either: a test that
/// needs more than its crate belongs into the package `quorate-tests`.
const DEV: &[(&str, &[&str])] = &[
    // With the feature that brings the conformance suite of tables.
    ("quorate-storage", &["quorate-state"]),
];

/// External libraries that only one crate may know, by the beginning of their names.
const OWNED: &[(&str, &str)] = &[("openraft", "quorate-consensus"), ("rocksdb", "quorate-storage")];

/// All that the deterministic machine may be made of: nothing that knows time, chance, threads,
/// files or the network.
const STATE_DEPENDENCIES: &[&str] =
    &["bincode", "bytes", "goldenscript", "serde", "thiserror", "xxhash-rust"];

/// Names that say nothing, so that everything ends up there.
const EMPTY_NAMES: &[&str] = &["common", "util", "utils", "types"];

fn row<'a>(table: &'a [(&str, &'a [&'a str])], name: &str) -> Option<&'a [&'a str]> {
    table.iter().find(|(row, _)| *row == name).map(|(_, allowed)| *allowed)
}

fn layer_breaches(packages: &[Package]) -> Vec<String> {
    let mut breaches = Vec::new();
    for Package { name, dependencies, .. } in packages {
        let Some(allowed) = row(LAYERS, name) else {
            breaches.push(format!(
                "{name} has no place among the layers: add it to LAYERS in tests/tidy/layers.rs \
                 and to the code map of ARCHITECTURE.md"
            ));
            continue;
        };
        let dev = row(DEV, name).unwrap_or_default();
        for (dependency, kind) in dependencies {
            let own = packages.iter().any(|package| package.name == *dependency);
            let may = allowed.contains(&dependency.as_str())
                || *kind == Kind::Dev && dev.contains(&dependency.as_str());
            if own && !may {
                breaches.push(format!(
                    "{name} may not depend on {dependency} ({kind:?}): move what is needed down to \
                     a crate that both may use, or turn the call around; it may use {allowed:?}"
                ));
            }
        }
    }
    breaches
}

fn owner_breaches(packages: &[Package]) -> Vec<String> {
    let mut breaches = Vec::new();
    for Package { name, dependencies, .. } in packages {
        for (dependency, _) in dependencies {
            for (library, owner) in OWNED {
                // With its companions: openraft-rt, librocksdb-sys.
                if dependency.trim_start_matches("lib").starts_with(library) && name != owner {
                    breaches.push(format!(
                        "{name} depends on {dependency}, which only {owner} may: ask {owner} for \
                         what is needed, in words of its own"
                    ));
                }
            }
        }
    }
    breaches
}

fn state_breaches(packages: &[Package]) -> Vec<String> {
    let state = packages.iter().filter(|package| package.name == "quorate-state");
    let dependencies = state.flat_map(|package| &package.dependencies);
    let forbidden = dependencies.filter(|(dependency, kind)| {
        *kind != Kind::Dev && !STATE_DEPENDENCIES.contains(&dependency.as_str())
    });
    let breach = |(dependency, _): &(String, Kind)| {
        format!(
            "quorate-state depends on {dependency}: its result must follow from its input alone, \
             on every replica and in every release; do it in the caller and pass the result in, or \
             show that the library is pure and add it to STATE_DEPENDENCIES in tests/tidy/layers.rs"
        )
    };
    forbidden.map(breach).collect()
}

fn name_breaches(packages: &[Package]) -> Vec<String> {
    let names = packages.iter().map(|package| package.name.as_str());
    let empty =
        names.filter(|name| EMPTY_NAMES.contains(&name.strip_prefix("quorate-").unwrap_or(name)));
    empty
        .map(|name| format!("a crate called {name} draws in everything: name it by what it does"))
        .collect()
}

#[test]
fn crates_use_only_layers_below() {
    assert_none(&layer_breaches(&packages()));
}

#[test]
fn only_the_owner_of_a_library_depends_on_it() {
    assert_none(&owner_breaches(&packages()));
}

#[test]
fn the_state_machine_is_made_of_pure_parts() {
    let packages = packages();
    assert!(packages.iter().any(|package| package.name == "quorate-state"));
    assert_none(&state_breaches(&packages));
}

#[test]
fn crates_have_names_that_say_something() {
    assert_none(&name_breaches(&packages()));
}

fn package(name: &str, dependencies: &[(&str, Kind)]) -> Package {
    let dependencies = dependencies.iter().map(|(name, kind)| ((*name).to_owned(), *kind));
    Package {
        name: name.to_owned(),
        dependencies: dependencies.collect(),
        features: BTreeMap::new(),
        asks_for: Vec::new(),
    }
}

#[test]
fn a_planted_dependency_up_the_layers_is_found() {
    let packages = |storage: &[_], consensus: &[_]| {
        [
            package("quorate-state", &[]),
            package("quorate-storage", storage),
            package("quorate-consensus", consensus),
        ]
    };
    let fine =
        [("quorate-state", Kind::Normal), ("quorate-state", Kind::Dev), ("tokio", Kind::Normal)];
    assert_none(&layer_breaches(&packages(&fine, &[("quorate-storage", Kind::Normal)])));
    for kind in [Kind::Normal, Kind::Build, Kind::Dev] {
        let breaches = layer_breaches(&packages(&[("quorate-consensus", kind)], &[]));
        assert_found(&breaches, &["quorate-storage may not depend on quorate-consensus"]);
    }
    let breaches = layer_breaches(&[package("quorate-new", &[])]);
    assert_found(&breaches, &["quorate-new has no place"]);
}

#[test]
fn a_planted_use_of_an_owned_library_is_found() {
    let planted = [
        package("quorate-consensus", &[("openraft", Kind::Normal), ("openraft-rt", Kind::Normal)]),
        package("quorate-server", &[("openraft-rt", Kind::Dev)]),
        package("quorate-testkit", &[("librocksdb-sys", Kind::Normal)]),
        package("quorate-storage", &[("rocksdb", Kind::Normal)]),
    ];
    let expected =
        ["quorate-server depends on openraft-rt", "quorate-testkit depends on librocksdb"];
    assert_found(&owner_breaches(&planted), &expected);
}

#[test]
fn a_planted_impure_part_of_the_state_machine_is_found() {
    let dependencies = [
        ("serde", Kind::Normal),
        ("rand", Kind::Normal),
        ("tokio", Kind::Build),
        ("proptest", Kind::Dev),
    ];
    let breaches = state_breaches(&[package("quorate-state", &dependencies)]);
    assert_found(&breaches, &["depends on rand", "depends on tokio"]);
    assert_none(&state_breaches(&[package("quorate-server", &dependencies)]));
}

#[test]
fn a_planted_empty_name_is_found() {
    let planted =
        ["quorate-common", "quorate-state", "types", "quorate-utils", "quorate-prototypes"];
    let breaches = name_breaches(&planted.map(|name| package(name, &[])));
    assert_found(&breaches, &["quorate-common", "types", "quorate-utils"]);
}
