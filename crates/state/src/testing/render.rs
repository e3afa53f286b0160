//! Rows, outcomes and events as a reader of a golden script sees them.

use crate::keys::{self, DeadlineKind, Key};
use crate::query::{Compacted, KvChange, KvEvent, KvHistoryPage, KvItem, KvPage, KvShow};
use crate::rows::{
    self, Answer, AnswerRow, HistoryChange, HistoryMetaRow, HistoryRow, IdempotencyRow, KvRow,
    MemberAddrRow, MetaRow, SessionRow,
};
use crate::{
    DeleteCause, Event, GroupId, HistoryPosition, Outcome, Rejection, Revision, SessionId,
};
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

/// `r<entry>.<position>#<event>`, with `#end` behind the last one.
fn position(at: HistoryPosition) -> String {
    match at.event {
        u32::MAX => format!("{}#end", revision(at.revision)),
        event => format!("{}#{event}", revision(at.revision)),
    }
}

fn set(value: &[u8], version: u64, created: Revision, ttl_ms: Option<u64>) -> String {
    let ttl = ttl_ms.map_or_else(String::new, |ms| format!(" ttl={ms}ms"));
    format!("set {} version={version} created={}{ttl}", bytes(value), revision(created))
}

fn deleted(cause: DeleteCause) -> &'static str {
    match cause {
        DeleteCause::Deleted => "deleted",
        DeleteCause::Expired => "expired",
        DeleteCause::SessionEnded => "session-ended",
    }
}

/// A page of the history, a line for each event.
pub(crate) fn history(found: &Result<KvHistoryPage, Compacted>) -> String {
    let page = match found {
        Ok(page) => page,
        Err(compacted) => return format!("compacted oldest={}", revision(compacted.oldest)),
    };
    let line = |event: &KvEvent| {
        let change = match &event.change {
            KvChange::Set { value, version, create_revision, ttl_ms } => {
                set(value, *version, *create_revision, *ttl_ms)
            }
            KvChange::Deleted { cause } => deleted(*cause).to_owned(),
        };
        format!("{} {} {change}\n", position(event.position), bytes(&event.key))
    };
    let events: String = page.events.iter().map(line).collect();
    format!("{events}through={} more={}", position(page.through), page.more)
}

/// A key's table, for summaries.
pub(crate) fn table(group: GroupId, key: &[u8]) -> &'static str {
    match keys::parse(group, key) {
        Some(Key::Meta | Key::Digest | Key::HistoryMeta) => "meta",
        Some(Key::Kv { .. }) => "kv",
        Some(Key::Deadline { .. }) => "deadline",
        Some(Key::Session(_)) => "session",
        Some(Key::SessionAnswer(..)) => "answer",
        Some(Key::Idempotency { .. }) => "idempotency",
        Some(Key::MemberAddr(_)) => "member",
        Some(Key::History(_)) => "history",
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
        Some(Key::HistoryMeta) => "history-meta".to_owned(),
        Some(Key::History(at)) => format!("history {}", position(at)),
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
        Some(Key::HistoryMeta) => {
            let row: HistoryMetaRow = rows::decode("history meta row", value)?;
            format!(" bytes={} trimmed={}", row.bytes, position(row.trimmed))
        }
        Some(Key::History(_)) => {
            let row = HistoryRow::decode(value)?;
            let (namespace, name) = keys::parse_id(row.id).ok_or("malformed id")?;
            let change = match row.change {
                HistoryChange::Set { version, create_revision, ttl_ms, value } => {
                    set(value, version, create_revision, ttl_ms)
                }
                HistoryChange::Delete(cause) => deleted(cause).to_owned(),
            };
            format!(" {} {change}", named(namespace, name))
        }
        Some(Key::Deadline { .. }) | None => String::new(),
    };
    Ok(format!("{}{contents}", key(group, row_key, names)))
}
