//! The files that machines and operators read: they are well-formed, agree on what must be the same
//! everywhere, and `scripts/install` puts them where they belong.

use super::workspace::{root, sources};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn rules_and_dashboards_are_well_formed() {
    let rules = yaml("deploy/prometheus/rules.yaml");
    let handbook = read("docs/operations.md");
    let mut names = BTreeSet::new();
    for group in rules["groups"].as_array().expect("there are groups") {
        for rule in group["rules"].as_array().expect("a group has rules") {
            assert!(rule["expr"].is_string(), "{rule}");
            let name =
                rule["alert"].as_str().or_else(|| rule["record"].as_str()).expect("it has a name");
            assert!(names.insert(name), "{name} is there twice");
            if rule["alert"].is_null() {
                continue;
            }
            assert!(rule["labels"]["severity"].is_string(), "{name} has no severity");
            assert!(handbook.contains(&format!("`{name}`")), "the handbook does not have {name}");
            assert!(rule["annotations"]["summary"].is_string(), "{name} says nothing");
            let named = rule["annotations"]["handbook"].as_str().expect("it names a handbook");
            let (path, section) = named.split_once('#').expect("it names a section");
            let headings = read(path);
            let anchor = |line: &str| {
                let heading = line.strip_prefix("## ").unwrap_or_default().to_lowercase();
                let kept = |c: &char| c.is_alphanumeric() || *c == ' ' || *c == '-';
                heading.chars().filter(kept).collect::<String>().replace(' ', "-")
            };
            assert!(headings.lines().any(|line| anchor(line) == section), "{named} of {name}");
        }
    }
    let tried = read("deploy/prometheus/rules_test.yaml");
    let untried: Vec<_> =
        names.iter().filter(|name| !name.contains(':') && !tried.contains(&***name)).collect();
    assert!(untried.is_empty(), "rules_test.yaml does not try {untried:?}");

    for dashboard in sources(&["deploy/grafana"], ".json") {
        let dashboard: Value = serde_json::from_str(&dashboard.text).expect("it is JSON");
        let panels = dashboard["panels"].as_array().expect("there are panels");
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len(), "two panels have the same id");
    }
}

/// Prometheus's own check, where there is one.
#[test]
#[expect(clippy::print_stderr, reason = "what was left out is told")]
fn the_alerts_fire_when_they_should_and_not_else() {
    let tests = root().join("deploy/prometheus/rules_test.yaml");
    let Ok(output) = Command::new("promtool").args(["test", "rules"]).arg(tests).output() else {
        eprintln!("there is no promtool here, so the alerts were read and not tried");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn containers_run_as_the_user_of_the_image_with_time_to_stop() {
    let image = read("deploy/Dockerfile");
    let user = image.lines().find_map(|line| line.strip_prefix("USER ")).expect("it names a user");
    let (user, group) = user.split_once(':').expect("and a group");
    let chart = read("deploy/helm/quorate/templates/statefulset.yaml");
    for (key, id) in [("runAsUser", user), ("runAsGroup", group), ("fsGroup", group)] {
        let line = format!("{key}: {id}");
        assert!(chart.lines().any(|said| said.trim() == line), "the chart does not say {line}");
    }
    let values = yaml("deploy/helm/quorate/values.yaml");
    // What README and unit promise is 30 s.
    assert!(values["terminationGracePeriodSeconds"].as_u64().expect("a number") >= 40);
    let services = yaml("deploy/compose.yaml")["services"].clone();
    let services = services.as_object().expect("there are services");
    let nodes = services.iter().filter(|(name, _)| name.starts_with("node-"));
    let mut count = 0;
    for (name, node) in nodes {
        count += 1;
        assert_eq!(node["stop_grace_period"], "40s", "{name}");
        assert_eq!(node["read_only"], true, "{name}");
        assert_eq!(node["cap_drop"], serde_json::json!(["ALL"]), "{name}");
    }
    assert_eq!(count, 3);
}

/// `scripts/install` with a program that prints completions and man pages.
fn install(root_dir: &Path, arguments: &[&str]) -> Output {
    let program = root_dir.with_file_name("program");
    let text = "#!/bin/sh\ncase $1 in\ncompletions) echo \"$2\" ;;\n\
                man) echo page >\"$3/quorate.1\" ;;\n*) exit 2 ;;\nesac\n";
    std::fs::write(&program, text).expect("a file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("it may be run");
    let output = Command::new("bash")
        .arg(root().join("scripts/install"))
        .arg("--root")
        .arg(root_dir)
        .arg("--binary")
        .arg(&program)
        .args(arguments)
        .output();
    output.expect("there is a shell")
}

/// The files below a directory, by their paths from it.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten() {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let path = path.strip_prefix(directory).expect("it is below");
                files.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    files
}

#[test]
fn what_is_installed_is_removed_but_for_the_configuration() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let stage = directory.path().join("stage");
    assert!(install(&stage, &["--dry-run"]).status.success());
    assert!(!stage.exists(), "a dry run writes nothing");

    let output = install(&stage, &["--prefix", "/opt/q"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = [
        "etc/quorate/quorate.toml",
        "etc/systemd/system/quorate.service",
        "etc/sysusers.d/quorate.conf",
        "opt/q/bin/quorate",
        "opt/q/share/bash-completion/completions/quorate",
        "opt/q/share/fish/vendor_completions.d/quorate.fish",
        "opt/q/share/man/man1/quorate.1",
        "opt/q/share/zsh/site-functions/_quorate",
    ];
    assert_eq!(files(&stage).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let unit = std::fs::read_to_string(stage.join(expected[1])).expect("it is there");
    assert!(unit.contains("\nExecStart=/opt/q/bin/quorate serve "), "{unit}");

    // A configuration that somebody edited stays.
    let config = stage.join(expected[0]);
    std::fs::write(&config, "node_id = 7\n").expect("a file can be written");
    assert!(install(&stage, &["--prefix", "/opt/q"]).status.success());
    assert!(install(&stage, &["--prefix", "/opt/q", "--remove"]).status.success());
    assert_eq!(files(&stage), BTreeSet::from([expected[0].to_owned()]));
    assert_eq!(std::fs::read_to_string(config).expect("it is there"), "node_id = 7\n");

    for wrong in [&["--prefix", "a b"][..], &["--prefix", "/"], &["--prefix"], &["--what"]] {
        assert_eq!(install(&stage, wrong).status.code(), Some(2), "{wrong:?}");
    }
}
