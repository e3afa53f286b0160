//! The words of golden scripts: one command of the machine each.

use crate::{
    Attachment, CacheDelete, CacheInvalidateTags, CacheSet, Caller, Command, Condition, Envelope,
    Expect, FencingToken, Float, HeldLock, JobId, JobLease, KeySelector, KvDelete, KvDeletePattern,
    KvIncrement, KvIncrementFloat, KvSet, LeaseCheckpoint, LeasedJob, LockAcquire, LockAttach,
    LockCancel, LockDetach, LockDetachNode, LockExpire, LockForceRelease, LockGuard, LockRelease,
    LockRequest, LogIndex, MemberPublish, NewJob, NodeId, Operation, Publication, QueueAck,
    QueuePush, Revision, Sequence, SessionClose, SessionExpire, SessionId, SessionOpen, Share,
    TicketId, Transaction,
};
use bytes::Bytes;
use goldenscript::ArgumentConsumer;
use std::collections::BTreeMap;
use std::error::Error;

mod access;
mod cache;
mod member;
mod queue;

type Parsed<T> = Result<T, Box<dyn Error>>;

/// A line of a script as a request; none when its word is not a command of the machine. A
/// `session open` also gives the name its session is to have.
pub(crate) fn envelope(
    line: &goldenscript::Command,
    sessions: &BTreeMap<String, SessionId>,
) -> Parsed<Option<(Envelope, Option<String>)>> {
    let mut args = line.consume_args();
    let mut name = None;
    let command = match line.name.as_str() {
        "tick" => Command::Tick,
        "set" => Command::KvSet(KvSet {
            key: text(positional(&mut args, "key")?)?,
            value: text(positional(&mut args, "value")?)?,
            ttl_ms: args.take_key("ttl").map(millis).transpose()?,
            expect: expect(&mut args)?,
            owner: args.take_key("owner").map(|name| session(name, sessions)).transpose()?,
        }),
        "del" => Command::KvDelete(KvDelete {
            key: text(positional(&mut args, "key")?)?,
            expect: expect(&mut args)?,
        }),
        "incr" => Command::KvIncrement(KvIncrement {
            key: text(positional(&mut args, "key")?)?,
            by: args.take_key("by").map_or(Ok(1), str::parse)?,
        }),
        "incr-float" => Command::KvIncrementFloat(KvIncrementFloat {
            key: text(positional(&mut args, "key")?)?,
            by: Float::new(args.take_key("by").ok_or("by= is missing")?.parse()?),
        }),
        "del-pattern" => Command::KvDeletePattern(KvDeletePattern {
            selector: selector(&mut args)?,
            after: args.take_key("after").map(text).transpose()?,
            keys_max: args.take_key("max").map_or(Ok(u64::MAX), str::parse)?,
        }),
        "session" => match positional(&mut args, "open, close or expire")? {
            "open" => {
                name = Some(positional(&mut args, "name")?.to_owned());
                let ttl_ms = millis(args.take_key("ttl").ok_or("ttl= is missing")?)?;
                Command::SessionOpen(SessionOpen { ttl_ms })
            }
            "close" => {
                let id = session(positional(&mut args, "session")?, sessions)?;
                Command::SessionClose(SessionClose { id })
            }
            "expire" => {
                let mut ids = Vec::new();
                while let Some(id) = args.next_pos() {
                    ids.push(session(id, sessions)?);
                }
                // Stands for as many ids of sessions that do not exist.
                let more: u64 = args.take_key("more").map_or(Ok(0), str::parse)?;
                ids.extend((1..=more).map(SessionId));
                Command::SessionExpire(SessionExpire { ids })
            }
            other => return Err(format!("no such session command: {other}").into()),
        },
        "txn" => Command::Transaction(transaction(&mut args)?),
        "lock" => lock(&mut args, sessions)?,
        "queue" => queue::queue(&mut args)?,
        "cache" => cache::cache(&mut args)?,
        "cluster" => member::member(&mut args)?,
        "access" => access::access(&mut args)?,
        "schedule" => queue::schedule(&mut args)?,
        "consumer" => queue::consumer(&mut args, sessions)?,
        "checkpoint" => {
            let remaining_ms = args.take_key("remaining").map(millis).transpose()?;
            let id = args.take_key("session").map(|name| session(name, sessions)).transpose()?;
            let lock = args.take_key("lock").map(|name| held("", name)).transpose()?;
            Command::LeaseCheckpoint(LeaseCheckpoint {
                sessions: id.into_iter().map(|id| (id, remaining_ms)).collect(),
                locks: lock.into_iter().map(|lock| (lock, remaining_ms)).collect(),
            })
        }
        "publish" => Command::MemberPublish(MemberPublish {
            node: NodeId(positional(&mut args, "node")?.parse()?),
            client_addr: string(args.take_key("client").unwrap_or_default())?,
            http_addr: string(args.take_key("http").unwrap_or_default())?,
        }),
        _ => return Ok(None),
    };
    let namespace = string(args.take_key("ns").unwrap_or_default())?;
    let caller = caller(&mut args, sessions)?;
    let guard = args.take_key("guard").map(|text| held("", text)).transpose()?;
    let guard = guard.map(|HeldLock { name, token, .. }| LockGuard { name, token });
    args.reject_next()?;
    Ok(Some((Envelope { namespace, caller, guard, command }, name)))
}

