//! Where a session's answers are kept: in its own row, or in one of the entry that gave them.

use super::group::Group;
use crate::rows::{self, Answer, SessionRow};
use crate::testing::GROUP;
use crate::{
    Caller, Command, LogIndex, Outcome, Read, Sequence, SessionId, SessionOpen, keys, limits,
};

const ID: SessionId = SessionId(1 << 12);

/// A group with one open session.
fn with_session() -> Group {
    let mut group = Group::new();
    group.own(vec![Command::SessionOpen(SessionOpen { ttl_ms: 10_000 })]);
    group
}

impl Group {
    /// Ticks with these sequences, each with this floor.
    fn ticks(&mut self, sequences: impl IntoIterator<Item = u64>, floor: u64) -> Vec<Outcome> {
        let floor = Sequence(floor);
        let numbered = |sequence| Caller::Session { id: ID, sequence: Sequence(sequence), floor };
        let ticks = sequences.into_iter().map(|sequence| (numbered(sequence), Command::Tick));
        let applied = self.apply(ticks.collect());
        self.check();
        applied.outcomes
    }

    fn recent(&self) -> Vec<u64> {
        let bytes = self.tables.get(&keys::session(GROUP, ID)).unwrap().unwrap();
        let row: SessionRow = rows::decode("session row", &bytes).unwrap();
        row.recent.iter().map(|Answer { sequence, .. }| sequence.0).collect()
    }

    fn has_row(&self, index: u64) -> bool {
        self.tables.get(&keys::session_answer(GROUP, ID, LogIndex(index))).unwrap().is_some()
    }
}

#[test]
fn few_answers_are_in_the_session_row_and_leave_it_with_the_floor() {
    let mut group = with_session();
    group.ticks([1], 1);
    group.ticks([2, 3], 1);
    assert_eq!(group.recent(), [1, 2, 3]);
    group.ticks([4], 3);
    assert_eq!(group.recent(), [3, 4]);
    // The floor passes answers of the very entry that gave them.
    group.ticks([5], 5);
    group.apply(vec![
        (Caller::Session { id: ID, sequence: Sequence(6), floor: Sequence(5) }, Command::Tick),
        (Caller::Session { id: ID, sequence: Sequence(7), floor: Sequence(7) }, Command::Tick),
    ]);
    group.check();
    assert_eq!(group.recent(), [7]);
    assert!((1..=group.index.0).all(|index| !group.has_row(index)));
}

#[test]
fn many_answers_get_a_row_until_the_floor_has_passed_them_all() {
    let mut group = with_session();
    group.ticks([1], 1);
    group.ticks(2..=200, 1);
    let row = group.index.0;
    assert_eq!(group.recent(), [1], "the session's row stays small");
    assert!(group.has_row(row));

    let again = group.ticks([1, 2, 200], 1);
    assert!(again.iter().all(|outcome| *outcome == Outcome::Done), "{again:?}");
    group.ticks([201], 200);
    assert_eq!(group.recent(), [201]);
    assert!(group.has_row(row), "200 is not passed yet");
    group.ticks([202], 201);
    assert_eq!(group.recent(), [201, 202]);
    assert!(!group.has_row(row));
}

#[test]
fn a_session_row_is_bounded() {
    let mut group = with_session();
    for sequence in 1..=300 {
        group.ticks([sequence], 1);
        let bytes = group.tables.get(&keys::session(GROUP, ID)).unwrap().unwrap();
        assert!(bytes.len() <= limits::SESSION_ROW_BYTES_MAX, "{} bytes", bytes.len());
    }
    assert!(group.has_row(group.index.0), "what no longer fits has its own row");
    group.ticks([301], 301);
    assert_eq!(group.recent(), [301]);
    assert!((1..=group.index.0).all(|index| !group.has_row(index)));
}
