//! The message bus of one node: messages, groups, requests, gaps, and what is left behind by whom.

use crate::fixture::{Fixture, seen};
use bytes::Bytes;
use quorate_proto::v1;
use quorate_proto::v1::bus_item::Item;
use quorate_proto::v1::bus_service_client::BusServiceClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

type Client = BusServiceClient<Channel>;

async fn client(node: &Fixture) -> Client {
    BusServiceClient::new(node.channel().await)
}

fn publish(channel: &str, payload: &str) -> v1::BusPublishRequest {
    let content = Some(content(payload));
    v1::BusPublishRequest { channel: channel.to_owned(), content, ..Default::default() }
}

fn content(payload: &str) -> v1::BusContent {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    v1::BusContent { payload, ..Default::default() }
}

fn to(patterns: &[&str]) -> v1::BusSubscribeRequest {
    let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    v1::BusSubscribeRequest { patterns, ..Default::default() }
}

struct Subscription {
    stream: Streaming<v1::BusSubscribeResponse>,
    place: v1::BusPlace,
    items: std::collections::VecDeque<Item>,
}

impl Subscription {
    async fn begin(client: &mut Client, request: v1::BusSubscribeRequest) -> Self {
        let mut stream = client.subscribe(request).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert!(first.items.is_empty(), "the first message says that it has begun");
        Self { stream, place: first.place.unwrap(), items: Default::default() }
    }

    async fn next(&mut self) -> Result<Item, Status> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(item);
            }
            let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
            let message = message.expect("it comes in time")?.expect("it ends with a reason");
            let place = message.place.unwrap();
            assert!((place.epoch, place.position) >= (self.place.epoch, self.place.position));
            self.place = place;
            self.items.extend(message.items.into_iter().map(|item| item.item.unwrap()));
        }
    }

    async fn message(&mut self) -> v1::BusMessage {
        match self.next().await.unwrap() {
            Item::Message(message) => message,
            Item::Gap(gap) => panic!("a gap of {:?}", gap.missed),
        }
    }

    /// Payloads of so many messages.
    async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            texts.push(text(&self.message().await.content.unwrap()));
        }
        texts
    }
}

fn text(content: &v1::BusContent) -> String {
    String::from_utf8(content.payload.to_vec()).unwrap()
}

