//! What a node wanted and will not get: counted by channel, until it is told.

use crate::name::Name;
use crate::{Epoch, Place, Position};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages that a node wanted and that are gone; to be told before whatever comes after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// So many of a channel.
    Messages(LostMessages),
    /// An unknown number, on whichever channels.
    Unknown {
        /// The first that is gone.
        first: Place,
        /// The last.
        last: Place,
    },
}

/// Messages of one channel that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostMessages {
    /// The namespace of the channel.
    pub namespace: String,
    /// The channel.
    pub channel: String,
    /// The queue group that the node was to serve with them; `None` for those that subscribers
    /// outside of groups wanted. A message that both wanted is in both counts.
    pub group: Option<Arc<str>>,
    /// How many.
    pub count: u64,
    /// The first of them,
    pub first: Place,
    /// and the last.
    pub last: Place,
}

/// Rows of losses, or that there are too many of them.
#[derive(Debug, Default)]
pub(super) struct Losses {
    rows: BTreeMap<(Name, Option<Arc<str>>), Row>,
    unknown: bool,
    /// All of them.
    span: Option<(Position, Position)>,
}

#[derive(Debug)]
struct Row {
    count: u64,
    first: Position,
    last: Position,
}

impl Losses {
    /// Notes that a message is gone; later ones come later.
    pub(super) fn note(
        &mut self,
        name: &Name,
        group: Option<&Arc<str>>,
        position: Position,
        rows_max: usize,
    ) {
        let first = self.span.map_or(position, |(first, _)| first);
        self.span = Some((first, position));
        if self.unknown {
            return;
        }
        let row = self.rows.entry((name.clone(), group.cloned()));
        let row = row.or_insert(Row { count: 0, first: position, last: position });
        row.count += 1;
        row.last = position;
        if self.rows.len() > rows_max {
            self.unknown = true;
            self.rows.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self, cursor: Position, rows_max: usize) {
        assert!(self.rows.len() <= rows_max);
        assert!(self.span.is_none_or(|(first, last)| cursor < first && first <= last));
        assert!(!self.unknown || self.rows.is_empty());
    }

    /// All of them, which are forgotten then, and the position of the last.
    pub(super) fn drain(&mut self, epoch: Epoch) -> Option<(Vec<Lost>, Position)> {
        let losses = std::mem::take(self);
        let (first, last) = losses.span?;
        let place = |position| Place::new(epoch, position);
        if losses.unknown {
            return Some((vec![Lost::Unknown { first: place(first), last: place(last) }], last));
        }
        let rows = losses.rows.into_iter().map(|((name, group), row)| {
            Lost::Messages(LostMessages {
                namespace: name.namespace().to_owned(),
                channel: name.name().to_owned(),
                group,
                count: row.count,
                first: place(row.first),
                last: place(row.last),
            })
        });
        Some((rows.collect(), last))
    }
}
