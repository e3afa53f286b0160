//! What one writer was promised, and what the cluster may therefore hold.

use anyhow::{Context as _, Result, bail, ensure};
use quorate_client::Client;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a read of the final check may take: nodes may just have been restarted.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A key that one writer sets to 1, 2, 3 and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyLedger {
    /// The last acknowledged number; 0 before the first.
    acknowledged: u64,
    /// The version that acknowledgement told.
    version: u64,
    /// Numbers sent after it whose outcome is unknown, ascending.
    unknown: Vec<u64>,
}

impl KeyLedger {
    /// A set was acknowledged. Each acknowledged or applied set raises the version by one, so the
    /// version tells if an earlier one was lost or done twice.
    pub(super) fn acknowledged(&mut self, number: u64, version: u64) -> Result<()> {
        let (least, most) = (self.version + 1, self.version + 1 + count(&self.unknown));
        ensure!(
            (least..=most).contains(&version),
            "the set to {number} was acknowledged with version {version}, but after version {} \
             and {} sets of unknown outcome it must be {least} to {most}",
            self.version,
            self.unknown.len()
        );
        *self = Self { acknowledged: number, version, unknown: Vec::new() };
        Ok(())
    }

    /// The outcome of a set is not known.
    pub(super) fn unknown(&mut self, number: u64) {
        self.unknown.push(number);
    }

    /// Whether the cluster may hold this number with this version.
    fn check(&self, found: Option<(u64, u64)>) -> Result<()> {
        let (number, version) = found.unwrap_or_default();
        let fits = if number == self.acknowledged {
            version == self.version
        } else {
            let earlier = self.unknown.iter().take_while(|unknown| **unknown < number);
            let most = self.version + 1 + u64::try_from(earlier.count()).unwrap_or(u64::MAX - 1);
            self.unknown.contains(&number) && (self.version + 1..=most).contains(&version)
        };
        ensure!(
            fits,
            "it holds number {number} of version {version}, but {} of version {} was acknowledged \
             last, and only {:?} have an unknown outcome since",
            self.acknowledged,
            self.version,
            self.unknown
        );
        Ok(())
    }
}

/// A number that one writer increments by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CounterLedger {
    /// The sum that was told last.
    value: i64,
    /// Increments of unknown outcome since.
    unknown: i64,
}

impl CounterLedger {
    /// An increment was acknowledged with this sum.
    pub(super) fn acknowledged(&mut self, value: i64) -> Result<()> {
        let (least, most) = (self.value + 1, self.value + 1 + self.unknown);
        ensure!(
            (least..=most).contains(&value),
            "an increment answered {value}, but after {} and {} increments of unknown outcome it \
             must be {least} to {most}",
            self.value,
            self.unknown
        );
        *self = Self { value, unknown: 0 };
        Ok(())
    }

    /// The outcome of an increment is not known.
    pub(super) fn unknown(&mut self) {
        self.unknown += 1;
    }

    fn check(&self, found: i64) -> Result<()> {
        let most = self.value + self.unknown;
        ensure!(
            (self.value..=most).contains(&found),
            "it holds {found}, but it must be {} to {most}",
            self.value
        );
        Ok(())
    }
}

/// How many calls of a writer ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Writes of unknown outcome.
    pub unknown: u64,
    /// Writes that failed as not applied.
    pub failed: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.failed += other.failed;
    }
}

/// All that one writer knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) keys: BTreeMap<String, KeyLedger>,
    pub(super) counters: BTreeMap<String, CounterLedger>,
    /// The counter that it shares with the writers of its kind.
    pub(super) shared_key: String,
    /// Its calls on that one.
    pub(super) shared: Totals,
    /// All its calls.
    pub(super) totals: Totals,
}

/// What all writers of a load know. See [`Ledgers::verify`].
#[derive(Clone, Debug)]
pub struct Ledgers {
    pub(super) writers: Vec<Ledger>,
}

impl Ledgers {
    /// Sums over all writers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for writer in &self.writers {
            totals += writer.totals;
        }
        totals
    }

    /// The calls on each shared counter.
    fn shared(&self) -> BTreeMap<&str, Totals> {
        let mut shared = BTreeMap::<_, Totals>::new();
        for writer in &self.writers {
            *shared.entry(writer.shared_key.as_str()).or_default() += writer.shared;
        }
        shared
    }

    /// Reads everything back, linearizably, and compares. Nobody may be writing any more.
    ///
    /// # Errors
    /// When an acknowledged write is missing, a write that failed shows, or an increment had no
    /// effect or two; when the cluster can't be read.
    pub async fn verify(&self, endpoints: &[String]) -> Result<Totals> {
        let client = Client::builder().endpoints(endpoints).request_timeout(READ_TIMEOUT);
        let client = client.connect().context("could not make a client")?;
        for writer in &self.writers {
            for (key, ledger) in &writer.keys {
                let found = read(&client, key).await?;
                let found = found
                    .map(|(value, version)| Ok::<_, anyhow::Error>((number_in(&value)?, version)));
                let found = found.transpose().with_context(|| format!("key {key}"))?;
                ledger.check(found).with_context(|| format!("key {key} is wrong"))?;
            }
            for (key, ledger) in &writer.counters {
                let found = read_sum(&client, key).await?;
                ledger.check(found).with_context(|| format!("counter {key} is wrong"))?;
            }
        }
        for (key, calls) in self.shared() {
            let found = read_sum(&client, key).await?;
            check_shared(calls, found)
                .with_context(|| format!("the shared counter {key} is wrong"))?;
        }
        Ok(self.totals())
    }
}

