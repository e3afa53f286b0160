//! A node's half: the subscriptions of its clients, what they want from the leader together, and
//! which of them each message goes to.

mod members;
mod row;
mod subscription;

use crate::limits::{ALIKE_MAX, RouterLimits, SELECTORS_MAX};
use crate::name::{Name, Registry, key};
use crate::outbox::Progress;
use crate::refusal::{check_namespace, within};
use crate::{
    Closed, Delivery, Epoch, Interest, InterestChange, Lost, LostMessages, Outbox, OutboxOptions,
    Place, Position, Refusal, Selector, SubscriptionId, check_group,
};
use row::Row;
use std::collections::HashMap;
use std::sync::Arc;
use subscription::{State, Subscription};

/// Slots for which room is kept between messages: a message to very many subscriptions is rare.
const FOUND_KEPT: usize = 4_096;

/// A subscription that was begun.
#[derive(Debug)]
pub struct Subscribed {
    /// To name it by.
    pub id: SubscriptionId,
    /// What comes for it, from when it is confirmed.
    pub outbox: Arc<Outbox>,
    /// To be told to the leader, in this order.
    pub changes: Vec<InterestChange>,
}

/// Where a message went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Subscriptions that it was put into the queues of.
    pub subscribers: u64,
    /// Groups of which nobody is here any more to be served.
    pub unserved: u64,
}

/// Whose turn it is in a group: the one behind this slot.
#[derive(Debug)]
struct Turn(u32);

impl Default for Turn {
    fn default() -> Self {
        // Behind all of them comes the first.
        Self(u32::MAX)
    }
}

/// The subscriptions of a node.
///
/// A caller holds it in a mutex. A message costs a look for those that match, and a push for each of
/// them, which waits for nobody.
#[derive(Debug)]
pub struct Router {
    limits: RouterLimits,
    slots: Vec<Option<Subscription>>,
    free: Vec<u32>,
    by_id: HashMap<SubscriptionId, u32>,
    newest_id: u64,
    interest: Interest<Row>,
    /// Rows of interest, by selector and group.
    rows: usize,
    /// What they count for.
    bytes: usize,
    groups: Registry<Turn>,
    /// How far the present link is.
    progress: Arc<Progress>,
    /// No subscription that lapsed is live again yet, so that a link can't go on from here.
    lapsed: bool,
    /// Everything up to here was delivered, and is not again.
    delivered: Place,
    buffer: String,
    /// Slots that a message goes to; empty between messages.
    found: Vec<u32>,
}

