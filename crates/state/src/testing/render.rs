//! Rows, outcomes and events as a reader of a golden script sees them.

use crate::keys::{self, DeadlineKind, Key};
use crate::query::{KvItem, KvPage, KvShow};
use crate::rows::{
    self, Answer, AnswerRow, IdempotencyRow, KvRow, MemberAddrRow, MetaRow, SessionRow,
};
use crate::{Event, GroupId, Operated, Outcome, Rejection, Revision, SessionId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::error::Error;

type Rendered = Result<String, Box<dyn Error>>;

/// Longer texts and values are cut to their beginning and their length.
const SHOWN_BYTES_MAX: usize = 40;

/// Names that a script gave to its sessions.
pub(crate) type Names = BTreeMap<SessionId, String>;

/// `r<entry>.<position>`
pub(crate) fn revision(revision: Revision) -> String {
    let index = revision.0 >> Revision::POSITION_BITS;
    let position = revision.0 & ((1 << Revision::POSITION_BITS) - 1);
    format!("r{index}.{position}")
}

pub(crate) fn bytes(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let text: String = shown.iter().map(|byte| byte.escape_ascii().to_string()).collect();
    match bytes.len() {
        length if length > SHOWN_BYTES_MAX => format!("\"{text}\"... ({length} bytes)"),
        _ => format!("\"{text}\""),
    }
}

fn named(namespace: &str, name: &[u8]) -> String {
    match namespace {
        "" => bytes(name),
        _ => format!("{}:{}", bytes(namespace.as_bytes()), bytes(name)),
    }
}

pub(crate) fn session(id: SessionId, names: &Names) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

pub(crate) fn outcome(outcome: &Outcome, names: &Names) -> String {
    match outcome {
        Outcome::Rejected(why) => rejection(why, names),
        Outcome::Done => "done".to_owned(),
        Outcome::KvSet { version, revision: at } => {
            format!("set version={version} at {}", revision(*at))
        }
        Outcome::KvDelete { deleted, revision: at } => {
            format!("delete deleted={deleted} at {}", revision(*at))
        }
        Outcome::KvIncrement { value, version, revision: at } => {
            format!("incr value={value} version={version} at {}", revision(*at))
        }
        Outcome::KvDeletePattern { deleted, cursor, revision: at } => {
            format!(
                "delete-pattern deleted={deleted} {}at {}",
                cursor_before(cursor),
                revision(*at)
            )
        }
        Outcome::KvIncrementFloat { value, version, revision: at } => {
            format!("incr-float value={value} version={version} at {}", revision(*at))
        }
        Outcome::SessionExpire { settled } => format!("session expire settled={settled}"),
        Outcome::SessionOpen { id, ttl_ms } => {
            format!(
                "session {} open ttl={ttl_ms}ms at {}",
                session(*id, names),
                revision(Revision(id.0))
            )
        }
        Outcome::SessionClose { closed } => format!("session closed={closed}"),
        Outcome::AppliedResultDropped => "applied before, result dropped".to_owned(),
        Outcome::Transaction { failed_condition, operated, revision: at } => {
            let branch = match failed_condition {
                None => "then".to_owned(),
                Some(position) => format!("conditions[{position}] does not hold, otherwise"),
            };
            let all: Vec<String> = operated.iter().map(operation).collect();
            format!("txn {branch} [{}] at {}", all.join("; "), revision(*at))
        }
        Outcome::TransactionFailed { step, rejection: why } => {
            format!("txn failed at {step}: {}", rejection(why, names))
        }
    }
}

fn operation(operated: &Operated) -> String {
    match operated {
        Operated::KvGet(None) => "get none".to_owned(),
        Operated::KvGet(Some(got)) => format!("get {}", item(got)),
        Operated::KvSet { version } => format!("set version={version}"),
        Operated::KvDelete { deleted } => format!("delete deleted={deleted}"),
        Operated::KvIncrement { value, version } => format!("incr value={value} version={version}"),
        Operated::KvIncrementFloat { value, version } => {
            format!("incr-float value={value} version={version}")
        }
    }
}

fn cursor_before(cursor: &Option<Bytes>) -> String {
    cursor.as_ref().map_or_else(String::new, |cursor| format!("cursor={} ", bytes(cursor)))
}

/// A page of a list, a line for each item.
pub(crate) fn page(page: &KvPage, shows: KvShow) -> String {
    let mut text = String::new();
    for (key, listed) in &page.items {
        let contents = item(listed);
        // Without its value, which is always empty when it is not asked for.
        let contents = match shows {
            KvShow::Items => &contents,
            KvShow::Keys | KvShow::Count => contents.trim_start_matches("\"\" "),
        };
        text += &format!("{} {contents}\n", bytes(key));
    }
    text + &format!("{}count={}", cursor_before(&page.cursor), page.count)
}

fn rejection(why: &Rejection, names: &Names) -> String {
    let kind = match why {
        Rejection::LimitExceeded { .. } => "LimitExceeded",
        Rejection::Invalid(_) => "Invalid",
        Rejection::ConditionFailed { .. } => "ConditionFailed",
        Rejection::NotANumber => "NotANumber",
        Rejection::Overflow => "Overflow",
        // The only one whose text has an id that a script can't know beforehand.
        Rejection::SessionExpired(id) => {
            return format!("rejected SessionExpired: session {}", session(*id, names));
        }
        Rejection::SequenceTooOld { .. } => "SequenceTooOld",
        Rejection::SequenceTooFar { .. } => "SequenceTooFar",
        Rejection::RequestMismatch(_) => "RequestMismatch",
    };
    format!("rejected {kind}: {why}")
}

pub(crate) fn event(event: &Event, names: &Names) -> String {
    match event {
        Event::SessionOpened { id, ttl_ms } => {
            format!("event: session {} opened ttl={ttl_ms}ms", session(*id, names))
        }
        Event::SessionEnded { id } => format!("event: session {} ended", session(*id, names)),
    }
}

pub(crate) fn item(item: &KvItem) -> String {
    let ttl = item.remaining_ttl_ms.map_or_else(String::new, |ms| format!(" ttl={ms}ms"));
    format!(
        "{} version={} created={} modified={}{ttl}",
        bytes(&item.value),
        item.version,
        revision(item.create_revision),
        revision(item.mod_revision)
    )
}

/// A key's table, for summaries.
pub(crate) fn table(group: GroupId, key: &[u8]) -> &'static str {
    match keys::parse(group, key) {
        Some(Key::Meta | Key::Digest) => "meta",
        Some(Key::Kv { .. }) => "kv",
        Some(Key::Deadline { .. }) => "deadline",
        Some(Key::Session(_)) => "session",
        Some(Key::SessionAnswer(..)) => "answer",
        Some(Key::Idempotency { .. }) => "idempotency",
        Some(Key::MemberAddr(_)) => "member",
        None => "unknown",
    }
}

