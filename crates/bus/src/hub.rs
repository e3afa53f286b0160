//! The leader's half: gives each message its numbers, finds the nodes that want it, and keeps it
//! until they have taken it or there is no room any more.

mod counters;
mod groups;
mod journal;
mod list;
mod losses;
mod node;
mod ring;

use crate::limits::{HubLimits, MISSED_STEPS_MAX, NODES_MAX, SELECTORS_MAX};
use crate::refusal::{check_namespace, within};
use crate::{
    Content, Epoch, Interest, InterestChange, LinkId, Message, Place, Position, Refusal, Selector,
    Sequence, check_channel, check_group,
};
use counters::Counters;
use groups::Groups;
use journal::Journal;
pub use list::ChannelRow;
pub use losses::{Lost, LostMessages};
use node::{Node, Row};
use quorate_state::NodeId;
use ring::{Kept, Nodes, Ring};
use std::sync::Arc;

/// What a link begins with.
#[derive(Debug)]
pub struct LinkStart {
    /// Messages above this position are handed out.
    pub position: Position,
    /// Nothing was lost since the place that was named (or it will be told by [`Lost`]), and the
    /// interest of before holds. Otherwise there is none.
    pub resumed: bool,
    /// What held before and does not any more.
    pub discarded: Discarded,
}

/// Interest that a node no longer has: up to a million rows, which take a while to free. To be
/// dropped where nobody waits for it, outside of the lock of the hub.
#[derive(Debug, Default)]
#[must_use = "drop it outside of the hub's lock"]
pub struct Discarded(
    #[expect(dead_code, reason = "it is there to be dropped by somebody else")] Interest<Row>,
);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Which of all messages it is.
    pub place: Place,
    /// Which of its channel's.
    pub sequence: Sequence,
    /// Linked nodes that it goes to.
    pub nodes: u32,
    /// Subscribers on them, as far as the hub knows: those outside of groups, and one of each group.
    /// One that the channel matches by several of its selectors counts for each of them.
    pub subscribers: u64,
}

/// A message for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// It is for all matching subscribers outside of groups.
    pub plain: bool,
    /// It is for one member of each of these groups.
    pub groups: Vec<Arc<str>>,
}

/// A part of what a node wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What is gone; comes before the deliveries, all of which are later.
    pub lost: Vec<Lost>,
    /// In the order of their positions.
    pub deliveries: Vec<Delivery>,
    /// With that the node has all that it wants up to here.
    pub through: Place,
    /// There is more to take at once. Otherwise [`Hub::woken`] names the node when there is.
    pub more: bool,
}

/// Sequences an epoch.
///
/// A caller holds it in a mutex. Whatever is not a page of a list or a node that is forgotten takes
/// microseconds, on the average of many messages.
#[derive(Debug)]
pub struct Hub {
    epoch: Epoch,
    limits: HubLimits,
    position: Position,
    /// By slot: a bit in a set of nodes.
    nodes: Vec<Option<Node>>,
    groups: Groups,
    counters: Counters,
    ring: Ring,
    journal: Journal,
    /// Nodes that slept and have something to take.
    woken: Nodes,
    /// Groups that want a message, with the slots and members of nodes; empty between messages.
    candidates: Vec<(u32, usize, u64)>,
}

impl Hub {
    /// Nothing was published in this epoch yet.
    #[must_use]
    pub fn new(epoch: Epoch, limits: HubLimits) -> Self {
        Self {
            epoch,
            limits,
            position: Position(0),
            nodes: Vec::new(),
            groups: Groups::default(),
            counters: Counters::new(limits.counters_max),
            ring: Ring::default(),
            journal: Journal::new(),
            woken: Nodes::default(),
            candidates: Vec::new(),
        }
    }

    /// Which epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest message there is.
    #[must_use]
    pub fn position(&self) -> Place {
        Place::new(self.epoch, self.position)
    }

