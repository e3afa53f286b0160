//! The JSON document of a transaction. What does not belong into it is refused by name, never
//! passed over.

use quorate_client::cache::CachePolicy;
use quorate_client::{Content, LockGuard, NewJob, Transaction, TxnOutcome};
use std::time::Duration;
use written::{Written, WrittenCondition, WrittenStep};

mod written;

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
    /// The queue, and how many jobs it may have.
    AtMost(String, u64),
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
    Push { queue: String, payload: Vec<u8> },
    Ack { queue: String, job: u64, lease: u64 },
    Publish { channel: String, content: Content },
    CacheSet { key: Vec<u8>, value: Vec<u8>, policy: CachePolicy },
    CacheDelete { key: Vec<u8> },
    CacheInvalidateTags { tags: Vec<String> },
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
    Queue(&'a str),
    Channel(&'a str),
    Tags(&'a [String]),
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
                Condition::AtMost(queue, jobs) => transaction.when_queue_at_most(queue, *jobs),
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
            Step::Push { queue, payload } => transaction.push(queue, NewJob::new(payload.clone())),
            Step::Ack { queue, job, lease } => transaction.ack_job(queue, *job, *lease),
            Step::Publish { channel, content } => transaction.publish(channel, content.clone()),
            Step::CacheSet { key, value, policy } => {
                transaction.cache_set(key, value.clone(), policy.clone())
            }
            Step::CacheDelete { key } => transaction.cache_delete(key),
            Step::CacheInvalidateTags { tags } => transaction.cache_invalidate_tags(tags.clone()),
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
            Step::Push { queue, payload } => {
                transaction.or_push(queue, NewJob::new(payload.clone()))
            }
            Step::Ack { queue, job, lease } => transaction.or_ack_job(queue, *job, *lease),
            Step::Publish { channel, content } => transaction.or_publish(channel, content.clone()),
            Step::CacheSet { key, value, policy } => {
                transaction.or_cache_set(key, value.clone(), policy.clone())
            }
            Step::CacheDelete { key } => transaction.or_cache_delete(key),
            Step::CacheInvalidateTags { tags } => {
                transaction.or_cache_invalidate_tags(tags.clone())
            }
        })
    }

    /// The longest ttl of the locks it may take; none when it takes none.
    pub(super) fn lock_ttl(&self) -> Option<Duration> {
        let ttl = |step: &Step| match step {
            Step::Acquire { ttl, .. } => Some(*ttl),
            Step::Key(..)
            | Step::Release(_)
            | Step::Push { .. }
            | Step::Ack { .. }
            | Step::Publish { .. }
            | Step::CacheSet { .. }
            | Step::CacheDelete { .. }
            | Step::CacheInvalidateTags { .. } => None,
        };
        self.then.iter().chain(&self.otherwise).filter_map(ttl).max()
    }

    /// What the operations are about that happened.
    pub(super) fn subjects_of(&self, outcome: &TxnOutcome) -> Vec<Subject<'_>> {
        let steps = if outcome.succeeded() { &self.then } else { &self.otherwise };
        steps.iter().map(Step::subject).collect()
    }
}

