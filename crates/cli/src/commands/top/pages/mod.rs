//! What each page has: a few lines, and a table that can be sorted. How that is drawn is said elsewhere.

mod bus;
mod cache;
mod cluster;
mod locks;
mod queues;
mod sessions;

use super::picture::{Part, Picture};
use super::seen::Listed;
use super::view::{PageName, View};
use crate::commands::kv;
use crate::{duration, size};
use quorate_client::Error;
use std::cmp::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// What is shown for what is not known.
pub(super) const UNKNOWN: &str = "-";

/// How much something asks for attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Warning,
    Bad,
}

/// A line of words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) text: String,
    pub(super) tone: Tone,
}

impl Words {
    fn plain(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }

    fn warning(text: String) -> Self {
        Self { text, tone: Tone::Warning }
    }

    fn bad(text: String) -> Self {
        Self { text, tone: Tone::Bad }
    }
}

/// By what a cell is sorted.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    /// The largest first; what is not known comes last.
    Number(Option<f64>),
    /// As words are.
    Text(String),
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    order: Order,
}

impl Cell {
    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { order: Order::Text(text.clone()), text }
    }

    /// A name that somebody chose, on one line.
    fn name(name: &str) -> Self {
        Self::text(kv::text(name.as_bytes()))
    }

    fn number(value: Option<f64>, text: impl FnOnce(f64) -> String) -> Self {
        let order = Order::Number(value);
        Self { text: value.map_or_else(|| UNKNOWN.to_owned(), text), order }
    }

    fn count(count: impl Into<Option<u64>>) -> Self {
        let count = count.into();
        Self { text: known(count, |count| count.to_string()), ..Self::ordered(count) }
    }

    fn bytes(bytes: Option<u64>) -> Self {
        Self { text: known(bytes, size::rough), ..Self::ordered(bytes) }
    }

    fn millis(ms: Option<u64>) -> Self {
        let text = known(ms, |ms| duration::rough(Duration::from_millis(ms)));
        Self { text, ..Self::ordered(ms) }
    }

    fn micros(us: Option<u64>) -> Self {
        Self { text: known(us, micros), ..Self::ordered(us) }
    }

    fn rate(rate: Option<f64>) -> Self {
        Self::number(rate, per_second)
    }

    /// An id: the smallest first.
    fn id(id: u64) -> Self {
        Self { text: id.to_string(), order: Order::Number(Some(-(id as f64))) }
    }

    fn ordered(value: Option<u64>) -> Self {
        Self::number(value.map(|value| value as f64), |_| String::new())
    }

    fn before(&self, other: &Self) -> Ordering {
        match (&self.order, &other.order) {
            (Order::Number(a), Order::Number(b)) => {
                let value = |number: &Option<f64>| number.unwrap_or(f64::NEG_INFINITY);
                value(b).total_cmp(&value(a))
            }
            (Order::Text(a), Order::Text(b)) => a.cmp(b),
            (Order::Number(_), Order::Text(_)) => Ordering::Less,
            (Order::Text(_), Order::Number(_)) => Ordering::Greater,
        }
    }
}

fn known(value: Option<u64>, text: impl FnOnce(u64) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), text)
}

/// How often in a second, in few characters.
fn per_second(rate: f64) -> String {
    match rate {
        _ if rate < 0.05 => "0".to_owned(),
        _ if rate < 9.95 => format!("{rate:.1}"),
        _ if rate < 99_999.5 => format!("{rate:.0}"),
        _ if rate < 9_999_500.0 => format!("{:.0}k", rate / 1_000.0),
        _ => format!("{:.0}M", rate / 1_000_000.0),
    }
}

fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..10_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        10_000..1_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// A rate in words.
fn rate_of(rate: Option<f64>) -> String {
    rate.map_or_else(|| UNKNOWN.to_owned(), |rate| per_second(rate) + "/s")
}

/// A line of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The first one is the name, by which lines are filtered.
    pub(super) cells: Vec<Cell>,
    pub(super) tone: Tone,
}

/// A column; the first of a table is that of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Numbers stand at the right.
    pub(super) right: bool,
}

const fn left(name: &'static str) -> Column {
    Column { name, right: false }
}

const fn right(name: &'static str) -> Column {
    Column { name, right: true }
}

/// A page, filled.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) words: Vec<Words>,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
    /// What is said where there is no row.
    pub(super) empty: &'static str,
}