    /// Begins a node's link, in place of any that it had.
    ///
    /// With `resume` it goes on from there, if the node was not forgotten since, and everything that
    /// it wanted and that came later is still there, or will be told as lost. Otherwise it begins
    /// with what comes from now on, and without interest.
    ///
    /// The link has to [`Hub::take`] once without being woken.
    ///
    /// # Errors
    /// When there are too many nodes.
    pub fn link(
        &mut self,
        node: NodeId,
        link: LinkId,
        resume: Option<Place>,
    ) -> Result<LinkStart, Refusal> {
        let slot = self.slot(node).map_or_else(|| self.free_slot(node), Ok)?;
        let Self { nodes, groups, position, epoch, woken, .. } = self;
        let node = nodes[slot].as_mut().expect("the slot was found");
        woken.remove(slot);
        let resume = resume.filter(|place| {
            place.epoch == *epoch && node.gone <= place.position && place.position <= node.cursor
        });
        let discarded = match resume {
            Some(_) => Interest::default(),
            None => node.reset(slot, *position, groups),
        };
        node.link = Some(link);
        node.sleeps = false;
        node.cursor = resume.map_or(*position, |place| place.position);
        let discarded = Discarded(discarded);
        Ok(LinkStart { position: node.cursor, resumed: resume.is_some(), discarded })
    }

    /// The link has broken. What the node wants is kept for it, as far as there is room, until it
    /// links again or is forgotten. Says whether it was this link.
    pub fn unlink(&mut self, node: NodeId, link: LinkId) -> bool {
        let Ok(slot) = self.linked(node, link) else { return false };
        if let Some(node) = &mut self.nodes[slot] {
            node.link = None;
        }
        self.woken.remove(slot);
        true
    }

    /// Nothing is kept for a node any more. A link that it has ends.
    pub fn forget(&mut self, node: NodeId) -> Discarded {
        let Some(slot) = self.slot(node) else { return Discarded::default() };
        let Some(mut node) = self.nodes[slot].take() else { return Discarded::default() };
        self.woken.remove(slot);
        Discarded(node.reset(slot, self.position, &mut self.groups))
    }

    /// Sets what a node wants: one change after the other, with nothing published in between. What
    /// is published above the place that is returned is routed by all of them.
    ///
    /// # Errors
    /// When the link is not the node's, or it wants too much, or what no publisher can name. The
    /// changes before the one that is refused hold.
    pub fn set_interest(
        &mut self,
        node: NodeId,
        link: LinkId,
        changes: &[InterestChange],
    ) -> Result<Place, Refusal> {
        let slot = self.linked(node, link)?;
        let Self { nodes, groups, limits, .. } = self;
        let node = nodes[slot].as_mut().expect("the slot was found");
        for change in changes {
            check_namespace(&change.namespace)?;
            change.group.as_deref().map_or(Ok(()), check_group)?;
            node.set_interest(slot, change, groups, limits)?;
        }
        Ok(self.position())
    }

    /// Publishes messages, all or none, each as [`Hub::publish`] does: one right behind the other.
    ///
    /// # Errors
    /// When that refuses any of them.
    pub fn publish_all(
        &mut self,
        namespace: &str,
        messages: Vec<(String, Content)>,
    ) -> Result<Vec<Published>, Refusal> {
        for (channel, content) in &messages {
            check(namespace, channel, content)?;
        }
        let publish = |(channel, content): (String, Content)| {
            self.publish_checked(namespace, &channel, content)
        };
        Ok(messages.into_iter().map(publish).collect())
    }

    /// Gives a message its numbers, and keeps it for the nodes that want it.
    ///
    /// # Errors
    /// When it is too large, or there is no such namespace or channel.
    pub fn publish(
        &mut self,
        namespace: &str,
        channel: &str,
        content: Content,
    ) -> Result<Published, Refusal> {
        check(namespace, channel, &content)?;
        Ok(self.publish_checked(namespace, channel, content))
    }

