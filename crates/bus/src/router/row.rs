//! Who of a node wants what one selector stands for, outside of groups and in each of them.

use super::members::Members;

/// Subscriptions to one selector.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) plain: Members,
    /// Boxed, because few selectors have any.
    groups: Option<Box<GroupRows>>,
}

/// Groups by their numbers.
#[derive(Debug, Default)]
struct GroupRows(Vec<(u32, Members)>);

impl Row {
    pub(super) fn groups(&self) -> &[(u32, Members)] {
        self.groups.as_ref().map_or(&[], |groups| &groups.0)
    }

    pub(super) fn members(&self, group: Option<u32>) -> Option<&Members> {
        match group {
            None => Some(&self.plain),
            Some(group) => {
                let rows = self.groups();
                let at = rows.binary_search_by_key(&group, |(other, _)| *other).ok()?;
                Some(&rows[at].1)
            }
        }
    }

    pub(super) fn count(&self, group: Option<u32>) -> usize {
        self.members(group).map_or(0, |members| members.slots().len())
    }

    pub(super) fn add(&mut self, group: Option<u32>, slot: u32) {
        let Some(group) = group else { return self.plain.add(slot) };
        let rows = &mut self.groups.get_or_insert_default().0;
        match rows.binary_search_by_key(&group, |(other, _)| *other) {
            Ok(at) => rows[at].1.add(slot),
            Err(at) => rows.insert(at, (group, Members::One(slot))),
        }
    }

    pub(super) fn remove(&mut self, group: Option<u32>, slot: u32) {
        let Some(group) = group else { return self.plain.remove(slot) };
        let Some(rows) = self.groups.as_mut().map(|groups| &mut groups.0) else { return };
        if let Ok(at) = rows.binary_search_by_key(&group, |(other, _)| *other) {
            rows[at].1.remove(slot);
            if rows[at].1.slots().is_empty() {
                rows.remove(at);
            }
        }
        if rows.is_empty() {
            self.groups = None;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.slots().is_empty() && self.groups.is_none()
    }
}
