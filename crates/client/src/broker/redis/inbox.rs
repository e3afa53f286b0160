//! What a subscription has received and nobody has read: bounded, and nothing is dropped silently.

use crate::Error;
use crate::broker::{BusEvent, Message};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Messages that wait.
const MESSAGES_MAX: usize = 1_024;
/// Bytes of channels and payloads that wait.
const BYTES_MAX: usize = 4 << 20;

/// Between the connection and who reads.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// What is missing before the first event.
    gap: Option<Missed>,
    events: VecDeque<BusEvent>,
    bytes: usize,
    over: Option<Error>,
}

/// A count, or none that is known.
type Missed = Option<u64>;

fn bytes(event: &BusEvent) -> usize {
    match event {
        BusEvent::Message(Message { channel, payload }) => channel.len() + payload.len(),
        BusEvent::Gap { .. } => 0,
    }
}

impl Waiting {
    fn drop_oldest(&mut self) {
        let Some(oldest) = self.events.pop_front() else { return };
        self.bytes -= bytes(&oldest);
        let missed = match oldest {
            BusEvent::Message(_) => Some(1),
            BusEvent::Gap { missed } => missed,
        };
        let before = self.gap.unwrap_or(Some(0));
        self.gap = Some(before.zip(missed).map(|(before, missed)| before + missed));
    }
}

impl Inbox {
    pub(super) fn push(&self, event: BusEvent) {
        let mut waiting = self.lock();
        waiting.bytes += bytes(&event);
        waiting.events.push_back(event);
        // One is kept, however large.
        while waiting.events.len() > 1
            && (waiting.events.len() > MESSAGES_MAX || waiting.bytes > BYTES_MAX)
        {
            waiting.drop_oldest();
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Nothing comes any more.
    pub(super) fn end(&self, error: Error) {
        self.lock().over = Some(error);
        self.more.notify_one();
    }

    /// The next event; an error once, and then for ever nothing.
    pub(super) async fn next(&self) -> Result<BusEvent, Error> {
        loop {
            let more = self.more.notified();
            {
                let mut waiting = self.lock();
                if let Some(missed) = waiting.gap.take() {
                    return Ok(BusEvent::Gap { missed });
                }
                if let Some(event) = waiting.events.pop_front() {
                    waiting.bytes -= bytes(&event);
                    return Ok(event);
                }
                if let Some(error) = waiting.over.take() {
                    return Err(error);
                }
            }
            more.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(payload: impl Into<Bytes>) -> BusEvent {
        BusEvent::Message(Message { channel: String::new(), payload: payload.into() })
    }

    #[tokio::test]
    async fn what_does_not_fit_becomes_a_gap_with_a_count() {
        let inbox = Inbox::default();
        for number in 0..MESSAGES_MAX + 7 {
            inbox.push(message(number.to_string()));
        }
        assert_eq!(inbox.next().await, Ok(BusEvent::Gap { missed: Some(7) }));
        assert_eq!(inbox.next().await, Ok(message("7")));
        // Large ones, of which only one fits beside another.
        let large = vec![0; BYTES_MAX / 2];
        for _ in 0..3 {
            inbox.push(message(large.clone()));
        }
        let missed = Some(MESSAGES_MAX as u64 - 1 + 1);
        assert_eq!(inbox.next().await, Ok(BusEvent::Gap { missed }));
        assert_eq!(inbox.next().await, Ok(message(large.clone())));
        assert_eq!(inbox.next().await, Ok(message(large)));
    }

    #[tokio::test]
    async fn a_gap_that_can_not_be_counted_stays_one_and_the_end_comes_last() {
        let inbox = Inbox::default();
        inbox.push(BusEvent::Gap { missed: None });
        for _ in 0..MESSAGES_MAX {
            inbox.push(message("m"));
        }
        let over = Error::Unavailable { reason: "R".to_owned(), message: "m".to_owned() };
        inbox.end(over.clone());
        assert_eq!(inbox.next().await, Ok(BusEvent::Gap { missed: None }));
        for _ in 0..MESSAGES_MAX {
            assert_eq!(inbox.next().await, Ok(message("m")));
        }
        assert_eq!(inbox.next().await, Err(over));
    }
}