/// Where no outcome is unknown, as with the patient writers, only one sum is right.
fn check_shared(calls: Totals, found: i64) -> Result<()> {
    let (least, most) = (calls.acknowledged, calls.acknowledged + calls.unknown);
    let fits = u64::try_from(found).is_ok_and(|found| (least..=most).contains(&found));
    ensure!(
        fits,
        "it holds {found}, but {least} increments were acknowledged and {} have an unknown outcome",
        calls.unknown
    );
    Ok(())
}

async fn read(client: &Client, key: &str) -> Result<Option<(Vec<u8>, u64)>> {
    let entry = client.kv().get(key).await.with_context(|| format!("could not read {key}"))?;
    Ok(entry.map(|entry| (entry.value.to_vec(), entry.version)))
}

async fn read_sum(client: &Client, key: &str) -> Result<i64> {
    let Some((value, _)) = read(client, key).await? else { return Ok(0) };
    let text = String::from_utf8_lossy(&value);
    text.parse().with_context(|| format!("counter {key} holds {text:?}"))
}

/// The value that holds a number, filled up to a size.
pub(super) fn value_of(number: u64, bytes: usize) -> String {
    format!("{number:<bytes$}")
}

fn number_in(value: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(value);
    let Ok(number) = text.trim_end().parse() else {
        bail!("it holds {:?}, which no writer wrote", text.trim_end());
    };
    Ok(number)
}

fn count(numbers: &[u64]) -> u64 {
    u64::try_from(numbers.len()).expect("a list in memory is not longer than 2^64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(acknowledged: u64, version: u64, unknown: &[u64]) -> KeyLedger {
        KeyLedger { acknowledged, version, unknown: unknown.to_vec() }
    }

    #[test]
    fn a_key_may_hold_what_was_acknowledged_last_or_a_later_unknown_one() {
        let ledger = key(7, 5, &[8, 9]);
        for (fine, number, version) in [
            (true, 7, 5),
            (true, 8, 6),
            (true, 9, 6),
            (true, 9, 7),
            (false, 7, 6), // done twice
            (false, 8, 7),
            (false, 6, 4),  // the last acknowledged one is lost
            (false, 10, 6), // failed as not applied, and yet it shows
            (false, 9, 8),
        ] {
            assert_eq!(ledger.check(Some((number, version))).is_ok(), fine, "{number} {version}");
        }
        assert!(ledger.check(None).is_err());
        assert!(key(0, 0, &[1]).check(None).is_ok());
        assert!(key(0, 0, &[1]).check(Some((1, 1))).is_ok());
    }

    #[test]
    fn a_version_betrays_a_lost_and_a_doubled_set() {
        assert!(key(7, 5, &[]).acknowledged(8, 6).is_ok());
        assert!(key(7, 5, &[]).acknowledged(8, 5).is_err());
        assert!(key(7, 5, &[]).acknowledged(8, 7).is_err());
        assert!(key(7, 5, &[8]).acknowledged(9, 7).is_ok());
        let mut ledger = key(7, 5, &[8]);
        ledger.acknowledged(9, 6).unwrap();
        assert_eq!(ledger, key(9, 6, &[]));
    }

    #[test]
    fn a_sum_betrays_a_lost_and_a_doubled_increment() {
        let mut ledger = CounterLedger::default();
        ledger.acknowledged(1).unwrap();
        assert!(ledger.clone().acknowledged(1).is_err());
        assert!(ledger.clone().acknowledged(3).is_err());
        ledger.unknown();
        assert!(ledger.check(1).is_ok() && ledger.check(2).is_ok());
        assert!(ledger.check(0).is_err() && ledger.check(3).is_err());
        ledger.acknowledged(3).unwrap();
        assert!(ledger.check(3).is_ok() && ledger.check(4).is_err());
    }

    #[test]
    fn the_shared_sum_lies_between_the_acknowledged_and_the_possible() {
        let calls = Totals { acknowledged: 10, unknown: 2, failed: 5 };
        for (fine, found) in [(false, 9), (true, 10), (true, 12), (false, 13), (false, -1)] {
            assert_eq!(check_shared(calls, found).is_ok(), fine, "{found}");
        }
        let calls = Totals { unknown: 0, ..calls };
        for (fine, found) in [(false, 9), (true, 10), (false, 11)] {
            assert_eq!(check_shared(calls, found).is_ok(), fine, "{found}");
        }
    }

    #[test]
    fn writers_of_each_kind_share_a_counter() {
        let writer = |kind: &str, acknowledged, unknown| Ledger {
            shared_key: kind.to_owned(),
            shared: Totals { acknowledged, unknown, failed: 0 },
            ..Ledger::default()
        };
        let writers =
            vec![writer("patient", 1, 0), writer("impatient", 2, 3), writer("patient", 4, 0)];
        let ledgers = Ledgers { writers };
        let sum = |acknowledged, unknown| Totals { acknowledged, unknown, failed: 0 };
        let expected = BTreeMap::from([("impatient", sum(2, 3)), ("patient", sum(5, 0))]);
        assert_eq!(ledgers.shared(), expected);
    }

    #[test]
    fn numbers_survive_their_filling() {
        assert_eq!(value_of(42, 100).len(), 100);
        assert_eq!(number_in(value_of(42, 100).as_bytes()).unwrap(), 42);
        assert_eq!(number_in(value_of(42, 1).as_bytes()).unwrap(), 42);
        assert!(number_in(b"something else").is_err());
    }
}