fn lock(
    args: &mut ArgumentConsumer<'_>,
    sessions: &BTreeMap<String, SessionId>,
) -> Parsed<Command> {
    let word = positional(args, "what to do with the lock")?;
    let subject = positional(args, "which lock, ticket, session or node")?;
    Ok(match word {
        "acquire" => Command::LockAcquire(LockAcquire {
            request: LockRequest {
                name: string(subject)?,
                share: share(args.take_key("share"))?,
                ttl_ms: args.take_key("ttl").map_or(Ok(10_000), millis)?,
                wait_ms: args.take_key("wait").map_or(Ok(0), millis)?,
            },
            attachment: attachment(args)?,
        }),
        "release" => Command::LockRelease(LockRelease {
            name: string(subject)?,
            token: FencingToken(args.take_key("token").ok_or("token= is missing")?.parse()?),
        }),
        "force-release" => Command::LockForceRelease(LockForceRelease { name: string(subject)? }),
        "cancel" => Command::LockCancel(LockCancel {
            session: session(subject, sessions)?,
            sequence: Sequence(args.take_key("of").ok_or("of= is missing")?.parse()?),
        }),
        "attach" => Command::LockAttach(LockAttach {
            ticket: ticket(subject)?,
            attachment: attachment(args)?,
        }),
        "detach" => {
            Command::LockDetach(LockDetach { calls: vec![(ticket(subject)?, attachment(args)?)] })
        }
        "detach-node" => Command::LockDetachNode(LockDetachNode { node: NodeId(subject.parse()?) }),
        "expire" => {
            let namespace = string(args.take_key("of").unwrap_or_default())?;
            Command::LockExpire(LockExpire { locks: vec![held(&namespace, subject)?] })
        }
        other => return Err(format!("no such lock command: {other}").into()),
    })
}

/// `shared`, or how many permits there are.
fn share(text: Option<&str>) -> Parsed<Share> {
    Ok(match text {
        None => Share::Exclusive,
        Some("shared") => Share::Shared,
        Some(of) => Share::Permit { of: of.parse()? },
    })
}

/// `at=<node>.<call>`
fn attachment(args: &mut ArgumentConsumer<'_>) -> Parsed<Attachment> {
    let text = args.take_key("at").unwrap_or("1.1");
    let (node, call) = text.split_once('.').ok_or("at= is <node>.<call>")?;
    Ok(Attachment { node: NodeId(node.parse()?), call: call.parse()? })
}

/// `<name>:<token>`
fn held(namespace: &str, text: &str) -> Parsed<HeldLock> {
    let (name, token) = text.split_once(':').ok_or("a held lock is <name>:<token>")?;
    let token = FencingToken(token.parse()?);
    Ok(HeldLock { namespace: namespace.to_owned(), name: string(name)?, token })
}

/// `r<entry>.<position>`
pub(crate) fn ticket(text: &str) -> Parsed<TicketId> {
    let numbers = text.strip_prefix('r').and_then(|text| text.split_once('.'));
    let (index, position) = numbers.ok_or("a ticket is r<entry>.<position>")?;
    Ok(TicketId(Revision::new(0, LogIndex(index.parse()?), position.parse()?).0))
}

pub(crate) fn positional<'a>(args: &mut ArgumentConsumer<'a>, what: &str) -> Parsed<&'a str> {
    args.next_pos().ok_or_else(|| format!("{what} is missing").into())
}

