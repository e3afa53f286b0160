//! The JSON document of a transaction. What does not belong into it is refused by name, never
//! passed over.

use crate::commands::lock::parse_ttl;
use crate::duration;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_client::{LockGuard, Transaction, TxnOutcome};
use serde::Deserialize;
use serde_json::Number;
use std::time::Duration;

/// The ttl of a lock when nothing is said, as of `lock acquire`.
const LOCK_TTL: Duration = Duration::from_secs(30);

/// A checked document.
#[derive(Debug, PartialEq)]
pub(super) struct Document {
    conditions: Vec<Condition>,
    then: Vec<Step>,
    otherwise: Vec<Step>,
}

#[derive(Debug, PartialEq)]
enum Condition {
    Key(Vec<u8>, Is),
    Held(LockGuard),
    Free(String),
}

#[derive(Debug, PartialEq)]
enum Is {
    Version(u64),
    Absent,
    Exists,
    Value(Vec<u8>),
}

#[derive(Debug, PartialEq)]
enum Step {
    Key(Vec<u8>, Does),
    Acquire { name: String, ttl: Duration, share: Share },
    Release(LockGuard),
}

#[derive(Debug, PartialEq)]
enum Does {
    Get,
    Set(Vec<u8>, Option<Duration>),
    Delete,
    Increment(i64),
    IncrementFloat(f64),
}

/// With whom a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Share {
    Exclusive,
    Shared,
    Permits(u32),
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Subject<'a> {
    Key(&'a [u8]),
    Lock(&'a str),
}

impl Document {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        Ok(Self {
            conditions: each("conditions", written.conditions, WrittenCondition::check)?,
            then: each("then", written.then, WrittenStep::check)?,
            otherwise: each("otherwise", written.otherwise, WrittenStep::check)?,
        })
    }

    /// Adds everything to a transaction.
    pub(super) fn add_to(&self, transaction: Transaction) -> Transaction {
        let transaction =
            self.conditions.iter().fold(transaction, |transaction, asked| match asked {
                Condition::Key(key, Is::Version(version)) => {
                    transaction.when_version(key, *version)
                }
                Condition::Key(key, Is::Absent) => transaction.when_absent(key),
                Condition::Key(key, Is::Exists) => transaction.when_exists(key),
                Condition::Key(key, Is::Value(value)) => transaction.when_value(key, value.clone()),
                Condition::Held(guard) => transaction.when_lock_held(guard),
                Condition::Free(name) => transaction.when_lock_free(name),
            });
        let transaction = self.then.iter().fold(transaction, |transaction, step| match step {
            Step::Key(key, does) => match does {
                Does::Get => transaction.get(key),
                Does::Set(value, None) => transaction.set(key, value.clone()),
                Does::Set(value, Some(ttl)) => transaction.set_for(key, value.clone(), *ttl),
                Does::Delete => transaction.delete(key),
                Does::Increment(by) => transaction.increment(key, *by),
                Does::IncrementFloat(by) => transaction.increment_float(key, *by),
            },
            Step::Acquire { name, ttl, share } => match share {
                Share::Exclusive => transaction.acquire_lock(name, *ttl),
                Share::Shared => transaction.acquire_shared_lock(name, *ttl),
                Share::Permits(permits) => transaction.acquire_permit(name, *ttl, *permits),
            },
            Step::Release(guard) => transaction.release_lock(guard),
        });
        self.otherwise.iter().fold(transaction, |transaction, step| match step {
            Step::Key(key, does) => match does {
                Does::Get => transaction.or_get(key),
                Does::Set(value, None) => transaction.or_set(key, value.clone()),
                Does::Set(value, Some(ttl)) => transaction.or_set_for(key, value.clone(), *ttl),
                Does::Delete => transaction.or_delete(key),
                Does::Increment(by) => transaction.or_increment(key, *by),
                Does::IncrementFloat(by) => transaction.or_increment_float(key, *by),
            },
            Step::Acquire { name, ttl, share } => match share {
                Share::Exclusive => transaction.or_acquire_lock(name, *ttl),
                Share::Shared => transaction.or_acquire_shared_lock(name, *ttl),
                Share::Permits(permits) => transaction.or_acquire_permit(name, *ttl, *permits),
            },
            Step::Release(guard) => transaction.or_release_lock(guard),
        })
    }

    /// The longest ttl of the locks it may take; none when it takes none.
    pub(super) fn lock_ttl(&self) -> Option<Duration> {
        let ttl = |step: &Step| match step {
            Step::Acquire { ttl, .. } => Some(*ttl),
            Step::Key(..) | Step::Release(_) => None,
        };
        self.then.iter().chain(&self.otherwise).filter_map(ttl).max()
    }

    /// What the operations are about that happened.
    pub(super) fn subjects_of(&self, outcome: &TxnOutcome) -> Vec<Subject<'_>> {
        let steps = if outcome.succeeded() { &self.then } else { &self.otherwise };
        steps
            .iter()
            .map(|step| match step {
                Step::Key(key, _) => Subject::Key(key),
                Step::Acquire { name, .. } | Step::Release(LockGuard { name, .. }) => {
                    Subject::Lock(name)
                }
            })
            .collect()
    }
}

