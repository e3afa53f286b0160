//! What a benchmark has measured: operations, latencies, and what the nodes counted meanwhile.

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies up to this are told apart; a longer one counts as this.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Digits that are exact.
const DIGITS: u8 = 3;

/// Latencies in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).expect("the bounds are valid"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds below which this share of the operations lies.
    pub(super) fn at(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "min": self.0.min(),
            "p50": self.at(0.5),
            "p90": self.at(0.9),
            "p99": self.at(0.99),
            "p999": self.at(0.999),
            "max": self.0.max(),
            "mean": self.0.mean().round(),
        })
    }
}

/// The result of a run.
#[derive(Debug)]
pub(super) struct Measured {
    /// Of operations that succeeded, after the warm-up.
    pub(super) latencies: Latencies,
    /// Operations that failed, by their reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// Operations that were due at the given rate and never begun.
    pub(super) not_begun: u64,
    /// How long was measured.
    pub(super) elapsed: Duration,
    /// What all nodes counted in that time, by name.
    pub(super) counted: BTreeMap<String, u64>,
    /// Nodes that could not be asked.
    pub(super) silent_nodes: u64,
    /// Operations finished in each second.
    pub(super) per_second: Vec<u64>,
}

impl Measured {
    pub(super) fn rate(&self) -> f64 {
        rate(self.latencies.count(), self.elapsed)
    }

    pub(super) fn count(&self) -> u64 {
        self.latencies.count()
    }

    /// What all nodes counted under this name, for each operation.
    pub(super) fn per_operation(&self, name: &str) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.counter(name) as f64 / count as f64,
        }
    }

    fn counter(&self, name: &str) -> u64 {
        self.counted.get(name).copied().unwrap_or(0)
    }

    /// Commands of one log entry, on average.
    fn commands_per_entry(&self) -> f64 {
        let entries = self.counter("entries_proposed");
        if entries == 0 { 0.0 } else { self.counter("commands_proposed") as f64 / entries as f64 }
    }

    pub(super) fn json(&self, run: Map<String, Value>) -> Value {
        let failed: u64 = self.failures.values().sum();
        let mut object = run;
        object.insert("seconds".into(), rounded(self.elapsed.as_secs_f64()));
        object.insert("operations".into(), self.latencies.count().into());
        object.insert("operations_per_second".into(), self.rate().round().into());
        object.insert("failed".into(), failed.into());
        object.insert("failures".into(), json!(self.failures));
        object.insert("not_begun".into(), self.not_begun.into());
        object.insert("latency_us".into(), self.latencies.json());
        object.insert("per_second".into(), json!(self.per_second));
        object.insert(
            "counters".into(),
            json!({
                "fsyncs": self.counter("log_syncs"),
                "fsyncs_per_second": rate(self.counter("log_syncs"), self.elapsed).round(),
                "entries": self.counter("entries_proposed"),
                "commands": self.counter("commands_proposed"),
                "commands_per_entry": rounded(self.commands_per_entry()),
                "entries_per_operation": rounded(self.per_operation("entries_proposed")),
                "commands_per_operation": rounded(self.per_operation("commands_proposed")),
                "log_bytes": self.counter("log_bytes"),
                "silent_nodes": self.silent_nodes,
            }),
        );
        object.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        Value::from(object)
    }

    pub(super) fn text(&self) -> String {
        let ms = |us: u64| format!("{:.2} ms", us as f64 / 1_000.0);
        let at = |share| ms(self.latencies.at(share));
        let mut lines = vec![
            format!(
                "{:.0} operations/s ({} in {:.1} s)",
                self.rate(),
                self.latencies.count(),
                self.elapsed.as_secs_f64()
            ),
            format!(
                "latency  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                ms(self.latencies.0.max())
            ),
            format!(
                "on all nodes: {} fsyncs ({:.0}/s), {} entries, {:.1} commands per entry",
                self.counter("log_syncs"),
                rate(self.counter("log_syncs"), self.elapsed),
                self.counter("entries_proposed"),
                self.commands_per_entry()
            ),
        ];
        for (reason, count) in &self.failures {
            lines.push(format!("failed: {count} with {reason}"));
        }
        if self.not_begun > 0 {
            lines.push(format!(
                "never begun: {} that were due, as all in flight were waiting; so the latencies are \
                 too low. The cluster does not keep up with this rate, or --in-flight is too small",
                self.not_begun
            ));
        }
        lines.join("\n")
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

fn rounded(value: f64) -> Value {
    ((value * 100.0).round() / 100.0).into()
}

/// By how much each counter has grown; one that began anew (a node was restarted) counts whole.
pub(super) fn grown(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let since = |name: &String, now: u64| match before.get(name) {
        Some(then) if *then <= now => now - then,
        _ => now,
    };
    after.iter().map(|(name, now)| (name.clone(), since(name, *now))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_merged_and_bounded() {
        let (mut one, mut two) = (Latencies::new(), Latencies::new());
        one.record(Duration::from_micros(100));
        two.record(Duration::from_micros(300));
        two.record(Duration::from_secs(3_600));
        two.record(Duration::ZERO);
        one.add(&two);
        assert_eq!(one.count(), 4);
        assert_eq!(one.at(0.5), 100);
        assert!(one.at(1.0) >= LATENCY_MAX_US);
    }

    #[test]
    fn counters_grow_from_what_they_were() {
        let counters = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let before: BTreeMap<_, _> = counters(&[("a", 5), ("b", 9)]);
        let after: BTreeMap<_, _> = counters(&[("a", 7), ("b", 2), ("c", 1)]);
        assert_eq!(grown(&before, &after), counters(&[("a", 2), ("b", 2), ("c", 1)]));
    }

    #[test]
    fn the_figures_are_what_was_measured() {
        let mut latencies = Latencies::new();
        (0..100).for_each(|_| latencies.record(Duration::from_millis(2)));
        let counted = [("log_syncs", 30), ("entries_proposed", 10), ("commands_proposed", 100)];
        let measured = Measured {
            latencies,
            failures: BTreeMap::from([("NO_LEADER".to_owned(), 3)]),
            not_begun: 4,
            elapsed: Duration::from_secs(2),
            counted: counted.map(|(name, value)| (name.to_owned(), value)).into(),
            silent_nodes: 0,
            per_second: vec![60, 40],
        };
        let json = measured.json(Map::new());
        assert_eq!(json["operations_per_second"], 50.0);
        assert_eq!(json["failed"], 3);
        assert_eq!(json["counters"]["commands_per_entry"], 10.0);
        assert_eq!(json["counters"]["fsyncs_per_second"], 15.0);
        assert_eq!(json["counters"]["entries_per_operation"], 0.1);
        assert_eq!(json["counters"]["commands_per_operation"], 1.0);
        assert_eq!(json["not_begun"], 4);
        assert!(measured.text().contains("50 operations/s"), "{}", measured.text());
        assert!(measured.text().contains("never begun: 4"), "{}", measured.text());
    }
}