/// A number on the page of metrics.
async fn metric(node: &Fixture, name: &str) -> u64 {
    let page = node.http("/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("quorate_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

async fn becomes(node: &Fixture, name: &str, value: u64) {
    let until = Instant::now() + PATIENCE;
    while metric(node, name).await != value {
        assert!(Instant::now() < until, "{name} is {}", metric(node, name).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_subscribes_gets_what_matches_once_and_in_order() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let mut users = Subscription::begin(&mut bus, to(&["user.*", "*.created"])).await;
    let mut all = Subscription::begin(&mut bus, to(&["*"])).await;
    let mut exact = Subscription::begin(&mut bus, to(&["user.created"])).await;
    let mut elsewhere = Subscription::begin(
        &mut bus,
        v1::BusSubscribeRequest { namespace: "n".to_owned(), ..to(&["*"]) },
    )
    .await;
    let mut published = Vec::new();
    for (channel, payload) in [
        ("user.created", "1"),
        ("order.created", "2"),
        ("user.profile.updated", "3"),
        ("order.paid", "4"),
        ("user.created", "5"),
    ] {
        published.push(bus.publish(publish(channel, payload)).await.unwrap().into_inner());
    }
    let positions: Vec<_> = published.iter().map(|one| one.position).collect();
    assert!(positions.is_sorted_by(|a, b| a + 1 == *b), "{positions:?}");
    let sequences: Vec<_> = published.iter().map(|one| one.sequence).collect();
    assert_eq!(sequences, [1, 1, 1, 1, 2], "they count by channel");
    assert_eq!((published[0].nodes, published[0].subscribers), (1, 3 + 1), "two patterns are two");
    assert_eq!((published[3].nodes, published[3].subscribers), (1, 1));

    assert_eq!(users.texts(4).await, ["1", "2", "3", "5"]);
    assert_eq!(all.texts(5).await, ["1", "2", "3", "4", "5"]);
    let first = exact.message().await;
    assert_eq!((first.channel.as_str(), first.sequence), ("user.created", 1));
    assert_eq!(first.epoch, published[0].epoch);
    assert_eq!(exact.texts(1).await, ["5"]);

    let other = v1::BusPublishRequest { namespace: "n".to_owned(), ..publish("user.created", "6") };
    let published = bus.publish(other).await.unwrap().into_inner();
    assert_eq!((published.sequence, published.subscribers), (1, 1));
    assert_eq!(elsewhere.texts(1).await, ["6"]);

    drop((users, all, exact, elsewhere));
    becomes(&node, "bus_subscriptions", 0).await;
    let published = bus.publish(publish("user.created", "7")).await.unwrap().into_inner();
    assert_eq!((published.nodes, published.subscribers), (0, 0), "their interest is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_published_together_follow_each_other_and_none_comes_alone() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let mut all = Subscription::begin(&mut bus, to(&["*"])).await;
    let of = |messages: &[(&str, &str)]| v1::BusPublishAllRequest {
        messages: messages
            .iter()
            .map(|(channel, payload)| {
                let v1::BusPublishRequest { channel, content, .. } = publish(channel, payload);
                v1::BusOutgoing { channel, content }
            })
            .collect(),
        ..Default::default()
    };
    // Others publish meanwhile.
    let mut other = client(&node).await;
    let others = tokio::spawn(async move {
        for number in 0..200 {
            other.publish(publish("other", &format!("o{number}"))).await.unwrap();
        }
    });
    for round in 0..50 {
        let texts: Vec<_> = (0..4).map(|number| format!("{round}.{number}")).collect();
        let messages: Vec<_> = texts.iter().map(|text| ("together", &**text)).collect();
        let published = bus.publish_all(of(&messages)).await.unwrap().into_inner().published;
        let first = &published[0];
        for (number, one) in (0..).zip(&published) {
            assert_eq!((one.nodes, one.subscribers, one.epoch), (1, 1, first.epoch));
            assert_eq!(one.position, first.position + number);
            assert_eq!(one.sequence, 4 * round + number + 1);
        }
        assert_eq!(published.len(), 4);
    }
    others.await.unwrap();
    let received = all.texts(200 + 4 * 50).await;
    let together: Vec<_> =
        (0..received.len()).filter(|at| !received[*at].starts_with('o')).collect();
    for (round, four) in together.chunks(4).enumerate() {
        assert_eq!(four[3] - four[0], 3, "another message came between");
        let texts: Vec<_> = four.iter().map(|at| received[*at].clone()).collect();
        assert_eq!(texts, (0..4).map(|number| format!("{round}.{number}")).collect::<Vec<_>>());
    }

    for (wrong, says) in [
        (of(&[]), "0 messages"),
        (of(&[("c", "x"); 1_025]), "1025 messages"),
        (of(&[("c", "x"), ("", "y")]), "message 2 of 2"),
        (of(&[("c", &"x".repeat(600 << 10)), ("c", &"y".repeat(600 << 10))]), "together"),
    ] {
        let status = bus.publish_all(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(says), "{}", status.message());
    }
    let end = bus.publish(publish("c", "end")).await.unwrap().into_inner();
    assert_eq!(end.sequence, 1, "nothing of what was refused was published");
    assert_eq!(all.texts(1).await, ["end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_goes_through_unchanged() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let mut subscription = Subscription::begin(&mut bus, to(&["c"])).await;
    let headers = vec![v1::BusHeader { name: "traceparent".to_owned(), value: "00-1".to_owned() }];
    let content = v1::BusContent {
        payload: Bytes::from(vec![0xff; 1 << 20]),
        content_type: "application/octet-stream".to_owned(),
        headers,
    };
    let request = v1::BusPublishRequest {
        channel: "c".to_owned(),
        content: Some(content.clone()),
        ..Default::default()
    };
    bus.publish(request).await.unwrap();
    assert_eq!(subscription.message().await.content.unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_queue_group_one_gets_each_message() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let in_group =
        |group: &str| v1::BusSubscribeRequest { queue_group: group.to_owned(), ..to(&["work.*"]) };
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(Subscription::begin(&mut bus, in_group("g")).await);
    }
    let mut other = Subscription::begin(&mut bus, in_group("h")).await;
    let mut plain = Subscription::begin(&mut bus, to(&["work.a"])).await;
    let published = bus.publish(publish("work.a", "0")).await.unwrap().into_inner();
    assert_eq!(published.subscribers, 3, "a group counts as one");
    for number in 1..30 {
        bus.publish(publish("work.a", &number.to_string())).await.unwrap();
    }
    let all: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    assert_eq!(plain.texts(30).await, all);
    assert_eq!(other.texts(30).await, all);
    let mut got = Vec::new();
    for member in &mut members {
        got.extend(member.texts(10).await);
    }
    got.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert_eq!(got, all, "each to one of them, and as many to each");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_too_slowly_is_told_how_many_are_missing_or_ends() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let small = v1::BusSubscribeRequest { buffer_messages: 10, ..to(&["c"]) };
    // On a connection of its own: what is not read fills its windows.
    let mut slow = Subscription::begin(&mut client(&node).await, small.clone()).await;
    let disconnect =
        v1::BusSubscribeRequest { overflow: v1::BusOverflow::Disconnect.into(), ..small.clone() };
    let mut ended = Subscription::begin(&mut client(&node).await, disconnect).await;
    let mut fast = Subscription::begin(&mut client(&node).await, to(&["c"])).await;
    let payload = "x".repeat(64 << 10);
    let mut last = 0;
    for number in 0..200 {
        last = bus.publish(publish("c", &payload)).await.unwrap().into_inner().position;
        let message = fast.message().await;
        assert_eq!((message.position, message.sequence), (last, number + 1));
    }
    let (mut messages, mut missed, mut position) = (0, 0, 0);
    while position < last {
        match slow.next().await.unwrap() {
            Item::Message(message) => {
                assert!(message.position > position);
                position = message.position;
                messages += 1;
                assert_eq!(message.sequence, messages + missed, "the gap counts what it missed");
            }
            Item::Gap(gap) => missed += gap.missed.unwrap(),
        }
    }
    assert!(missed > 0 && messages + missed == 200, "{messages} came, {missed} missed");

    let status = loop {
        match ended.next().await {
            Ok(Item::Message(_)) => {}
            Ok(Item::Gap(gap)) => panic!("a gap of {:?}", gap.missed),
            Err(status) => break status,
        }
    };
    assert_eq!(seen(&status), (Code::ResourceExhausted, "SLOW_SUBSCRIBER", "not_applied"));
    becomes(&node, "bus_slow_subscribers_cut_total", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_goes_on_with_a_gap_of_what_was_published_meanwhile() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let mut first = Subscription::begin(&mut bus, to(&["a.*"])).await;
    bus.publish(publish("a.1", "0")).await.unwrap();
    first.texts(1).await;
    let place = first.place;
    drop(first);
    for channel in ["a.1", "b", "a.2", "a.3", "b"] {
        bus.publish(publish(channel, "missed")).await.unwrap();
    }
    let resume = |place| v1::BusSubscribeRequest { resume: Some(place), ..to(&["a.*"]) };
    let mut second = Subscription::begin(&mut bus, resume(place)).await;
    bus.publish(publish("a.1", "1")).await.unwrap();
    let Item::Gap(gap) = second.next().await.unwrap() else { panic!("a gap comes first") };
    assert_eq!(gap.missed, Some(3));
    assert_eq!(second.texts(1).await, ["1"]);

    // Nothing was missed: no gap.
    let mut third = Subscription::begin(&mut bus, resume(second.place)).await;
    bus.publish(publish("a.1", "2")).await.unwrap();
    assert_eq!(third.texts(1).await, ["2"]);

    // Of another epoch nobody knows; of one that is not over yet it can't be.
    let older = v1::BusPlace { epoch: place.epoch - 1, position: 1 };
    let mut fourth = Subscription::begin(&mut bus, resume(older)).await;
    let Item::Gap(gap) = fourth.next().await.unwrap() else { panic!("a gap comes first") };
    assert_eq!(gap.missed, None);
    becomes(&node, "bus_gaps_total", 2).await;
    let newer = v1::BusPlace { epoch: place.epoch + 1, position: 1 };
    let mut request = tonic::Request::new(resume(newer));
    request.set_timeout(Duration::from_millis(300));
    let status = bus.subscribe(request).await.unwrap_err();
    assert_eq!(seen(&status), (Code::Unavailable, "NOT_LEADER", "not_applied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_the_first_answer() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let request = |payload: &str| v1::BusRequestRequest {
        channel: "sum".to_owned(),
        content: Some(content(payload)),
        ..Default::default()
    };
    let status = bus.request(request("1+2")).await.unwrap_err();
    assert_eq!(seen(&status), (Code::Unavailable, "NO_SUBSCRIBERS", "not_applied"));

    let mut requests = Subscription::begin(&mut bus, to(&["sum"])).await;
    let mut asking = bus.clone();
    let asked = tokio::spawn(async move { asking.request(request("1+2")).await });
    let message = requests.message().await;
    assert_eq!(text(message.content.as_ref().unwrap()), "1+2");
    let reply = |payload: &str| v1::BusReplyRequest {
        reply_to: message.reply_to.clone(),
        content: Some(content(payload)),
        ..Default::default()
    };
    becomes(&node, "bus_requests_waiting", 1).await;
    bus.reply(reply("3")).await.unwrap();
    let answer = asked.await.unwrap().unwrap().into_inner();
    assert_eq!(text(&answer.content.unwrap()), "3");
    let status = bus.reply(reply("4")).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "NO_REQUEST", "not_applied"), "one is enough");

    let mut hurried = tonic::Request::new(v1::BusRequestRequest {
        channel: "sum".to_owned(),
        ..Default::default()
    });
    hurried.set_timeout(Duration::from_millis(200));
    let status = bus.request(hurried).await.unwrap_err();
    assert_eq!(seen(&status), (Code::DeadlineExceeded, "NO_REPLY", "unknown"));
    let late = requests.message().await;
    let late = v1::BusReplyRequest { reply_to: late.reply_to, ..Default::default() };
    let status = bus.reply(late).await.unwrap_err();
    assert_eq!(seen(&status), (Code::NotFound, "NO_REQUEST", "not_applied"));
    becomes(&node, "bus_requests_waiting", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let invalid = |status: Status, reason: &str| {
        assert_eq!(seen(&status), (Code::InvalidArgument, reason, "not_applied"), "{status:?}");
        status.message().to_owned()
    };
    let wrong = bus.publish(publish("", "x")).await.unwrap_err();
    assert!(invalid(wrong, "INVALID_MESSAGE").contains("channel"));
    let wrong = bus.publish(publish(&"c".repeat(1_025), "x")).await.unwrap_err();
    assert!(invalid(wrong, "INVALID_MESSAGE").contains("1024"));
    let large = "x".repeat((1 << 20) + 1);
    let wrong = bus.publish(publish("c", &large)).await.unwrap_err();
    assert!(invalid(wrong, "INVALID_MESSAGE").contains("1048576"));
    for patterns in [&[][..], &["["], &[""], &["x"; 65]] {
        let wrong = bus.subscribe(to(patterns)).await.unwrap_err();
        invalid(wrong, "INVALID_PATTERN");
    }
    let request = v1::BusSubscribeRequest { buffer_messages: 65_537, ..to(&["c"]) };
    invalid(bus.subscribe(request).await.unwrap_err(), "INVALID_BUFFER");
    let request = v1::BusSubscribeRequest { queue_group: "g".repeat(257), ..to(&["c"]) };
    invalid(bus.subscribe(request).await.unwrap_err(), "INVALID_QUEUE_GROUP");
    let request = v1::BusSubscribeRequest { namespace: "n".repeat(256), ..to(&["c"]) };
    invalid(bus.subscribe(request).await.unwrap_err(), "NAMESPACE_TOO_LONG");
    let reply = v1::BusReplyRequest { reply_to: "nobody".into(), ..Default::default() };
    invalid(bus.reply(reply).await.unwrap_err(), "INVALID_REPLY_TO");
    becomes(&node, "bus_subscriptions", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_has_so_many_subscriptions_and_a_client_that_is_gone_none() {
    let node = Fixture::start().await;
    let channel = node.channel().await;
    let mut bus = BusServiceClient::new(channel);
    let mut open = Vec::new();
    let status = loop {
        match bus.subscribe(to(&["c"])).await {
            Ok(stream) => open.push(stream.into_inner()),
            Err(status) => break status,
        }
    };
    assert_eq!(open.len(), 512);
    assert_eq!(seen(&status), (Code::ResourceExhausted, "TOO_MANY_SUBSCRIPTIONS", "not_applied"));
    assert!(status.message().contains("512"), "{}", status.message());
    becomes(&node, "bus_subscriptions", 512).await;
    let mut other = client(&node).await;
    let published = other.publish(publish("c", "x")).await.unwrap().into_inner();
    assert_eq!((published.nodes, published.subscribers), (1, 512));
    // It vanishes with its connection.
    drop((open, bus));
    becomes(&node, "bus_subscriptions", 0).await;
    let published = other.publish(publish("c", "x")).await.unwrap().into_inner();
    assert_eq!((published.nodes, published.subscribers), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_are_listed_page_by_page() {
    let node = Fixture::start().await;
    let mut bus = client(&node).await;
    let mut open = Vec::new();
    for pattern in ["a", "b.*", "c", "c"] {
        open.push(Subscription::begin(&mut bus, to(&[pattern])).await);
    }
    let group = v1::BusSubscribeRequest { queue_group: "g".to_owned(), ..to(&["c"]) };
    open.push(Subscription::begin(&mut bus, group).await);
    bus.publish(publish("c", "x")).await.unwrap();
    let list = |cursor: &str| v1::BusListChannelsRequest {
        cursor: cursor.to_owned(),
        limit: 2,
        ..Default::default()
    };
    let first = bus.list_channels(list("")).await.unwrap().into_inner();
    let names: Vec<_> = first.channels.iter().map(|one| one.pattern.as_str()).collect();
    assert_eq!(names, ["a", "b.*"]);
    let second = bus.list_channels(list(&first.cursor)).await.unwrap().into_inner();
    let [channel] = &second.channels[..] else { panic!("{second:?}") };
    let expected = v1::BusChannelEntry {
        pattern: "c".to_owned(),
        subscribers: 2,
        nodes: 1,
        queue_groups: 1,
        last_sequence: 1,
        members: 1,
    };
    assert_eq!((channel, second.cursor.as_str()), (&expected, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_publishes_once_it_has_happened() {
    use quorate_proto::v1::txn_operation::Operation;
    use quorate_proto::v1::txn_service_client::TxnServiceClient;
    let node = Fixture::start().await;
    let channel = node.channel().await;
    let mut bus = BusServiceClient::new(channel.clone());
    let mut txn = TxnServiceClient::new(channel);
    let mut subscription = Subscription::begin(&mut bus, to(&["orders"])).await;
    let step = |operation| v1::TxnOperation { operation: Some(operation) };
    let set = |if_absent| {
        let expect = Some(v1::txn_kv_set::Expect::IfAbsent(if_absent));
        let (key, value) = (Bytes::from_static(b"order"), Bytes::from_static(b"1"));
        step(Operation::KvSet(v1::TxnKvSet { key, value, ttl_ms: None, expect }))
    };
    let publish = |payload: &str| {
        let (channel, content) = ("orders".to_owned(), Some(content(payload)));
        step(Operation::BusPublish(v1::TxnBusPublish { channel, content }))
    };
    let then = |then| v1::TxnRequest { then, ..Default::default() };
    txn.commit(then(vec![set(true), publish("made"), publish("sold")])).await.unwrap();
    // Refused: the key is there. Nothing of it is published.
    txn.commit(then(vec![publish("refused"), set(true)])).await.unwrap_err();
    txn.commit(then(vec![publish("paid")])).await.unwrap();
    assert_eq!(subscription.texts(3).await, ["made", "sold", "paid"]);
    let wrong = txn.commit(then(vec![step(Operation::BusPublish(Default::default()))])).await;
    let status = wrong.unwrap_err();
    assert_eq!(seen(&status), (Code::InvalidArgument, "INVALID_MESSAGE", "not_applied"));
    assert!(status.message().starts_with("then[0]"), "{}", status.message());
}