/// Checks a list; what is wrong is told with its place.
fn each<T, U>(
    list: &str,
    items: Vec<T>,
    check: impl Fn(T) -> Result<U, String>,
) -> Result<Vec<U>, String> {
    let check =
        |(position, item)| check(item).map_err(|wrong| format!("{list}[{position}]: {wrong}"));
    items.into_iter().enumerate().map(check).collect()
}

/// The document as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    conditions: Vec<WrittenCondition>,
    #[serde(default)]
    then: Vec<WrittenStep>,
    #[serde(default)]
    otherwise: Vec<WrittenStep>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    key: Option<String>,
    key_base64: Option<String>,
    lock: Option<String>,
    is: String,
    version: Option<u64>,
    value: Option<String>,
    value_base64: Option<String>,
    token: Option<u64>,
}

impl WrittenCondition {
    fn check(self) -> Result<Condition, String> {
        let Self { key, key_base64, mut lock, is, mut version, value, value_base64, mut token } =
            self;
        let mut key = bytes("key", key, key_base64)?;
        let mut value = bytes("value", value, value_base64)?;
        let mut key_is = |is| Ok::<_, String>(Condition::Key(required("key", key.take())?, is));
        let asked = match is.as_str() {
            "version" => key_is(Is::Version(required("version", version.take())?))?,
            "value" => key_is(Is::Value(required("value", value.take())?))?,
            "absent" => key_is(Is::Absent)?,
            "exists" => key_is(Is::Exists)?,
            "held" => Condition::Held(guard(lock.take(), token.take())?),
            "free" => Condition::Free(required("lock", lock.take())?),
            other => {
                return Err(format!(
                    "nothing can be {other:?}; a key can be version, absent, exists or value, a \
                     lock held or free"
                ));
            }
        };
        surplus(
            &is,
            &[
                ("key", key.is_some()),
                ("lock", lock.is_some()),
                ("version", version.is_some()),
                ("value", value.is_some()),
                ("token", token.is_some()),
            ],
        )?;
        Ok(asked)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    op: String,
    key: Option<String>,
    key_base64: Option<String>,
    lock: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    ttl: Option<String>,
    by: Option<Number>,
    token: Option<u64>,
    shared: Option<bool>,
    permits: Option<u32>,
}

impl WrittenStep {
    fn check(self) -> Result<Step, String> {
        let Self { op, key, key_base64, mut lock, value, value_base64, mut ttl, mut by, .. } = self;
        let (mut token, mut shared, mut permits) = (self.token, self.shared, self.permits);
        let mut key = bytes("key", key, key_base64)?;
        let mut value = bytes("value", value, value_base64)?;
        let mut to_key = |does| Ok::<_, String>(Step::Key(required("key", key.take())?, does));
        let step = match op.as_str() {
            "get" => to_key(Does::Get)?,
            "set" => {
                let ttl = ttl.take().map(|ttl| duration::parse_positive(&ttl)).transpose()?;
                to_key(Does::Set(required("value", value.take())?, ttl))?
            }
            "delete" => to_key(Does::Delete)?,
            "increment" => {
                let by = required("by", by.take())?;
                let whole = by.as_i64();
                to_key(Does::Increment(whole.ok_or_else(|| {
                    format!("{by} is no 64-bit integer; increment-float adds others")
                })?))?
            }
            "increment-float" => {
                let by = required("by", by.take())?;
                let float = by.as_f64().filter(|float| float.is_finite());
                let by = float.ok_or_else(|| format!("{by} is no finite number"))?;
                to_key(Does::IncrementFloat(by))?
            }
            "acquire" => Step::Acquire {
                name: required("lock", lock.take())?,
                ttl: ttl.take().map_or(Ok(LOCK_TTL), |ttl| parse_ttl(&ttl))?,
                share: share(shared.take(), permits.take())?,
            },
            "release" => Step::Release(guard(lock.take(), token.take())?),
            other => {
                return Err(format!(
                    "there is no operation {other:?}; there are get, set, delete, increment, \
                     increment-float, acquire and release"
                ));
            }
        };
        surplus(
            &op,
            &[
                ("key", key.is_some()),
                ("lock", lock.is_some()),
                ("value", value.is_some()),
                ("ttl", ttl.is_some()),
                ("by", by.is_some()),
                ("token", token.is_some()),
                ("shared", shared.is_some()),
                ("permits", permits.is_some()),
            ],
        )?;
        Ok(step)
    }
}

/// A lock and its token.
fn guard(lock: Option<String>, token: Option<u64>) -> Result<LockGuard, String> {
    Ok(LockGuard { name: required("lock", lock)?, fencing_token: required("token", token)? })
}

fn share(shared: Option<bool>, permits: Option<u32>) -> Result<Share, String> {
    match (shared.unwrap_or(false), permits) {
        (true, Some(_)) => Err("it has both shared and permits; give one of them".to_owned()),
        (true, None) => Ok(Share::Shared),
        (false, Some(permits)) => Ok(Share::Permits(permits)),
        (false, None) => Ok(Share::Exclusive),
    }
}

/// Bytes, given as text or as base64.
fn bytes(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{name}_base64 is no base64: {error}")),
        },
        (Some(_), Some(_)) => {
            Err(format!("it has both {name} and {name}_base64; give one of them"))
        }
    }
}

