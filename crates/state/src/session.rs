//! Sessions: who may ask to be remembered, what is remembered for whom, and what ends with whom.
//!
//! A session's window is `[floor, floor + SESSION_WINDOW)`. Every answer in it is kept: in the
//! session's own row while that stays small, which is one write for an answer, for the floor that
//! came with its request and for the answers that the floor passed; otherwise in one row per
//! entry, which goes when the floor has passed its highest sequence. So at most two windows' worth
//! of answers are stored for a session: those in the window, and those below it that share a row
//! with one in it.

use crate::limits::{SESSION_OWNED_MAX, SESSION_ROW_BYTES_MAX, SESSION_WINDOW};
use crate::queue::consumers;
use crate::rows::{self, Answer, AnswerRow, SessionRow};
use crate::scope::{Scope, at_most};
use crate::{
    Event, Fatal, GroupId, LogIndex, Read, Rejection, Sequence, SessionId, Txn, codec, keys, kv,
    lock,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

pub(crate) mod checkpoint;
pub(crate) mod close;
pub(crate) mod expire;
pub(crate) mod open;

/// All open sessions; derived from SESSION and SESSION_ANSWER.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    open: BTreeMap<SessionId, Session>,
}

/// One open session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Session {
    row: SessionRow,
    /// Sequences in the window that were answered.
    answered: BTreeMap<Sequence, Place>,
    /// The highest sequence in each answer row: the row goes when the floor passes it.
    rows: BTreeMap<LogIndex, Sequence>,
    /// How many keys end with it.
    keys: u64,
}

/// Where an answer is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the session's own row.
    Recent,
    /// In the row of this entry; with what is pending, while the entry is the one being applied.
    Entry(LogIndex),
}

/// What the entry being applied changed about a session.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    answers: Vec<Answer>,
    /// Beside its answers.
    row_changed: bool,
}

impl Sessions {
    pub(crate) fn derive(tables: &dyn Read, group: GroupId) -> Result<Self, Fatal> {
        let mut sessions = Self::default();
        each_row(tables, group, keys::table::SESSION, |key, value| {
            let Some(keys::Key::Session(id)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("SESSION holds the key {key:02x?}")));
            };
            let row: SessionRow = rows::decode("session row", value)?;
            sessions.open.insert(id, Session::new(row));
            Ok(())
        })?;
        each_row(tables, group, keys::table::SESSION_ANSWER, |key, value| {
            let Some(keys::Key::SessionAnswer(id, index)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("SESSION_ANSWER holds the key {key:02x?}")));
            };
            let Some(session) = sessions.open.get_mut(&id) else {
                return Err(Fatal::Invariant(format!(
                    "SESSION_ANSWER holds answers of session {id}, which is not open"
                )));
            };
            let row: AnswerRow = rows::decode("session answer row", value)?;
            session.note_row(&row.answers, index);
            Ok(())
        })?;
        each_row(tables, group, keys::table::SESSION_KEY, |key, _| {
            let Some(keys::Key::Owned(id, _)) = keys::parse(group, key) else {
                return Err(Fatal::Invariant(format!("SESSION_KEY holds the key {key:02x?}")));
            };
            let Some(session) = sessions.open.get_mut(&id) else {
                return Err(Fatal::Invariant(format!(
                    "SESSION_KEY holds a key of session {id}, which is not open"
                )));
            };
            session.keys += 1;
            Ok(())
        })?;
        Ok(sessions)
    }

    pub(crate) fn insert(&mut self, id: SessionId, row: SessionRow) {
        self.open.insert(id, Session::new(row));
    }
}

impl Session {
    fn new(row: SessionRow) -> Self {
        let answered = row.recent.iter().map(|answer| (answer.sequence, Place::Recent)).collect();
        Self { row, answered, rows: BTreeMap::new(), keys: 0 }
    }

    /// Takes in an answer row, of which some may lie below the floor.
    fn note_row(&mut self, answers: &[Answer], index: LogIndex) {
        for answer in answers {
            if answer.sequence >= self.row.floor {
                self.answered.insert(answer.sequence, Place::Entry(index));
            }
            let highest = self.rows.entry(index).or_insert(answer.sequence);
            *highest = answer.sequence.max(*highest);
        }
    }

