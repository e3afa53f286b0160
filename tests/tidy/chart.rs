//! The chart for Kubernetes: its templates use values that there are, and what comes of them is YAML.

use super::workspace::{Source, root, sources};
use super::{assert_found, assert_none};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const CHART: &str = "deploy/helm/quorate";

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn templates() -> Vec<Source> {
    let directory = format!("{CHART}/templates");
    [".yaml", ".tpl", ".txt"].iter().flat_map(|suffix| sources(&[&directory], suffix)).collect()
}

/// The actions of a template: what stands between double braces, and whether all of them end.
fn actions(text: &str) -> Result<Vec<&str>, String> {
    let mut actions = Vec::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("{{") {
        if before.contains("}}") {
            return Err(format!(
                "}}}} without {{{{ before {{{{{}",
                from.lines().next().unwrap_or("")
            ));
        }
        let Some((action, after)) = from.split_once("}}") else {
            return Err(format!("no end of {{{{{}", from.lines().next().unwrap_or("")));
        };
        actions.push(action.trim_matches('-').trim());
        rest = after;
    }
    if rest.contains("}}") { Err("}} without {{ at the end".to_owned()) } else { Ok(actions) }
}

/// Actions that don't end, blocks that are not closed, and values that values.yaml has not.
fn template_breaches(templates: &[Source], values: &Value) -> Vec<String> {
    let mut breaches = Vec::new();
    for Source { path, text } in templates {
        let actions = match actions(text) {
            Ok(actions) => actions,
            Err(why) => {
                breaches.push(format!("{path}: {why}"));
                continue;
            }
        };
        let begins = |action: &&&str| {
            let word = action.split_whitespace().next();
            word.is_some_and(|word| ["if", "with", "range", "define", "block"].contains(&word))
        };
        let open = actions.iter().filter(begins).count();
        let ends = actions.iter().filter(|action| **action == "end").count();
        if open != ends {
            breaches.push(format!("{path}: {open} blocks begin and {ends} end"));
        }
        let used: BTreeSet<&str> = actions.iter().flat_map(|action| value_paths(action)).collect();
        let missing = used.into_iter().filter(|used| {
            let pointer = format!("/{}", used.replace('.', "/"));
            values.pointer(&pointer).is_none()
        });
        breaches.extend(
            missing.map(|used| format!("{path} uses .Values.{used}, which values.yaml has not")),
        );
    }
    breaches
}

/// What an action takes of the values: `a.b` of `.Values.a.b`.
fn value_paths(action: &str) -> impl Iterator<Item = &str> {
    let behind = action.match_indices("alues.").filter(|(at, _)| {
        let before = &action[..*at];
        before.ends_with(".V") || before.ends_with("$v")
    });
    behind.map(|(at, word)| {
        let path = &action[at + word.len()..];
        let end = path.find(|c: char| !c.is_alphanumeric() && c != '.').unwrap_or(path.len());
        path[..end].trim_end_matches('.')
    })
}

/// Names of values.yaml that its schema has not, or the other way round.
fn schema_breaches(values: &Value, schema: &Value, at: &str) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    // What is empty is filled by whoever installs it.
    let Some(values) = values.as_object().filter(|values| !values.is_empty()) else {
        return Vec::new();
    };
    let mut breaches = Vec::new();
    for (name, value) in values {
        match properties.get(name) {
            Some(schema) => {
                breaches.extend(schema_breaches(value, schema, &format!("{at}.{name}")))
            }
            None => breaches.push(format!("values.schema.json does not have {at}.{name}")),
        }
    }
    // Helm has values of its own that every chart may be given.
    let known = |name: &&String| *name != "global" && !values.contains_key(*name);
    let missing = properties.keys().filter(known);
    breaches.extend(missing.map(|name| format!("values.yaml does not have {at}.{name}")));
    breaches
}

#[test]
fn templates_use_values_that_there_are() {
    let values: Value = serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml")))
        .expect("values.yaml is YAML");
    assert_none(&template_breaches(&templates(), &values));
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json")))
        .expect("the schema is JSON");
    assert_none(&schema_breaches(&values, &schema, ""));
}

