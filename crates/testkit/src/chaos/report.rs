//! What a run says in the end: tables for people, one object for programs.

use super::run::{Outcome, Settings};
use crate::work::book::Ended;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Problems that are printed; all are in the summary.
const SHOWN_MAX: usize = 20;

#[derive(Default)]
struct Calls {
    answered: u64,
    failed: u64,
    unknown: u64,
    times: Option<Histogram<u64>>,
}

fn calls(outcome: &Outcome) -> BTreeMap<(&'static str, &'static str), Calls> {
    let mut all: BTreeMap<_, Calls> = BTreeMap::new();
    for record in &outcome.records {
        let calls = all.entry((record.workload, record.operation)).or_default();
        match record.how {
            Ended::Answered => {
                calls.answered += 1;
                let micros =
                    u64::try_from((record.ended - record.begun).as_micros()).unwrap_or(u64::MAX);
                let times = calls
                    .times
                    .get_or_insert_with(|| Histogram::new(3).expect("three digits are allowed"));
                times.record(micros).expect("it grows as it needs to");
            }
            Ended::Failed => calls.failed += 1,
            Ended::Unknown => calls.unknown += 1,
        }
    }
    all
}

fn faults(outcome: &Outcome) -> BTreeMap<&str, (u64, Duration)> {
    let mut kinds: BTreeMap<&str, (u64, Duration)> = BTreeMap::new();
    for fault in &outcome.happened {
        let entry = kinds.entry(&fault.kind).or_default();
        entry.0 += 1;
        entry.1 += fault.until - fault.from;
    }
    kinds
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// For people.
#[must_use]
pub fn table(settings: &Settings, outcome: &Outcome) -> String {
    let mut text = String::new();
    let _ = write(&mut text, settings, outcome);
    text
}

fn write(text: &mut String, settings: &Settings, outcome: &Outcome) -> std::fmt::Result {
    let quantile = |times: &Option<Histogram<u64>>, q| {
        times.as_ref().map_or(0.0, |times| times.value_at_quantile(q) as f64 / 1e3)
    };
    writeln!(text, "| what went wrong | times | seconds in all |\n|---|---:|---:|")?;
    for (kind, (count, time)) in faults(outcome) {
        writeln!(text, "| {kind} | {count} | {:.1} |", time.as_secs_f64())?;
    }
    writeln!(
        text,
        "\n| workload | call | answered | failed | unknown | p50 ms | p99 ms | longest ms |"
    )?;
    writeln!(text, "|---|---|---:|---:|---:|---:|---:|---:|")?;
    for ((workload, operation), calls) in calls(outcome) {
        let longest = calls.times.as_ref().map_or(0.0, |times| times.max() as f64 / 1e3);
        writeln!(
            text,
            "| {workload} | {operation} | {} | {} | {} | {:.1} | {:.1} | {longest:.0} |",
            calls.answered,
            calls.failed,
            calls.unknown,
            quantile(&calls.times, 0.5),
            quantile(&calls.times, 0.99),
        )?;
    }
    writeln!(text, "\n| workload | what was held against what | violations |\n|---|---|---:|")?;
    for (name, verdict) in &outcome.verdicts {
        writeln!(text, "| {name} | {} | {} |", verdict.checked, verdict.problems.len())?;
    }
    let slowest = outcome.recoveries.iter().map(|(served, _)| *served).max().unwrap_or_default();
    let well = outcome.recoveries.iter().map(|(_, well)| *well).max().unwrap_or_default();
    writeln!(
        text,
        "\nseed {}, {} nodes at first, {:.0} s; {} terms led, {} snapshots installed\nlongest time \
         without an answer {:.2} s; everything repaired {} times, and then served after {:.2} s and all \
         nodes well after {:.2} s at the latest",
        settings.seed,
        settings.nodes,
        outcome.lasted.as_secs_f64(),
        outcome.elections,
        outcome.installs,
        outcome.longest_silence.as_secs_f64(),
        outcome.recoveries.len(),
        slowest.as_secs_f64(),
        well.as_secs_f64(),
    )?;
    for problem in outcome.problems.iter().take(SHOWN_MAX) {
        writeln!(text, "PROBLEM {problem}")?;
    }
    writeln!(text, "{} problems", outcome.problems.len())
}

/// For programs.
#[must_use]
pub fn summary(settings: &Settings, outcome: &Outcome) -> Value {
    let faults: BTreeMap<_, _> = faults(outcome)
        .into_iter()
        .map(|(kind, (count, time))| (kind, json!({ "times": count, "ms": ms(time) })))
        .collect();
    let calls: Vec<_> = calls(outcome)
        .into_iter()
        .map(|((workload, operation), calls)| {
            json!({
                "workload": workload,
                "operation": operation,
                "answered": calls.answered,
                "failed": calls.failed,
                "unknown": calls.unknown,
                "p99_us": calls.times.as_ref().map(|times| times.value_at_quantile(0.99)),
            })
        })
        .collect();
    let checked: BTreeMap<_, _> =
        outcome.verdicts.iter().map(|(name, verdict)| (name, &verdict.checked)).collect();
    json!({
        "seed": settings.seed,
        "nodes": settings.nodes,
        "seconds": outcome.lasted.as_secs_f64(),
        "faults": faults,
        "calls": calls,
        "checked": checked,
        "terms": outcome.elections,
        "installs": outcome.installs,
        "longest_silence_ms": ms(outcome.longest_silence),
        "recoveries_ms": outcome.recoveries.iter().map(|(served, well)| [ms(*served), ms(*well)])
            .collect::<Vec<_>>(),
        "problems": outcome.problems,
    })
}