fn caller(
    args: &mut ArgumentConsumer<'_>,
    sessions: &BTreeMap<String, SessionId>,
) -> Parsed<Caller> {
    if let Some(name) = args.take_key("s") {
        return Ok(Caller::Session {
            id: session(name, sessions)?,
            sequence: Sequence(args.take_key("seq").ok_or("seq= is missing")?.parse()?),
            floor: Sequence(args.take_key("floor").map_or(Ok(1), str::parse)?),
        });
    }
    Ok(match args.take_key("idem") {
        Some(key) => Caller::Idempotency { key: text(key)? },
        None => Caller::Anonymous,
    })
}

fn expect(args: &mut ArgumentConsumer<'_>) -> Parsed<Expect> {
    args.take_key("if").map_or(Ok(Expect::Any), expectation)
}

/// `absent`, or a version.
fn expectation(text: &str) -> Parsed<Expect> {
    Ok(match text {
        "absent" => Expect::Absent,
        version => Expect::Version(version.parse()?),
    })
}

/// `prefix=a`, `key=a`, or a pattern as it stands.
pub(crate) fn selector(args: &mut ArgumentConsumer<'_>) -> Parsed<KeySelector> {
    let mut all = selectors(args)?;
    match all.len() {
        1 => Ok(all.remove(0)),
        count => Err(format!("{count} selectors, where one is needed").into()),
    }
}

/// All that there are.
pub(crate) fn selectors(args: &mut ArgumentConsumer<'_>) -> Parsed<Vec<KeySelector>> {
    let mut all = Vec::new();
    if let Some(prefix) = args.take_key("prefix") {
        all.push(KeySelector::Prefix(text(prefix)?));
    }
    if let Some(key) = args.take_key("key") {
        all.push(KeySelector::Key(text(key)?));
    }
    while let Some(pattern) = args.next_pos() {
        all.push(KeySelector::Pattern(text(pattern)?));
    }
    Ok(all)
}

/// `r<entry>.<position>`
pub(crate) fn revision(text: &str) -> Parsed<Revision> {
    let parts = text.strip_prefix('r').and_then(|rest| rest.split_once('.'));
    let (index, position) = parts.ok_or_else(|| format!("{text} is no revision"))?;
    Ok(Revision::new(0, LogIndex(index.parse()?), position.parse()?))
}

/// By the name a script gave it, or by number.
fn session(name: &str, sessions: &BTreeMap<String, SessionId>) -> Parsed<SessionId> {
    match sessions.get(name) {
        Some(id) => Ok(*id),
        None => Ok(SessionId(name.parse().map_err(|_| format!("no session is called {name}"))?)),
    }
}

/// As it stands; `a@1025` is the letter `a` 1025 times.
pub(crate) fn string(text: &str) -> Parsed<String> {
    Ok(match text.split_once('@') {
        Some((repeated, times)) => repeated.repeat(times.parse()?),
        None => text.to_owned(),
    })
}

pub(crate) fn text(text: &str) -> Parsed<Bytes> {
    Ok(Bytes::from(string(text)?))
}

/// `500ms`, `30s`, `2m`, `1h`.
pub(crate) fn millis(text: &str) -> Parsed<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        unit => return Err(format!("{text} has the unknown unit {unit:?}").into()),
    };
    Ok(digits.parse::<u64>()? * unit_ms)
}

/// Steps of a transaction, a word each; those of the other branch follow an `else`.
pub(crate) fn transaction(args: &mut ArgumentConsumer<'_>) -> Parsed<Transaction> {
    let mut transaction = Transaction::default();
    let mut otherwise = false;
    while let Some(step) = args.next_pos() {
        if step == "else" {
            otherwise = true;
        } else if let Some(condition) = condition(step)? {
            transaction.conditions.push(condition);
        } else if otherwise {
            transaction.otherwise.push(operation(step)?);
        } else {
            transaction.then.push(operation(step)?);
        }
    }
    Ok(transaction)
}

/// A condition of a transaction in one word of a script, such as `"version k 3"`; none when it is
/// an operation.
fn condition(step: &str) -> Parsed<Option<Condition>> {
    let words: Vec<&str> = step.split(' ').collect();
    Ok(Some(match words[..] {
        ["version", key, version] => {
            Condition::KvVersion { key: text(key)?, version: version.parse()? }
        }
        ["absent", key] => Condition::KvAbsent { key: text(key)? },
        ["exists", key] => Condition::KvExists { key: text(key)? },
        ["jobs", queue, at_most] => {
            Condition::QueueJobs { queue: string(queue)?, at_most: at_most.parse()? }
        }
        ["value", key, value] => Condition::KvValue { key: text(key)?, value: text(value)? },
        ["held", name, token] => {
            Condition::LockHeld { name: string(name)?, token: FencingToken(token.parse()?) }
        }
        ["free", name] => Condition::LockFree { name: string(name)? },
        _ => return Ok(None),
    }))
}

