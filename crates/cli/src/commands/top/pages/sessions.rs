//! The page of sessions: what would be lost with each.

use super::{Cell, Column, Page, Row, Tone, Words, about_list, left, right};
use crate::commands::top::picture::Picture;
use crate::commands::top::seen::Session;

pub(super) const COLUMNS: &[Column] =
    &[left("SESSION"), right("LOCKS"), right("KEYS"), right("TTL")];

pub(super) fn page(picture: &Picture) -> Page {
    let mut words = Vec::new();
    let mut rows = Vec::new();
    if let Some(sessions) = picture.sessions.value() {
        about_list(sessions, &mut words);
        let sum =
            |of: fn(&Session) -> u64| sessions.items.iter().map(of).fold(0, u64::saturating_add);
        words.push(Words::plain(format!(
            "open: {}; locks that they hold or wait for: {}, keys that end with them: {}",
            sessions.items.len(),
            sum(|session| session.locks),
            sum(|session| session.keys),
        )));
        rows.extend(sessions.items.iter().map(row));
    }
    Page { words, columns: COLUMNS, rows, empty: "no session is open" }
}

fn row(session: &Session) -> Row {
    let cells = vec![
        Cell::id(session.session),
        Cell::count(session.locks),
        Cell::count(session.keys),
        Cell::millis(Some(session.ttl_ms)),
    ];
    Row { cells, tone: Tone::Plain }
}
