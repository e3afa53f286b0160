//! Messages of the bus: from and to clients, and between nodes.

use super::{Invalid, invalid, namespace};
use crate::bus::{Begin, Publish, Published};
use quorate_bus::{
    ChannelRow, Content, Delivery, Epoch, Gap, Hub, InterestChange, Item, Lost, LostMessages,
    Message, OutboxOptions, Place, Position, Refusal, Selector, Sequence, SlowPolicy,
};
use quorate_consensus::{Failure, Reason};
use quorate_proto::peer::{self, aside_response::Response};
use quorate_proto::v1;
use quorate_state::{Publication, Rejection, check_publication};
use std::ops::RangeInclusive;

/// Patterns of one subscription.
pub(crate) const PATTERNS_MAX: usize = 64;
/// Bytes of a queue group's name.
const GROUP_BYTES_MAX: usize = 256;
/// Messages that are published together, and what they have together: as one message may have.
const MESSAGES_MAX: usize = 1_024;
pub(crate) const MESSAGES_BYTES_MAX: usize = 1 << 20;
/// Entries in a page of channels at most, and when the request does not say.
const CHANNELS_MAX: u32 = 1_000;
const CHANNELS_DEFAULT: u32 = 100;
/// Messages that a subscription's buffer may be asked to hold, and what it holds by default.
const BUFFER_MESSAGES: RangeInclusive<u32> = 1..=65_536;
const BUFFER_MESSAGES_DEFAULT: u32 = 1_024;
/// Likewise bytes: at most as much as the leader keeps for all.
const BUFFER_BYTES: RangeInclusive<u32> = 1_024..=(16 << 20);
const BUFFER_BYTES_DEFAULT: u32 = 4 << 20;

fn rejected(rejection: &Rejection) -> Invalid {
    invalid("INVALID_MESSAGE", rejection.to_string())
}

/// Checks a message that a client publishes.
fn publish_of(
    name: String,
    channel: String,
    content: Option<v1::BusContent>,
) -> Result<Publish, Invalid> {
    let publication = publication(channel, content)?;
    let Publication { channel, payload, content_type, headers } = publication;
    let content = content_out(payload, content_type, headers);
    Ok(Publish { namespace: namespace(name)?, channel, content, rest: Vec::new() })
}

/// A message as the state machine has it, checked.
pub(crate) fn publication(
    channel: String,
    content: Option<v1::BusContent>,
) -> Result<Publication, Invalid> {
    let v1::BusContent { payload, content_type, headers } = content.unwrap_or_default();
    let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
    let publication = Publication { channel, payload, content_type, headers };
    check_publication(&publication).map_err(|rejection| rejected(&rejection))?;
    Ok(publication)
}

pub(crate) fn publish(request: v1::BusPublishRequest) -> Result<Publish, Invalid> {
    publish_of(request.namespace, request.channel, request.content)
}

pub(crate) fn publish_all(request: v1::BusPublishAllRequest) -> Result<Publish, Invalid> {
    let v1::BusPublishAllRequest { namespace, messages } = request;
    let count = messages.len();
    if !(1..=MESSAGES_MAX).contains(&count) {
        return Err(invalid(
            "INVALID_MESSAGE",
            format!(
                "{count} messages are to be published together; it must be 1 to {MESSAGES_MAX}"
            ),
        ));
    }
    let of = |number: usize, invalid: Invalid| Invalid {
        message: format!("message {number} of {count}: {}", invalid.message),
        ..invalid
    };
    let mut messages = messages.into_iter().enumerate();
    let (_, first) = messages.next().expect("they were counted");
    let mut publish =
        publish_of(namespace, first.channel, first.content).map_err(|why| of(1, why))?;
    let mut bytes = publish.channel.len() + content_bytes(&publish.content);
    for (number, v1::BusOutgoing { channel, content }) in messages {
        let publication = publication(channel, content).map_err(|why| of(number + 1, why))?;
        let Publication { channel, payload, content_type, headers } = publication;
        let content = content_out(payload, content_type, headers);
        bytes += channel.len() + content_bytes(&content);
        publish.rest.push(peer::BusPublishNext { channel, content: Some(content) });
    }
    if count > 1 && bytes > MESSAGES_BYTES_MAX {
        return Err(invalid(
            "INVALID_MESSAGE",
            format!(
                "{count} messages of {bytes} bytes are to be published together; together they may \
                 have {MESSAGES_BYTES_MAX}"
            ),
        ));
    }
    Ok(publish)
}

