//! Rows, outcomes and events as a reader of a golden script sees them.

use crate::Operated;
use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::query::{
    Compacted, KvChange, KvEvent, KvHistoryPage, KvItem, KvPage, KvShow, LockItem, TicketStanding,
};
use crate::rows::{
    self, Answer, AnswerRow, DedupeRow, HistoryChange, HistoryMetaRow, HistoryRow, Holder,
    IdempotencyRow, JobBodyRow, KvRow, LockRow, MemberAddrRow, MetaRow, OldEraRow, QueuesMetaRow,
    SessionRow, TicketRow, TicketState,
};
use crate::{
    Attachment, DeleteCause, Event, GroupId, HeldLock, HistoryPosition, LeaseId, Outcome,
    Rejection, Revision, SessionId, Share, TicketId,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::error::Error;

mod queue;

pub(crate) use queue::{job, pull, queue};

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

/// A key's table, for summaries.
pub(crate) fn table(group: GroupId, key: &[u8]) -> &'static str {
    match keys::parse(group, key) {
        Some(Key::Meta | Key::Digest | Key::HistoryMeta | Key::QueuesMeta) => "meta",
        Some(Key::Kv { .. }) => "kv",
        Some(Key::Deadline { .. }) => "deadline",
        Some(Key::Session(_)) => "session",
        Some(Key::SessionAnswer(..)) => "answer",
        Some(Key::Idempotency { .. }) => "idempotency",
        Some(Key::MemberAddr(_)) => "member",
        Some(Key::History(_)) => "history",
        Some(Key::Owned(..)) => "session-key",
        Some(Key::Lock { .. }) => "lock",
        Some(Key::Ticket(_)) => "ticket",
        Some(Key::Queue { .. }) => "queue",
        Some(Key::QueueCounts(_)) => "counts",
        Some(Key::Job(..)) => "job",
        Some(Key::JobBody(_)) => "body",
        Some(Key::JobNote(_)) => "note",
        Some(Key::Consumer(_)) => "consumer",
        Some(Key::Dedupe(..)) => "dedupe",
        Some(Key::OldEra(_)) => "old-era",
        Some(Key::Schedule { .. }) => "schedule",
        None => "unknown",
    }
}

