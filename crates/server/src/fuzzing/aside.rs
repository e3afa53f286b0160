//! What goes between a node and the leader beside the log, told to a hub and a router.

use crate::bus::ReplyTo;
use crate::wire;
use bytes::Bytes;
use quorate_bus::{
    Epoch, Hub, HubLimits, LinkId, OutboxOptions, Router, RouterLimits, Selector, SlowPolicy,
};
use quorate_proto::codec::decode;
use quorate_proto::peer::{self, aside_request::Request, aside_response::Response};
use quorate_state::NodeId;

const NODE: NodeId = NodeId(1);
const LINK: LinkId = LinkId(1);

/// What a node says to the leader. Accepted if the hub takes any of it.
pub fn aside_up(bytes: &[u8]) -> bool {
    let Ok(message) = decode::<peer::AsideUp>(&Bytes::copy_from_slice(bytes)) else { return false };
    let mut hub = Hub::new(Epoch(7), HubLimits::default());
    hub.link(NODE, LINK, None).expect("there is room for one node");
    let mut accepted = false;
    for request in message.requests.into_iter().filter_map(|one| one.request) {
        accepted |= heard_by_leader(&mut hub, request);
    }
    if let Ok(taken) = hub.take(NODE, LINK, 1 << 20, 1_024) {
        for lost in taken.lost {
            let _ = wire::bus::lost_in(wire::bus::lost_out(lost));
        }
        for delivery in taken.deliveries {
            let sent = wire::bus::delivery_out(delivery);
            let back =
                wire::bus::delivery_in(sent.clone()).expect("a node takes what a leader sends");
            assert_eq!(wire::bus::delivery_out(back), sent, "it is another one on the other side");
        }
    }
    accepted
}

fn heard_by_leader(hub: &mut Hub, request: Request) -> bool {
    match request {
        Request::Open(open) => {
            let resume = open.resume.map(|place| wire::bus::place_in(Some(place)));
            hub.link(NODE, LINK, resume).is_ok()
        }
        Request::BusInterest(interest) => wire::bus::interest_in(interest)
            .is_ok_and(|change| hub.set_interest(NODE, LINK, &[change]).is_ok()),
        Request::BusPublish(publish) => {
            let _ = wire::bus::publish_bytes(&publish);
            let (namespace, messages) = wire::bus::to_publish(publish);
            let Ok(published) = hub.publish_all(&namespace, messages) else { return false };
            wire::bus::published_in(wire::bus::published_out(1, &published)).is_ok()
        }
        Request::BusSubscribe(subscribe) => {
            let after = wire::bus::place_in(subscribe.resume);
            let selectors: Vec<_> =
                subscribe.patterns.iter().filter_map(|text| Selector::parse(text).ok()).collect();
            let through = hub.position().position;
            hub.missed(&subscribe.namespace, &selectors, after, through).is_some()
        }
        Request::BusReply(reply) => ReplyTo::parse(&reply.reply_to).is_some(),
        Request::BusList(list) => wire::bus::listed_out(hub, list).is_ok(),
        Request::BusReplyTaken(_) | Request::CacheReads(_) | Request::Ready(_) => true,
    }
}

/// What the leader says to a node, where somebody subscribes to all channels, alone and in a group.
/// Accepted if a message is delivered.
pub fn aside_down(bytes: &[u8]) -> bool {
    let Ok(message) = decode::<peer::AsideDown>(&Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let mut router = Router::new(RouterLimits::default());
    let options =
        OutboxOptions { messages_max: 16, bytes_max: 1 << 20, policy: SlowPolicy::DropOldest };
    let all = Selector::parse("*").expect("it is a pattern");
    let subscribed: Vec<_> = [None, Some("group")]
        .into_iter()
        .map(|group| router.subscribe("shop", std::slice::from_ref(&all), group, options))
        .collect::<Result<_, _>>()
        .expect("there is room for two");
    router.new_epoch(Epoch(1), wire::bus::place_in(None).position);
    for one in &subscribed {
        router.confirm(one.id, wire::bus::place_in(Some(peer::BusPlace { epoch: 1, position: 0 })));
    }
    let mut accepted = false;
    for response in message.responses.into_iter().filter_map(|one| one.response) {
        let _ = wire::bus::weight(&response);
        accepted |= heard_by_node(&mut router, &subscribed[0], response);
    }
    for one in subscribed {
        let items = one.outbox.take(1 << 20, 16);
        let _ = wire::bus::items(items, one.outbox.position().unwrap_or_default());
        router.unsubscribe(one.id);
    }
    accepted
}

fn heard_by_node(router: &mut Router, first: &quorate_bus::Subscribed, response: Response) -> bool {
    match response {
        Response::BusConfirmed(confirmed) => {
            if let Some(failure) = confirmed.failure {
                let _ = wire::bus::failure_in(failure);
                return false;
            }
            let start = wire::bus::place_in(confirmed.place);
            first.outbox.gap(confirmed.missed, start);
            router.confirm(first.id, start)
        }
        Response::BusPublished(published) => wire::bus::published_in(published)
            .is_ok_and(|published| !wire::bus::published_all(&published).published.is_empty()),
        Response::BusDelivery(delivery) => wire::bus::delivery_in(delivery)
            .is_ok_and(|delivery| router.deliver(&delivery).subscribers > 0),
        Response::BusLost(lost) => {
            router.lost(&wire::bus::lost_in(lost));
            true
        }
        Response::BusThrough(place) => {
            router.advance(wire::bus::place_in(Some(place)));
            true
        }
        Response::Ready(place) => {
            let place = wire::bus::place_in(Some(place));
            router.new_epoch(place.epoch, place.position);
            true
        }
        Response::BusAnswer(answer) => {
            let content = wire::bus::content_in(answer.content.unwrap_or_default(), None);
            let _ = wire::bus::content_public(&content);
            ReplyTo::parse(&answer.reply_to).is_some()
        }
        Response::BusListed(listed) => {
            let _ = wire::bus::listed(listed);
            true
        }
        Response::Opened(opened) => {
            if !opened.resumed {
                router.lapse();
                let _ = router.interest();
            }
            true
        }
        Response::BusReplyDone(_) => true,
    }
}

/// Where an answer to a message goes, as a client gives it back.
pub fn reply_to(bytes: &[u8]) -> bool {
    let Some(found) = ReplyTo::parse(bytes) else { return false };
    assert_eq!(ReplyTo::parse(&found.text()), Some(found));
    true
}
