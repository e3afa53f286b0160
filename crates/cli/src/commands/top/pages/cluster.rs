//! The page of the cluster: who leads, how far each node is, and how much is done.

use super::{Cell, Column, Page, Row, Tone, UNKNOWN, Words, known, left, rate_of, right};
use crate::commands::top::picture::{Picture, counter_of};
use crate::commands::top::seen::{Cluster, Node};
use crate::size;

pub(super) const COLUMNS: &[Column] = &[
    left("NODE"),
    left("ROLE"),
    left("HEALTH"),
    right("LAG"),
    right("FSYNC"),
    right("P99"),
    right("DISK FREE"),
    right("CALLS/S"),
    right("CONNS"),
    right("ELECTED"),
    right("APPLIED"),
    left("VERSION"),
    left("CLIENTS AT"),
];

/// As `quorate doctor` judges: fsyncs slower than this hold everything up, a disk with less room than
/// this is soon full, and a follower further behind than this is in trouble.
const FSYNC_P99_SLOW_US: u64 = 100_000;
const DISK_LOW_BYTES: u64 = 1 << 30;
const LAG_MAX: u64 = 10_000;

pub(super) fn page(picture: &Picture) -> Page {
    let mut words = Vec::new();
    let mut rows = Vec::new();
    if let Some(cluster) = picture.cluster.value() {
        words.push(leadership(cluster));
        words.push(throughput(picture));
        words.extend(cluster.nodes.iter().filter_map(trouble));
        words.extend(cluster.plans.iter().map(|plan| Words::plain(format!("planned: {plan}"))));
        rows.extend(cluster.nodes.iter().map(|node| row(picture, node)));
    }
    Page { words, columns: COLUMNS, rows, empty: "no node has answered yet" }
}

fn leadership(cluster: &Cluster) -> Words {
    let (term, asked) = (cluster.term, cluster.answered_by);
    let voters = cluster.nodes.iter().filter(|node| node.voter).count();
    let others = cluster.nodes.len() - voters;
    let learners = if others > 0 { format!(", {others} without a vote") } else { String::new() };
    let voters = if voters == 1 { "1 voter".to_owned() } else { format!("{voters} voters") };
    let who = format!("cluster {}, {voters}{learners}", cluster.cluster_id);
    match cluster.leader {
        Some(leader) => {
            Words::plain(format!("node {leader} leads in term {term}; {who}; node {asked} says so"))
        }
        None => Words::bad(format!("no leader that node {asked} knows, term {term}; {who}")),
    }
}

fn throughput(picture: &Picture) -> Words {
    let rate = |counter| rate_of(picture.rate(counter));
    let bytes = picture.rate("log_bytes");
    let bytes = bytes.map_or_else(|| UNKNOWN.to_owned(), |rate| size::rough(whole(rate)) + "/s");
    let failed = [picture.rate("requests_not_applied"), picture.rate("requests_unknown")];
    let tone = if failed[1].is_some_and(|rate| rate > 0.0) { Tone::Warning } else { Tone::Plain };
    let text = format!(
        "calls {} ok, {} failed, {} unknown; writes {} in {} entries, log {bytes}, fsyncs {}",
        rate("requests_ok"),
        rate_of(failed[0]),
        rate_of(failed[1]),
        rate("commands_proposed"),
        rate("entries_proposed"),
        rate("log_syncs"),
    );
    Words { text, tone }
}

/// A rate as a whole number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, and a rate is never below 0"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}

/// What is wrong with a node.
fn trouble(node: &Node) -> Option<Words> {
    let id = node.id;
    if !node.problem.is_empty() {
        return Some(Words::bad(format!("node {id}: {}", node.problem)));
    }
    node.writes_refused
        .then(|| Words::bad(format!("node {id}: its disk is almost full, and it refuses writes")))
}

fn tone(node: &Node) -> Tone {
    match () {
        () if !node.healthy || node.writes_refused => Tone::Bad,
        () if node.fsync_p99_us.is_some_and(|us| us > FSYNC_P99_SLOW_US)
            || node.disk_free_bytes.is_some_and(|bytes| bytes < DISK_LOW_BYTES)
            || node.lag.is_some_and(|entries| entries > LAG_MAX) =>
        {
            Tone::Warning
        }
        () if node.role == "leader" => Tone::Good,
        () => Tone::Plain,
    }
}

fn row(picture: &Picture, node: &Node) -> Row {
    let version = if node.version.is_empty() { UNKNOWN } else { &node.version };
    let told = !node.version.is_empty();
    let cells = vec![
        Cell::id(node.id),
        Cell::text(node.role),
        Cell::text(if node.healthy { "well" } else { "unwell" }),
        Cell::count(node.lag),
        Cell::micros(node.fsync_p50_us),
        Cell::micros(node.fsync_p99_us),
        Cell::bytes(node.disk_free_bytes),
        Cell::rate(picture.node_rate(node.id, "requests_ok")),
        Cell::count(counter_of(node, "connections_open")),
        Cell {
            text: known(told.then(|| node.elections_hour.into()), |count| format!("{count}/h")),
            ..Cell::count(u64::from(node.elections_hour))
        },
        Cell::count(node.applied),
        Cell::text(version),
        Cell::text(node.client_addr.as_str()),
    ];
    Row { cells, tone: tone(node) }
}
