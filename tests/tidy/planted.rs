//! Faults can be planted in no build but those for tests, and nowhere in the state machine is anything
//! that would make it impure but for them.

use super::workspace::{Package, Source, packages, root, sources};
use super::{assert_found, assert_none};
use std::collections::BTreeMap;
use std::fs;

/// The feature.
const FEATURE: &str = "planted-faults";
/// Scripts that may name it: they test, and hand nothing to anybody.
const TESTING: &[&str] = &["scripts/test", "scripts/proof"];
/// Where the state machine is told what is planted.
const MODULE: &str = "crates/state/src/planted.rs";
/// What a function of its arguments alone has no use for.
const SHARED: &[&str] = &["thread_local!", "OnceLock", "Atomic", "Mutex", "RwLock", "Cell<"];

/// The feature is turned on by features of its own name alone, and asked for by no manifest.
fn feature_breaches(packages: &[Package]) -> Vec<String> {
    let mut breaches = Vec::new();
    for Package { name, features, asks_for, .. } in packages {
        for (feature, turns_on) in features.iter().filter(|(feature, _)| *feature != FEATURE) {
            let on = |what: &&String| what.rsplit('/').next() == Some(FEATURE);
            if let Some(what) = turns_on.iter().find(on) {
                breaches.push(format!(
                    "the feature {feature} of {name} turns on {what}: only {FEATURE} may, and that \
                     is given on the command line"
                ));
            }
        }
        for (dependency, _) in asks_for.iter().filter(|(_, feature)| feature == FEATURE) {
            breaches.push(format!(
                "{name} always asks for {FEATURE} of {dependency}: then every build has it"
            ));
        }
    }
    breaches
}

/// What is shipped is built without it: no file of a release names it.
fn release_breaches(files: &[Source]) -> Vec<String> {
    let named = files.iter().filter(|file| {
        !TESTING.contains(&file.path.as_str())
            && (file.text.contains(FEATURE) || file.text.contains("all-features"))
    });
    named
        .map(|Source { path, .. }| {
            format!("{path} names {FEATURE}, or all features: only {TESTING:?} may")
        })
        .collect()
}

/// `quorate` can't be built with it, and the binary that can says so by its name.
fn binary_breaches(main: &str, manifest: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let refusal = format!("#[cfg(feature = \"{FEATURE}\")]\ncompile_error!(");
    if !main.contains(&refusal) {
        breaches.push(format!("the binary quorate can be built with {FEATURE}"));
    }
    let required = format!(
        "name = \"quorate-planted\"\npath = \"src/planted.rs\"\n\
                            required-features = [\"{FEATURE}\"]"
    );
    if !manifest.contains(&required) {
        breaches.push(format!("the binary quorate-planted can be built without {FEATURE}"));
    }
    breaches
}

/// In the state machine the module is there with the feature alone, and so is whatever asks it; and
/// nothing else is shared between calls or threads.
fn purity_breaches(sources: &[Source]) -> Vec<String> {
    let mut breaches = Vec::new();
    let gate = format!("#[cfg(feature = \"{FEATURE}\")]");
    let own = |path: &str| path.starts_with("crates/state/src/") && !path.contains("/tests/");
    for Source { path, text } in
        sources.iter().filter(|file| own(&file.path) && file.path != MODULE)
    {
        let mut before = "";
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            let code = line.split("//").next().unwrap_or_default();
            let asks = code.contains("planted::") || code.contains("is_planted(");
            let declares = code.starts_with("mod planted") || code.starts_with("pub mod planted");
            if (asks || declares) && before != gate {
                breaches.push(format!(
                    "{path}:{number}: {line:?} must have {gate} on the line before it"
                ));
            }
            // A lifetime is another word: 'static.
            let is_static = code.split_whitespace().any(|word| word == "static");
            if is_static || SHARED.iter().any(|word| code.contains(word)) {
                breaches.push(format!(
                    "{path}:{number}: {line:?} keeps something between calls, and the machine is \
                     made of its arguments alone; only {MODULE} may"
                ));
            }
            before = line;
        }
    }
    breaches
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn no_crate_turns_planted_faults_on() {
    assert_none(&feature_breaches(&packages()));
}

#[test]
fn nothing_that_is_shipped_names_planted_faults() {
    assert_none(&release_breaches(&sources(&["deploy", "scripts", ".ci"], "")));
}

#[test]
fn quorate_is_never_built_with_planted_faults() {
    assert_none(&binary_breaches(&read("crates/cli/src/main.rs"), &read("crates/cli/Cargo.toml")));
}

#[test]
fn the_state_machine_is_pure_without_planted_faults() {
    let sources = sources(&["crates/state/src"], ".rs");
    assert!(sources.iter().any(|file| file.path == MODULE), "{MODULE} is not there");
    assert_none(&purity_breaches(&sources));
}

fn package(features: &[(&str, &[&str])], asks_for: &[(&str, &str)]) -> Package {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Package {
        name: "quorate-a".to_owned(),
        dependencies: Vec::new(),
        features: features
            .iter()
            .map(|(name, on)| ((*name).to_owned(), owned(on)))
            .collect::<BTreeMap<_, _>>(),
        asks_for: asks_for
            .iter()
            .map(|(of, name)| ((*of).to_owned(), (*name).to_owned()))
            .collect(),
    }
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn features_that_turn_it_on_are_found() {
    let fine = package(&[(FEATURE, &["quorate-b/planted-faults"]), ("default", &["x"])], &[]);
    assert_none(&feature_breaches(&[fine]));
    let by_default = package(&[("default", &[FEATURE]), ("fast", &["b/planted-faults"])], &[]);
    let breaches = feature_breaches(&[by_default]);
    assert_found(&breaches, &["the feature default", "the feature fast"]);
    let asking = package(&[], &[("quorate-b", FEATURE), ("quorate-b", "testing")]);
    assert_found(&feature_breaches(&[asking]), &["always asks for planted-faults of quorate-b"]);
}

#[test]
fn files_of_a_release_that_name_it_are_found() {
    let build = "cargo build --features quorate-cli/planted-faults";
    assert_none(&release_breaches(&[source("scripts/test", build), source("scripts/a", "cargo")]));
    let breaches = release_breaches(&[
        source("deploy/Dockerfile", build),
        source("scripts/release", "cargo build --all-features"),
    ]);
    assert_found(&breaches, &["deploy/Dockerfile names", "scripts/release names"]);
}

#[test]
fn a_binary_that_can_have_it_is_found() {
    let breaches = binary_breaches("fn main() {}", "name = \"quorate-planted\"");
    assert_found(&breaches, &["the binary quorate can", "the binary quorate-planted can"]);
}

#[test]
fn impure_parts_of_the_state_machine_are_found() {
    let gated = "//! A.\n#[cfg(feature = \"planted-faults\")]\nuse crate::planted::Fault;";
    assert_none(&purity_breaches(&[source("crates/state/src/a.rs", gated)]));
    assert_none(&purity_breaches(&[source(MODULE, "thread_local! {}")]));
    assert_none(&purity_breaches(&[source("crates/storage/src/a.rs", "static A: u8 = 1;")]));
    let breaches = purity_breaches(&[
        source("crates/state/src/a.rs", "use crate::planted::Fault;"),
        source("crates/state/src/b.rs", "//! B.\n    if is_planted(Fault::A) {"),
        source("crates/state/src/lib.rs", "pub mod planted;"),
        source("crates/state/src/c.rs", "static SEEN: AtomicU64 = AtomicU64::new(0);"),
    ]);
    assert_found(&breaches, &["a.rs:1", "b.rs:2", "lib.rs:1", "c.rs:1"]);
}
