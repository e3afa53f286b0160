//! Rows, outcomes and events as a reader of a golden script sees them.

use crate::Operated;
use crate::query::{
    Compacted, KvChange, KvEvent, KvHistoryPage, KvItem, KvPage, KvShow, LockItem, TicketStanding,
};
use crate::{
    Attachment, DeleteCause, Event, HeldLock, HistoryPosition, LeaseId, Outcome, Rejection,
    Revision, SessionId, Share, TicketId,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::error::Error;

pub(crate) mod access;
mod cache;
pub(crate) mod member;
mod queue;
mod row;

pub(crate) use cache::{cached, candidates, usage};
pub(crate) use queue::{job, pull, queue};
pub(crate) use row::{key, row, table};

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
        Outcome::LockAcquire { token, ttl_ms, revision: at } => {
            format!("lock token={token} ttl={ttl_ms}ms at {}", revision(*at))
        }
        Outcome::LockQueued { ticket: id } => format!("lock queued ticket={}", ticket(*id)),
        Outcome::LockRelease { released, revision: at } => {
            format!("lock released={released} at {}", revision(*at))
        }
        Outcome::LockDetachNode { more } | Outcome::ConsumerDetachNode { more } => {
            format!("node detached more={more}")
        }
        Outcome::QueuePush { jobs, revision: at } => {
            format!("pushed {} at {}", queue::pushed(jobs), revision(*at))
        }
        Outcome::QueuePull { jobs, revision: at } => {
            format!("pulled {} at {}", queue::assigned(jobs), revision(*at))
        }
        Outcome::QueuePullWaits { consumer } => format!("pull waits as {consumer}"),
        Outcome::ConsumerAttach { consumer, held } => {
            format!("attached as {consumer} held={}", queue::assigned(held))
        }
        Outcome::QueueAck { revision: at } => format!("acked at {}", revision(*at)),
        Outcome::QueueNack { fate, revision: at } => {
            format!("nacked {} at {}", queue::fate(*fate), revision(*at))
        }
        Outcome::QueueExtend { lease_ms, revision: at } => {
            format!("extended {lease_ms}ms at {}", revision(*at))
        }
        Outcome::QueueCancel { cancelled, was_leased, revision: at } => {
            format!("cancelled={cancelled} was_leased={was_leased} at {}", revision(*at))
        }
        Outcome::QueueUpdate { created, revision: at } => {
            format!("updated created={created} at {}", revision(*at))
        }
        Outcome::QueuePurge { found, jobs, revision: at } => {
            format!("purged found={found} jobs={jobs} at {}", revision(*at))
        }
        Outcome::SchedulePut { created, next_wall_ms, revision: at } => {
            let next = next_wall_ms.map_or_else(|| "asked".to_owned(), |ms| format!("{ms}ms"));
            format!("scheduled created={created} next={next} at {}", revision(*at))
        }
        Outcome::ScheduleDelete { deleted, revision: at } => {
            format!("schedule deleted={deleted} at {}", revision(*at))
        }
        Outcome::QueueRedrive { moved, cursor, revision: at } => {
            let cursor = cursor.map_or_else(String::new, |id| format!("cursor={id} "));
            format!("redriven moved={moved} {cursor}at {}", revision(*at))
        }
        Outcome::CacheSet { .. }
        | Outcome::CacheDelete { .. }
        | Outcome::CacheDeletePattern { .. }
        | Outcome::CacheInvalidateTags { .. }
        | Outcome::CacheTouch { .. }
        | Outcome::CacheBuild { .. }
        | Outcome::CacheFill { .. }
        | Outcome::CacheBuildEnd { .. }
        | Outcome::CacheEvict { .. }
        | Outcome::CacheResize { .. } => cache::outcome(outcome),
        Outcome::MemberJoin { node } => format!("joins as node {node}"),
        Outcome::AccessDelete { deleted, revision: at } => {
            format!("access deleted={deleted} at {}", revision(*at))
        }
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
        Operated::LockAcquire { token, ttl_ms } => format!("lock token={token} ttl={ttl_ms}ms"),
        Operated::QueuePush { jobs } => format!("push {}", queue::pushed(jobs)),
        Operated::QueueAck => "ack".to_owned(),
        Operated::CacheSet => "cache-set".to_owned(),
        Operated::CacheDelete { deleted } => format!("cache-delete deleted={deleted}"),
        Operated::CacheInvalidateTags => "cache-invalidated".to_owned(),
        Operated::BusPublish => "published".to_owned(),
        Operated::LockRelease { released } => format!("lock released={released}"),
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
        Rejection::LockLost { .. } => "LockLost",
        Rejection::LockHeld { .. } => "LockHeld",
        Rejection::Cancelled => "Cancelled",
        Rejection::QueueFull { .. } => "QueueFull",
        Rejection::QueueUnknown { .. } => "QueueUnknown",
        Rejection::JobUnknown { .. } => "JobUnknown",
        Rejection::JobLeaseLost { .. } => "JobLeaseLost",
        Rejection::ConsumerGone(_) => "ConsumerGone",
        Rejection::BuildLeaseLost { .. } => "BuildLeaseLost",
        Rejection::CacheFull { .. } => "CacheFull",
        Rejection::TokenUnknown => "TokenUnknown",
        Rejection::MemberConflict(_) => "MemberConflict",
        Rejection::AccessRoleUnknown { .. } => "AccessRoleUnknown",
        Rejection::AccessConflict(_) => "AccessConflict",
    };
    format!("rejected {kind}: {why}")
}