impl Step {
    fn subject(&self) -> Subject<'_> {
        match self {
            Self::Key(key, _) => Subject::Key(key),
            Self::Acquire { name, .. } | Self::Release(LockGuard { name, .. }) => {
                Subject::Lock(name)
            }
            Self::Push { queue, .. } | Self::Ack { queue, .. } => Subject::Queue(queue),
            Self::Publish { channel, .. } => Subject::Channel(channel),
            Self::CacheSet { key, .. } | Self::CacheDelete { key } => Subject::Key(key),
            Self::CacheInvalidateTags { tags } => Subject::Tags(tags),
        }
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
    fn jobs_are_read() {
        let json = r#"{
            "conditions": [{"queue": "q", "is": "at-most", "jobs": 9}],
            "then": [{"op": "push", "queue": "q", "payload": "x"},
                     {"op": "ack", "queue": "q", "job": "7", "lease": "9"}],
            "otherwise": [{"op": "push", "queue": "q", "payload_base64": "/w=="}]
        }"#;
        let q = || "q".to_owned();
        let expected = Document {
            conditions: vec![Condition::AtMost(q(), 9)],
            then: vec![
                Step::Push { queue: q(), payload: b"x".to_vec() },
                Step::Ack { queue: q(), job: 7, lease: 9 },
            ],
            otherwise: vec![Step::Push { queue: q(), payload: vec![0xff] }],
        };
        assert_eq!(Document::parse(json.as_bytes()), Ok(expected));
        for (json, says) in [
            (r#"{"then": [{"op": "push", "queue": "q"}]}"#, "then[0]: payload is missing"),
            (r#"{"then": [{"op": "ack", "queue": "q", "job": "7"}]}"#, "lease is missing"),
            (r#"{"then": [{"op": "ack", "queue": "q", "job": "x", "lease": "1"}]}"#, "no number"),
            (r#"{"then": [{"op": "get", "key": "a", "queue": "q"}]}"#, "get has no queue"),
            (r#"{"conditions": [{"queue": "q", "is": "at-most"}]}"#, "jobs is missing"),
        ] {
            let text = wrong(json);
            assert!(text.contains(says), "{json}\n{text}");
        }
    }

    #[test]
    fn messages_are_read() {
        let json = r#"{
            "then": [{"op": "publish", "channel": "c", "payload": "x"}],
            "otherwise": [{"op": "publish", "channel": "c", "payload_base64": "/w==",
                           "content_type": "t", "headers": {"a": "1", "b": "2"}}]
        }"#;
        let publish = |content| vec![Step::Publish { channel: "c".to_owned(), content }];
        let marked = Content::new(vec![0xff]).content_type("t").header("a", "1").header("b", "2");
        let expected = Document {
            conditions: Vec::new(),
            then: publish(Content::new("x")),
            otherwise: publish(marked),
        };
        assert_eq!(Document::parse(json.as_bytes()), Ok(expected));
        for (json, says) in [
            (r#"{"then": [{"op": "publish", "payload": "x"}]}"#, "then[0]: channel is missing"),
            (r#"{"then": [{"op": "publish", "channel": "c"}]}"#, "payload is missing"),
            (r#"{"then": [{"op": "get", "key": "a", "channel": "c"}]}"#, "get has no channel"),
            (r#"{"then": [{"op": "get", "key": "a", "payload": "x"}]}"#, "get has no payload"),
            (
                r#"{"then": [{"op": "push", "queue": "q", "payload": "x", "headers": {}}]}"#,
                "push has no headers",
            ),
        ] {
            let text = wrong(json);
            assert!(text.contains(says), "{json}\n{text}");
        }
    }

    #[test]
    fn operations_on_the_cache_are_read() {
        let json = r#"{
            "then": [{"op": "cache-set", "key": "k", "value": "v", "ttl": "30s",
                      "stale_for": "1m", "tags": ["a", "b"]},
                     {"op": "cache-set", "key": "k", "value_base64": "/w=="},
                     {"op": "cache-delete", "key": "k"}],
            "otherwise": [{"op": "cache-invalidate-tags", "tags": ["a"]}]
        }"#;
        let k = || b"k".to_vec();
        let policy = CachePolicy::new().ttl(Duration::from_secs(30)).tags(["a", "b"]);
        let policy = policy.stale_for(Duration::from_secs(60));
        let expected = Document {
            conditions: Vec::new(),
            then: vec![
                Step::CacheSet { key: k(), value: b"v".to_vec(), policy },
                Step::CacheSet { key: k(), value: vec![0xff], policy: CachePolicy::new() },
                Step::CacheDelete { key: k() },
            ],
            otherwise: vec![Step::CacheInvalidateTags { tags: vec!["a".to_owned()] }],
        };
        assert_eq!(Document::parse(json.as_bytes()), Ok(expected));
        for (json, says) in [
            (r#"{"then": [{"op": "cache-set", "key": "k"}]}"#, "then[0]: value is missing"),
            (r#"{"then": [{"op": "cache-set", "value": "v"}]}"#, "then[0]: key is missing"),
            (r#"{"then": [{"op": "cache-delete", "key": "k", "tags": []}]}"#, "has no tags"),
            (r#"{"then": [{"op": "cache-invalidate-tags"}]}"#, "then[0]: tags is missing"),
            (
                r#"{"then": [{"op": "set", "key": "k", "value": "v", "stale_for": "1s"}]}"#,
                "set has no stale_for",
            ),
        ] {
            let text = wrong(json);
            assert!(text.contains(says), "{json}\n{text}");
        }
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