    fn publish_checked(&mut self, namespace: &str, channel: &str, content: Content) -> Published {
        self.position.0 += 1;
        let place = self.position();
        let (name, sequence) = self.counters.next(namespace, channel);
        self.journal.push(name.clone(), &self.limits);

        let linked = node::linked(&self.nodes);
        let mut to = Nodes::default();
        let mut subscribers = 0;
        let mut candidates = std::mem::take(&mut self.candidates);
        for (slot, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            node.interest.matches(namespace, channel, |row| {
                if row.plain > 0 {
                    to.add(slot);
                    subscribers += if linked.has(slot) { u64::from(row.plain) } else { 0 };
                }
                let groups = row.groups().iter();
                candidates.extend(groups.map(|(group, count)| (*group, slot, u64::from(*count))));
            });
        }
        let plain = to;
        let groups = self.serve(&mut candidates, linked);
        candidates.clear();
        self.candidates = candidates;
        for (slot, _) in &groups {
            to.add(*slot);
            subscribers += u64::from(linked.has(*slot));
        }
        let reached = Nodes(to.0 & linked.0);
        if !to.is_empty() {
            let message = Message::of(name, place, sequence, content);
            self.keep(Kept { message, to, plain, groups: groups.into() });
            self.wake(reached);
        }
        Published { place, sequence, nodes: reached.0.count_ones(), subscribers }
    }

    /// Hands out what a node wants: so many messages and bytes, unless the first alone has more.
    ///
    /// A node that is never woken takes now and then all the same, to learn how far it is.
    ///
    /// # Errors
    /// When the link is not the node's.
    pub fn take(
        &mut self,
        node: NodeId,
        link: LinkId,
        bytes_max: usize,
        messages_max: usize,
    ) -> Result<Taken, Refusal> {
        let slot = self.linked(node, link)?;
        let (epoch, newest) = (self.epoch, self.position);
        let node = self.nodes[slot].as_mut().expect("the slot was found");
        let lost = match node.lost.drain(epoch) {
            Some((lost, last)) => {
                // Told once; if the link breaks before it arrives, nobody can tell it again.
                node.gone = node.gone.max(last);
                node.cursor = node.cursor.max(last);
                lost
            }
            None => Vec::new(),
        };
        let mut deliveries = Vec::new();
        let mut bytes = 0_usize;
        let mut more = false;
        for kept in self.ring.above(node.cursor).filter(|kept| kept.to.has(slot)) {
            bytes = bytes.saturating_add(kept.message.counted_bytes());
            if !deliveries.is_empty() && (bytes > bytes_max || deliveries.len() >= messages_max) {
                more = true;
                break;
            }
            deliveries.push(Delivery {
                message: kept.message.clone(),
                plain: kept.plain.has(slot),
                groups: kept.served_by(slot).cloned().collect(),
            });
            node.cursor = kept.message.position();
        }
        if !more {
            node.cursor = newest;
        }
        node.sleeps = !more;
        Ok(Taken { lost, deliveries, through: Place::new(epoch, node.cursor), more })
    }

    /// The nodes that have something to take and were not named since they took all there was. Ask
    /// after whatever publishes, in the same lock.
    pub fn woken(&mut self) -> Vec<NodeId> {
        let woken = std::mem::take(&mut self.woken);
        if woken.is_empty() {
            return Vec::new();
        }
        let nodes = woken.slots().filter_map(|slot| self.nodes.get(slot)?.as_ref());
        nodes.map(|node| node.id).collect()
    }

    /// How many messages that any of the selectors matches were published above one place, up to
    /// another: what somebody missed who comes back. `None` when nobody knows: the epoch is another
    /// one, or it is too long ago, or there are too many to look through.
    #[must_use]
    pub fn missed(
        &self,
        namespace: &str,
        selectors: &[Selector],
        after: Place,
        through: Position,
    ) -> Option<u64> {
        if after.epoch != self.epoch || selectors.len() > SELECTORS_MAX {
            return None;
        }
        self.journal.count(
            namespace,
            selectors,
            after.position,
            through,
            &self.limits,
            MISSED_STEPS_MAX,
        )
    }

