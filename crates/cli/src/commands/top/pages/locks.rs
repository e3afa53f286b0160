//! The page of locks: who holds them, how many wait.

use super::{Cell, Column, Page, Row, Tone, Words, about_list, left, right};
use crate::commands::top::picture::Picture;
use crate::commands::top::seen::Lock;

pub(super) const COLUMNS: &[Column] = &[
    left("LOCK"),
    right("WAITERS"),
    right("HOLDERS"),
    right("HELD FOR"),
    right("TTL"),
    left("MODE"),
    right("TOKEN"),
    right("SESSION"),
];

pub(super) fn page(picture: &Picture) -> Page {
    let mut words = Vec::new();
    let mut rows = Vec::new();
    if let Some(locks) = picture.locks.value() {
        about_list(locks, &mut words);
        let held = locks.items.iter().filter(|lock| !lock.holders.is_empty()).count();
        let waiters = locks.items.iter().map(|lock| lock.waiters).fold(0, u64::saturating_add);
        words.push(Words::plain(format!("locks held: {held}, calls that wait: {waiters}")));
        rows.extend(locks.items.iter().map(row));
    }
    Page { words, columns: COLUMNS, rows, empty: "no lock is held or waited for" }
}

/// A line a lock, about the holder that has had it for longest.
fn row(lock: &Lock) -> Row {
    let oldest = lock.holders.iter().max_by_key(|holder| holder.held_ms);
    let cells = vec![
        Cell::name(&lock.name),
        Cell::count(lock.waiters),
        Cell::count(lock.holders.len() as u64),
        Cell::millis(oldest.map(|holder| holder.held_ms)),
        Cell::millis(oldest.map(|holder| holder.ttl_ms)),
        Cell::text(oldest.map_or("", |holder| holder.mode)),
        Cell::count(oldest.map(|holder| holder.token)),
        Cell::count(oldest.map(|holder| holder.session)),
    ];
    let tone = if lock.waiters > 0 { Tone::Warning } else { Tone::Plain };
    Row { cells, tone }
}
