//! What holds of the tables between any two entries, as relations and as code.
//!
//! 1. Every key is one that [`crate`]'s tables have, and every row decodes.
//! 2. The counters in META equal the numbers of rows in SESSION and IDEMPOTENCY.
//! 3. The rows of DEADLINE and WALL_DEADLINE are exactly the deadlines of what has one; those of
//!    jobs of old eras may be missing.
//! 4. `1 <= version` and `create_revision <= mod_revision <= revision` for every key, and
//!    `id <= revision` for every session.
//! 5. Every row of SESSION_ANSWER belongs to an open session, is not empty, and has a sequence at
//!    or above the floor; the answers in a session's own row all are. No answer is at or above
//!    `floor + SESSION_WINDOW`, and no sequence at or above the floor was answered twice.
//! 6. The bytes in META's row of the history are those of the rows in HISTORY. These lie above
//!    `trimmed` and not above `revision`, and the events of a revision count from 0 without a gap,
//!    but for the oldest one's, which follow `trimmed` when that is of the same revision.
//! 7. The newest event of each key says what KV has: this version, written at this revision, or
//!    nothing. Every key that changed after `trimmed` has an event.
//! 8. The rows of SESSION_KEY are exactly the keys in KV that have an owner, and it is open.
//! 9. Every lock is held or waited for. Its holders' sessions are open, their tokens grow, were given
//!    before, and are no other holder's; its holders may share it. As many tickets wait for it as
//!    it counts.
//! 10. Every ticket belongs to an open session and to a sequence at or above its floor. No ticket
//!     that waits in a queue could be granted.
//!
//! 11. Every queue has counts, and they say how many jobs of its era are in which state; META says
//!     how many that are in all. Jobs of other eras belong to old eras, which have a row, and one
//!     deadline at any time.
//! 12. Every job has what is in it, and a note exactly if it says so. Nothing else has.
//! 13. Every consumer belongs to a queue, and to an open session if to any.
//! 14. A queue that has something to deliver and may has no consumer with room, unless it has a
//!     deadline to be looked at again.
//! 15. The counters in META's row of the cache equal the rows of CACHE, CACHE_TAG and CACHE_BUILD,
//!     and what entries count for. Every entry, build and invalidation has its place in the order
//!     of the cache, and no two builds the same.
//! 16. The rows of CACHE_TAGGED are exactly the tags of the rows of CACHE; each tag has a row that
//!     counts them. Tags without entries were invalidated.
//! 17. An entry that is older than an invalidation of one of its tags lies ahead of that tag's sweep.
//! 18. A feature level that has a row is above the first.
//! 19. The counters in META's row of the access tables equal the rows of ACCESS_TOKEN, ACCESS_ROLE and
//!     ACCESS_SUBJECT, and are within their bounds. Every token has a hash of 32 bytes.
//! 20. Every role that a token or subject has is in ACCESS_ROLE, or is built in and is not. The rows of
//!     ACCESS_HOLDER are exactly the roles that somebody has.
//!
//! What the machine keeps in memory equals what the tables say: [`crate::Machine::check`].