impl Router {
    /// Without a subscription, and without a link.
    #[must_use]
    pub fn new(limits: RouterLimits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            newest_id: 0,
            interest: Interest::default(),
            rows: 0,
            bytes: 0,
            groups: Registry::default(),
            progress: Progress::new(Place::default()),
            lapsed: true,
            delivered: Place::default(),
            buffer: String::new(),
            found: Vec::new(),
        }
    }

    /// Begins a subscription. Nothing comes for it before it is confirmed.
    ///
    /// # Errors
    /// When it, or all of them together, want too much.
    pub fn subscribe(
        &mut self,
        namespace: &str,
        selectors: &[Selector],
        group: Option<&str>,
        options: OutboxOptions,
    ) -> Result<Subscribed, Refusal> {
        check_namespace(namespace)?;
        group.map_or(Ok(()), check_group)?;
        let mut selectors = selectors.to_vec();
        selectors.sort_unstable();
        selectors.dedup();
        if selectors.is_empty() {
            return Err(Refusal::NoSelector);
        }
        within("patterns of the subscription", selectors.len(), SELECTORS_MAX)?;
        within("subscriptions of the node", self.by_id.len() + 1, self.limits.subscriptions_max)?;
        let group = group.map(|group| (self.groups.acquire(&Name::new(namespace, group)), group));
        if let Err(refusal) =
            self.check_rows(namespace, &selectors, group.map(|(number, _)| number))
        {
            if let Some((number, _)) = group {
                self.groups.release(number, 1);
            }
            return Err(refusal);
        }
        self.newest_id += 1;
        let id = SubscriptionId(self.newest_id);
        let outbox = Arc::new(Outbox::new(options));
        let subscription = Subscription {
            id,
            namespace: namespace.into(),
            selectors: selectors.into(),
            group: group.map(|(number, group)| (number, group.into())),
            state: State::Pending,
            outbox: Arc::clone(&outbox),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("there are far fewer subscriptions")
        });
        self.by_id.insert(id, slot);
        let changes = self.change(&subscription, slot, true);
        self.slots[slot as usize] = Some(subscription);
        Ok(Subscribed { id, outbox, changes })
    }

    /// The leader knows of the subscription since a place: what its changes of interest were answered
    /// with, on the present link. What comes above goes to it. Says whether it is live
    /// then; it is not when a later leader is followed already, who has to be told again.
    ///
    /// To be said before anything above that place is delivered. What was delivered already may be
    /// missing, and is told as a gap.
    pub fn confirm(&mut self, id: SubscriptionId, start: Place) -> bool {
        let delivered = self.delivered;
        let Some(slot) = self.by_id.get(&id).copied() else { return false };
        if start.epoch < delivered.epoch.max(self.progress.place().epoch) {
            return false;
        }
        let progress = self.follow(start.epoch);
        let Some(subscription) = self.slots[slot as usize].as_mut() else { return false };
        if subscription.start().is_some_and(|before| before.epoch == start.epoch) {
            return true;
        }
        let is_late = delivered.epoch == start.epoch && delivered > start;
        let begin = if is_late { delivered } else { start };
        if is_late || subscription.state != State::Pending {
            subscription.outbox.gap(None, begin);
        }
        subscription.outbox.follow(begin, progress);
        subscription.state = State::Live(begin);
        true
    }

    /// Ends a subscription; returns what the leader has to be told.
    pub fn unsubscribe(&mut self, id: SubscriptionId) -> Vec<InterestChange> {
        let Some(slot) = self.by_id.remove(&id) else { return Vec::new() };
        let Some(subscription) = self.slots[slot as usize].take() else { return Vec::new() };
        self.free.push(slot);
        let changes = self.change(&subscription, slot, false);
        if let Some((group, _)) = &subscription.group {
            self.groups.release(*group, 1);
        }
        subscription.outbox.close(Closed::Unsubscribed);
        if self.by_id.is_empty() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        changes
    }

    /// Puts a message into the queues that it is for: of each plain subscription that wants it, once,
    /// and of one member of each group, whose turn it is of those that have room.
    pub fn deliver(&mut self, delivery: &Delivery) -> Delivered {
        let message = &delivery.message;
        let place = message.place();
        if place <= self.delivered {
            return Delivered::default();
        }
        self.delivered = place;
        let mut delivered = Delivered::default();
        if delivery.plain {
            self.find(message.namespace(), message.channel());
            for slot in &self.found {
                let subscription = self.slots[*slot as usize].as_ref();
                if let Some(subscription) = subscription.filter(|one| one.hears(place)) {
                    subscription.outbox.push(message);
                    delivered.subscribers += 1;
                }
            }
        }
        for group in &delivery.groups {
            let bytes = message.counted_bytes();
            let (namespace, channel) = (message.namespace(), message.channel());
            match self.serve(namespace, channel, group, place, bytes) {
                Some(member) => {
                    member.outbox.push(message);
                    delivered.subscribers += 1;
                }
                None => delivered.unserved += 1,
            }
        }
        delivered
    }

    /// Tells of messages that are gone those subscriptions that would have received them. What a
    /// group was to be served is told to one member, as the messages would have gone to one.
    pub fn lost(&mut self, lost: &Lost) {
        match lost {
            Lost::Messages(lost) => self.lost_messages(lost),
            Lost::Unknown { last, .. } => {
                for subscription in self.slots.iter().flatten() {
                    // A group may have been served before this member of it was confirmed.
                    if subscription.hears(*last) || subscription.group.is_some() {
                        subscription.outbox.gap(None, *last);
                    }
                }
            }
        }
    }

    /// Everything up to a place was delivered, or is not for this node.
    pub fn advance(&mut self, through: Place) {
        if through.epoch == self.progress.place().epoch {
            self.progress.advance(through.position);
        }
    }

    /// The link goes on nowhere: another one began that was not resumed. What was live is not any
    /// more, until [`Router::new_epoch`] says from where it is again; only what is confirmed from now
    /// on is live before. To be said before anything from that link is delivered.
    pub fn lapse(&mut self) {
        self.lapsed = true;
        self.progress = Progress::new(Place::default());
        for subscription in self.slots.iter_mut().flatten() {
            if matches!(subscription.state, State::Live(_)) {
                subscription.state = State::Lapsed;
            }
        }
    }

    /// All interest that there was when the present link began is known to the leader, since a place.
    /// What lapsed, or was live in an earlier epoch, is live from there, with a gap of unknown size
    /// before; nothing of an earlier epoch is delivered from now on.
    pub fn new_epoch(&mut self, epoch: Epoch, start: Position) {
        self.lapsed = false;
        let start = Place::new(epoch, start);
        self.delivered = self.delivered.max(Place::new(epoch, Position(0)));
        let progress = self.follow(epoch);
        for subscription in self.slots.iter_mut().flatten() {
            match subscription.state {
                State::Live(before) if before.epoch >= epoch => {}
                State::Pending => {}
                State::Live(_) | State::Lapsed => {
                    subscription.state = State::Live(start);
                    subscription.outbox.gap(None, start);
                    subscription.outbox.follow(start, Arc::clone(&progress));
                }
            }
        }
    }

    /// From where another link may go on; `None` when it has to begin anew.
    #[must_use]
    pub fn position(&self) -> Option<Place> {
        (!self.lapsed).then(|| self.progress.place().max(self.delivered))
    }

    /// All that the leader has to know of, in an order of its own: groups come last, because what a
    /// group is served here before all of it is known finds nobody confirmed.
    #[must_use]
    pub fn interest(&self) -> Vec<InterestChange> {
        let mut interest = Vec::with_capacity(self.rows);
        let all = || self.slots.iter().flatten();
        let plain = all().filter(|subscription| subscription.group.is_none());
        for subscription in plain.chain(all().filter(|subscription| subscription.group.is_some())) {
            let Subscription { namespace, selectors, group, .. } = subscription;
            for selector in selectors {
                let number = group.as_ref().map(|(number, _)| *number);
                let row = self.interest.get(namespace, selector);
                let Some(members) = row.and_then(|row| row.members(number)) else { continue };
                // The first of those that share a row speaks for all.
                let first =
                    members.slots().first().and_then(|slot| self.slots[*slot as usize].as_ref());
                if first.is_some_and(|first| first.id == subscription.id) {
                    interest.push(InterestChange {
                        namespace: Arc::clone(namespace),
                        selector: selector.clone(),
                        group: group.as_ref().map(|(_, group)| Arc::clone(group)),
                        subscribers: members.slots().len() as u64,
                    });
                }
            }
        }
        interest
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.by_id.len()
    }

    /// What holds at any time.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut rows = 0;
        self.interest.each_row(|row| {
            assert!(!row.is_empty());
            rows += usize::from(!row.plain.slots().is_empty()) + row.groups().len();
        });
        assert_eq!((self.rows, self.bytes == 0), (rows, rows == 0));
        assert_eq!(self.slots.iter().flatten().count(), self.by_id.len());
        let grouped = self.slots.iter().flatten().filter(|one| one.group.is_some());
        assert_eq!(self.groups.uses(), grouped.count());
        assert_eq!(self.interest().len(), rows);
        assert_eq!(self.interest.is_empty(), self.by_id.is_empty());
    }

    /// Whether rows for a subscription may be added: all of them, or none.
    fn check_rows(
        &self,
        namespace: &str,
        selectors: &[Selector],
        group: Option<u32>,
    ) -> Result<(), Refusal> {
        let (mut rows, mut bytes) = (self.rows, self.bytes);
        let mut alike: HashMap<(bool, &[u8]), usize> = HashMap::new();
        for selector in selectors {
            let row = self.interest.get(namespace, selector);
            if row.is_none_or(|row| row.count(group) == 0) {
                rows += 1;
                bytes += selector.row_bytes();
            }
            if row.is_none()
                && let Some(place) = selector.place()
            {
                let new = alike.entry(place).or_default();
                *new += 1;
                let all = self.interest.alike(namespace, selector) + *new;
                within("patterns with the same beginning or ending", all, ALIKE_MAX)?;
            }
        }
        within("selectors of the node", rows, self.limits.interest_rows_max)?;
        within("bytes of selectors of the node", bytes, self.limits.interest_bytes_max)
    }

    /// Adds a subscription to the rows of its selectors, or takes it out of them.
    fn change(&mut self, one: &Subscription, slot: u32, add: bool) -> Vec<InterestChange> {
        let number = one.group.as_ref().map(|(number, _)| *number);
        let mut changes = Vec::with_capacity(one.selectors.len());
        for selector in &one.selectors {
            let row = self.interest.entry(&one.namespace, selector);
            let before = row.count(number);
            if add {
                row.add(number, slot);
            } else {
                row.remove(number, slot);
            }
            let after = row.count(number);
            let is_empty = row.is_empty();
            if before == 0 {
                self.rows += 1;
                self.bytes += selector.row_bytes();
            } else if after == 0 {
                self.rows -= 1;
                self.bytes -= selector.row_bytes();
            }
            if is_empty {
                self.interest.remove(&one.namespace, selector);
            }
            changes.push(InterestChange {
                namespace: Arc::clone(&one.namespace),
                selector: selector.clone(),
                group: one.group.as_ref().map(|(_, group)| Arc::clone(group)),
                subscribers: after as u64,
            });
        }
        changes
    }

    fn lost_messages(&mut self, lost: &LostMessages) {
        let LostMessages { namespace, channel, group, count, first, last } = lost;
        let Some(group) = group else {
            self.find(namespace, channel);
            for slot in &self.found {
                let Some(subscription) = &self.slots[*slot as usize] else { continue };
                if let Some(start) = subscription.start().filter(|_| subscription.hears(*last)) {
                    // Some were lost before it was there: nobody knows how many after.
                    subscription.outbox.gap((start < *first).then_some(*count), *last);
                }
            }
            return;
        };
        if let Some(member) = self.serve(namespace, channel, group, *last, 0) {
            member.outbox.gap(Some(*count), *last);
        }
    }

    /// Leaves in `found` the plain subscriptions that a channel matches, each once.
    fn find(&mut self, namespace: &str, channel: &str) {
        let Self { interest, found, .. } = self;
        found.clear();
        let mut selectors = 0;
        interest.matches(namespace, channel, |row| {
            selectors += 1;
            found.extend(row.plain.slots());
        });
        if selectors > 1 {
            found.sort_unstable();
            found.dedup();
        }
        if found.capacity() > FOUND_KEPT && found.len() < FOUND_KEPT {
            found.shrink_to(FOUND_KEPT);
        }
    }

    /// The member of a group whose turn it is, of those that a channel matches. One that does not hear
    /// what is at a place, because it is not confirmed (again) yet, is taken only when no other has
    /// room for so many bytes: that the leader chose this node says that it knows of a member. One
    /// without room is taken when none has any.
    fn serve(
        &mut self,
        namespace: &str,
        channel: &str,
        group: &str,
        place: Place,
        bytes: usize,
    ) -> Option<&Subscription> {
        let number = self.groups.number(key(&mut self.buffer, namespace, group))?;
        let mut rows = Vec::new();
        self.interest.matches(namespace, channel, |row| rows.extend(row.members(Some(number))));
        let turn = self.groups.kept_mut(number).0;
        let next = |will_do: &dyn Fn(&Subscription) -> bool| {
            let will_do = |slot: u32| self.slots[slot as usize].as_ref().is_some_and(will_do);
            let nexts = rows.iter().filter_map(|members| members.next_after(turn, will_do));
            // The nearest behind the turn, going round.
            nexts.min_by_key(|slot| slot.wrapping_sub(turn.wrapping_add(1)))
        };
        let has_room = |member: &Subscription| member.outbox.has_room(bytes);
        let slot = next(&|member| member.hears(place) && has_room(member))
            .or_else(|| next(&has_room))
            .or_else(|| next(&|member| member.outbox.closed().is_none()))?;
        self.groups.kept_mut(number).0 = slot;
        self.slots[slot as usize].as_ref()
    }

    /// The progress of an epoch, which is another one than of the epoch before.
    fn follow(&mut self, epoch: Epoch) -> Arc<Progress> {
        if self.progress.place().epoch < epoch {
            self.progress = Progress::new(Place::new(epoch, Position(0)));
        }
        Arc::clone(&self.progress)
    }
}
