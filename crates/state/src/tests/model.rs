//! The machine against a naive model of itself: maps of whole values, nothing indexed, hashed or
//! swept. Whatever random clients ask, both answer the same and then hold the same.

use super::{property, requests};
use crate::query::{KvItem, KvList, KvPage, KvShow, SessionItem};
use crate::rows::CacheMetaRow;
use crate::testing::GROUP;
use crate::{
    Attachment, Batch, Caller, Command, Envelope, Event, Expect, Float, KeySelector, LockAcquire,
    LockGuard, LogIndex, Machine, MemoryTables, Outcome, QueuePull, Rejection, Revision, Sequence,
    SessionId, Stamp, TicketId, Txn as _, codec, invariants, keys, query,
};
use cache::Cache;
use locks::Locks;
use proptest::prelude::*;
use queues::Queues;
use reached::{REACHED, Told, reached};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

mod cache;
mod locks;

mod queues;
mod reached;
mod transaction;

#[derive(Clone)]
struct Item {
    value: Vec<u8>,
    version: u64,
    created: Revision,
    modified: Revision,
    deadline_ms: Option<u64>,
    owner: Option<SessionId>,
}

impl Item {
    fn shown(self, now_ms: u64) -> KvItem {
        KvItem {
            value: self.value.into(),
            version: self.version,
            create_revision: self.created,
            mod_revision: self.modified,
            remaining_ttl_ms: self.deadline_ms.map(|at_ms| at_ms - now_ms),
        }
    }
}

struct Session {
    ttl_ms: u64,
    remaining_ms: Option<u64>,
    floor: u64,
    answers: BTreeMap<u64, (Request, Outcome)>,
}

/// What is asked, without who asks it.
#[derive(Clone, PartialEq)]
struct Request {
    namespace: String,
    guard: Option<LockGuard>,
    command: Command,
}

impl Request {
    fn of(envelope: &Envelope) -> Self {
        let Envelope { namespace, guard, command, .. } = envelope.clone();
        // A repetition may come from somewhere else.
        let command = match command {
            Command::LockAcquire(acquire) => {
                Command::LockAcquire(LockAcquire { attachment: Attachment::default(), ..acquire })
            }
            Command::QueuePull(pull) => {
                Command::QueuePull(QueuePull { attachment: Attachment::default(), ..pull })
            }
            other => other,
        };
        Self { namespace, guard, command }
    }
}

struct Remembered {
    until_ms: u64,
    request: Request,
    outcome: Outcome,
}

#[derive(Default)]
struct Model {
    now_ms: u64,
    wall_ms: u64,
    items: BTreeMap<(String, Vec<u8>), Item>,
    sessions: BTreeMap<SessionId, Session>,
    remembered: BTreeMap<(String, Vec<u8>), Remembered>,
    addresses: Option<(String, String)>,
    locks: Locks,
    queues: Queues,
    cache: Cache,
    events: Vec<Event>,
}

impl Model {
    fn apply(&mut self, index: u64, batch: &Batch) -> Vec<Outcome> {
        self.now_ms = self.now_ms.max(batch.stamp.lease_ms);
        self.wall_ms = self.wall_ms.max(batch.stamp.wall_ms);
        let now_ms = self.now_ms;
        self.items.retain(|_, item| item.deadline_ms.is_none_or(|at_ms| at_ms > now_ms));
        self.remembered.retain(|_, remembered| remembered.until_ms > now_ms);
        // What time brings about has the revision of the entry's first command.
        self.locks.pass_time(now_ms, Revision(index * 4096));
        self.queues.pass_time(self.clocks());
        self.cache.pass_time(now_ms);
        let revisions = (0..).map(|position| Revision(index * 4096 + position));
        let asked = revisions.zip(&batch.commands);
        asked.map(|(at, envelope)| self.ask(at, envelope)).collect()
    }