/// The name of a row.
pub(crate) fn key(group: GroupId, key: &[u8], names: &Names) -> String {
    match keys::parse(group, key) {
        Some(Key::Meta) => "meta".to_owned(),
        Some(Key::Digest) => "digest".to_owned(),
        Some(Key::Kv { namespace, key }) => format!("kv {}", named(namespace, key)),
        Some(Key::Deadline { clock, deadline_ms, kind, id }) => {
            let clock = match clock {
                Clock::Lease => "",
                Clock::Wall => "wall ",
            };
            format!("deadline {clock}{deadline_ms}ms {}", deadline(group, kind, id, names))
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
        Some(Key::Owned(id, rest)) => {
            let owned = deadline(group, DeadlineKind::Kv, rest, names);
            format!("session-key {} {owned}", session(id, names))
        }
        Some(Key::Lock { namespace, name }) => {
            format!("lock {}", named(namespace, name.as_bytes()))
        }
        Some(Key::Ticket(id)) => format!("ticket {}", ticket(id)),
        Some(Key::QueuesMeta) => "queues-meta".to_owned(),
        Some(Key::Queue { namespace, name }) => {
            format!("queue {}", named(namespace, name.as_bytes()))
        }
        Some(Key::QueueCounts(id)) => format!("counts {id}"),
        Some(Key::Job(era, id)) => format!("job {era}/{id}"),
        Some(Key::JobBody(id)) => format!("body {id}"),
        Some(Key::JobNote(id)) => format!("note {id}"),
        Some(Key::Consumer(id)) => format!("consumer {id}"),
        Some(Key::Dedupe(queue, key)) => format!("dedupe {queue} {}", bytes(key)),
        Some(Key::OldEra(era)) => format!("old-era {era}"),
        Some(Key::Schedule { namespace, name }) => {
            format!("schedule {}", named(namespace, name.as_bytes()))
        }
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

fn holder_row(holder: &Holder, names: &Names) -> String {
    format!(
        " [token={} session={}{} ttl={}ms{} granted={}ms {}]",
        holder.token,
        session(holder.session, names),
        share(holder.share),
        holder.ttl_ms,
        remaining(holder.remaining_ms),
        holder.granted_ms,
        revision(holder.revision)
    )
}

fn ticket_row(row: &TicketRow, names: &Names) -> String {
    let state = match row.state {
        TicketState::Waiting => "waiting".to_owned(),
        TicketState::Granted { token, revision: at } => {
            format!("granted token={token} {}", revision(at))
        }
        TicketState::TimedOut => "timed-out".to_owned(),
    };
    format!(
        " {} session={} seq={}{} ttl={}ms deadline={}ms {} {state}",
        named(&row.namespace, row.name.as_bytes()),
        session(row.session, names),
        row.sequence,
        share(row.share),
        row.ttl_ms,
        row.deadline_ms,
        attachment(row.attachment)
    )
}

/// The name and the contents of a row.
pub(crate) fn row(group: GroupId, row_key: &[u8], value: &[u8], names: &Names) -> Rendered {
    let contents = match keys::parse(group, row_key) {
        Some(Key::Meta) => {
            let row: MetaRow = rows::decode("meta row", value)?;
            format!(
                " lease={}ms wall={}ms revision={} base={} sessions={} idempotency_keys={} token={}",
                row.stamp.lease_ms,
                row.stamp.wall_ms,
                revision(row.revision),
                row.revision_base,
                row.sessions,
                row.idempotency_keys,
                row.fencing_token
            )
        }
        Some(Key::Digest) => format!(" {:016x}", rows::digest_row(value)?),
        Some(Key::Kv { .. }) => {
            let row = KvRow::decode(value)?;
            let deadline =
                row.deadline_ms.map_or_else(String::new, |ms| format!(" deadline={ms}ms"));
            let owner =
                row.owner.map_or_else(String::new, |id| format!(" owner={}", session(id, names)));
            format!(
                " {} version={} created={} modified={}{deadline}{owner}",
                bytes(row.value),
                row.version,
                revision(row.create_revision),
                revision(row.mod_revision)
            )
        }
        Some(Key::Session(_)) => {
            let row: SessionRow = rows::decode("session row", value)?;
            let recent = answers(&row.recent, names);
            let left = remaining(row.remaining_ms);
            format!(" ttl={}ms{left} floor={}{recent}", row.ttl_ms, row.floor)
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
        Some(Key::Lock { .. }) => {
            let row: LockRow = rows::decode("lock row", value)?;
            let holders = row.holders.iter().map(|holder| holder_row(holder, names));
            format!("{} waiters={}", holders.collect::<String>(), row.waiters)
        }
        Some(Key::Ticket(_)) => {
            let row: TicketRow = rows::decode("ticket row", value)?;
            ticket_row(&row, names)
        }
        Some(Key::QueuesMeta) => {
            let row: QueuesMetaRow = rows::decode("queues meta row", value)?;
            let schedules = row.schedules;
            format!(" id={} lease={} jobs={} schedules={schedules}", row.id, row.lease, row.jobs)
        }
        Some(Key::Queue { .. }) => queue::queue_row(&rows::decode("queue row", value)?),
        Some(Key::QueueCounts(_)) => queue::counts_row(&rows::decode("queue counts row", value)?),
        Some(Key::Job(..)) => queue::job_row(&rows::decode("job row", value)?),
        Some(Key::JobBody(_)) => queue::body_row(&JobBodyRow::decode(value)?),
        Some(Key::JobNote(_)) => queue::note_row(&rows::decode("job note row", value)?),
        Some(Key::Consumer(_)) => queue::consumer_row(&rows::decode("consumer row", value)?, names),
        Some(Key::Schedule { .. }) => queue::schedule_row(&rows::decode("schedule row", value)?),
        Some(Key::Dedupe(..)) => {
            let row: DedupeRow = rows::decode("dedupe row", value)?;
            format!(" job={} deadline={}ms", row.job, row.deadline_ms)
        }
        Some(Key::OldEra(_)) => {
            format!(" deleted={}", OldEraRow::decode(value)?.deleted)
        }
        Some(Key::Owned(..) | Key::Deadline { .. }) | None => String::new(),
    };
    Ok(format!("{}{contents}", key(group, row_key, names)))
}