    /// A page of what somebody wants, or was published to lately, in the order of the texts: those
    /// above `after` that a pattern matches.
    ///
    /// It looks at everything there is, so a million rows hold up publishers for some tenths of a
    /// second: not to be asked for often.
    #[must_use]
    pub fn channels(
        &self,
        namespace: &str,
        pattern: &Selector,
        after: Option<&str>,
        rows_max: usize,
    ) -> Vec<ChannelRow> {
        list::page(self, namespace, pattern, after, rows_max)
    }

    /// What holds at any time.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let limits = &self.limits;
        self.ring.check(limits.ring_bytes_max, limits.ring_messages_max);
        self.journal.check(limits, self.position);
        self.counters.check();
        let mut groups = 0;
        for (slot, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            groups += node.check(self.position, limits);
            assert!(node.link.is_some() || !self.woken.has(slot));
            let wanted = self.ring.above(node.cursor).any(|kept| kept.to.has(slot));
            assert!(!wanted || !node.sleeps || node.link.is_none(), "nobody wakes the node");
        }
        assert_eq!(self.groups.uses(), groups, "groups that nobody is in, or is in uncounted");
        assert!(self.candidates.is_empty());
    }

    /// One node for each group that wants a message.
    fn serve(
        &mut self,
        candidates: &mut [(u32, usize, u64)],
        linked: Nodes,
    ) -> Vec<(usize, Arc<str>)> {
        candidates.sort_unstable();
        let mut served = Vec::new();
        for group in candidates.chunk_by(|a, b| a.0 == b.0) {
            let mut members: Vec<(usize, u64)> = Vec::new();
            for (_, slot, count) in group {
                match members.last_mut() {
                    Some((last, sum)) if last == slot => *sum += count,
                    _ => members.push((*slot, *count)),
                }
            }
            let number = group[0].0;
            if let Some(slot) = self.groups.kept_mut(number).choose(&members, linked) {
                let name = self.groups.name(number).clone();
                served.push((slot, self.groups.kept_mut(number).name(name.name())));
            }
        }
        served
    }

    /// Puts a message into the ring, and notes what goes for it.
    fn keep(&mut self, kept: Kept) {
        self.ring.push(kept);
        let HubLimits { ring_bytes_max, ring_messages_max, lost_rows_max, .. } = self.limits;
        while let Some(oldest) = self.ring.pop_beyond(ring_bytes_max, ring_messages_max) {
            for slot in oldest.to.slots() {
                if let Some(node) = &mut self.nodes[slot] {
                    node.pass(slot, &oldest, lost_rows_max);
                }
            }
        }
    }

    fn wake(&mut self, nodes: Nodes) {
        for slot in nodes.slots() {
            if let Some(node) = &mut self.nodes[slot]
                && std::mem::take(&mut node.sleeps)
            {
                self.woken.add(slot);
            }
        }
    }

    fn slot(&self, node: NodeId) -> Option<usize> {
        self.nodes.iter().position(|other| other.as_ref().is_some_and(|other| other.id == node))
    }

    fn free_slot(&mut self, node: NodeId) -> Result<usize, Refusal> {
        let slot = self.nodes.iter().position(Option::is_none).unwrap_or(self.nodes.len());
        within("nodes", slot + 1, NODES_MAX)?;
        if slot == self.nodes.len() {
            self.nodes.push(None);
        }
        self.nodes[slot] = Some(Node::new(node));
        Ok(slot)
    }

    fn linked(&self, node: NodeId, link: LinkId) -> Result<usize, Refusal> {
        let slot = self
            .slot(node)
            .filter(|slot| self.nodes[*slot].as_ref().is_some_and(|node| node.link == Some(link)));
        slot.ok_or(Refusal::NotLinked(node))
    }
}

/// Refuses what can't be published.
fn check(namespace: &str, channel: &str, content: &Content) -> Result<(), Refusal> {
    check_namespace(namespace)?;
    check_channel(channel)?;
    content.check()
}