pub(crate) fn request(request: v1::BusRequestRequest) -> Result<Publish, Invalid> {
    publish_of(request.namespace, request.channel, request.content)
}

/// Checks an answer: what it answers, and with what.
pub(crate) fn reply(
    request: v1::BusReplyRequest,
) -> Result<(bytes::Bytes, peer::BusContent), Invalid> {
    namespace(request.namespace)?;
    if crate::bus::ReplyTo::parse(&request.reply_to).is_none() {
        return Err(invalid(
            "INVALID_REPLY_TO",
            "reply_to is not that of a message; give back what came with it, unchanged",
        ));
    }
    // As a message to any channel.
    let publication = publication("-".to_owned(), request.content)?;
    let Publication { payload, content_type, headers, .. } = publication;
    Ok((request.reply_to, content_out(payload, content_type, headers)))
}

pub(crate) fn published(published: &Published) -> v1::BusPublishResponse {
    let Published { place, sequence, nodes, subscribers, rest: _ } = *published;
    let (epoch, position) = (place.epoch.0, place.position.0);
    v1::BusPublishResponse { epoch, sequence, nodes, subscribers, position }
}

pub(crate) fn published_all(all: &Published) -> v1::BusPublishAllResponse {
    let first = published(all);
    let behind = first.position + 1..;
    let rest = all.rest.iter().zip(behind).map(|(next, position)| {
        let peer::BusPublishedNext { sequence, nodes, subscribers } = *next;
        v1::BusPublishResponse { epoch: first.epoch, sequence, nodes, subscribers, position }
    });
    v1::BusPublishAllResponse { published: std::iter::once(first).chain(rest).collect() }
}

pub(crate) fn subscribe(request: v1::BusSubscribeRequest) -> Result<Begin, Invalid> {
    let policy = match request.overflow() {
        v1::BusOverflow::Unspecified | v1::BusOverflow::DropOldest => SlowPolicy::DropOldest,
        v1::BusOverflow::Disconnect => SlowPolicy::Disconnect,
    };
    let count = request.patterns.len();
    if !(1..=PATTERNS_MAX).contains(&count) {
        return Err(invalid(
            "INVALID_PATTERN",
            format!(
                "the subscription has {count} patterns, the limit is {PATTERNS_MAX} and one is \
                 needed; `*` takes everything"
            ),
        ));
    }
    let selectors = request.patterns.iter().map(|pattern| {
        Selector::parse(pattern)
            .map_err(|error| invalid("INVALID_PATTERN", format!("pattern {pattern:?}: {error}")))
    });
    let length = request.queue_group.len();
    if length > GROUP_BYTES_MAX {
        return Err(invalid(
            "INVALID_QUEUE_GROUP",
            format!("the queue group is {length} bytes long, the limit is {GROUP_BYTES_MAX}"),
        ));
    }
    let within = |what: &str, asked: u32, default: u32, range: &RangeInclusive<u32>| {
        if asked == 0 {
            return Ok(default as usize);
        }
        if range.contains(&asked) {
            return Ok(asked as usize);
        }
        let (from, to) = (range.start(), range.end());
        Err(invalid("INVALID_BUFFER", format!("{what} is {asked}; it must be {from} to {to}")))
    };
    let messages_max = within(
        "buffer_messages",
        request.buffer_messages,
        BUFFER_MESSAGES_DEFAULT,
        &BUFFER_MESSAGES,
    )?;
    let bytes_max =
        within("buffer_bytes", request.buffer_bytes, BUFFER_BYTES_DEFAULT, &BUFFER_BYTES)?;
    Ok(Begin {
        selectors: selectors.collect::<Result<_, _>>()?,
        namespace: namespace(request.namespace)?,
        group: (length > 0).then_some(request.queue_group),
        options: OutboxOptions { messages_max, bytes_max, policy },
        resume: request.resume.map(|at| Place::new(Epoch(at.epoch), Position(at.position))),
    })
}

