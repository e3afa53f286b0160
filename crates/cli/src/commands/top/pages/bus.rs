//! The page of the bus: channels with their subscribers, and who reads too slowly.

use super::{Cell, Column, Page, Row, Tone, Words, about_list, left, rate_of, right};
use crate::commands::top::picture::Picture;
use crate::commands::top::seen::Channel;

pub(super) const COLUMNS: &[Column] = &[
    left("CHANNEL"),
    right("MESSAGES/S"),
    right("SUBSCRIBERS"),
    right("NODES"),
    right("GROUPS"),
    right("MEMBERS"),
    right("NEWEST"),
];

/// Clients that were cut off because they did not read, by what they had open.
const CUT: [(&str, &str); 4] = [
    ("subscriptions_cut", "subscriptions"),
    ("watches_cut", "watches"),
    ("consumers_cut", "consumers"),
    ("pipelines_cut", "pipelines"),
];

pub(super) fn page(picture: &Picture) -> Page {
    let mut words = Vec::new();
    let mut rows = Vec::new();
    if let Some(channels) = picture.bus.value() {
        about_list(channels, &mut words);
        rows.extend(channels.items.iter().map(|channel| row(picture, channel)));
    }
    let rate = |counter| rate_of(picture.rate(counter));
    words.push(Words::plain(format!(
        "published {}, delivered {}, gaps {}; {} subscriptions",
        rate("bus_published"),
        rate("bus_delivered"),
        rate("bus_gaps"),
        picture.total("subscriptions_open").map_or_else(|| "-".to_owned(), |open| open.to_string()),
    )));
    words.extend(slow_readers(picture));
    Page { words, columns: COLUMNS, rows, empty: "nobody subscribes to anything" }
}

/// How many were cut off since the nodes started, and whether that goes on.
fn slow_readers(picture: &Picture) -> Option<Words> {
    let cut = CUT.map(|(counter, word)| (picture.total(counter), word));
    // Nodes that are too old to count them say nothing.
    cut.iter().find_map(|(count, _)| *count)?;
    let told = cut.map(|(count, word)| format!("{} {word}", count.unwrap_or(0))).join(", ");
    let text = format!("slow readers cut off since the nodes started: {told}");
    let now = CUT.iter().filter_map(|(counter, _)| picture.rate(counter)).any(|rate| rate > 0.0);
    Some(if now { Words::warning(text) } else { Words::plain(text) })
}

fn row(picture: &Picture, channel: &Channel) -> Row {
    let newest = (channel.last_sequence > 0).then_some(channel.last_sequence);
    let cells = vec![
        Cell::name(&channel.pattern),
        Cell::rate(picture.channel_rate(&channel.pattern)),
        Cell::count(channel.subscribers),
        Cell::count(u64::from(channel.nodes)),
        Cell::count(u64::from(channel.queue_groups)),
        Cell::count(channel.members),
        Cell::count(newest),
    ];
    Row { cells, tone: Tone::Plain }
}