    /// Lets the floor rise, and answers which rows have nothing above it any more.
    fn raise_floor(&mut self, floor: Sequence) -> Vec<LogIndex> {
        self.row.floor = floor;
        self.row.recent.retain(|answer| answer.sequence >= floor);
        let mut gone = Vec::new();
        while let Some(passed) = self.answered.first_entry() {
            if *passed.key() >= floor {
                break;
            }
            let (passed, place) = passed.remove_entry();
            // The row of the entry being applied is not among them: it is not written yet, and
            // will be without what is passed.
            if let Place::Entry(index) = place
                && self.rows.get(&index) == Some(&passed)
            {
                self.rows.remove(&index);
                gone.push(index);
            }
        }
        gone
    }

    /// Takes answers into the session's own row, if it stays small: the row then, or the answers
    /// back.
    fn take_in(&mut self, mut answers: Vec<Answer>) -> Result<Vec<u8>, Vec<Answer>> {
        // Nearly all encoded answers have more than four bytes: what hardly fits is not encoded to
        // find out.
        let before = self.row.recent.len();
        if before + answers.len() > SESSION_ROW_BYTES_MAX / 4 {
            return Err(answers);
        }
        self.row.recent.append(&mut answers);
        let bytes = codec::encode(&self.row);
        if bytes.len() > SESSION_ROW_BYTES_MAX {
            return Err(self.row.recent.split_off(before));
        }
        for answer in &self.row.recent[before..] {
            self.answered.insert(answer.sequence, Place::Recent);
        }
        Ok(bytes)
    }
}

/// Where a session's request stands.
pub(crate) enum Standing {
    /// There is no such session (any more).
    Gone,
    /// Below the floor.
    TooOld { floor: Sequence },
    /// Beyond the window.
    TooFar { floor: Sequence },
    /// In the window, not seen before.
    Fresh,
    /// In the window, answered before.
    Answered(Answer),
}

/// Lets the floor pass to where the request says it is, then finds where the request stands.
pub(crate) fn stand(
    scope: &mut Scope<'_>,
    id: SessionId,
    sequence: Sequence,
    floor: Sequence,
) -> Result<Standing, Fatal> {
    let Some(session) = scope.sessions.open.get_mut(&id) else { return Ok(Standing::Gone) };
    if floor > session.row.floor {
        scope.pending.entry(id).or_default().row_changed = true;
        for index in session.raise_floor(floor) {
            scope.txn.delete(&keys::session_answer(scope.group, id, index));
        }
        lock::floor_rose(scope, id, floor)?;
    }
    let Some(session) = scope.sessions.open.get(&id) else { return Ok(Standing::Gone) };
    let floor = session.row.floor;
    if sequence < floor {
        return Ok(Standing::TooOld { floor });
    }
    if sequence.0 - floor.0 >= SESSION_WINDOW {
        return Ok(Standing::TooFar { floor });
    }
    let Some(&place) = session.answered.get(&sequence) else { return Ok(Standing::Fresh) };
    let find = |answers: &[Answer]| -> Option<Answer> {
        answers.iter().find(|answer| answer.sequence == sequence).cloned()
    };
    let answer = match place {
        Place::Recent => find(&session.row.recent),
        Place::Entry(index) if index == scope.index => {
            scope.pending.get(&id).and_then(|pending| find(&pending.answers))
        }
        Place::Entry(index) => {
            match scope.txn.get(&keys::session_answer(scope.group, id, index))? {
                Some(bytes) => {
                    find(&rows::decode::<AnswerRow>("session answer row", &bytes)?.answers)
                }
                None => None,
            }
        }
    };
    answer.map(Standing::Answered).ok_or_else(|| {
        Fatal::Invariant(format!(
            "session {id} has an answer for sequence {sequence} in {place:?}, which it is not in"
        ))
    })
}

/// Remembers an answer, unless the command ended its own session.
pub(crate) fn remember(scope: &mut Scope<'_>, id: SessionId, answer: Answer) {
    let Some(session) = scope.sessions.open.get_mut(&id) else { return };
    session.answered.insert(answer.sequence, Place::Entry(scope.index));
    scope.pending.entry(id).or_default().answers.push(answer);
}

