//! What the hub knows of one node: its link, how far it has taken, what it wants, what it lost.

use super::groups::Groups;
use super::losses::Losses;
use super::ring::Nodes;
use crate::limits::{ALIKE_MAX, HubLimits};
use crate::name::Name;
use crate::refusal::within;
use crate::{Interest, InterestChange, LinkId, Position, Refusal};
use quorate_state::NodeId;
use std::collections::HashMap;

/// The subscribers of a node to one selector.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Outside of groups.
    pub(super) plain: u32,
    /// Boxed, because few selectors have any.
    pub(super) groups: Option<Box<GroupRows>>,
}

/// Groups by their numbers, with how many members each has here.
#[derive(Debug, Default)]
pub(super) struct GroupRows(pub(super) Vec<(u32, u32)>);

impl Row {
    pub(super) fn groups(&self) -> &[(u32, u32)] {
        self.groups.as_ref().map_or(&[], |groups| &groups.0)
    }

    fn subscribers(&self, group: Option<u32>) -> u32 {
        let Some(group) = group else { return self.plain };
        let rows = self.groups();
        let at = rows.binary_search_by_key(&group, |(other, _)| *other);
        at.map_or(0, |at| rows[at].1)
    }

    fn set(&mut self, group: Option<u32>, subscribers: u32) {
        let Some(group) = group else {
            self.plain = subscribers;
            return;
        };
        let rows = &mut self.groups.get_or_insert_default().0;
        match rows.binary_search_by_key(&group, |(other, _)| *other) {
            Ok(at) if subscribers > 0 => rows[at].1 = subscribers,
            Ok(at) => drop(rows.remove(at)),
            Err(at) if subscribers > 0 => rows.insert(at, (group, subscribers)),
            Err(_) => {}
        }
        if rows.is_empty() {
            self.groups = None;
        }
    }

