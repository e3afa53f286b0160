//! Keys taken apart.

use super::access::{HOLDER_SUBJECT, HOLDER_TOKEN};
use super::{
    AccessHolder, Clock, DeadlineKind, Key, META_ACCESS, META_CACHE, META_DIGEST,
    META_FEATURE_LEVEL, META_HISTORY, META_QUEUES, META_ROW, table,
};
use crate::limits::TOKEN_HASH_BYTES;
use crate::{
    AccessTokenId, ConsumerId, Era, GroupId, HistoryPosition, JobId, LogIndex, NodeId, QueueId,
    Revision, SessionId, TicketId,
};

/// Takes a key of `group` apart; none when no function here makes such a key.
pub(crate) fn parse(group: GroupId, key: &[u8]) -> Option<Key<'_>> {
    let rest = key.strip_prefix(&group.0.to_be_bytes())?;
    let (table, rest) = rest.split_first()?;
    Some(match *table {
        table::META => match rest {
            [META_ROW] => Key::Meta,
            [META_DIGEST] => Key::Digest,
            [META_HISTORY] => Key::HistoryMeta,
            [META_QUEUES] => Key::QueuesMeta,
            [META_CACHE] => Key::CacheMeta,
            [META_FEATURE_LEVEL] => Key::FeatureLevel,
            [META_ACCESS] => Key::AccessMeta,
            _ => return None,
        },
        table::KV => {
            let (namespace, key) = parse_named(rest)?;
            Key::Kv { namespace, key }
        }
        table::DEADLINE | table::WALL_DEADLINE => {
            let clock = if *table == table::DEADLINE { Clock::Lease } else { Clock::Wall };
            let (deadline_ms, rest) = parse_u64(rest)?;
            let (kind, id) = rest.split_first()?;
            let kind = match kind {
                1 => DeadlineKind::Kv,
                2 => DeadlineKind::Idempotency,
                3 => DeadlineKind::Ticket,
                4 => DeadlineKind::Job,
                5 => DeadlineKind::Consumer,
                6 => DeadlineKind::Dedupe,
                7 => DeadlineKind::Queue,
                8 => DeadlineKind::OldEra,
                9 => DeadlineKind::Schedule,
                10 => DeadlineKind::Cache,
                11 => DeadlineKind::CacheBuild,
                12 => DeadlineKind::CacheTag,
                13 => DeadlineKind::Invitation,
                14 => DeadlineKind::AccessToken,
                _ => return None,
            };
            Key::Deadline { clock, deadline_ms, kind, id }
        }
        table::SESSION => match parse_u64(rest)? {
            (id, []) => Key::Session(SessionId(id)),
            _ => return None,
        },
        table::SESSION_ANSWER => {
            let (id, rest) = parse_u64(rest)?;
            match parse_u64(rest)? {
                (index, []) => Key::SessionAnswer(SessionId(id), LogIndex(index)),
                _ => return None,
            }
        }
        table::IDEMPOTENCY => {
            let (namespace, key) = parse_named(rest)?;
            Key::Idempotency { namespace, key }
        }
        table::MEMBER_ADDR => match parse_u64(rest)? {
            (node, []) => Key::MemberAddr(NodeId(node)),
            _ => return None,
        },
        table::HISTORY => {
            let (revision, rest) = parse_u64(rest)?;
            let event = u32::from_be_bytes(rest.try_into().ok()?);
            Key::History(HistoryPosition { revision: Revision(revision), event })
        }
        table::SESSION_KEY => {
            let (id, rest) = parse_u64(rest)?;
            parse_named(rest)?;
            Key::Owned(SessionId(id), rest)
        }
        table::LOCK => {
            let (namespace, name) = parse_named(rest)?;
            Key::Lock { namespace, name: std::str::from_utf8(name).ok()? }
        }
        table::TICKET => Key::Ticket(TicketId(parse_whole_u64(rest)?)),
        table::QUEUE => {
            let (namespace, name) = parse_named(rest)?;
            Key::Queue { namespace, name: std::str::from_utf8(name).ok()? }
        }
        table::QUEUE_COUNTS => Key::QueueCounts(QueueId(parse_whole_u64(rest)?)),
        table::JOB => {
            let (era, rest) = parse_u64(rest)?;
            Key::Job(Era(era), JobId(parse_whole_u64(rest)?))
        }
        table::JOB_BODY => Key::JobBody(JobId(parse_whole_u64(rest)?)),
        table::JOB_NOTE => Key::JobNote(JobId(parse_whole_u64(rest)?)),
        table::CONSUMER => Key::Consumer(ConsumerId(parse_whole_u64(rest)?)),
        table::DEDUPE => {
            let (queue, key) = parse_u64(rest)?;
            Key::Dedupe(QueueId(queue), key)
        }
        table::OLD_ERA => Key::OldEra(Era(parse_whole_u64(rest)?)),
        table::SCHEDULE => {
            let (namespace, name) = parse_named(rest)?;
            Key::Schedule { namespace, name: std::str::from_utf8(name).ok()? }
        }
        table::CACHE => {
            let (namespace, key) = parse_named(rest)?;
            Key::Cache { namespace, key }
        }
        table::CACHE_TAG => {
            let (namespace, tag) = parse_named(rest)?;
            Key::CacheTag { namespace, tag: std::str::from_utf8(tag).ok()? }
        }
        table::CACHE_TAGGED => {
            let (namespace, rest) = parse_named(rest)?;
            let (tag, key) = parse_named(rest)?;
            Key::CacheTagged { namespace, tag, key }
        }
        table::CACHE_BUILD => {
            let (namespace, key) = parse_named(rest)?;
            Key::CacheBuild { namespace, key }
        }
        table::MEMBER => match parse_u64(rest)? {
            (node, []) => Key::Member(NodeId(node)),
            _ => return None,
        },
        table::INVITATION if rest.len() == TOKEN_HASH_BYTES => Key::Invitation(rest),
        table::ACCESS_TOKEN => Key::AccessToken(AccessTokenId(parse_whole_u64(rest)?)),
        table::ACCESS_ROLE => Key::AccessRole(std::str::from_utf8(rest).ok()?),
        table::ACCESS_SUBJECT => Key::AccessSubject(std::str::from_utf8(rest).ok()?),
        table::ACCESS_HOLDER => {
            let (role, rest) = parse_named(rest)?;
            let holder = match rest.split_first()? {
                (&HOLDER_TOKEN, id) => AccessHolder::Token(AccessTokenId(parse_whole_u64(id)?)),
                (&HOLDER_SUBJECT, subject) => {
                    AccessHolder::Subject(std::str::from_utf8(subject).ok()?)
                }
                _ => return None,
            };
            Key::AccessHolder { role, holder }
        }
        _ => return None,
    })
}

/// Namespace and key that an id names; none when no function here makes such an id.
pub(crate) fn parse_id(id: &[u8]) -> Option<(&str, &[u8])> {
    parse_named(id)
}

fn parse_u64(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

fn parse_whole_u64(bytes: &[u8]) -> Option<u64> {
    match parse_u64(bytes)? {
        (number, []) => Some(number),
        _ => None,
    }
}

fn parse_named(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (namespace, name) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(namespace).ok()?, name))
}
