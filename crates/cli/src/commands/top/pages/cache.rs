//! The page of the cache: how full it is, and what reads find on each node.

use super::{Cell, Column, Page, Row, Tone, Words, left, rate_of, right};
use crate::commands::top::picture::{Picture, counter_of};
use crate::commands::top::seen::Node;
use crate::size;

pub(super) const COLUMNS: &[Column] = &[
    left("NODE"),
    right("HIT RATIO"),
    right("HITS/S"),
    right("STALE/S"),
    right("MISSES/S"),
    right("EVICTED/S"),
    right("WAITING"),
];

pub(super) fn page(picture: &Picture) -> Page {
    let mut words = Vec::new();
    if let Some(cache) = picture.cache.value() {
        let full = share(cache.bytes, cache.bytes_max);
        let text = format!(
            "{} entries, {} of {} ({}); {} values are being built",
            cache.entries,
            size::rough(cache.bytes),
            size::rough(cache.bytes_max),
            full.map_or_else(|| "-".to_owned(), percent),
            cache.builds,
        );
        words.push(Words::plain(text));
        let now = ratio(|counter| picture.rate(counter));
        let ever = ratio(|counter| picture.total(counter).map(|count| count as f64));
        let text = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), percent);
        words.push(Words::plain(format!(
            "reads that found something: {} now, {} since the nodes started; evicted {}",
            text(now),
            text(ever),
            rate_of(picture.rate("cache_evicted")),
        )));
    }
    let nodes = picture.cluster.value().map(|cluster| cluster.nodes.as_slice());
    let rows = nodes.unwrap_or_default().iter().map(|node| row(picture, node)).collect();
    Page { words, columns: COLUMNS, rows, empty: "no node has answered yet" }
}

fn row(picture: &Picture, node: &Node) -> Row {
    let rate = |counter| picture.node_rate(node.id, counter);
    let ratio = ratio(rate);
    let cells = vec![
        Cell::id(node.id),
        Cell::number(ratio, percent),
        Cell::rate(rate("cache_hits")),
        Cell::rate(rate("cache_stale_hits")),
        Cell::rate(rate("cache_misses")),
        Cell::rate(rate("cache_evicted")),
        Cell::count(counter_of(node, "cache_waits_open")),
    ];
    Row { cells, tone: Tone::Plain }
}

/// Which share of the reads found something, fresh or stale; none when nothing was read.
fn ratio(of: impl Fn(&'static str) -> Option<f64>) -> Option<f64> {
    let found = of("cache_hits")? + of("cache_stale_hits").unwrap_or(0.0);
    let all = found + of("cache_misses").unwrap_or(0.0);
    (all > 0.0).then(|| found / all)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_values_were_found_too() {
        let reads = |hits, stale, misses| {
            ratio(move |counter| match counter {
                "cache_hits" => hits,
                "cache_stale_hits" => stale,
                _ => misses,
            })
        };
        assert_eq!(reads(Some(6.0), Some(3.0), Some(3.0)).map(percent).as_deref(), Some("75.0 %"));
        assert_eq!(reads(Some(0.0), Some(0.0), Some(0.0)), None);
        assert_eq!(reads(None, None, None), None);
        assert_eq!(share(1, 0), None);
    }
}
