//! Rows, and the keys they stand under.

use super::{
    Names, Rendered, access, attachment, bytes, cache, deleted, member, named, outcome, position,
    queue, remaining, revision, session, set, share, ticket,
};
use crate::keys::{AccessHolder, Clock, DeadlineKind, Key};
use crate::rows::{
    Answer, AnswerRow, CacheRow, DedupeRow, HistoryChange, HistoryMetaRow, HistoryRow, Holder,
    IdempotencyRow, InvitationRow, JobBodyRow, KvRow, LockRow, MemberAddrRow, MemberRow, MetaRow,
    OldEraRow, QueuesMetaRow, SessionRow, TicketRow, TicketState,
};
use crate::{FeatureLevel, GroupId, keys, rows};

/// A key's table, for summaries.
pub(crate) fn table(group: GroupId, key: &[u8]) -> &'static str {
    match keys::parse(group, key) {
        Some(Key::Meta | Key::Digest | Key::HistoryMeta | Key::QueuesMeta | Key::CacheMeta) => {
            "meta"
        }
        Some(Key::FeatureLevel) => "feature-level",
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
        Some(Key::Cache { .. }) => "cache",
        Some(Key::CacheTag { .. }) => "cache-tag",
        Some(Key::CacheTagged { .. }) => "cache-tagged",
        Some(Key::CacheBuild { .. }) => "cache-build",
        Some(Key::Member(_)) => "plan",
        Some(Key::Invitation(_)) => "invitation",
        Some(Key::AccessMeta) => "access-meta",
        Some(Key::AccessToken(_)) => "access-token",
        Some(Key::AccessRole(_)) => "access-role",
        Some(Key::AccessSubject(_)) => "access-subject",
        Some(Key::AccessHolder { .. }) => "access-holder",
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
        Some(Key::CacheMeta) => "cache-meta".to_owned(),
        Some(Key::Cache { namespace, key }) => format!("cache {}", named(namespace, key)),
        Some(Key::CacheTag { namespace, tag }) => {
            format!("cache-tag {}", named(namespace, tag.as_bytes()))
        }
        Some(Key::CacheTagged { namespace, tag, key }) => {
            format!("cache-tagged {} {}", named(namespace, tag.as_bytes()), bytes(key))
        }
        Some(Key::CacheBuild { namespace, key }) => {
            format!("cache-build {}", named(namespace, key))
        }
        Some(Key::Member(node)) => format!("plan {node}"),
        Some(Key::Invitation(hash)) => format!("invitation {:02x}", hash[0]),
        Some(Key::FeatureLevel) => "feature-level".to_owned(),
        Some(Key::AccessMeta) => "access-meta".to_owned(),
        Some(Key::AccessToken(id)) => format!("access-token {id}"),
        Some(Key::AccessRole(name)) => format!("access-role {}", bytes(name.as_bytes())),
        Some(Key::AccessSubject(subject)) => {
            format!("access-subject {}", bytes(subject.as_bytes()))
        }
        Some(Key::AccessHolder { role, holder }) => {
            let holder = match holder {
                AccessHolder::Token(id) => format!("token {id}"),
                AccessHolder::Subject(subject) => format!("subject {}", bytes(subject.as_bytes())),
            };
            format!("access-holder {} {holder}", bytes(role.as_bytes()))
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
        Some(Key::CacheMeta) => cache::meta_row(&rows::decode("cache meta row", value)?),
        Some(Key::Cache { .. }) => cache::row(&CacheRow::decode(value)?),
        Some(Key::CacheTag { .. }) => cache::tag_row(&rows::decode("cache tag row", value)?),
        Some(Key::CacheBuild { .. }) => cache::build_row(&rows::decode("cache build row", value)?),
        Some(Key::Dedupe(..)) => {
            let row: DedupeRow = rows::decode("dedupe row", value)?;
            format!(" job={} deadline={}ms", row.job, row.deadline_ms)
        }
        Some(Key::OldEra(_)) => {
            format!(" deleted={}", OldEraRow::decode(value)?.deleted)
        }
        Some(Key::Member(_)) => {
            let row: MemberRow = rows::decode("member row", value)?;
            format!(" uuid={} {}", row.uuid, member::plan(&row.plan))
        }
        Some(Key::Invitation(_)) => {
            let row: InvitationRow = rows::decode("invitation row", value)?;
            format!(" deadline={}ms{}", row.deadline_ms, member::replaces(row.replaces))
        }
        Some(Key::FeatureLevel) => {
            let level: FeatureLevel = rows::decode("feature level row", value)?;
            format!(" {level}")
        }
        Some(Key::AccessMeta) => access::meta_row(&rows::decode("access meta row", value)?),
        Some(Key::AccessToken(_)) => access::token_row(&rows::decode("access token row", value)?),
        Some(Key::AccessRole(_)) => access::role_row(&rows::decode("access role row", value)?),
        Some(Key::AccessSubject(_)) => {
            access::subject_row(&rows::decode("access subject row", value)?)
        }
        Some(
            Key::Owned(..)
            | Key::Deadline { .. }
            | Key::CacheTagged { .. }
            | Key::AccessHolder { .. },
        )
        | None => String::new(),
    };
    Ok(format!("{}{contents}", key(group, row_key, names)))
}