fn place(place: Place) -> v1::BusPlace {
    v1::BusPlace { epoch: place.epoch.0, position: place.position.0 }
}

pub(crate) fn items(items: Vec<Item>, at: Place) -> v1::BusSubscribeResponse {
    let items = items.into_iter().map(|item| {
        let item = match item {
            Item::Message(message) => v1::bus_item::Item::Message(message_out(&message)),
            Item::Gap(Gap { missed, .. }) => v1::bus_item::Item::Gap(v1::BusGap { missed }),
        };
        v1::BusItem { item: Some(item) }
    });
    v1::BusSubscribeResponse { items: items.collect(), place: Some(place(at)) }
}

fn message_out(message: &Message) -> v1::BusMessage {
    v1::BusMessage {
        channel: message.channel().to_owned(),
        epoch: message.epoch().0,
        sequence: message.sequence().0,
        position: message.position().0,
        content: Some(content_public(message.content())),
        reply_to: message.content().reply_to.clone().unwrap_or_default().into(),
    }
}

/// Content for a client.
pub(crate) fn content_public(content: &Content) -> v1::BusContent {
    let headers = content
        .headers
        .iter()
        .map(|(name, value)| v1::BusHeader { name: name.clone(), value: value.clone() });
    v1::BusContent {
        payload: content.payload.clone(),
        content_type: content.content_type.clone(),
        headers: headers.collect(),
    }
}

pub(crate) fn list(request: v1::BusListChannelsRequest) -> Result<peer::BusList, Invalid> {
    if !request.pattern.is_empty() {
        Selector::parse(&request.pattern)
            .map_err(|error| invalid("INVALID_PATTERN", error.to_string()))?;
    }
    let limit = match request.limit {
        0 => CHANNELS_DEFAULT,
        some => some.min(CHANNELS_MAX),
    };
    let (pattern, cursor) = (request.pattern, request.cursor);
    Ok(peer::BusList { id: 0, namespace: namespace(request.namespace)?, pattern, cursor, limit })
}

pub(crate) fn listed(listed: peer::BusListed) -> v1::BusListChannelsResponse {
    let channels = listed.channels.into_iter().map(|channel| v1::BusChannelEntry {
        pattern: channel.pattern,
        subscribers: channel.subscribers,
        nodes: channel.nodes,
        queue_groups: channel.queue_groups,
        last_sequence: channel.last_sequence,
        members: channel.members,
    });
    let (cursor, epoch) = (listed.cursor, listed.epoch);
    v1::BusListChannelsResponse { channels: channels.collect(), cursor, epoch }
}

// Between nodes.

fn content_out(
    payload: bytes::Bytes,
    content_type: String,
    headers: Vec<(String, String)>,
) -> peer::BusContent {
    let headers = headers.into_iter().map(|(name, value)| peer::BusHeader { name, value });
    peer::BusContent { payload, content_type, headers: headers.collect() }
}

/// Bytes of content, about.
pub(crate) fn content_bytes(content: &peer::BusContent) -> usize {
    let headers = content.headers.iter().map(|header| header.name.len() + header.value.len());
    content.payload.len() + content.content_type.len() + headers.sum::<usize>()
}

/// Content of a message, or of an answer to one.
pub(crate) fn content_in(content: peer::BusContent, reply_to: Option<String>) -> Content {
    let peer::BusContent { payload, content_type, headers } = content;
    let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
    Content { payload, content_type, headers, reply_to }
}

fn reply_to_in(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()).map(str::to_owned)
}

pub(crate) fn place_out(place: Place) -> peer::BusPlace {
    peer::BusPlace { epoch: place.epoch.0, position: place.position.0 }
}

pub(crate) fn place_in(place: Option<peer::BusPlace>) -> Place {
    let peer::BusPlace { epoch, position } = place.unwrap_or_default();
    Place::new(Epoch(epoch), Position(position))
}