/// An operation of a transaction in one word of a script, such as `"set k v 5s"` or
/// `"acquire l 5s shared"`.
fn operation(step: &str) -> Parsed<Operation> {
    let words: Vec<&str> = step.split(' ').collect();
    Ok(match words[..] {
        ["get", key] => Operation::KvGet { key: text(key)? },
        ["set", key, value] | ["set", key, value, _] => Operation::KvSet(KvSet {
            key: text(key)?,
            value: text(value)?,
            ttl_ms: words.get(3).map(|ttl| millis(ttl)).transpose()?,
            expect: Expect::Any,
            owner: None,
        }),
        ["set-if", expect, key, value] => Operation::KvSet(KvSet {
            key: text(key)?,
            value: text(value)?,
            ttl_ms: None,
            expect: expectation(expect)?,
            owner: None,
        }),
        ["del", key] => Operation::KvDelete(KvDelete { key: text(key)?, expect: Expect::Any }),
        ["incr", key, by] => {
            Operation::KvIncrement(KvIncrement { key: text(key)?, by: by.parse()? })
        }
        ["incr-float", key, by] => Operation::KvIncrementFloat(KvIncrementFloat {
            key: text(key)?,
            by: Float::new(by.parse()?),
        }),
        ["acquire", name] | ["acquire", name, _] | ["acquire", name, _, _] => {
            Operation::LockAcquire {
                name: string(name)?,
                share: share(words.get(3).copied())?,
                ttl_ms: words.get(2).map_or(Ok(10_000), |ttl| millis(ttl))?,
            }
        }
        ["release", name, token] => Operation::LockRelease(LockRelease {
            name: string(name)?,
            token: FencingToken(token.parse()?),
        }),
        ["push", queue, ref payloads @ ..] => {
            let job = |payload: &&str| -> Parsed<NewJob> {
                Ok(NewJob { payload: text(payload)?, ..NewJob::default() })
            };
            let jobs = payloads.iter().map(job).collect::<Parsed<_>>()?;
            Operation::QueuePush(QueuePush { queue: string(queue)?, jobs })
        }
        ["ack", queue, id, lease] => {
            let (id, lease) = (JobId(id.parse()?), JobLease(lease.parse()?));
            Operation::QueueAck(QueueAck { job: LeasedJob { queue: string(queue)?, id, lease } })
        }
        ["cache-set", key, value] | ["cache-set", key, value, _] => Operation::CacheSet(CacheSet {
            key: text(key)?,
            value: text(value)?,
            ttl_ms: None,
            stale_for_ms: 0,
            tags: words.get(3).map_or(Ok(Vec::new()), |tags| cache::tags(tags))?,
        }),
        ["cache-del", key] => Operation::CacheDelete(CacheDelete { key: text(key)? }),
        ["cache-invalidate", tags] => {
            Operation::CacheInvalidateTags(CacheInvalidateTags { tags: cache::tags(tags)? })
        }
        ["publish", channel, payload, ref more @ ..] => Operation::BusPublish(Publication {
            channel: string(channel)?,
            payload: text(payload)?,
            content_type: string(more.first().copied().unwrap_or_default())?,
            headers: more.get(1).map_or(Ok(Vec::new()), |all| headers(all))?,
        }),
        ["publish", payload] => {
            Operation::BusPublish(Publication { payload: text(payload)?, ..Default::default() })
        }
        _ => return Err(format!("no such step of a transaction: {step}").into()),
    })
}

/// `<name>:<value>` with commas between them; `n:v*33` are 33 of them.
fn headers(all: &str) -> Parsed<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for header in all.split(',') {
        let (header, times) = header.split_once('*').unwrap_or((header, "1"));
        let (name, value) = header.split_once(':').ok_or("a header is <name>:<value>")?;
        let header = (string(name)?, string(value)?);
        headers.extend(std::iter::repeat_n(header, times.parse()?));
    }
    Ok(headers)
}