/// What there is to sort by on a page.
pub(super) fn columns(page: PageName) -> &'static [Column] {
    match page {
        PageName::Cluster => cluster::COLUMNS,
        PageName::Queues => queues::COLUMNS,
        PageName::Locks => locks::COLUMNS,
        PageName::Cache => cache::COLUMNS,
        PageName::Bus => bus::COLUMNS,
        PageName::Sessions => sessions::COLUMNS,
    }
}

/// The page that is looked at, filtered and sorted.
pub(super) fn page(picture: &Picture, view: &View, now: Instant) -> Page {
    let mut page = match view.page {
        PageName::Cluster => cluster::page(picture),
        PageName::Queues => queues::page(picture),
        PageName::Locks => locks::page(picture),
        PageName::Cache => cache::page(picture),
        PageName::Bus => bus::page(picture),
        PageName::Sessions => sessions::page(picture),
    };
    let own = match view.page {
        PageName::Cluster => None,
        PageName::Queues => failure(&picture.queues, now),
        PageName::Locks => failure(&picture.locks, now),
        PageName::Cache => failure(&picture.cache, now),
        PageName::Bus => failure(&picture.bus, now),
        PageName::Sessions => failure(&picture.sessions, now),
    };
    // Where nothing is reached at all that is said once.
    if let Some(failure) = own.filter(|_| unreached(picture, now).is_none()) {
        page.words.insert(0, failure);
    }
    if !view.filter.is_empty() {
        let has =
            |row: &Row| row.cells.first().is_some_and(|name| name.text.contains(&view.filter));
        page.rows.retain(has);
    }
    // Those that are equal stay in the order of their names.
    let column = view.sort();
    page.rows.sort_by(|a, b| match (a.cells.get(column), b.cells.get(column)) {
        (Some(a), Some(b)) => a.before(b),
        _ => Ordering::Equal,
    });
    page
}

/// Whether the cluster is reached at all, if not.
pub(super) fn unreached(picture: &Picture, now: Instant) -> Option<Words> {
    failure(&picture.cluster, now)
}

fn failure<T>(part: &Part<T>, now: Instant) -> Option<Words> {
    let (error, age) = part.failed(now)?;
    let again = match error {
        Error::Denied { .. } => "",
        _ => "trying again: ",
    };
    // What matters first: errors may be long.
    let old = match age {
        Some(age) => format!("what is shown is {} old; ", duration::rough(age)),
        None => String::new(),
    };
    Some(Words::bad(format!("{old}{again}{error} ({})", error.reason())))
}

/// What is to be known of a list beside its items.
fn about_list<T>(listed: &Listed<T>, words: &mut Vec<Words>) {
    if listed.stale {
        words.push(Words::warning("told without a quorum: what is shown may be old".to_owned()));
    }
    if listed.more {
        let shown = listed.items.len();
        words.push(Words::warning(format!(
            "there are more than the first {shown} by name; / finds others"
        )));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (rate, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.05, "0.1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (99_999.4, "99999"),
            (99_999.6, "100k"),
            (12_345_678.0, "12M"),
        ] {
            assert_eq!(per_second(rate), text, "{rate}");
        }
        for (us, text) in
            [(0, "0us"), (999, "999us"), (4_160, "4.1ms"), (10_999, "10ms"), (1_250_000, "1.2s")]
        {
            assert_eq!(micros(us), text);
        }
    }

    #[test]
    fn cells_are_sorted_by_what_they_mean() {
        let sorted = |mut cells: Vec<Cell>| {
            cells.sort_by(Cell::before);
            cells.into_iter().map(|cell| cell.text).collect::<Vec<_>>()
        };
        let rates = [Some(9.0), None, Some(100.0), Some(0.0)].map(Cell::rate);
        assert_eq!(sorted(rates.to_vec()), ["100", "9.0", "0", "-"]);
        let sizes = [Some(900), Some(2 << 20), None, Some(5 << 10)].map(Cell::bytes);
        assert_eq!(sorted(sizes.to_vec()), ["2.0 MiB", "5.0 KiB", "900 B", "-"]);
        assert_eq!(sorted([10, 9, 100].map(Cell::id).to_vec()), ["9", "10", "100"]);
        assert_eq!(sorted(["b", "a"].map(Cell::text).to_vec()), ["a", "b"]);
    }
}
