//! Alerts and dashboards ask for metrics that nodes show: one that was renamed would never fire.

use super::workspace::{Source, root, sources};
use super::{assert_found, assert_none};
use std::collections::BTreeSet;

/// Where metrics are given their names.
const SHOWN: &str = "crates/server/src";
/// What asks for them.
const ASKING: &[(&str, &str)] = &[("deploy/prometheus", ".yaml"), ("deploy/grafana", ".json")];
/// What takes the name of a metric first, and of which type the metric is then; none when the call
/// says it.
const CALLS: &[(&str, Option<&str>)] = &[
    ("gauge(", Some("Gauge")),
    ("counter(", Some("Counter")),
    ("durations(", Some("Histogram")),
    ("encode_descriptor(", None),
];

/// The arguments of a call, from behind its parenthesis to the one that closes it.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return &text[..at];
                }
            }
            _ => {}
        }
    }
    text
}

/// The names that stand on the page of a node, as prometheus-client makes them: with the registry's
/// prefix, the unit, and an ending for the type.
fn shown(sources: &[Source]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for Source { text, .. } in sources {
        for (call, kind) in CALLS {
            for (at, _) in text.match_indices(call) {
                let before = text[..at].chars().next_back().unwrap_or(' ');
                let arguments = arguments(&text[at + call.len()..]);
                let literal = arguments.trim_start().strip_prefix('"');
                let Some((name, rest)) = literal.and_then(|rest| rest.split_once('"')) else {
                    continue;
                };
                if before.is_alphanumeric() || before == '_' {
                    continue;
                }
                let unit = match () {
                    () if *call == "durations(" || rest.contains("Unit::Seconds") => "_seconds",
                    () if rest.contains("Unit::Bytes") => "_bytes",
                    () => "",
                };
                let kind = kind.or_else(|| {
                    let kind = rest.split_once("MetricType::")?.1;
                    kind.split(|c: char| !c.is_alphanumeric()).next()
                });
                let endings: &[&str] = match kind {
                    Some("Counter") => &["_total"],
                    Some("Info") => &["_info"],
                    Some("Histogram") => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                names.extend(endings.iter().map(|ending| format!("quorate_{name}{unit}{ending}")));
            }
        }
    }
    names
}

/// What begins like a metric of ours. Names that rules give to what they record have colons.
fn asked(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("quorate_") && !word.contains(':')).collect()
}

fn metric_breaches(asking: &[Source], shown: &BTreeSet<String>) -> Vec<String> {
    let mut breaches = Vec::new();
    for Source { path, text } in asking {
        for name in asked(text).into_iter().filter(|name| !shown.contains(*name)) {
            breaches.push(format!("{path} asks for {name}, which no node shows"));
        }
    }
    breaches
}

/// Recorded metrics that are asked for, and that no rule records.
fn recording_breaches(asking: &[Source]) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let recorded: BTreeSet<&str> = asking
        .iter()
        .flat_map(|source| source.text.lines())
        .filter_map(|line| line.trim_start().strip_prefix("- record: "))
        .collect();
    let mut breaches = Vec::new();
    for Source { path, text } in asking {
        let words: BTreeSet<&str> = text.split(|c| !is_part(c)).collect();
        let ours = |word: &&str| word.contains(":quorate_") && !recorded.contains(word);
        breaches.extend(
            words.into_iter().filter(ours).map(|word| format!("{path}: nothing records {word}")),
        );
    }
    breaches
}

fn asking() -> Vec<Source> {
    ASKING.iter().flat_map(|(directory, suffix)| sources(&[directory], suffix)).collect()
}

#[test]
fn what_alerts_and_dashboards_ask_for_is_shown() {
    let shown = shown(&sources(&[SHOWN], ".rs"));
    assert!(shown.len() > 30, "so few are not all: {shown:?}");
    assert_none(&metric_breaches(&asking(), &shown));
    assert_none(&recording_breaches(&asking()));
}

#[test]
fn the_chart_has_the_same_rules_and_the_same_dashboard() {
    for (copy, own) in [
        ("deploy/helm/quorate/files/rules.yaml", "deploy/prometheus/rules.yaml"),
        ("deploy/helm/quorate/files/dashboard.json", "deploy/grafana/quorate.json"),
    ] {
        let read = |path| std::fs::read_to_string(root().join(path)).expect("the file is there");
        assert!(read(copy) == read(own), "{copy} has to be a link to {own}");
    }
}

#[test]
fn names_are_read_as_they_are_shown() {
    let text = "fn gauge(&mut self, name: &str) {}\n\
                self.gauge(\"open\", \"Open (all of \\\") them.\", f(1))?;\n\
                page.counter(\n    \"log\", help, Some(&Unit::Bytes), 1)?;\n\
                self.counter(\"lost\", help, None, one(Unit))?;\n\
                self.durations(\"wait\", help, x)\n\
                self.0.encode_descriptor(\n  \"build\", help, None, MetricType::Info)?\n\
                self.0.encode_descriptor(\"lag\", help, Some(&Unit::Seconds), MetricType::Gauge)\n\
                descriptor(name, help); my_gauge(\"none\", 1)";
    let source = Source { path: "a.rs".to_owned(), text: text.to_owned() };
    let expected = [
        "quorate_build_info",
        "quorate_lag_seconds",
        "quorate_log_bytes_total",
        "quorate_lost_total",
        "quorate_open",
        "quorate_wait_seconds_bucket",
        "quorate_wait_seconds_count",
        "quorate_wait_seconds_sum",
    ];
    assert_eq!(shown(&[source]).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn planted_metrics_that_nobody_shows_are_found() {
    let shown = BTreeSet::from(["quorate_open".to_owned()]);
    let text = "- record: job:quorate_open:sum\n  expr: sum(quorate_open{job=~\".*quorate.*\"})\n\
                - expr: rate(quorate_gone_total[5m]) > job:quorate_open:sum + job:quorate_gone:sum";
    let asking = [Source { path: "rules.yaml".to_owned(), text: text.to_owned() }];
    assert_found(&metric_breaches(&asking, &shown), &["quorate_gone_total, which no node shows"]);
    assert_found(&recording_breaches(&asking), &["nothing records job:quorate_gone:sum"]);
}