/// What a transaction publishes.
pub(crate) fn of_transaction(namespace: &str, publication: &Publication) -> peer::BusPublish {
    let Publication { channel, payload, content_type, headers } = publication.clone();
    peer::BusPublish {
        id: 0,
        namespace: namespace.to_owned(),
        channel,
        content: Some(content_out(payload, content_type, headers)),
        reply_to: bytes::Bytes::new(),
        rest: Vec::new(),
    }
}

/// What is to be published: its namespace, and the channel and content of each message, in their order.
pub(crate) fn to_publish(publish: peer::BusPublish) -> (String, Vec<(String, Content)>) {
    let peer::BusPublish { namespace, channel, content, reply_to, rest, .. } = publish;
    let mut all = Vec::with_capacity(1 + rest.len());
    all.push((channel, content_in(content.unwrap_or_default(), reply_to_in(&reply_to))));
    let next = |next: peer::BusPublishNext| {
        (next.channel, content_in(next.content.unwrap_or_default(), None))
    };
    all.extend(rest.into_iter().map(next));
    (namespace, all)
}

pub(crate) fn interest_out(change: &InterestChange) -> peer::BusInterest {
    peer::BusInterest {
        namespace: change.namespace.as_ref().to_owned(),
        pattern: change.selector.text().to_owned(),
        queue_group: change.group.as_deref().unwrap_or_default().to_owned(),
        subscribers: change.subscribers,
    }
}

pub(crate) fn interest_in(interest: peer::BusInterest) -> Result<InterestChange, Refusal> {
    let peer::BusInterest { namespace, pattern, queue_group, subscribers } = interest;
    Ok(InterestChange {
        namespace: namespace.into(),
        selector: Selector::parse(&pattern)?,
        group: (!queue_group.is_empty()).then(|| queue_group.into()),
        subscribers,
    })
}

pub(crate) fn failure(failure: Failure) -> peer::Failure {
    let Failure { unknown, reason, message } = failure;
    peer::Failure { unknown, reason: reason.as_str().to_owned(), message }
}

pub(crate) fn failure_in(failure: peer::Failure) -> Failure {
    let reason = Reason::parse(&failure.reason).unwrap_or(Reason::LeaderChanged);
    Failure { unknown: failure.unknown, reason, message: failure.message }
}

/// Bytes of messages that are to be published, about.
pub(crate) fn publish_bytes(publish: &peer::BusPublish) -> usize {
    let content = |content: &Option<peer::BusContent>| content.as_ref().map_or(0, content_bytes);
    let rest = publish.rest.iter().map(|next| next.channel.len() + content(&next.content) + 64);
    publish.namespace.len()
        + publish.channel.len()
        + content(&publish.content)
        + rest.sum::<usize>()
        + 128
}

/// What messages came to, which were one call.
pub(crate) fn published_out(id: u64, published: &[quorate_bus::Published]) -> peer::BusPublished {
    let mut all = published.iter();
    let Some(first) = all.next() else { return peer::BusPublished { id, ..Default::default() } };
    let rest = all.map(|next| peer::BusPublishedNext {
        sequence: next.sequence.0,
        nodes: next.nodes,
        subscribers: next.subscribers,
    });
    peer::BusPublished {
        id,
        place: Some(place_out(first.place)),
        sequence: first.sequence.0,
        nodes: first.nodes,
        subscribers: first.subscribers,
        failure: None,
        rest: rest.collect(),
    }
}

pub(crate) fn published_in(published: peer::BusPublished) -> Result<Published, Failure> {
    if let Some(failure) = published.failure {
        return Err(failure_in(failure));
    }
    let place = place_in(published.place);
    // Those of the others are counted from there, and one more is looked at.
    if place.position.0.checked_add(published.rest.len() as u64 + 1).is_none() {
        return Err(Failure {
            unknown: true,
            reason: Reason::LeaderChanged,
            message: format!(
                "the leader's answer is malformed: its position is {}",
                place.position
            ),
        });
    }
    Ok(Published {
        place,
        sequence: published.sequence,
        nodes: published.nodes,
        subscribers: published.subscribers,
        rest: published.rest,
    })
}