    fn clocks(&self) -> Stamp {
        Stamp { lease_ms: self.now_ms, wall_ms: self.wall_ms }
    }

    fn ask(&mut self, at: Revision, envelope: &Envelope) -> Outcome {
        let asked = Request::of(envelope);
        match &envelope.caller {
            Caller::Anonymous => self.execute(at, envelope),
            Caller::Session { id, sequence, floor } => {
                let Some(session) = self.sessions.get_mut(id) else {
                    return Outcome::Rejected(Rejection::SessionExpired(*id));
                };
                session.floor = session.floor.max(floor.0);
                let floor = session.floor;
                session.answers.retain(|answered, _| *answered >= floor);
                self.locks.floor_rose((self.now_ms, at), *id, Sequence(floor));
                let (sequence, floor) = (*sequence, Sequence(floor));
                if sequence < floor {
                    return Outcome::Rejected(Rejection::SequenceTooOld { sequence, floor });
                }
                if sequence.0 >= floor.0.saturating_add(1_024) && sequence != floor {
                    let window = 1_024;
                    return Outcome::Rejected(Rejection::SequenceTooFar {
                        sequence,
                        floor,
                        window,
                    });
                }
                if let Some((request, outcome)) = session.answers.get(&sequence.0) {
                    let cancelled = *outcome == Outcome::Rejected(Rejection::Cancelled);
                    if *request == asked || cancelled {
                        return outcome.clone();
                    }
                    let what = "sequence".to_owned();
                    return Outcome::Rejected(Rejection::RequestMismatch(what));
                }
                let outcome = self.execute(at, envelope);
                if let Some(session) = self.sessions.get_mut(id) {
                    session.answers.insert(sequence.0, (asked, outcome.clone()));
                }
                outcome
            }
            Caller::Idempotency { key } => {
                if let Err(rejection) = namespace_fits(&asked.namespace) {
                    return Outcome::Rejected(rejection);
                }
                if key.is_empty() {
                    let why = "the idempotency key is empty; send 1 to 64 bytes, or none at all";
                    return Outcome::Rejected(Rejection::Invalid(why.to_owned()));
                }
                let name = (asked.namespace.clone(), key.to_vec());
                if let Some(remembered) = self.remembered.get(&name) {
                    if remembered.request == asked {
                        return remembered.outcome.clone();
                    }
                    let what = "idempotency key".to_owned();
                    return Outcome::Rejected(Rejection::RequestMismatch(what));
                }
                let outcome = self.execute(at, envelope);
                let until_ms = self.now_ms + 600_000;
                let remembered = Remembered { until_ms, request: asked, outcome: outcome.clone() };
                self.remembered.insert(name, remembered);
                outcome
            }
        }
    }