pub(crate) fn event(event: &Event, names: &Names) -> String {
    match event {
        Event::SessionOpened { id, ttl_ms } => {
            format!("event: session {} opened ttl={ttl_ms}ms", session(*id, names))
        }
        Event::SessionEnded { id } => format!("event: session {} ended", session(*id, names)),
        Event::LockGranted { namespace, name, token, session: id, ttl_ms } => format!(
            "event: lock {} granted token={token} session={} ttl={ttl_ms}ms",
            named(namespace, name.as_bytes()),
            session(*id, names)
        ),
        Event::LockFreed { namespace, name, token } => {
            format!("event: lock {} freed token={token}", named(namespace, name.as_bytes()))
        }
        Event::TicketChanged { id } => format!("event: ticket {} changed", ticket(*id)),
        Event::LeaseRecorded { lease, remaining_ms } => {
            let lease = match lease {
                LeaseId::Session(id) => format!("session {}", session(*id, names)),
                LeaseId::Lock(token) => format!("token {token}"),
            };
            format!("event: lease of {lease} recorded{}", remaining(*remaining_ms))
        }
        Event::JobAssigned { consumer, attachment: at, job } => {
            let at = attachment(Some(*at));
            format!("event: consumer {consumer} {at} given {}", queue::one_assigned(job))
        }
        Event::JobWithdrawn { consumer, attachment: at, id, lease } => {
            let at = attachment(Some(*at));
            format!("event: consumer {consumer} {at} deprived of {id} lease={lease}")
        }
        Event::ConsumerLeft { consumer, attachment: at } => {
            format!("event: consumer {consumer} left {}", attachment(Some(*at)))
        }
        Event::ScheduleDue { namespace, name } => {
            format!("event: schedule {} was due", named(namespace, name.as_bytes()))
        }
        Event::PullChanged { consumer } => format!("event: pull {consumer} changed"),
        Event::AccessChanged => "event: access changed".to_owned(),
        Event::CacheChanged { .. }
        | Event::CacheTagsInvalidated { .. }
        | Event::CacheBuildEnded { .. }
        | Event::Published { .. }
        | Event::CachePatternDeleted { .. } => cache::event(event),
    }
}

pub(crate) fn ticket(id: TicketId) -> String {
    revision(Revision(id.0))
}

/// What is left of a lease, when it was recorded.
pub(crate) fn remaining(remaining_ms: Option<u64>) -> String {
    remaining_ms.map_or_else(String::new, |ms| format!(" remaining={ms}ms"))
}

pub(crate) fn held(held: &HeldLock) -> String {
    format!("{} token={}", named(&held.namespace, held.name.as_bytes()), held.token)
}

fn share(share: Share) -> String {
    match share {
        Share::Exclusive => String::new(),
        Share::Shared => " shared".to_owned(),
        Share::Permit { of } => format!(" one of {of}"),
    }
}

fn attachment(attachment: Option<Attachment>) -> String {
    match attachment {
        Some(Attachment { node, call }) => format!("at={node}.{call}"),
        None => "detached".to_owned(),
    }
}

pub(crate) fn lock(lock: &LockItem, names: &Names) -> String {
    let holders = lock.holders.iter().map(|holder| {
        format!(
            "[token={} session={}{} ttl={}ms held={}ms since {}] ",
            holder.token,
            session(holder.session, names),
            share(holder.share),
            holder.ttl_ms,
            holder.held_ms,
            revision(holder.revision)
        )
    });
    format!("{}waiters={}", holders.collect::<String>(), lock.waiters)
}

pub(crate) fn standing(standing: TicketStanding) -> String {
    match standing {
        TicketStanding::Waiting(place) => format!("waiting {}", attachment(place)),
        TicketStanding::Granted { token, attachment: place, ttl_ms, revision: at } => {
            let place = attachment(place);
            format!("granted token={token} ttl={ttl_ms}ms since {} {place}", revision(at))
        }
        TicketStanding::TimedOut => "timed out".to_owned(),
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