fn required<T>(name: &str, field: Option<T>) -> Result<T, String> {
    field.ok_or_else(|| format!("{name} is missing"))
}

/// A field that means nothing here is a mistake that would go unnoticed.
fn surplus(of: &str, fields: &[(&str, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(format!("{of} has no {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str) -> String {
        Document::parse(json.as_bytes()).expect_err(json)
    }

    #[test]
    fn a_document_is_read() {
        let json = r#"{
            "conditions": [
                {"key": "a", "is": "version", "version": 3},
                {"key": "b", "is": "absent"},
                {"key_base64": "/w==", "is": "exists"},
                {"key": "d", "is": "value", "value": "x"},
                {"lock": "l", "is": "held", "token": 7},
                {"lock": "m", "is": "free"}
            ],
            "then": [
                {"op": "get", "key": "a"},
                {"op": "set", "key": "a", "value_base64": "/wA=", "ttl": "30s"},
                {"op": "delete", "key": "b"},
                {"op": "increment", "key": "n", "by": -9223372036854775808},
                {"op": "increment-float", "key": "f", "by": 1},
                {"op": "release", "lock": "l", "token": 7}
            ],
            "otherwise": [
                {"op": "acquire", "lock": "m"},
                {"op": "acquire", "lock": "m", "ttl": "1m", "shared": true},
                {"op": "acquire", "lock": "m", "ttl": "10s", "permits": 3}
            ]
        }"#;
        let condition = |key: &[u8], is| Condition::Key(key.to_vec(), is);
        let step = |key: &[u8], does| Step::Key(key.to_vec(), does);
        let held = || LockGuard { name: "l".to_owned(), fencing_token: 7 };
        let acquire = |seconds, share| Step::Acquire {
            name: "m".to_owned(),
            ttl: Duration::from_secs(seconds),
            share,
        };
        let expected = Document {
            conditions: vec![
                condition(b"a", Is::Version(3)),
                condition(b"b", Is::Absent),
                condition(&[0xff], Is::Exists),
                condition(b"d", Is::Value(b"x".to_vec())),
                Condition::Held(held()),
                Condition::Free("m".to_owned()),
            ],
            then: vec![
                step(b"a", Does::Get),
                step(b"a", Does::Set(vec![0xff, 0], Some(Duration::from_secs(30)))),
                step(b"b", Does::Delete),
                step(b"n", Does::Increment(i64::MIN)),
                step(b"f", Does::IncrementFloat(1.0)),
                Step::Release(held()),
            ],
            otherwise: vec![
                acquire(30, Share::Exclusive),
                acquire(60, Share::Shared),
                acquire(10, Share::Permits(3)),
            ],
        };
        let document = Document::parse(json.as_bytes());
        assert_eq!(document, Ok(expected));
        // Its session lives as long as the longest of its locks.
        let longest = document.map(|document| document.lock_ttl());
        assert_eq!(longest, Ok(Some(Duration::from_secs(60))));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (json, says) in [
            ("{\n \"then\": [{]}", "line 2 column 12"),
            (r#"{"thn": []}"#, "unknown field `thn`"),
            (r#"{"then": [{"op": "get", "kee": "a"}]}"#, "unknown field `kee`"),
            (r#"{"then": [{"key": "a"}]}"#, "missing field `op`"),
            (r#"{"then": [{"op": "get"}]}"#, "then[0]: key is missing"),
            (
                r#"{"otherwise": [{"op": "put", "key": "a"}]}"#,
                "otherwise[0]: there is no operation",
            ),
            (r#"{"then": [{"op": "set", "key": "a"}]}"#, "then[0]: value is missing"),
            (r#"{"then": [{"op": "set", "key": "a", "value": "1", "ttl": "30"}]}"#, "30s"),
            (r#"{"then": [{"op": "get", "key": "a", "ttl": "30s"}]}"#, "then[0]: get has no ttl"),
            (r#"{"then": [{"op": "increment", "key": "a", "by": 0.5}]}"#, "no 64-bit integer"),
            (r#"{"then": [{"op": "get", "key": "a", "key_base64": "YQ=="}]}"#, "both key and"),
            (r#"{"then": [{"op": "get", "key_base64": "a"}]}"#, "key_base64 is no base64"),
            (
                r#"{"conditions": [{"key": "a", "is": "absent", "version": 1}]}"#,
                "absent has no version",
            ),
            (
                r#"{"conditions": [{"key": "a", "is": "version"}]}"#,
                "conditions[0]: version is missing",
            ),
            (r#"{"conditions": [{"key": "a", "is": "blue"}]}"#, "conditions[0]: nothing can be"),
            (r#"{"conditions": [{"key": "a", "is": "free"}]}"#, "conditions[0]: lock is missing"),
            (r#"{"conditions": [{"lock": "l", "is": "held"}]}"#, "conditions[0]: token is missing"),
            (r#"{"conditions": [{"lock": "l", "is": "absent"}]}"#, "conditions[0]: key is missing"),
            (
                r#"{"conditions": [{"lock": "l", "key": "a", "is": "free"}]}"#,
                "conditions[0]: free has no key",
            ),
            (
                r#"{"conditions": [{"lock": "l", "is": "free", "token": 1}]}"#,
                "conditions[0]: free has no token",
            ),
            (r#"{"then": [{"op": "acquire", "key": "a"}]}"#, "then[0]: lock is missing"),
            (r#"{"then": [{"op": "acquire", "lock": "l", "ttl": "2h"}]}"#, "at most 1h"),
            (
                r#"{"then": [{"op": "acquire", "lock": "l", "shared": true, "permits": 2}]}"#,
                "both shared and permits",
            ),
            (r#"{"then": [{"op": "release", "lock": "l"}]}"#, "then[0]: token is missing"),
            (
                r#"{"then": [{"op": "release", "lock": "l", "token": 1, "ttl": "1s"}]}"#,
                "then[0]: release has no ttl",
            ),
            (r#"{"then": [{"op": "get", "key": "a", "lock": "l"}]}"#, "then[0]: get has no lock"),
            (r#"{} {}"#, "trailing characters"),
            ("", "line 1 column 0"),
        ] {
            let text = wrong(json);
            assert!(text.contains(says), "{json}\n{text}");
        }
    }
}
