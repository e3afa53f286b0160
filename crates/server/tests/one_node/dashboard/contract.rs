//! What a node answers has the form that `assets/ui/API.md` says, which the pages were written against.

use super::{filled, get};
use crate::fixture::Fixture;
use serde_json::Value;
use std::collections::BTreeSet;

const CONTRACT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/ui/API.md"));

/// The example under the heading that begins like this.
fn example(heading: &str) -> Value {
    let section = CONTRACT.split("\n#").find(|section| {
        let title = section.trim_start_matches('#').trim_start();
        title.starts_with(heading)
    });
    let section = section.unwrap_or_else(|| panic!("there is no section {heading}"));
    let json = match section.split_once("```json\n") {
        Some((_, rest)) => rest.split_once("\n```").unwrap().0.to_owned(),
        // In a line of text, over several lines.
        None => {
            let (_, rest) = section.split_once("`{").unwrap();
            format!("{{{}", rest.split_once('`').unwrap().0)
        }
    };
    let json = if json.starts_with('{') { json } else { format!("{{{json}}}") };
    serde_json::from_str(&json).unwrap_or_else(|wrong| panic!("{heading}: {wrong}: {json}"))
}

/// Finds where an answer has another form than its example.
fn differences(example: &Value, answer: &Value, at: &str, found: &mut Vec<String>) {
    match (example, answer) {
        // What may be absent says nothing of its form.
        (Value::Null, _) | (_, Value::Null) => {}
        (Value::Object(expected), Value::Object(got)) => {
            let names = |of: &serde_json::Map<String, Value>| -> BTreeSet<String> {
                of.keys().cloned().collect()
            };
            let (expected_names, got_names) = (names(expected), names(got));
            for name in expected_names.symmetric_difference(&got_names) {
                found.push(format!("{at}.{name} is in one of the two"));
            }
            for name in expected_names.intersection(&got_names) {
                differences(&expected[name], &got[name], &format!("{at}.{name}"), found);
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            if let Some(expected) = expected.first() {
                for one in got {
                    differences(expected, one, &format!("{at}[]"), found);
                }
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => found.push(format!("{at} is {answer}, not as {example}")),
    }
}

#[test]
fn a_difference_is_found() {
    let expected = serde_json::json!({"a": [{"b": "1", "c": null}], "d": 1});
    for (answer, wrong) in [
        (serde_json::json!({"a": [{"b": "2", "c": 3}], "d": null}), 0),
        (serde_json::json!({"a": [{"b": "2"}], "d": 1}), 1),
        (serde_json::json!({"a": [{"b": 2, "c": 1}], "d": "1", "e": 1}), 3),
    ] {
        let mut found = Vec::new();
        differences(&expected, &answer, "", &mut found);
        assert_eq!(found.len(), wrong, "{found:?}");
    }
}

#[tokio::test]
async fn every_answer_has_the_form_that_the_pages_expect() {
    let fixture = Fixture::start().await;
    let _held = filled(&fixture).await;
    for (path, heading, part) in [
        ("whoami", "GET whoami", None),
        ("overview", "GET overview", None),
        ("queues", "GET queues?namespace", None),
        ("queues/emails", "GET queues/{name}\n", Some(("queue", "options"))),
        ("queues/emails/jobs", "GET queues/{name}/jobs", None),
        ("queues/emails/jobs?state=dead", "GET queues/{name}/jobs", None),
        ("queues/emails/jobs?state=ready", "GET queues/{name}/jobs", None),
        ("locks", "GET locks?", Some(("locks", "0"))),
        ("locks/report", "GET locks?", Some(("lock", ""))),
        ("cache", "GET cache", None),
        ("bus", "GET bus", None),
        ("keys", "GET keys?", None),
        ("keys/YS9i", "GET keys/{base64url", None),
        ("sessions", "GET sessions", None),
    ] {
        let answer = get(&fixture, path, None).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let answer = answer.json();
        let lists = ["queues", "jobs", "locks", "channels", "keys", "sessions", "nodes"];
        for list in lists.iter().filter_map(|list| answer.get(list)) {
            assert!(!list.as_array().unwrap().is_empty(), "{path} shows nothing: {answer}");
        }
        let (mut expected, mut got) = (example(heading), answer);
        match part {
            None => {}
            Some(("queue", option)) => {
                (expected, got) = (expected[option].take(), got["queue"][option].take());
            }
            Some((list, "0")) => got = got[list][0].take(),
            Some((one, _)) => got = got[one].take(),
        }
        let mut found = Vec::new();
        differences(&expected, &got, path, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[tokio::test]
async fn the_columns_are_those_of_the_table() {
    let fixture = Fixture::start().await;
    let (_, section) = CONTRACT.split_once("## GET series").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let first = |row: &str| row.split('|').nth(1).unwrap().to_owned();
    let expected: BTreeSet<String> = rows
        .flat_map(|row| {
            first(row).split(',').map(|name| name.trim().replace('`', "")).collect::<Vec<_>>()
        })
        .collect();
    // The first sample comes a second after the node began.
    let columns = loop {
        let columns = get(&fixture, "series", None).await.json()["columns"].take();
        if !columns["at_unix_ms"].as_array().unwrap().is_empty() {
            break columns;
        }
        tokio::task::yield_now().await;
    };
    let columns = columns.as_object().unwrap();
    let got: BTreeSet<String> = columns.keys().cloned().collect();
    assert_eq!(got, expected);
    let samples = columns["at_unix_ms"].as_array().unwrap().len();
    assert!(columns.values().all(|column| column.as_array().unwrap().len() == samples));
    assert_eq!(columns["leader_id"][0], "1");
}