    fn execute(&mut self, at: Revision, envelope: &Envelope) -> Outcome {
        let Envelope { namespace, caller, guard, command } = envelope;
        let when = (self.now_ms, at);
        let guarded = namespace_fits(namespace).and_then(|()| match guard {
            Some(guard) => self.locks.guard(namespace, guard),
            None => Ok(()),
        });
        let outcome = guarded.and_then(|()| match command {
            Command::Tick => Ok(Outcome::Done),
            Command::KvSet(set) => {
                key_fits(&set.key)?;
                let deadline_ms = match set.ttl_ms {
                    None => None,
                    Some(0) => {
                        return Err(Rejection::Invalid(
                            "the ttl is 0 ms; give 1 ms or more, or none to keep the key until \
                             it is deleted"
                                .to_owned(),
                        ));
                    }
                    Some(ttl_ms) if ttl_ms > 315_360_000_000 => {
                        return Err(too_much("ttl in milliseconds", ttl_ms, 315_360_000_000));
                    }
                    Some(ttl_ms) => Some(self.now_ms + ttl_ms),
                };
                if let Some(owner) = set.owner
                    && !self.sessions.contains_key(&owner)
                {
                    return Err(Rejection::SessionExpired(owner));
                }
                let name = (namespace.to_owned(), set.key.to_vec());
                self.expect(&name, set.expect)?;
                let version = self.write(name.clone(), set.value.to_vec(), deadline_ms, at);
                self.items.get_mut(&name).unwrap().owner = set.owner;
                Ok(Outcome::KvSet { version, revision: at })
            }
            Command::KvDelete(delete) => {
                key_fits(&delete.key)?;
                if delete.expect == Expect::Absent {
                    return Err(Rejection::Invalid(
                        "a delete can't expect the key to be absent; expect a version, or nothing"
                            .to_owned(),
                    ));
                }
                let name = (namespace.to_owned(), delete.key.to_vec());
                self.expect(&name, delete.expect)?;
                let deleted = self.items.remove(&name).is_some();
                Ok(Outcome::KvDelete { deleted, revision: at })
            }
            Command::KvIncrement(increment) => {
                key_fits(&increment.key)?;
                let name = (namespace.to_owned(), increment.key.to_vec());
                let (before, deadline_ms) = match self.items.get(&name) {
                    None => (0, None),
                    Some(item) => {
                        let text = String::from_utf8(item.value.clone()).unwrap();
                        let number: i64 = text.parse().map_err(|_| Rejection::NotANumber)?;
                        (number, item.deadline_ms)
                    }
                };
                let sum = i128::from(before) + i128::from(increment.by);
                let value = i64::try_from(sum).map_err(|_| Rejection::Overflow)?;
                let version = self.write(name, value.to_string().into_bytes(), deadline_ms, at);
                Ok(Outcome::KvIncrement { value, version, revision: at })
            }
            Command::SessionOpen(open) => {
                let ttl_ms = open.ttl_ms;
                if ttl_ms < 1_000 {
                    return Err(Rejection::Invalid(format!(
                        "the session's ttl is {ttl_ms} ms, the least is 1000 ms"
                    )));
                }
                if ttl_ms > 3_600_000 {
                    return Err(too_much("session ttl in milliseconds", ttl_ms, 3_600_000));
                }
                let id = SessionId(at.0);
                let (remaining_ms, answers) = (None, BTreeMap::new());
                let session = Session { ttl_ms, remaining_ms, floor: 1, answers };
                self.sessions.insert(id, session);
                self.events.push(Event::SessionOpened { id, ttl_ms });
                Ok(Outcome::SessionOpen { id, ttl_ms })
            }
            Command::SessionClose(close) => {
                let closed = self.end(at, close.id);
                self.queues.dispatch(self.clocks());
                Ok(Outcome::SessionClose { closed })
            }
            Command::SessionExpire(expire) => {
                for id in &expire.ids {
                    self.end(at, *id);
                }
                self.queues.dispatch(self.clocks());
                Ok(Outcome::SessionExpire { settled: expire.ids.len() as u64 })
            }
            Command::KvDeletePattern(delete) => self.delete_pattern(at, namespace, delete),
            Command::KvIncrementFloat(increment) => {
                key_fits(&increment.key)?;
                let by = increment.by.get();
                if !by.is_finite() {
                    let why = format!("{by} can't be added to a number; give a finite one");
                    return Err(Rejection::Invalid(why));
                }
                let name = (namespace.to_owned(), increment.key.to_vec());
                let (text, deadline_ms) = match self.items.get(&name) {
                    None => ("0".to_owned(), None),
                    Some(item) => {
                        (String::from_utf8(item.value.clone()).unwrap(), item.deadline_ms)
                    }
                };
                let sum = sum(&text, &by.to_string())?;
                let version = self.write(name, sum.clone().into_bytes(), deadline_ms, at);
                let value = Float::new(sum.parse().unwrap());
                Ok(Outcome::KvIncrementFloat { value, version, revision: at })
            }
            Command::Transaction(transaction) => {
                Ok(self.transaction(at, namespace, caller, transaction))
            }
            Command::MemberPublish(publish) => {
                if publish.client_addr.is_empty() {
                    return Err(Rejection::Invalid(
                        "the client address is empty; publish the host and port that clients \
                         reach the node at"
                            .to_owned(),
                    ));
                }
                self.addresses = Some((publish.client_addr.clone(), publish.http_addr.clone()));
                Ok(Outcome::Done)
            }
            Command::LockAcquire(acquire) => {
                let Caller::Session { id, sequence, .. } = caller else {
                    let why = "a lock is held by a session: open one, and ask in its name";
                    return Err(Rejection::Invalid(why.to_owned()));
                };
                let (request, place) = (&acquire.request, acquire.attachment);
                self.locks.acquire(when, namespace, (*id, *sequence), request, place)
            }
            Command::LockRelease(release) => {
                self.locks.release(when, namespace, &release.name, Some(release.token))
            }
            Command::LockForceRelease(release) => {
                self.locks.release(when, namespace, &release.name, None)
            }
            Command::LockCancel(cancel) => self.cancel(at, caller, cancel),
            Command::LockAttach(attach) => {
                self.locks.attach(when, attach.ticket, attach.attachment);
                Ok(Outcome::Done)
            }
            Command::LockDetach(detach) => {
                for (id, from) in &detach.calls {
                    self.locks.detach(when, *id, *from);
                }
                Ok(Outcome::Done)
            }
            Command::LockDetachNode(detach) => {
                self.locks.detach_node(when, detach.node);
                Ok(Outcome::LockDetachNode { more: false })
            }
            Command::LockExpire(expire) => {
                self.locks.expire(when, &expire.locks);
                Ok(Outcome::Done)
            }
            Command::LeaseCheckpoint(checkpoint) => {
                for (id, remaining_ms) in &checkpoint.sessions {
                    if let Some(session) = self.sessions.get_mut(id) {
                        session.remaining_ms = *remaining_ms;
                    }
                }
                Ok(Outcome::Done)
            }
            cache @ (Command::CacheSet(_)
            | Command::CacheDelete(_)
            | Command::CacheDeletePattern(_)
            | Command::CacheInvalidateTags(_)
            | Command::CacheTouch(_)
            | Command::CacheBuild(_)
            | Command::CacheFill(_)
            | Command::CacheBuildEnd(_)
            | Command::CacheEvict(_)
            | Command::CacheResize(_)) => self.cache.execute(when, namespace, cache),
            queues => {
                let sessions = self.sessions.keys().copied().collect();
                let when = (self.clocks(), at);
                self.queues.execute(when, namespace, &sessions, queues)
            }
        });
        outcome.unwrap_or_else(Outcome::Rejected)
    }

