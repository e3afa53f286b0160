//! What is in the repository: its packages with their dependencies, and its files.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// For what a package needs a dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To run.
    Normal,
    /// To be built.
    Build,
    /// To be tested.
    Dev,
}

/// A package of the workspace with what its manifest names.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<(String, Kind)>,
    /// Its features, and what each of them turns on.
    pub(crate) features: BTreeMap<String, Vec<String>>,
    /// Features of dependencies that it always asks for, beside the dependency's name.
    pub(crate) asks_for: Vec<(String, String)>,
}

/// A text file, by its path from the root of the repository.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package tests is below the root")
}

/// All packages of the workspace, as cargo sees them.
pub(crate) fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs the tests, so it can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {errors}");
    let packages = parse_metadata(&output.stdout);
    assert!(packages.len() > 5, "cargo metadata tells only of {packages:?}");
    packages
}

fn parse_metadata(json: &[u8]) -> Vec<Package> {
    let metadata: Value = serde_json::from_slice(json).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().expect("cargo metadata has a name").to_owned();
    let list = |value: &Value| value.as_array().expect("cargo metadata has a list").clone();
    let packages = list(&metadata["packages"]);
    let packages = packages.iter().map(|package| Package {
        name: text(&package["name"]),
        dependencies: list(&package["dependencies"])
            .iter()
            .map(|dependency| {
                let kind = match dependency["kind"].as_str() {
                    None => Kind::Normal,
                    Some("build") => Kind::Build,
                    Some(_) => Kind::Dev,
                };
                (text(&dependency["name"]), kind)
            })
            .collect(),
        features: features(&package["features"]),
        asks_for: list(&package["dependencies"])
            .iter()
            .flat_map(|dependency| {
                let features = list(&dependency["features"]);
                let name = text(&dependency["name"]);
                features.into_iter().map(move |feature| (name.clone(), text(&feature)))
            })
            .collect(),
    });
    packages.collect()
}

fn features(value: &Value) -> BTreeMap<String, Vec<String>> {
    serde_json::from_value(value.clone()).expect("cargo metadata has a table of features")
}

/// All files below these directories of the root that end with `suffix`. Fails when one of the
/// directories has none, because then a rule would hold for nothing.
pub(crate) fn sources(directories: &[&str], suffix: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for directory in directories {
        let before = sources.len();
        collect(&root().join(directory), suffix, &mut sources);
        assert!(sources.len() > before, "{directory} has no {suffix} files");
    }
    sources
}

fn collect(directory: &Path, suffix: &str, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("could not list {}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a directory can be listed").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, suffix, sources);
            }
        } else if name.ends_with(suffix) {
            let text = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()));
            let path = path.strip_prefix(root()).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { path, text });
        }
    }
}

#[test]
fn metadata_is_understood() {
    let json = br#"{"packages": [{"name": "quorate-a", "features": {"f": ["x/g"]}, "dependencies": [
        {"name": "x", "kind": null, "features": ["h"]}, {"name": "y", "kind": "dev", "features": []},
        {"name": "z", "kind": "build", "features": []}
    ]}]}"#;
    let packages = parse_metadata(json);
    assert_eq!(packages.len(), 1);
    assert_eq!(packages[0].name, "quorate-a");
    let expected = [("x", Kind::Normal), ("y", Kind::Dev), ("z", Kind::Build)];
    assert_eq!(packages[0].dependencies, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(packages[0].features, BTreeMap::from([("f".to_owned(), vec!["x/g".to_owned()])]));
    assert_eq!(packages[0].asks_for, [("x".to_owned(), "h".to_owned())]);
}