/// Each set of values that the chart is tried with, and the default.
fn tried_values() -> Vec<Source> {
    let mut tried = sources(&[&format!("{CHART}/ci")], "-values.yaml");
    tried.push(Source { path: format!("{CHART}/values.yaml"), text: String::new() });
    tried
}

/// With helm, where there is one: what it makes of the templates is YAML that names what it is.
#[test]
#[expect(clippy::print_stderr, reason = "what was left out is told")]
fn rendered_templates_are_objects_of_kubernetes() {
    let helm = |arguments: &[&Path]| {
        Command::new("helm").arg("template").arg("q").args(arguments).output()
    };
    for values in tried_values() {
        let (chart, path) = (root().join(CHART), root().join(&values.path));
        let Ok(output) = helm(&[&chart, Path::new("--values"), &path]) else {
            eprintln!("there is no helm here, so the templates were read and not rendered");
            return;
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {errors}", values.path);
        let text = String::from_utf8_lossy(&output.stdout);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", values.path));
        assert!(objects.len() >= 4, "{}: {objects:?}", values.path);
        for object in objects {
            for name in ["/apiVersion", "/kind", "/metadata/name"] {
                assert!(object.pointer(name).is_some_and(Value::is_string), "{name} of {object}");
            }
        }
    }
}

/// What `files/start` of the chart gives the node of a pod: the variables that it would be started with.
fn started(volume: &Path, ordinal: u32, token: Option<&str>) -> Result<BTreeSet<String>, String> {
    let bin = tempfile::tempdir().expect("a directory can be made");
    let quorate = bin.path().join("quorate");
    // It shows what it was given.
    std::fs::write(&quorate, "#!/bin/sh\necho \"arguments=$*\"\nexec env\n")
        .expect("it is written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&quorate, mode).expect("it may be run");
    let tokens = bin.path().join("tokens");
    std::fs::create_dir(&tokens).expect("a directory can be made");
    if let Some(token) = token {
        std::fs::write(tokens.join(format!("q-{ordinal}")), token).expect("it is written");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .arg(root().join(CHART).join("files/start"))
        .env_clear()
        .env("PATH", format!("{}:{path}", bin.path().display()))
        .envs([("POD_NAME", format!("q-{ordinal}")), ("PEERS_DOMAIN", "p.ns".to_owned())])
        .envs([("INITIAL_REPLICAS", "3"), ("JOIN_ENDPOINTS", "q.ns:1"), ("CONFIG", "c.toml")])
        .envs([("LISTEN_HOST", "0.0.0.0"), ("CLIENT_PORT", "1")])
        .envs([("PEER_PORT", "2"), ("HTTP_PORT", "3"), ("QUORATE_CA_FILE", "/n/ca.pem")])
        .envs([("NODE_TLS", "/n"), ("NODE_TLS_CERT", "node-{n}.pem"), ("NODE_TLS_KEY", "tls.key")])
        .envs([("PEER_TLS", "/p"), ("PEER_TLS_CERT", "{n}"), ("PEER_TLS_KEY", "peer-{n}-key.pem")])
        .env("PEER_TLS_CA", "ca.crt")
        .envs([("VOLUME", volume), ("JOIN_TOKENS", &tokens)])
        .output()
        .expect("there is a shell");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let ours = |line: &&str| line.starts_with("QUORATE_") || line.starts_with("arguments=");
    Ok(text.lines().filter(ours).map(str::to_owned).collect())
}

#[test]
fn a_pod_founds_or_joins_by_its_ordinal_and_its_token() {
    let volume = tempfile::tempdir().expect("a directory can be made");
    let volume = volume.path();
    let has = |given: &BTreeSet<String>, line: &str| {
        assert!(given.contains(line), "{line} is not in {given:#?}");
    };
    let silent = |given: &BTreeSet<String>, name: &str| {
        let said = given.iter().find(|line| line.split('=').next() == Some(name));
        assert_eq!(said, None, "{given:#?}");
    };

    let founder = started(volume, 1, None).expect("it is started");
    for line in [
        "arguments=serve --config c.toml",
        "QUORATE_NODE_ID=2",
        "QUORATE_INITIAL_CLUSTER=1=q-0.p.ns:2,2=q-1.p.ns:2,3=q-2.p.ns:2",
        "QUORATE_CLIENT_LISTEN=0.0.0.0:1",
        "QUORATE_CLIENT_ADVERTISE=q-1.p.ns:1",
        "QUORATE_PEER_ADVERTISE=q-1.p.ns:2",
        "QUORATE_HTTP_ADVERTISE=q-1.p.ns:3",
        "QUORATE_TLS_CERT_FILE=/n/node-2.pem",
        "QUORATE_TLS_KEY_FILE=/n/tls.key",
        "QUORATE_TLS_PEER_CERT_FILE=/p/2",
        "QUORATE_TLS_PEER_KEY_FILE=/p/peer-2-key.pem",
        "QUORATE_TLS_PEER_CA_FILE=/p/ca.crt",
    ] {
        has(&founder, line);
    }
    has(&founder, &format!("QUORATE_DATA_DIR={}/data", volume.display()));
    silent(&founder, "QUORATE_JOIN");

    // One that is not among the founders joins, and says so while it has no token.
    let why = started(volume, 3, None).expect_err("it has no token");
    assert!(why.contains("under the name q-3"), "{why}");
    let joiner = started(volume, 3, Some("secret\n")).expect("it is started");
    for line in [
        "QUORATE_JOIN=q.ns:1",
        "QUORATE_JOIN_TOKEN=secret",
        "QUORATE_JOIN_CA_FILE=/n/ca.pem",
        "QUORATE_TLS_CERT_FILE=/n/node-4.pem",
    ] {
        has(&joiner, line);
    }
    for name in ["QUORATE_NODE_ID", "QUORATE_INITIAL_CLUSTER"] {
        silent(&joiner, name);
    }
    std::fs::create_dir(volume.join("data")).expect("a directory can be made");
    let again = started(volume, 3, None).expect("it has its data");
    has(&again, "QUORATE_JOIN=q.ns:1");
    silent(&again, "QUORATE_JOIN_TOKEN");

    // A founder with a new disk and a token joins, and still does so when the token is gone.
    let replaced = tempfile::tempdir().expect("a directory can be made");
    let replaced = replaced.path();
    has(&started(replaced, 1, Some("other")).expect("it is started"), "QUORATE_JOIN_TOKEN=other");
    std::fs::create_dir(replaced.join("data")).expect("a directory can be made");
    let later = started(replaced, 1, None).expect("it has its data");
    has(&later, "QUORATE_JOIN=q.ns:1");
    silent(&later, "QUORATE_NODE_ID");
    // A token makes no joiner of a founder that has its data.
    let kept = tempfile::tempdir().expect("a directory can be made");
    std::fs::create_dir(kept.path().join("data")).expect("a directory can be made");
    let founder = started(kept.path(), 1, Some("other")).expect("it is started");
    has(&founder, "QUORATE_NODE_ID=2");
    silent(&founder, "QUORATE_JOIN");
}

#[test]
fn planted_mistakes_in_templates_are_found() {
    let values = serde_json::json!({"a": {"b": 1}, "c": []});
    let template = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let templates = [
        template("fine", "{{- if .Values.a.b -}}\nx: {{ $.Values.c }}{{ else }}{{ end }}"),
        template(
            "value",
            "{{ with .Values.a }}{{ .Values.a.gone }}{{ $values.gone | quote }}{{ end }}",
        ),
        template("open", "{{ range .Values.c }}\nx: {{ . }}"),
        template("torn", "x: {{ .Values.a\ny: 1"),
        template("brace", "x: 1 }}\ny: {{ .Values.c }}"),
    ];
    let expected = [
        "value uses .Values.a.gone",
        "value uses .Values.gone",
        "open: 1 blocks begin and 0 end",
        "torn: no end of",
        "brace: }} without {{",
    ];
    assert_found(&template_breaches(&templates, &values), &expected);
    let schema = serde_json::json!({"properties": {
        "a": {"properties": {"d": {}}}, "c": {"type": "array"}, "e": {}, "global": {}
    }});
    let expected =
        ["does not have .a.b", "values.yaml does not have .a.d", "values.yaml does not have .e"];
    assert_found(&schema_breaches(&values, &schema, ""), &expected);
}