    fn expect(&self, name: &(String, Vec<u8>), expect: Expect) -> Result<(), Rejection> {
        let version = self.items.get(name).map(|item| item.version);
        match (expect, version) {
            (Expect::Any, _) | (Expect::Absent, None) => Ok(()),
            (Expect::Version(wanted), Some(found)) if wanted == found => Ok(()),
            _ => Err(Rejection::ConditionFailed { version }),
        }
    }

    fn write(
        &mut self,
        name: (String, Vec<u8>),
        value: Vec<u8>,
        deadline_ms: Option<u64>,
        at: Revision,
    ) -> u64 {
        let (version, created, owner) = match self.items.get(&name) {
            Some(item) => (item.version + 1, item.created, item.owner),
            None => (1, at, None),
        };
        let item = Item { value, version, created, modified: at, deadline_ms, owner };
        self.items.insert(name, item);
        version
    }

    fn end(&mut self, at: Revision, id: SessionId) -> bool {
        let ended = self.sessions.remove(&id).is_some();
        if ended {
            self.events.push(Event::SessionEnded { id });
            self.items.retain(|_, item| item.owner != Some(id));
            self.locks.session_ended((self.now_ms, at), id);
            self.queues.session_ended(self.clocks(), id);
        }
        ended
    }
}

fn too_much(what: &str, actual: u64, limit: u64) -> Rejection {
    Rejection::LimitExceeded { what: what.to_owned(), actual, limit }
}