pub(crate) fn delivery_out(delivery: Delivery) -> peer::BusDelivery {
    let Delivery { message, plain, groups } = delivery;
    // The payload is shared with all other nodes.
    let Content { payload, content_type, headers, reply_to } = message.content().clone();
    peer::BusDelivery {
        namespace: message.namespace().to_owned(),
        channel: message.channel().to_owned(),
        place: Some(place_out(message.place())),
        sequence: message.sequence().0,
        content: Some(content_out(payload, content_type, headers)),
        reply_to: reply_to.unwrap_or_default().into(),
        plain,
        queue_groups: groups.iter().map(|group| group.as_ref().to_owned()).collect(),
    }
}

pub(crate) fn delivery_in(delivery: peer::BusDelivery) -> Result<Delivery, Refusal> {
    let content = content_in(delivery.content.unwrap_or_default(), reply_to_in(&delivery.reply_to));
    let (place, sequence) = (place_in(delivery.place), Sequence(delivery.sequence));
    let message = Message::new(&delivery.namespace, &delivery.channel, place, sequence, content)?;
    let groups = delivery.queue_groups.into_iter().map(Into::into).collect();
    Ok(Delivery { message, plain: delivery.plain, groups })
}

pub(crate) fn lost_out(lost: Lost) -> peer::BusLost {
    let (first, last, of) = match lost {
        Lost::Unknown { first, last } => (first, last, None),
        Lost::Messages(LostMessages { namespace, channel, group, count, first, last }) => {
            let queue_group = group.map(|group| group.as_ref().to_owned());
            let of = peer::BusLostOf { namespace, channel, queue_group, messages: count };
            (first, last, Some(of))
        }
    };
    peer::BusLost { first: Some(place_out(first)), last: Some(place_out(last)), of }
}

pub(crate) fn lost_in(lost: peer::BusLost) -> Lost {
    let (first, last) = (place_in(lost.first), place_in(lost.last));
    match lost.of {
        None => Lost::Unknown { first, last },
        Some(peer::BusLostOf { namespace, channel, queue_group, messages }) => {
            let (group, count) = (queue_group.map(Into::into), messages);
            Lost::Messages(LostMessages { namespace, channel, group, count, first, last })
        }
    }
}

/// A page of what a hub knows.
pub(crate) fn listed_out(hub: &Hub, list: peer::BusList) -> Result<peer::BusListed, Refusal> {
    let peer::BusList { id, namespace, pattern, cursor, limit } = list;
    let pattern = Selector::parse(if pattern.is_empty() { "*" } else { &pattern })?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, CHANNELS_MAX as usize);
    let after = (!cursor.is_empty()).then_some(&*cursor);
    let rows = hub.channels(&namespace, &pattern, after, limit);
    let full = rows.len() == limit;
    let cursor = rows.last().filter(|_| full).map(|row| row.selector.clone());
    let count = |of: u64| u32::try_from(of).unwrap_or(u32::MAX);
    let channels = rows.into_iter().map(|row| {
        let ChannelRow { selector, subscribers, members, groups, nodes, last_sequence, .. } = row;
        peer::BusChannel {
            pattern: selector,
            subscribers,
            nodes,
            queue_groups: count(groups),
            last_sequence: last_sequence.map_or(0, |sequence| sequence.0),
            members,
        }
    });
    Ok(peer::BusListed {
        id,
        epoch: hub.epoch().0,
        channels: channels.collect(),
        cursor: cursor.unwrap_or_default(),
    })
}

/// Bytes that a part of what the leader says has about.
pub(crate) fn weight(response: &Response) -> usize {
    let content = |content: &Option<peer::BusContent>| content.as_ref().map_or(0, content_bytes);
    let own = match response {
        Response::BusDelivery(delivery) => content(&delivery.content) + delivery.channel.len(),
        Response::BusAnswer(answer) => content(&answer.content),
        Response::BusPublished(published) => 24 * published.rest.len(),
        Response::BusListed(listed) => {
            listed.channels.iter().map(|channel| channel.pattern.len() + 32).sum()
        }
        _ => 0,
    };
    64 + own
}
