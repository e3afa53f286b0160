//! What an operator sees of a hub: the channels and patterns of a namespace, page by page.

use super::Hub;
use crate::limits::LIST_ROWS_MAX;
use crate::selector::escaped;
use crate::{Selector, Sequence};
use std::collections::{BTreeMap, BTreeSet};

/// A channel or a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRow {
    /// The text of the selector; a channel's name, with a `\` before what would be a wildcard.
    pub selector: String,
    /// Whether it is a pattern, and not one channel.
    pub is_pattern: bool,
    /// Subscribers outside of groups that ask for just this.
    pub subscribers: u64,
    /// Members of groups that ask for just this.
    pub members: u64,
    /// The groups that they are in.
    pub groups: u64,
    /// Nodes that those are on, also when their links are broken for the moment.
    pub nodes: u32,
    /// What was published last on this channel, if its counter is kept.
    pub last_sequence: Option<Sequence>,
}

/// What is known of a row while it is gathered.
#[derive(Default)]
struct Gathered {
    is_pattern: bool,
    subscribers: u64,
    members: u64,
    groups: BTreeSet<u32>,
    nodes: u32,
    last_sequence: Option<Sequence>,
}

/// The first rows in the order of their texts, of those that were seen.
struct Page<'a> {
    pattern: &'a Selector,
    after: Option<&'a str>,
    rows_max: usize,
    rows: BTreeMap<String, Gathered>,
}

impl Page<'_> {
    /// Where to gather what is known of a row, unless it is on another page.
    fn row(&mut self, text: &str) -> Option<&mut Gathered> {
        if self.after.is_some_and(|after| text <= after) {
            return None;
        }
        // A row that went is never missed: those that stayed lie before it, and only more of them
        // come.
        let full = self.rows.len() >= self.rows_max;
        let beyond = full && self.rows.last_key_value().is_some_and(|(last, _)| text > &**last);
        if beyond || !self.pattern.matches(text) {
            return None;
        }
        if !self.rows.contains_key(text) {
            self.rows.insert(text.to_owned(), Gathered::default());
            if self.rows.len() > self.rows_max {
                self.rows.pop_last();
            }
        }
        self.rows.get_mut(text)
    }
}

pub(super) fn page(
    hub: &Hub,
    namespace: &str,
    pattern: &Selector,
    after: Option<&str>,
    rows_max: usize,
) -> Vec<ChannelRow> {
    let rows_max = rows_max.clamp(1, LIST_ROWS_MAX);
    let mut page = Page { pattern, after, rows_max, rows: BTreeMap::new() };
    for node in hub.nodes.iter().flatten() {
        node.interest.each(namespace, |text, is_pattern, row| {
            let Some(gathered) = page.row(text) else { return };
            gathered.is_pattern = is_pattern;
            gathered.subscribers += u64::from(row.plain);
            gathered.members +=
                row.groups().iter().map(|(_, count)| u64::from(*count)).sum::<u64>();
            gathered.groups.extend(row.groups().iter().map(|(group, _)| *group));
            gathered.nodes += 1;
        });
    }
    for (name, last) in hub.counters.each().filter(|(name, _)| name.namespace() == namespace) {
        if let Some(gathered) = page.row(&escaped(name.name())) {
            gathered.last_sequence = Some(last);
        }
    }
    let rows = page.rows.into_iter().map(|(selector, gathered)| ChannelRow {
        selector,
        is_pattern: gathered.is_pattern,
        subscribers: gathered.subscribers,
        members: gathered.members,
        groups: gathered.groups.len() as u64,
        nodes: gathered.nodes,
        last_sequence: gathered.last_sequence,
    });
    rows.collect()
}