fn namespace_fits(namespace: &str) -> Result<(), Rejection> {
    match namespace.len() as u64 {
        0..=255 => Ok(()),
        bytes => Err(too_much("namespace bytes", bytes, 255)),
    }
}

fn key_fits(key: &[u8]) -> Result<(), Rejection> {
    if key.is_empty() {
        let why = "the key is empty; name one of 1 byte or more";
        return Err(Rejection::Invalid(why.to_owned()));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_types,
    clippy::float_arithmetic,
    reason = "a model of the one operation that adds floats has to add floats"
)]
fn sum(text: &str, by: &str) -> Result<String, Rejection> {
    let number: f64 = text.parse().map_err(|_| Rejection::NotANumber)?;
    let sum = number + by.parse::<f64>().unwrap();
    match sum {
        sum if !sum.is_finite() => Err(Rejection::Overflow),
        0.0 => Ok("0".to_owned()),
        sum => Ok(sum.to_string()),
    }
}

/// The few patterns that the requests have, in plain words.
fn selects(selector: &KeySelector, key: &[u8]) -> bool {
    match selector {
        KeySelector::Prefix(prefix) => key.starts_with(prefix),
        KeySelector::Key(only) => key == only,
        KeySelector::Pattern(pattern) => match &pattern[..] {
            b"*" => true,
            b"?" => key.len() == 1,
            b"a*" => key.starts_with(b"a"),
            b"*b" => key.ends_with(b"b"),
            b"[^a]" => key.len() == 1 && key != b"a",
            b"a" => key == b"a",
            other => panic!("the model does not know the pattern {other:?}"),
        },
    }
}

/// Everything a reader can see of the tables equals what the model holds.
fn compare(
    tables: &MemoryTables,
    model: &Model,
    tickets: &[TicketId],
) -> Result<(), TestCaseError> {
    model.queues.compare(tables, model.clocks())?;
    model.cache.compare(tables, model.now_ms)?;
    for id in tickets {
        let standing = query::ticket(tables, GROUP, *id).unwrap();
        prop_assert_eq!(standing, model.locks.standing(*id), "ticket {}", id);
    }
    for namespace in ["", "a"] {
        for name in ["l", "m"] {
            let found = query::lock(tables, GROUP, namespace, name).unwrap();
            let expected = model.locks.shown(model.now_ms, namespace, name);
            prop_assert_eq!(found, expected, "lock {:?} of {:?}", name, namespace);
        }
        for key in [&b"a"[..], b"b", b"ab"] {
            let found = query::kv_get(tables, GROUP, namespace, key).unwrap();
            let expected = model.items.get(&(namespace.to_owned(), key.to_vec())).cloned();
            let expected = expected.map(|item| item.shown(model.now_ms));
            prop_assert_eq!(found, expected, "key {:?} of {:?}", key, namespace);
        }
        let all = KeySelector::Prefix(Default::default()).select().unwrap();
        let (items_max, bytes_max) = (usize::MAX, usize::MAX);
        let list = KvList { after: None, show: KvShow::Items, items_max, bytes_max };
        let page = query::kv_list(tables, GROUP, namespace, &all, &list).unwrap();
        let items = model.items.iter().filter(|((of, _), _)| of == namespace);
        let items: Vec<_> = items
            .map(|((_, key), item)| (key.clone().into(), item.clone().shown(model.now_ms)))
            .collect();
        let count = items.len() as u64;
        prop_assert_eq!(page, KvPage { items, count, cursor: None }, "of {:?}", namespace);
    }
    let sessions = model.sessions.iter().map(|(id, session)| SessionItem {
        id: *id,
        ttl_ms: session.ttl_ms,
        remaining_ms: session.remaining_ms,
    });
    let sessions: Vec<_> = sessions.collect();
    prop_assert_eq!(query::sessions(tables, GROUP).unwrap(), sessions);
    let addresses = query::member_addresses(tables, GROUP, crate::NodeId(1)).unwrap();
    prop_assert_eq!(&addresses, &model.addresses);
    prop_assert_eq!(query::clocks(tables, GROUP).unwrap().lease_ms, model.now_ms);
    let deadlines = model.items.values().filter_map(|item| item.deadline_ms);
    let deadlines = deadlines.chain(model.remembered.values().map(|r| r.until_ms));
    let deadlines = deadlines.chain(model.locks.deadlines()).chain(model.queues.deadlines());
    let deadlines = deadlines.chain(model.cache.deadlines());
    prop_assert_eq!(query::next_deadline_ms(tables, GROUP, 0..=u64::MAX).unwrap(), deadlines.min());
    Ok(())
}