use crate::keys::{self, Clock, DeadlineKind, Key};
use crate::limits::SESSION_WINDOW;
use crate::rows::{
    self, Answer, AnswerRow, HistoryChange, HistoryMetaRow, HistoryRow, IdempotencyRow,
    InvitationRow, KvRow, LockRow, MemberAddrRow, MemberRow, MetaRow, SessionRow, TicketRow,
    TicketState,
};
use crate::{
    Fatal, FeatureLevel, FencingToken, GroupId, HistoryPosition, Read, Revision, Sequence,
    SessionId, Share, history,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

mod access;
mod cache;
mod queues;

/// Checks all relations of `group`. Reads every row, and keeps every key and deadline in memory
/// meanwhile: for tests and offline tools.
///
/// # Errors
/// [`Fatal::Invariant`] that names the relation and the row, or the tables' own failure.
pub fn check(tables: &dyn Read, group: GroupId) -> Result<(), Fatal> {
    let mut seen = Seen {
        meta: rows::meta(tables, group)?,
        history: rows::history_meta(tables, group)?,
        ..Seen::default()
    };
    let (from, to) = keys::group_range(group);
    let mut result = Ok(());
    tables.scan(&from, &to, &mut |key, value| {
        result = seen.row(group, key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result?;
    seen.whole()
}

#[derive(Default)]
struct Seen {
    meta: MetaRow,
    history: HistoryMetaRow,
    history_bytes: u64,
    /// The row of HISTORY that came last.
    newest_event: Option<HistoryPosition>,
    /// By id, what the newest event says of each key: its revision, and the version it set.
    events: BTreeMap<Vec<u8>, (Revision, Option<u64>)>,
    /// By id, what KV says of each key: the revision that changed it last, and its version.
    keys: BTreeMap<Vec<u8>, (Revision, u64)>,
    /// Keys that the rows of DEADLINE should have.
    deadlines_due: BTreeSet<Vec<u8>>,
    /// Keys that they have.
    deadlines: BTreeSet<Vec<u8>>,
    /// Their floors.
    sessions: BTreeMap<SessionId, Sequence>,
    answered: BTreeSet<(SessionId, Sequence)>,
    idempotency_keys: u64,
    /// Rows that SESSION_KEY should have, and has.
    session_keys_due: BTreeSet<Vec<u8>>,
    session_keys: BTreeSet<Vec<u8>>,
    tokens: BTreeSet<FencingToken>,
    /// By the key of the lock.
    locks: BTreeMap<Vec<u8>, LockRow>,
    waiting: BTreeMap<Vec<u8>, Vec<TicketRow>>,
    queues: queues::Queues,
    cache: cache::Cache,
    access: access::Access,
}

impl Seen {
    fn row(&mut self, group: GroupId, key: &[u8], value: &[u8]) -> Result<(), Fatal> {
        let Some(parsed) = keys::parse(group, key) else {
            return broken(format!("no table has the key {key:02x?}"));
        };
        match parsed {
            Key::Meta => {}
            Key::Digest => {
                rows::digest_row(value)?;
            }
            Key::Kv { key: name, .. } => {
                let row = KvRow::decode(value)?;
                let ordered = row.create_revision <= row.mod_revision
                    && row.mod_revision <= self.meta.revision;
                if row.version == 0 || !ordered || name.is_empty() {
                    return broken(format!("key {name:02x?} has the row {row:?}"));
                }
                self.keys.insert(keys::id(key).to_vec(), (row.mod_revision, row.version));
                if let Some(at_ms) = row.deadline_ms {
                    self.deadlines_due.insert(keys::deadline(
                        group,
                        Clock::Lease,
                        at_ms,
                        DeadlineKind::Kv,
                        key,
                    ));
                }
                if let Some(owner) = row.owner {
                    self.session_keys_due.insert(keys::session_key(group, owner, key));
                }
            }
            Key::Deadline { kind: DeadlineKind::OldEra, id, .. } => {
                self.queues.old_era_goes_on(group, id)?;
            }
            Key::Deadline { .. } => {
                self.deadlines.insert(key.to_vec());
                if !value.is_empty() {
                    return broken(format!("the deadline {key:02x?} has a value"));
                }
            }
            Key::Session(id) => {
                let row: SessionRow = rows::decode("session row", value)?;
                if id.0 > self.meta.revision.0 {
                    return broken(format!("session {id} was opened in the future"));
                }
                if row.recent.iter().any(|answer| answer.sequence < row.floor) {
                    return broken(format!("session {id} keeps an answer below its floor"));
                }
                self.sessions.insert(id, row.floor);
                self.answers(id, row.floor, &row.recent)?;
            }
            // SESSION lies before SESSION_ANSWER, so the sessions are known by now.
            Key::SessionAnswer(id, _) => {
                let row: AnswerRow = rows::decode("session answer row", value)?;
                let Some(&floor) = self.sessions.get(&id) else {
                    return broken(format!("session {id} is not open and has answers"));
                };
                if row.answers.iter().all(|answer| answer.sequence < floor) {
                    return broken(format!(
                        "session {id} keeps an answer row that its floor has passed"
                    ));
                }
                self.answers(id, floor, &row.answers)?;
            }
            Key::Idempotency { .. } => {
                let row: IdempotencyRow = rows::decode("idempotency row", value)?;
                self.idempotency_keys += 1;
                let kind = DeadlineKind::Idempotency;
                self.deadlines_due.insert(keys::deadline(
                    group,
                    Clock::Lease,
                    row.deadline_ms,
                    kind,
                    key,
                ));
            }
            Key::MemberAddr(_) => {
                let _: MemberAddrRow = rows::decode("member address row", value)?;
            }
            Key::Member(_) => {
                let _: MemberRow = rows::decode("member row", value)?;
            }
            Key::Invitation(_) => {
                let row: InvitationRow = rows::decode("invitation row", value)?;
                let (at_ms, kind) = (row.deadline_ms, DeadlineKind::Invitation);
                let deadline = keys::deadline(group, Clock::Lease, at_ms, kind, key);
                self.deadlines_due.insert(deadline);
            }
            Key::HistoryMeta => {}
            Key::FeatureLevel => {
                let level: FeatureLevel = rows::decode("feature level row", value)?;
                // It is written when it is raised.
                if level <= FeatureLevel::FIRST {
                    return broken(format!("the cluster was raised to feature level {level}"));
                }
            }
            Key::History(position) => {
                self.history_bytes += history::counted_bytes(key, value);
                self.event(position, HistoryRow::decode(value)?)?;
            }
            Key::Owned(id, _) => {
                if !self.sessions.contains_key(&id) {
                    return broken(format!("session {id} is not open and owns {key:02x?}"));
                }
                self.session_keys.insert(key.to_vec());
            }
            Key::Lock { name, .. } => {
                let row: LockRow = rows::decode("lock row", value)?;
                self.lock(name, &row)?;
                self.locks.insert(key.to_vec(), row);
            }
            Key::Ticket(id) => {
                let row: TicketRow = rows::decode("ticket row", value)?;
                let floor = self.sessions.get(&row.session);
                if floor.is_none_or(|floor| row.sequence < *floor) || id.0 > self.meta.revision.0 {
                    return broken(format!("ticket {id} has the row {row:?}"));
                }
                if row.state == TicketState::Waiting {
                    let (at_ms, kind) = (row.deadline_ms, DeadlineKind::Ticket);
                    self.deadlines_due.insert(keys::deadline(
                        group,
                        Clock::Lease,
                        at_ms,
                        kind,
                        key,
                    ));
                    let lock = keys::lock(group, &row.namespace, &row.name);
                    self.waiting.entry(lock).or_default().push(row);
                }
            }
            Key::QueuesMeta
            | Key::Queue { .. }
            | Key::QueueCounts(_)
            | Key::Job(..)
            | Key::JobBody(_)
            | Key::JobNote(_)
            | Key::Consumer(_)
            | Key::Dedupe(..)
            | Key::OldEra(_)
            | Key::Schedule { .. } => {
                self.queues.row(group, key, parsed, value, &mut self.deadlines_due)?;
            }
            Key::CacheMeta
            | Key::Cache { .. }
            | Key::CacheTag { .. }
            | Key::CacheTagged { .. }
            | Key::CacheBuild { .. } => {
                let due = &mut self.deadlines_due;
                self.cache.row(group, &self.meta, key, parsed, value, due)?;
            }
            Key::AccessMeta
            | Key::AccessToken(_)
            | Key::AccessRole(_)
            | Key::AccessSubject(_)
            | Key::AccessHolder { .. } => {
                self.access.row(group, key, parsed, value, &mut self.deadlines_due)?;
            }
        }
        Ok(())
    }

    fn event(&mut self, position: HistoryPosition, row: HistoryRow<'_>) -> Result<(), Fatal> {
        let HistoryPosition { revision, event } = position;
        let before = self.newest_event.unwrap_or(self.history.trimmed);
        let follows = match event {
            0 => revision > before.revision,
            event => before == HistoryPosition { revision, event: event - 1 },
        };
        if !follows || revision > self.meta.revision {
            return broken(format!("the event {position:?} comes after {before:?}"));
        }
        self.newest_event = Some(position);
        if keys::parse_id(row.id).is_none() {
            return broken(format!("the event {position:?} has the id {:02x?}", row.id));
        }
        let version = match row.change {
            HistoryChange::Set { version, create_revision, .. } => {
                if version == 0 || create_revision > revision {
                    return broken(format!("the event {position:?} has the row {row:?}"));
                }
                Some(version)
            }
            HistoryChange::Delete(_) => None,
        };
        self.events.insert(row.id.to_vec(), (revision, version));
        Ok(())
    }

    fn lock(&mut self, name: &str, row: &LockRow) -> Result<(), Fatal> {
        if row.holders.is_empty() && row.waiters == 0 {
            return broken(format!("lock {name:?} has a row and nobody who wants it"));
        }
        if !row.holders.is_sorted_by_key(|holder| holder.token) {
            return broken(format!("lock {name:?} has tokens that do not grow: {row:?}"));
        }
        for holder in &row.holders {
            let shared = row.holders.len() == 1
                || holder.share != Share::Exclusive && holder.share == row.holders[0].share;
            let known = self.sessions.contains_key(&holder.session);
            let given = holder.token <= self.meta.fencing_token && self.tokens.insert(holder.token);
            if !shared || !known || !given {
                return broken(format!("lock {name:?} has the holder {holder:?} of {row:?}"));
            }
        }
        Ok(())
    }

    /// Tickets come in the order of their ids, so the first that is attached and in time is next.
    fn lock_queues(&self) -> Result<(), Fatal> {
        for (key, lock) in &self.locks {
            let waiting = self.waiting.get(key).map_or(&[][..], |tickets| &tickets[..]);
            if waiting.len() as u64 != lock.waiters {
                return broken(format!("{} tickets wait for the lock {lock:?}", waiting.len()));
            }
            let now_ms = self.meta.stamp.lease_ms;
            let mut queue = waiting.iter().filter(|ticket| {
                ticket.attachment.is_some() && rows::is_live(Some(ticket.deadline_ms), now_ms)
            });
            let Some(next) = queue.next() else { continue };
            let same = lock.holders.iter().all(|holder| holder.share == next.share);
            let room = match next.share {
                Share::Exclusive => lock.holders.is_empty(),
                Share::Shared => same && lock.holders.len() < crate::limits::LOCK_HOLDERS_MAX,
                Share::Permit { of } => same && lock.holders.len() < of as usize,
            };
            if room {
                return broken(format!("{next:?} waits for {lock:?}, which it could have"));
            }
        }
        match self.waiting.keys().find(|key| !self.locks.contains_key(*key)) {
            Some(key) => {
                broken(format!("a ticket waits for the lock {key:02x?}, which is not there"))
            }
            None => Ok(()),
        }
    }

    fn answers(&mut self, id: SessionId, floor: Sequence, answers: &[Answer]) -> Result<(), Fatal> {
        for &Answer { sequence, .. } in answers {
            if sequence < floor {
                continue;
            }
            if sequence.0 - floor.0 >= SESSION_WINDOW {
                return broken(format!("session {id} answered {sequence}, beyond its window"));
            }
            if !self.answered.insert((id, sequence)) {
                return broken(format!("session {id} answered {sequence} twice"));
            }
        }
        Ok(())
    }

    fn whole(&self) -> Result<(), Fatal> {
        let sessions = self.sessions.len() as u64;
        if self.meta.sessions != sessions {
            return broken(format!("{} sessions counted, {sessions} open", self.meta.sessions));
        }
        if self.meta.idempotency_keys != self.idempotency_keys {
            return broken(format!(
                "{} idempotency keys counted, {} there",
                self.meta.idempotency_keys, self.idempotency_keys
            ));
        }
        self.whole_history()?;
        let mut leaked = self.deadlines.difference(&self.deadlines_due);
        if let Some(leaked) = leaked.find(|key| !self.queues.may_have(key)) {
            return broken(format!("the deadline {leaked:02x?} belongs to nothing"));
        }
        if let Some(missing) = self.deadlines_due.difference(&self.deadlines).next() {
            return broken(format!("the deadline {missing:02x?} is missing"));
        }
        if self.session_keys != self.session_keys_due {
            return broken(format!(
                "sessions own {:02x?} by SESSION_KEY, and {:02x?} by KV",
                self.session_keys, self.session_keys_due
            ));
        }
        self.lock_queues()?;
        self.cache.whole()?;
        self.access.whole()?;
        self.queues.whole(&self.meta, self.sessions.keys())
    }

    fn whole_history(&self) -> Result<(), Fatal> {
        if self.history.bytes != self.history_bytes {
            return broken(format!(
                "{} bytes of history counted, {} there",
                self.history.bytes, self.history_bytes
            ));
        }
        for (id, (revision, version)) in &self.events {
            let expected = version.map(|version| (*revision, version));
            let found = self.keys.get(id).copied();
            if found != expected {
                return broken(format!(
                    "the newest event of {id:02x?} says {expected:?}, its row {found:?}"
                ));
            }
        }
        let trimmed = self.history.trimmed.revision;
        for (id, (revision, _)) in &self.keys {
            if *revision > trimmed && !self.events.contains_key(id) {
                return broken(format!("the change of {id:02x?} at {revision} has no event"));
            }
        }
        Ok(())
    }
}

fn broken(what: String) -> Result<(), Fatal> {
    Err(Fatal::Invariant(what))
}
