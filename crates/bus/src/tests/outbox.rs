//! A subscriber's queue: what it holds, what it drops, and what it says about it.

use super::content;
use crate::limits::MESSAGE_OVERHEAD_BYTES;
use crate::{
    Closed, Epoch, Gap, Item, Message, Outbox, OutboxOptions, Place, Position, Sequence, SlowPolicy,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

const ALL: usize = usize::MAX;

fn place(position: u64) -> Place {
    Place::new(Epoch(3), Position(position))
}

fn message(position: u64, bytes: usize) -> Message {
    Message::new("", "c", place(position), Sequence(position), content(bytes)).unwrap()
}

fn outbox(messages_max: usize, bytes_max: usize, policy: SlowPolicy) -> Outbox {
    Outbox::new(OutboxOptions { messages_max, bytes_max, policy })
}

/// Positions of messages; gaps by what they say.
fn shown(items: &[Item]) -> Vec<Result<u64, Option<u64>>> {
    let show = |item: &Item| match item {
        Item::Message(message) => Ok(message.position().0),
        Item::Gap(gap) => Err(gap.missed),
    };
    items.iter().map(show).collect()
}

#[test]
fn drops_the_oldest_and_says_so_where_they_were() {
    let outbox = outbox(3, 1 << 20, SlowPolicy::DropOldest);
    assert!(outbox.push(&message(1, 1)));
    assert!(!outbox.push(&message(2, 1)), "the reader is awake");
    assert_eq!(shown(&outbox.take(ALL, 1)), [Ok(1)]);
    assert_eq!(outbox.position(), Some(place(1)));
    for position in 3..=6 {
        outbox.push(&message(position, 1));
    }
    // 2 and 3 made room.
    assert_eq!(shown(&outbox.take(ALL, 2)), [Err(Some(2)), Ok(4)]);
    assert_eq!(outbox.position(), Some(place(4)));
    outbox.gap(Some(4), place(10));
    outbox.gap(None, place(12));
    outbox.gap(Some(1), place(13));
    outbox.gap(Some(0), place(14));
    outbox.push(&message(15, 1));
    outbox.push(&message(16, 1));
    // 5 made room: the gap before 6 is another one than the one behind it.
    outbox.check();
    let items = outbox.take(ALL, 1);
    assert_eq!(items, [Item::Gap(Gap { missed: Some(1), through: place(5) })]);
    // 6 makes room: it is one gap with what was missing behind it.
    outbox.push(&message(17, 1));
    outbox.check();
    let items = outbox.take(ALL, 2);
    assert_eq!(shown(&items), [Err(None), Ok(15)]);
    assert_eq!(items[0], Item::Gap(Gap { missed: None, through: place(13) }));
    assert_eq!(shown(&outbox.take(ALL, 2)), [Ok(16), Ok(17)]);
    assert_eq!(outbox.position(), Some(place(17)));
    // All in between goes: one gap.
    outbox.gap(Some(2), place(20));
    for position in 21..=24 {
        outbox.push(&message(position, 1));
    }
    assert_eq!(shown(&outbox.take(ALL, 9)), [Err(Some(3)), Ok(22), Ok(23), Ok(24)]);
    assert!(outbox.take(ALL, 9).is_empty());
}

#[test]
fn is_bounded_by_bytes_too() {
    let one = MESSAGE_OVERHEAD_BYTES + 1 + 99;
    let outbox = outbox(100, 3 * one, SlowPolicy::DropOldest);
    for position in 1..=3 {
        outbox.push(&message(position, 99));
    }
    assert!(!outbox.has_room(1));
    // Needs the room of two.
    outbox.push(&message(4, 150));
    // More than there is room at all, even for one alone.
    outbox.push(&message(5, 3 * one));
    outbox.push(&message(6, 0));
    assert_eq!(shown(&outbox.take(ALL, 9)), [Err(Some(2)), Ok(3), Ok(4), Err(Some(1)), Ok(6)]);

    for position in 11..=13 {
        outbox.push(&message(position, 99));
    }
    assert_eq!(shown(&outbox.take(2 * one, 9)), [Ok(11), Ok(12)]);
    assert_eq!(shown(&outbox.take(1, 9)), [Ok(13)], "one is always taken");
    assert!(outbox.has_room(3 * one) && !outbox.has_room(3 * one + 1));
}

#[test]
fn ends_at_the_bound_when_it_was_asked_to() {
    let outbox = outbox(2, 1_000, SlowPolicy::Disconnect);
    outbox.push(&message(1, 2_000));
    for position in 2..=3 {
        outbox.push(&message(position, 1));
    }
    assert_eq!(outbox.closed(), None);
    outbox.push(&message(4, 1));
    assert_eq!(outbox.closed(), Some(Closed::SlowSubscriber));
    assert!(!outbox.push(&message(5, 1)) && !outbox.gap(None, place(6)) && !outbox.has_room(1));
    outbox.close(Closed::Unsubscribed);
    assert_eq!(outbox.closed(), Some(Closed::SlowSubscriber), "what was first stays");
    let context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(items)) = outbox.poll_take(&context, ALL, 9) else { panic!("some is left") };
    assert_eq!(shown(&items), [Err(Some(1)), Ok(2), Ok(3)]);
    assert_eq!(outbox.poll_take(&context, ALL, 9), Poll::Ready(Err(Closed::SlowSubscriber)));
    assert_eq!(outbox.position(), Some(place(3)), "from here it goes on elsewhere");
}

#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn wakes_a_reader_that_waits_once() {
    let outbox = outbox(9, 1 << 20, SlowPolicy::DropOldest);
    let counting = Arc::new(Counting::default());
    let waker = Waker::from(Arc::clone(&counting));
    let context = Context::from_waker(&waker);
    let woken = || counting.0.load(Ordering::Relaxed);
    assert!(outbox.poll_take(&context, ALL, 9).is_pending());
    assert!(outbox.poll_take(&context, ALL, 9).is_pending());
    outbox.push(&message(1, 1));
    outbox.push(&message(2, 1));
    assert_eq!(woken(), 1);
    assert!(outbox.poll_take(&context, ALL, 9).is_ready());
    outbox.push(&message(3, 1));
    assert_eq!(woken(), 1, "it did not wait");
    assert!(outbox.poll_take(&context, ALL, 9).is_ready());
    assert!(outbox.poll_take(&context, ALL, 9).is_pending());
    outbox.gap(None, place(4));
    assert_eq!(woken(), 2);
    assert!(outbox.poll_take(&context, ALL, 9).is_ready());
    assert!(outbox.poll_take(&context, ALL, 9).is_pending());
    outbox.close(Closed::Unsubscribed);
    assert_eq!(woken(), 3);
    assert_eq!(outbox.poll_take(&context, ALL, 9), Poll::Ready(Err(Closed::Unsubscribed)));
}