#[test]
fn machine_and_model_agree() {
    let all_reached = RefCell::new(BTreeSet::new());
    property("machine_and_model_agree", 4_000, &requests::entries(), |entries| {
        let mut author = requests::Author::default();
        let mut model = Model::default();
        let mut told = Told::default();
        let mut tables = MemoryTables::default();
        let small = CacheMetaRow { bytes_max: cache::BYTES_MAX, ..CacheMetaRow::default() };
        tables.put(&keys::cache_meta(GROUP), &codec::encode(&small));
        let mut machine = Machine::open(GROUP, &tables).unwrap();
        for (index, entry) in (1..).zip(&entries) {
            let batch = author.batch(entry);
            let applied = machine.apply(&mut tables, LogIndex(index), &batch).unwrap();
            prop_assert_eq!(&applied.outcomes, &model.apply(index, &batch), "{:?}", batch);
            let of_sessions = applied.events.iter().filter(|event| {
                matches!(event, Event::SessionOpened { .. } | Event::SessionEnded { .. })
            });
            let of_sessions: Vec<Event> = of_sessions.cloned().collect();
            prop_assert_eq!(of_sessions, std::mem::take(&mut model.events));
            let of_cache = applied.events.iter().filter(|event| {
                matches!(
                    event,
                    Event::CacheChanged { .. }
                        | Event::CacheTagsInvalidated { .. }
                        | Event::CacheBuildEnded { .. }
                        | Event::CachePatternDeleted { .. }
                        | Event::Published { .. }
                )
            });
            let of_cache: Vec<Event> = of_cache.cloned().collect();
            prop_assert_eq!(of_cache, std::mem::take(&mut model.cache.events));
            told.hear(&applied.events, &tables)?;
            author.learn(&applied);
            all_reached.borrow_mut().extend(reached(&tables, &applied));
            for Envelope { namespace, command, .. } in &batch.commands {
                // What only reads is answered by a view as by an entry.
                if let Command::Transaction(asked) = command
                    && asked.only_reads()
                    && namespace_fits(namespace).is_ok()
                {
                    let read = query::transaction(&tables, GROUP, namespace, asked).unwrap();
                    let at = query::revision(&tables, GROUP).unwrap();
                    let expected = model.transaction(at, namespace, &Caller::Anonymous, asked);
                    prop_assert_eq!(read, expected, "{:?}", asked);
                }
            }
            machine.check(&tables).unwrap();
            invariants::check(&tables, GROUP).unwrap();
            compare(&tables, &model, author.tickets())?;
        }
        Ok(())
    });
    let all_reached = all_reached.into_inner();
    let missed = REACHED.iter().filter(|what| !all_reached.contains(*what));
    assert_eq!(missed.collect::<Vec<_>>(), Vec::<&&str>::new(), "never came about");
}
