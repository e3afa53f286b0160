//! The JSON document of a transaction. What does not belong into it is refused by name, never
//! passed over.

use crate::duration;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_client::{Transaction, TxnOutcome};
use serde::Deserialize;
use serde_json::Number;
use std::time::Duration;

/// A checked document.
#[derive(Debug, PartialEq)]
pub(super) struct Document {
    conditions: Vec<Condition>,
    then: Vec<Step>,
    otherwise: Vec<Step>,
}

#[derive(Debug, PartialEq)]
struct Condition {
    key: Vec<u8>,
    is: Is,
}

#[derive(Debug, PartialEq)]
enum Is {
    Version(u64),
    Absent,
    Exists,
    Value(Vec<u8>),
}

#[derive(Debug, PartialEq)]
struct Step {
    key: Vec<u8>,
    does: Does,
}

#[derive(Debug, PartialEq)]
enum Does {
    Get,
    Set(Vec<u8>, Option<Duration>),
    Delete,
    Increment(i64),
    IncrementFloat(f64),
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
        let transaction = self.conditions.iter().fold(transaction, |transaction, condition| {
            let key = &condition.key;
            match &condition.is {
                Is::Version(version) => transaction.when_version(key, *version),
                Is::Absent => transaction.when_absent(key),
                Is::Exists => transaction.when_exists(key),
                Is::Value(value) => transaction.when_value(key, value.clone()),
            }
        });
        let transaction = self.then.iter().fold(transaction, |transaction, step| {
            let key = &step.key;
            match &step.does {
                Does::Get => transaction.get(key),
                Does::Set(value, None) => transaction.set(key, value.clone()),
                Does::Set(value, Some(ttl)) => transaction.set_for(key, value.clone(), *ttl),
                Does::Delete => transaction.delete(key),
                Does::Increment(by) => transaction.increment(key, *by),
                Does::IncrementFloat(by) => transaction.increment_float(key, *by),
            }
        });
        self.otherwise.iter().fold(transaction, |transaction, step| {
            let key = &step.key;
            match &step.does {
                Does::Get => transaction.or_get(key),
                Does::Set(value, None) => transaction.or_set(key, value.clone()),
                Does::Set(value, Some(ttl)) => transaction.or_set_for(key, value.clone(), *ttl),
                Does::Delete => transaction.or_delete(key),
                Does::Increment(by) => transaction.or_increment(key, *by),
                Does::IncrementFloat(by) => transaction.or_increment_float(key, *by),
            }
        })
    }

    /// The keys of the operations that happened.
    pub(super) fn keys_of(&self, outcome: &TxnOutcome) -> Vec<&[u8]> {
        let steps = if outcome.succeeded() { &self.then } else { &self.otherwise };
        steps.iter().map(|step| &step.key[..]).collect()
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
    is: String,
    version: Option<u64>,
    value: Option<String>,
    value_base64: Option<String>,
}

impl WrittenCondition {
    fn check(self) -> Result<Condition, String> {
        let Self { key, key_base64, is, version, value, value_base64 } = self;
        let key = required("key", bytes("key", key, key_base64)?)?;
        let mut value = bytes("value", value, value_base64)?;
        let mut version = version;
        let asked = match is.as_str() {
            "version" => Is::Version(required("version", version.take())?),
            "value" => Is::Value(required("value", value.take())?),
            "absent" => Is::Absent,
            "exists" => Is::Exists,
            other => {
                return Err(format!(
                    "a key can't be {other:?}; it can be version, absent, exists or value"
                ));
            }
        };
        surplus(&is, &[("version", version.is_some()), ("value", value.is_some())])?;
        Ok(Condition { key, is: asked })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep {
    op: String,
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    ttl: Option<String>,
    by: Option<Number>,
}

impl WrittenStep {
    fn check(self) -> Result<Step, String> {
        let Self { op, key, key_base64, value, value_base64, ttl, by } = self;
        let key = required("key", bytes("key", key, key_base64)?)?;
        let mut value = bytes("value", value, value_base64)?;
        let (mut ttl, mut by) = (ttl, by);
        let does = match op.as_str() {
            "get" => Does::Get,
            "set" => {
                let ttl = ttl.take().map(|ttl| duration::parse_positive(&ttl)).transpose()?;
                Does::Set(required("value", value.take())?, ttl)
            }
            "delete" => Does::Delete,
            "increment" => {
                let by = required("by", by.take())?;
                let whole = by.as_i64();
                Does::Increment(whole.ok_or_else(|| {
                    format!("{by} is no 64-bit integer; increment-float adds others")
                })?)
            }
            "increment-float" => {
                let by = required("by", by.take())?;
                let float = by.as_f64().filter(|float| float.is_finite());
                Does::IncrementFloat(float.ok_or_else(|| format!("{by} is no finite number"))?)
            }
            other => {
                return Err(format!(
                    "there is no operation {other:?}; there are get, set, delete, increment and \
                     increment-float"
                ));
            }
        };
        surplus(&op, &[("value", value.is_some()), ("ttl", ttl.is_some()), ("by", by.is_some())])?;
        Ok(Step { key, does })
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
                {"key": "d", "is": "value", "value": "x"}
            ],
            "then": [
                {"op": "get", "key": "a"},
                {"op": "set", "key": "a", "value_base64": "/wA=", "ttl": "30s"},
                {"op": "delete", "key": "b"},
                {"op": "increment", "key": "n", "by": -9223372036854775808},
                {"op": "increment-float", "key": "f", "by": 1}
            ]
        }"#;
        let condition = |key: &[u8], is| Condition { key: key.to_vec(), is };
        let step = |key: &[u8], does| Step { key: key.to_vec(), does };
        let expected = Document {
            conditions: vec![
                condition(b"a", Is::Version(3)),
                condition(b"b", Is::Absent),
                condition(&[0xff], Is::Exists),
                condition(b"d", Is::Value(b"x".to_vec())),
            ],
            then: vec![
                step(b"a", Does::Get),
                step(b"a", Does::Set(vec![0xff, 0], Some(Duration::from_secs(30)))),
                step(b"b", Does::Delete),
                step(b"n", Does::Increment(i64::MIN)),
                step(b"f", Does::IncrementFloat(1.0)),
            ],
            otherwise: Vec::new(),
        };
        assert_eq!(Document::parse(json.as_bytes()), Ok(expected));
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
            (r#"{"conditions": [{"key": "a", "is": "blue"}]}"#, "conditions[0]: a key can't be"),
            (r#"{} {}"#, "trailing characters"),
            ("", "line 1 column 0"),
        ] {
            let text = wrong(json);
            assert!(text.contains(says), "{json}\n{text}");
        }
    }
}
