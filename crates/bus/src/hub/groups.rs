//! Queue groups over all nodes: which of them is served next.

use super::ring::Nodes;
use crate::name::Registry;
use std::sync::Arc;

/// The groups that anybody is in, by their number.
pub(super) type Groups = Registry<Turns>;

/// Whose turn it is in one group. Each time, every node that could be served earns as many points as
/// it has members, the richest is served and pays all that was earned. So nodes are served in
/// proportion, evenly mixed, whichever of them could be served each time; and no choice depends on
/// anything but those before.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// By slot, of those that ever had any.
    points: Vec<(usize, i64)>,
    /// The group's name, once it was needed: it goes with every message.
    name: Option<Arc<str>>,
}

/// Points beyond which nothing is saved: far from overflow, and never reached with whole numbers of
/// members that exist.
const POINTS_MAX: i64 = 1 << 50;

impl Turns {
    /// Chooses one of the nodes, given by slot with their members; one that is linked, if any is.
    pub(super) fn choose(&mut self, members: &[(usize, u64)], linked: Nodes) -> Option<usize> {
        let any_linked = members.iter().any(|(slot, _)| linked.has(*slot));
        let mut earned_by_all = 0_i64;
        let mut richest: Option<(usize, i64)> = None;
        for (slot, members) in members {
            if any_linked && !linked.has(*slot) {
                continue;
            }
            let earned = i64::try_from(*members).unwrap_or(POINTS_MAX).min(POINTS_MAX);
            earned_by_all = earned_by_all.saturating_add(earned).min(POINTS_MAX);
            let points = self.points(*slot);
            *points = points.saturating_add(earned).min(POINTS_MAX);
            if richest.is_none_or(|(_, most)| *points > most) {
                richest = Some((*slot, *points));
            }
        }
        let (slot, points) = richest?;
        *self.points(slot) = points.saturating_sub(earned_by_all).max(-POINTS_MAX);
        Some(slot)
    }

    /// The name, which is shared from then on.
    pub(super) fn name(&mut self, name: &str) -> Arc<str> {
        Arc::clone(self.name.get_or_insert_with(|| name.into()))
    }

    /// A node has no member any more.
    pub(super) fn forget(&mut self, slot: usize) {
        self.points.retain(|(other, _)| *other != slot);
    }

    fn points(&mut self, slot: usize) -> &mut i64 {
        let at = self.points.iter().position(|(other, _)| *other == slot);
        let at = at.unwrap_or_else(|| {
            self.points.push((slot, 0));
            self.points.len() - 1
        });
        &mut self.points[at].1
    }
}
