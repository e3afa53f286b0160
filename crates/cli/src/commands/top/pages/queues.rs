//! The page of queues: depth, rates, the oldest job, dead letters.

use super::{Cell, Column, Page, Row, Tone, Words, about_list, left, right};
use crate::commands::top::picture::Picture;
use crate::commands::top::seen::Queue;

pub(super) const COLUMNS: &[Column] = &[
    left("QUEUE"),
    right("READY"),
    right("DELAYED"),
    right("LEASED"),
    right("DEAD"),
    right("OLDEST"),
    right("PUSHED/S"),
    right("DELIV/S"),
    right("ACKED/S"),
    right("FAILED/S"),
    right("DIED"),
    left("PAUSED"),
];

pub(super) fn page(picture: &Picture) -> Page {
    let mut words = Vec::new();
    let mut rows = Vec::new();
    if let Some(queues) = picture.queues.value() {
        about_list(queues, &mut words);
        let all = &queues.items;
        let sum = |of: fn(&Queue) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
        words.push(Words::plain(format!(
            "queues: {}; ready {}, delayed {}, leased {}, dead letters {}",
            all.len(),
            sum(|queue| queue.ready),
            sum(|queue| queue.delayed),
            sum(|queue| queue.leased),
            sum(|queue| queue.dead),
        )));
        rows.extend(all.iter().map(|queue| row(picture, queue)));
    }
    Page { words, columns: COLUMNS, rows, empty: "no queue" }
}

fn row(picture: &Picture, queue: &Queue) -> Row {
    let rate = |of| Cell::rate(picture.queue_rate(&queue.queue, of));
    let cells = vec![
        Cell::name(&queue.queue),
        Cell::count(queue.ready),
        Cell::count(queue.delayed),
        Cell::count(queue.leased),
        Cell::count(queue.dead),
        Cell::millis(queue.oldest_ready_ms),
        rate(|queue| queue.pushed),
        rate(|queue| queue.delivered),
        rate(|queue| queue.acked),
        // Told or not, they came to nothing.
        rate(|queue| queue.nacked.saturating_add(queue.lapsed)),
        Cell::count(queue.died),
        Cell::text(if queue.paused { "paused" } else { "" }),
    ];
    let tone = match () {
        () if queue.dead > 0 => Tone::Bad,
        () if queue.paused => Tone::Warning,
        () => Tone::Plain,
    };
    Row { cells, tone }
}