/// Refuses what would make a session own too much, or be owned by one that is not open.
pub(crate) fn may_own_one_more(scope: &Scope<'_>, id: SessionId) -> Result<(), Rejection> {
    may_own(scope, id, 1)
}

/// As [`may_own_one_more`], for several things at once.
pub(crate) fn may_own(scope: &Scope<'_>, id: SessionId, more: u64) -> Result<(), Rejection> {
    let Some(session) = scope.sessions.open.get(&id) else {
        return Err(Rejection::SessionExpired(id));
    };
    let owned = session.keys + scope.locks.owned_by(id) + consumers::owned_by(scope, id);
    at_most("locks, waits, keys and jobs of the session", owned + more, SESSION_OWNED_MAX)
}

/// A key ends with this session from now on.
pub(crate) fn own_key(scope: &mut Scope<'_>, id: SessionId) {
    if let Some(session) = scope.sessions.open.get_mut(&id) {
        session.keys += 1;
        scope.key_owners.push((id, true));
    }
}

/// A key does not end with this session any more.
pub(crate) fn disown_key(scope: &mut Scope<'_>, id: SessionId) {
    if let Some(session) = scope.sessions.open.get_mut(&id) {
        session.keys -= 1;
        scope.key_owners.push((id, false));
    }
}

/// Takes back what was noted of owners, but for the first so many changes.
pub(crate) fn undo_key_owners(scope: &mut Scope<'_>, kept: usize) {
    for (id, owns) in scope.key_owners.drain(kept..).rev() {
        let Some(session) = scope.sessions.open.get_mut(&id) else { continue };
        match owns {
            true => session.keys -= 1,
            false => session.keys += 1,
        }
    }
}

/// Notes what a new leader gives the session; whether it is open.
pub(crate) fn record_remaining(
    scope: &mut Scope<'_>,
    id: SessionId,
    remaining_ms: Option<u64>,
) -> bool {
    let Some(session) = scope.sessions.open.get_mut(&id) else { return false };
    session.row.remaining_ms = remaining_ms;
    scope.pending.entry(id).or_default().row_changed = true;
    true
}

/// Ends a session and frees all it owns; answers how many rows that were, none when it is not
/// open.
///
/// The jobs that it frees are given to others by [`crate::queue::dispatch_due`], which is to follow.
pub(crate) fn end(scope: &mut Scope<'_>, id: SessionId) -> Result<Option<usize>, Fatal> {
    let Some(session) = scope.sessions.open.remove(&id) else { return Ok(None) };
    scope.txn.delete(&keys::session(scope.group, id));
    for &index in session.rows.keys() {
        scope.txn.delete(&keys::session_answer(scope.group, id, index));
    }
    scope.pending.remove(&id);
    scope.meta.sessions -= 1;
    scope.events.push(Event::SessionEnded { id });
    let keys = kv::owned::session_ended(scope, id)?;
    let locks = lock::session_ended(scope, id)?;
    let jobs = consumers::session_ended(scope, id)?;
    Ok(Some(1 + session.rows.len() + keys + locks + jobs))
}

/// Writes what the entry changed about its sessions, in the order of their ids.
pub(crate) fn write_pending(scope: &mut Scope<'_>) {
    for (id, pending) in std::mem::take(&mut scope.pending) {
        let Some(session) = scope.sessions.open.get_mut(&id) else { continue };
        let mut answers = pending.answers;
        answers.retain(|answer| answer.sequence >= session.row.floor);
        if !answers.is_empty() {
            match session.take_in(answers) {
                Ok(row) => {
                    scope.txn.put(&keys::session(scope.group, id), &row);
                    continue;
                }
                Err(too_many) => {
                    session.note_row(&too_many, scope.index);
                    let key = keys::session_answer(scope.group, id, scope.index);
                    scope.txn.put(&key, &codec::encode(&AnswerRow { answers: too_many }));
                }
            }
        }
        if pending.row_changed {
            scope.txn.put(&keys::session(scope.group, id), &codec::encode(&session.row));
        }
    }
}

/// Calls `visit` with each row of a table until it fails.
pub(crate) fn each_row(
    tables: &dyn Read,
    group: GroupId,
    table: u8,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let (from, to) = keys::table_range(group, table);
    let mut result = Ok(());
    tables.scan(&from, &to, &mut |key, value| {
        result = visit(key, value);
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    result
}
