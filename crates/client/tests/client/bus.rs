//! The message bus: what is sent, what is never sent twice, and what subscriptions and responders do
//! when nodes fail.

use crate::fake::{Act, Fake, Heard, NOT_APPLIED, UNKNOWN, fail, gap, item, status};
use futures::TryStreamExt as _;
use quorate_client::bus::{BusEvent, ChannelInfo, Overflow, RespondError};
use quorate_client::{Content, Error, Message, Subscription};
use quorate_proto::v1::{
    BusContent, BusHeader, BusItem, BusMessage, BusOverflow, BusPlace, BusReplyRequest,
    BusSubscribeRequest, bus_item,
};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

mod publishing;
mod responding;
mod subscribing;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Waits until something is so; on a paused clock that takes no time of ours.
async fn until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + secs(600);
    while !so() {
        assert!(Instant::now() < deadline, "it is not so, and will not be");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// That a subscription has begun at a place.
fn begun(epoch: u64, position: u64) -> Heard {
    Heard::Items(Vec::new(), Some((epoch, position)))
}

/// Messages and gaps, without saying how far it is.
fn items(items: &[BusItem]) -> Heard {
    Heard::Items(items.to_vec(), None)
}

/// A message that asks for an answer.
fn asking(position: u64, payload: &'static str, reply_to: &'static str) -> BusItem {
    let content = BusContent { payload: payload.into(), ..BusContent::default() };
    let message = BusMessage {
        channel: "c".to_owned(),
        epoch: 1,
        sequence: position,
        position,
        content: Some(content),
        reply_to: reply_to.into(),
    };
    BusItem { item: Some(bus_item::Item::Message(message)) }
}

/// The next `count` events: a message by its payload, a gap by what is missed.
async fn heard(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.push(match subscription.next().await.expect("it goes on").expect("no error") {
            BusEvent::Message(message) => {
                String::from_utf8(message.payload.to_vec()).expect("text")
            }
            BusEvent::Gap { missed, .. } => format!("gap {missed:?}"),
            other => panic!("{other:?}"),
        });
    }
    heard
}