/// The name of a row.
pub(crate) fn key(group: GroupId, key: &[u8], names: &Names) -> String {
    match keys::parse(group, key) {
        Some(Key::Meta) => "meta".to_owned(),
        Some(Key::Digest) => "digest".to_owned(),
        Some(Key::Kv { namespace, key }) => format!("kv {}", named(namespace, key)),
        Some(Key::Deadline { deadline_ms, kind, id }) => {
            format!("deadline {deadline_ms}ms {}", deadline(group, kind, id, names))
        }
        Some(Key::Session(id)) => format!("session {}", session(id, names)),
        Some(Key::SessionAnswer(id, index)) => {
            format!("answer {} entry {index}", session(id, names))
        }
        Some(Key::Idempotency { namespace, key }) => {
            format!("idempotency {}", named(namespace, key))
        }
        Some(Key::MemberAddr(node)) => format!("member {node}"),
        None => format!("unknown {}", bytes(key)),
    }
}

fn answers(answers: &[Answer], names: &Names) -> String {
    let answers = answers.iter();
    answers
        .map(|answer| format!(" [{}: {}]", answer.sequence, outcome(&answer.outcome, names)))
        .collect()
}

fn deadline(group: GroupId, kind: DeadlineKind, id: &[u8], names: &Names) -> String {
    key(group, &keys::expiring(group, kind, id), names)
}

/// The name and the contents of a row.
pub(crate) fn row(group: GroupId, row_key: &[u8], value: &[u8], names: &Names) -> Rendered {
    let contents = match keys::parse(group, row_key) {
        Some(Key::Meta) => {
            let row: MetaRow = rows::decode("meta row", value)?;
            format!(
                " lease={}ms wall={}ms revision={} base={} sessions={} idempotency_keys={}",
                row.stamp.lease_ms,
                row.stamp.wall_ms,
                revision(row.revision),
                row.revision_base,
                row.sessions,
                row.idempotency_keys
            )
        }
        Some(Key::Digest) => format!(" {:016x}", rows::digest_row(value)?),
        Some(Key::Kv { .. }) => {
            let row = KvRow::decode(value)?;
            let deadline =
                row.deadline_ms.map_or_else(String::new, |ms| format!(" deadline={ms}ms"));
            format!(
                " {} version={} created={} modified={}{deadline}",
                bytes(row.value),
                row.version,
                revision(row.create_revision),
                revision(row.mod_revision)
            )
        }
        Some(Key::Session(_)) => {
            let row: SessionRow = rows::decode("session row", value)?;
            let recent = answers(&row.recent, names);
            format!(" ttl={}ms floor={}{recent}", row.ttl_ms, row.floor)
        }
        Some(Key::SessionAnswer(..)) => {
            let row: AnswerRow = rows::decode("session answer row", value)?;
            answers(&row.answers, names)
        }
        Some(Key::Idempotency { .. }) => {
            let row: IdempotencyRow = rows::decode("idempotency row", value)?;
            format!(" deadline={}ms [{}]", row.deadline_ms, outcome(&row.outcome, names))
        }
        Some(Key::MemberAddr(_)) => {
            let row: MemberAddrRow = rows::decode("member address row", value)?;
            format!(" client={} http={}", row.client_addr, row.http_addr)
        }
        Some(Key::Deadline { .. }) | None => String::new(),
    };
    Ok(format!("{}{contents}", key(group, row_key, names)))
}
