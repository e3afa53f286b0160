//! Sessions: who may ask to be remembered, and what is remembered for whom.
//!
//! A session's window is `[floor, floor + SESSION_WINDOW)`. Every answer in it is kept, in one row
//! per entry; a row goes when the floor has passed its highest sequence. So at most two windows'
//! worth of answers are stored for a session: those in the window, and those below it that share a
//! row with one in it.

use crate::limits::SESSION_WINDOW;
use crate::rows::{self, Answer, AnswerRow, SessionRow};
use crate::scope::Scope;
use crate::{Event, Fatal, GroupId, LogIndex, Read, Sequence, SessionId, Txn, codec, keys};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

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
    ttl_ms: u64,
    floor: Sequence,
    /// Sequences in the window that were answered, and the entry that did.
    answered: BTreeMap<Sequence, LogIndex>,
    /// The highest sequence in each answer row: the row goes when the floor passes it.
    rows: BTreeMap<LogIndex, Sequence>,
}

/// What the entry being applied changed about a session.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    answers: Vec<Answer>,
    floor_moved: bool,
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
            for answer in &row.answers {
                session.note(answer.sequence, index);
            }
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
        Self {
            ttl_ms: row.ttl_ms,
            floor: row.floor,
            answered: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Takes in that the entry at `index` answered `sequence`.
    fn note(&mut self, sequence: Sequence, index: LogIndex) {
        if sequence >= self.floor {
            self.answered.insert(sequence, index);
        }
        let highest = self.rows.entry(index).or_insert(sequence);
        *highest = sequence.max(*highest);
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
    if floor > session.floor {
        session.floor = floor;
        scope.pending.entry(id).or_default().floor_moved = true;
        while let Some(passed) = session.answered.first_entry() {
            if *passed.key() >= floor {
                break;
            }
            let (passed, index) = passed.remove_entry();
            if session.rows.get(&index) != Some(&passed) {
                continue;
            }
            session.rows.remove(&index);
            // This entry's own row is not written yet, and will be without what is passed.
            if index != scope.index {
                scope.txn.delete(&keys::session_answer(scope.group, id, index));
            }
        }
    }
    let floor = session.floor;
    if sequence < floor {
        return Ok(Standing::TooOld { floor });
    }
    if sequence.0 - floor.0 >= SESSION_WINDOW {
        return Ok(Standing::TooFar { floor });
    }
    let Some(&index) = session.answered.get(&sequence) else { return Ok(Standing::Fresh) };
    let answer = if index == scope.index {
        let pending = scope.pending.get(&id).map_or(&[][..], |pending| &pending.answers);
        pending.iter().find(|answer| answer.sequence == sequence).cloned()
    } else {
        let bytes = scope.txn.get(&keys::session_answer(scope.group, id, index))?;
        let row: AnswerRow = match bytes {
            Some(bytes) => rows::decode("session answer row", &bytes)?,
            None => AnswerRow::default(),
        };
        row.answers.into_iter().find(|answer| answer.sequence == sequence)
    };
    answer.map(Standing::Answered).ok_or_else(|| {
        Fatal::Invariant(format!(
            "session {id} has an answer for sequence {sequence} in entry {index}, its row does not"
        ))
    })
}

/// Remembers an answer, unless the command ended its own session.
pub(crate) fn remember(scope: &mut Scope<'_>, id: SessionId, answer: Answer) {
    let Some(session) = scope.sessions.open.get_mut(&id) else { return };
    session.note(answer.sequence, scope.index);
    scope.pending.entry(id).or_default().answers.push(answer);
}

/// Ends a session and deletes all it owns; answers how many rows that were, none when it is not
/// open.
pub(crate) fn end(scope: &mut Scope<'_>, id: SessionId) -> Option<usize> {
    let session = scope.sessions.open.remove(&id)?;
    scope.txn.delete(&keys::session(scope.group, id));
    for &index in session.rows.keys().filter(|index| **index != scope.index) {
        scope.txn.delete(&keys::session_answer(scope.group, id, index));
    }
    scope.pending.remove(&id);
    scope.meta.sessions -= 1;
    scope.events.push(Event::SessionEnded { id });
    Some(1 + session.rows.len())
}

/// Writes what the entry changed about its sessions, in the order of their ids.
pub(crate) fn write_pending(scope: &mut Scope<'_>) {
    for (id, pending) in std::mem::take(&mut scope.pending) {
        let Some(session) = scope.sessions.open.get(&id) else { continue };
        if pending.floor_moved {
            let row = SessionRow { ttl_ms: session.ttl_ms, floor: session.floor };
            scope.txn.put(&keys::session(scope.group, id), &codec::encode(&row));
        }
        let mut answers = pending.answers;
        answers.retain(|answer| answer.sequence >= session.floor);
        if !answers.is_empty() {
            let key = keys::session_answer(scope.group, id, scope.index);
            scope.txn.put(&key, &codec::encode(&AnswerRow { answers }));
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