    fn is_empty(&self) -> bool {
        self.plain == 0 && self.groups.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    /// `None` while the link is broken and may be resumed.
    pub(super) link: Option<LinkId>,
    /// Everything up to here was handed out.
    pub(super) cursor: Position,
    /// Of what the node wanted up to here, something is neither in the ring nor among the losses to
    /// be told: a link can't be resumed from before.
    pub(super) gone: Position,
    pub(super) lost: Losses,
    /// It was handed all there was, and has to be woken for what comes.
    pub(super) sleeps: bool,
    pub(super) interest: Interest<Row>,
    /// Rows of interest, by selector and group.
    rows: usize,
    /// What they count for.
    bytes: usize,
    /// In how many rows each group is.
    groups: HashMap<u32, usize>,
}

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            link: None,
            cursor: Position(0),
            // Nothing is known of what it wanted, so no link can be resumed.
            gone: Position(u64::MAX),
            lost: Losses::default(),
            sleeps: false,
            interest: Interest::default(),
            rows: 0,
            bytes: 0,
            groups: HashMap::new(),
        }
    }

    /// Sets how many subscribers there are to a selector, in a group or outside.
    pub(super) fn set_interest(
        &mut self,
        slot: usize,
        change: &InterestChange,
        groups: &mut Groups,
        limits: &HubLimits,
    ) -> Result<(), Refusal> {
        let InterestChange { namespace, group, .. } = change;
        let group = group.as_ref().map(|group| groups.acquire(&Name::new(namespace, group)));
        let set = self.set(slot, change, group, groups, limits);
        if let Some(group) = group {
            // It was used only to find it; a row that names it has a use of its own.
            groups.release(group, 1);
        }
        set
    }

    fn set(
        &mut self,
        slot: usize,
        change: &InterestChange,
        group: Option<u32>,
        groups: &mut Groups,
        limits: &HubLimits,
    ) -> Result<(), Refusal> {
        let InterestChange { namespace, selector, .. } = change;
        // More than 2^32 subscribers to one selector are as good as that many.
        let subscribers = u32::try_from(change.subscribers).unwrap_or(u32::MAX);
        let row = self.interest.get(namespace, selector);
        let before = row.map_or(0, |row| row.subscribers(group));
        match (before, subscribers) {
            (0, 0) => return Ok(()),
            (0, _) => {
                let bytes = self.bytes + selector.row_bytes();
                within("selectors of the node", self.rows + 1, limits.interest_rows_max)?;
                within("bytes of selectors of the node", bytes, limits.interest_bytes_max)?;
                if row.is_none() {
                    let alike = self.interest.alike(namespace, selector) + 1;
                    within("patterns with the same beginning or ending", alike, ALIKE_MAX)?;
                }
                self.rows += 1;
                self.bytes = bytes;
                if let Some(group) = group {
                    groups.retain(group);
                    *self.groups.entry(group).or_default() += 1;
                }
            }
            (_, 0) => {
                self.rows -= 1;
                self.bytes -= selector.row_bytes();
                if let Some(group) = group {
                    self.leave(slot, group, groups);
                }
            }
            _ => {}
        }
        let row = self.interest.entry(namespace, selector);
        row.set(group, subscribers);
        if row.is_empty() {
            self.interest.remove(namespace, selector);
        }
        Ok(())
    }

    /// One row less names a group.
    fn leave(&mut self, slot: usize, group: u32, groups: &mut Groups) {
        let rows = self.groups.entry(group).or_default();
        *rows -= 1;
        if *rows == 0 {
            self.groups.remove(&group);
            groups.kept_mut(group).forget(slot);
        }
        groups.release(group, 1);
    }

    /// What holds at any time; returns how many uses of groups it has.
    #[cfg(test)]
    pub(super) fn check(&self, newest: Position, limits: &HubLimits) -> usize {
        assert!(self.gone <= self.cursor && self.cursor <= newest);
        self.lost.check(self.cursor, limits.lost_rows_max);
        let mut rows = 0;
        let mut groups = HashMap::new();
        self.interest.each_row(|row| {
            assert!(!row.is_empty());
            rows += usize::from(row.plain > 0) + row.groups().len();
            for (group, members) in row.groups() {
                assert!(*members > 0);
                *groups.entry(*group).or_default() += 1_usize;
            }
        });
        assert_eq!((self.rows, &self.groups), (rows, &groups));
        assert!(rows <= limits.interest_rows_max && self.bytes <= limits.interest_bytes_max);
        assert_eq!(rows == 0, self.bytes == 0);
        groups.values().sum()
    }

    /// Begins anew: whatever is to come from now on, and no interest. What it wanted is given back.
    pub(super) fn reset(
        &mut self,
        slot: usize,
        at: Position,
        groups: &mut Groups,
    ) -> Interest<Row> {
        for (group, rows) in std::mem::take(&mut self.groups) {
            groups.kept_mut(group).forget(slot);
            groups.release(group, rows);
        }
        let fresh = Self { cursor: at, gone: at, link: self.link, ..Self::new(self.id) };
        std::mem::replace(self, fresh).interest
    }

    /// Notes that the ring let a message go which this node wanted.
    pub(super) fn pass(&mut self, slot: usize, kept: &super::ring::Kept, rows_max: usize) {
        let position = kept.message.position();
        if position <= self.cursor {
            self.gone = self.gone.max(position);
            return;
        }
        let name = kept.message.name();
        if kept.plain.has(slot) {
            self.lost.note(name, None, position, rows_max);
        }
        for group in kept.served_by(slot) {
            self.lost.note(name, Some(group), position, rows_max);
        }
    }
}

/// The nodes that a set holds, of those there are.
pub(super) fn linked(nodes: &[Option<Node>]) -> Nodes {
    let mut linked = Nodes::default();
    for (slot, node) in nodes.iter().enumerate() {
        if node.as_ref().is_some_and(|node| node.link.is_some()) {
            linked.add(slot);
        }
    }
    linked
}
