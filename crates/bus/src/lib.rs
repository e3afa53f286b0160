//! Routing for a publish/subscribe bus: who a message goes to, in which order, and what somebody
//! missed who did not get it.
//!
//! ```text
//!  publisher ──► Hub (the leader's) ──► ring ──► take ──► link ──► Router (each node's) ──► Outbox
//!                 │ epoch, sequence,                                │ matching subscribers    of each
//!                 │ position; nodes with interest                   │ one of each group    subscriber
//!                 ◄──────────── InterestChange ◄──── link ◄─────────┘
//! ```
//!
//! The leader of a Raft group has a [`Hub`], made for its term. Every node, the leader's own
//! included, has a [`Router`], and one link on which it tells the hub what its subscribers want and
//! takes what was published. Both are plain values: a caller holds each in a mutex and moves bytes
//! between them.
//!
//! # Guarantees
//! - **At most once, in order.** A subscription is handed messages that it asked for, in the order
//!   of their [`Place`]s, none twice, however many of its selectors match and however often a link
//!   is resumed.
//! - **Nothing is lost silently.** Between two messages that a subscription was handed there are gaps
//!   for all that it asked for and did not get: with their exact number when its own queue was full,
//!   or the leader's ring was; of unknown size when a link could not be resumed, when another leader
//!   came, or when a node lost messages of very many channels at once.
//! - **Sequences tell as well.** [`Sequence`]s of a channel have no hole within an epoch, as long as
//!   the channel is among the million that were used last, and never repeat.
//! - **A queue group gets each message once.** One node is chosen, by the members it has, and one
//!   member there. A member has gaps only for what it was to get itself: what it was given and had no
//!   room for, what its node was to serve and lost (told to one member, as it would have been
//!   delivered to one), and lapses, of unknown size, like everybody else. What went to other members
//!   is no gap. A message is in nobody's gap when its member ended before taking it, or its node was
//!   forgotten.
//! - **A slow reader holds up nobody.** A push never waits for a reader, publishing never for a
//!   node. A node that does not take loses what the ring has no room for; a subscriber that does not
//!   read loses what its queue has no room for.
//! - **Everything has a bound** ([`limits`]), and nothing is left of what was removed.
//!
//! # Invariants
//! - Positions of an epoch grow by one with each message; a node's cursor only goes back when its
//!   link is resumed, to what is still in the ring.
//! - A message is in the ring once, whoever wants it.
//! - A subscription is live for one epoch at a time, above one place; it hears nothing else.
//!
//! # What a caller does
//! - A link carries answers and parts to its node in the order in which the hub gave them. The node
//!   confirms a subscription when the answer to its changes arrives, so before anything later is
//!   delivered. Of a part it tells the losses first, then delivers, then advances.
//! - It begins with [`Router::position`]. When it was resumed, the changes that were not answered are
//!   sent again, in their order. When not, it first calls [`Router::lapse`], sends all of
//!   [`Router::interest`], and with the last answer calls [`Router::new_epoch`] and confirms what was
//!   not confirmed when it asked for the interest. Answers of an earlier link count for nothing.
//! - A node takes when [`Hub::woken`] names it, once when its link begins, and now and then besides.
//! - A link that breaks is unlinked; its node is forgotten some time later, if no other came.
//! - A client that comes back goes on from [`Outbox::position`]: when it is subscribed anew, its
//!   first item is a gap of [`Hub::missed`] from there to where it is confirmed, which the caller
//!   puts into the queue with [`Outbox::gap`] before that.
//!
//! # Deliberately absent
//! Sockets, tasks, timers and wire types: the server has them. Memory of who must be told again: a
//! link that was resumed repeats the [`InterestChange`]s that were not answered, in their order, and
//! one that was not tells all of [`Router::interest`]; a change says how many subscribers there are,
//! so that repeating it changes nothing. Whether this node may lead, and for how long: whoever
//! publishes asks first. Durability: what must not be lost belongs in a queue.
//!
//! # Example
//! A node that is linked to a hub, with one subscriber.
//! ```
//! use quorate_bus::{
//!     Content, Epoch, Hub, HubLimits, Item, LinkId, OutboxOptions, Router, RouterLimits, Selector,
//!     SlowPolicy,
//! };
//! use quorate_state::NodeId;
//!
//! let mut hub = Hub::new(Epoch(7), HubLimits::default());
//! let mut router = Router::new(RouterLimits::default());
//! let (node, link) = (NodeId(1), LinkId(1));
//!
//! // A link begins. It was not resumed, so all interest (none, yet) is told anew.
//! let start = hub.link(node, link, router.position())?;
//! router.lapse();
//! router.new_epoch(hub.epoch(), start.position);
//!
//! // A subscription is live from where the hub knew of it.
//! let options =
//!     OutboxOptions { messages_max: 100, bytes_max: 1 << 20, policy: SlowPolicy::DropOldest };
//! let selector = Selector::parse("user.*")?;
//! let subscribed = router.subscribe("", &[selector], None, options)?;
//! let place = hub.set_interest(node, link, &subscribed.changes)?;
//! router.confirm(subscribed.id, place);
//!
//! let content = Content { payload: "hello".into(), ..Content::default() };
//! let published = hub.publish("", "user.profile.updated", content)?;
//! assert_eq!((published.nodes, published.subscribers), (1, 1));
//!
//! // What the link carries.
//! let taken = hub.take(node, link, 1 << 20, 1_000)?;
//! taken.lost.iter().for_each(|lost| router.lost(lost));
//! for delivery in &taken.deliveries {
//!     router.deliver(delivery);
//! }
//! router.advance(taken.through);
//!
//! let items = subscribed.outbox.take(1 << 20, 10);
//! let [Item::Message(message)] = &items[..] else { panic!("there is one message") };
//! assert_eq!(message.content().payload, "hello");
//! assert_eq!(subscribed.outbox.position(), Some(published.place));
//! # Ok::<(), quorate_bus::Refusal>(())
//! ```

mod hub;
mod ids;
mod interest;
pub mod limits;
mod message;
mod name;
mod outbox;
mod refusal;
mod router;
mod selector;
#[cfg(test)]
mod tests;

pub use hub::{
    ChannelRow, Delivery, Discarded, Hub, LinkStart, Lost, LostMessages, Published, Taken,
};
pub use ids::*;
pub use interest::{Interest, InterestChange};
pub use limits::{HubLimits, RouterLimits};
pub use message::{Content, Message};
pub use outbox::{Closed, Gap, Item, Outbox, OutboxOptions, SlowPolicy};
pub use refusal::{Refusal, check_channel, check_group};
pub use router::{Delivered, Router, Subscribed};
pub use selector::Selector;
