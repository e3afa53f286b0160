//! Publishing, requests and answers: at most once, and told apart.

use super::*;

#[tokio::test(start_paused = true)]
async fn messages_are_published_in_their_order_with_all_that_goes_with_them() {
    let fake = Fake::start(1);
    let bus = fake.client().bus_in("ns");
    let sent = bus.publish("c", "0").content_type("text/plain").header("a", "1").header("a", "2");
    let published = sent.send().await.expect("answered");
    assert_eq!((published.epoch, published.sequence, published.position), (4, 1, 1));
    assert_eq!((published.nodes, published.subscribers), (2, 3));
    // Under way together, as long as nothing fails.
    let many = (1..100).map(|number: u32| bus.publish("c", number.to_string()).send());
    for published in futures::future::join_all(many).await {
        published.expect("answered");
    }
    let published = fake.state.published();
    let payloads: Vec<_> = published
        .iter()
        .map(|request| request.content.clone().expect("it has one").payload)
        .collect();
    let expected: Vec<_> = (0..100).map(|number: u32| number.to_string()).collect();
    assert_eq!(payloads, expected);
    assert_eq!((published[0].namespace.as_str(), published[0].channel.as_str()), ("ns", "c"));
    let header = |value: &str| BusHeader { name: "a".to_owned(), value: value.to_owned() };
    let content = BusContent {
        payload: "0".into(),
        content_type: "text/plain".to_owned(),
        headers: vec![header("1"), header("2")],
    };
    assert_eq!(published[0].content, Some(content));
    // No name of its own, no session.
    assert_eq!(fake.state.sessions_opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn messages_that_go_together_are_one_call_and_are_not_sent_again() {
    let fake = Fake::start(3);
    let bus = fake.client().bus_in("ns");
    bus.publish("c", "0").await.expect("answered");
    let texts = || (1..=3).map(|number: u32| (format!("c{number}"), number.to_string()));
    let published = bus.publish_all(texts()).await.expect("answered");
    let positions: Vec<_> = published.iter().map(|one| (one.epoch, one.position)).collect();
    assert_eq!(positions, [(4, 2), (4, 3), (4, 4)]);
    let sent: Vec<_> = fake.state.published()[1..]
        .iter()
        .map(|one| (one.namespace.clone(), one.channel.clone()))
        .collect();
    let expected: Vec<_> = texts().map(|(channel, _)| ("ns".to_owned(), channel)).collect();
    assert_eq!(sent, expected);

    fake.script("publish_all", [fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER"), Act::Answer]);
    bus.publish_all(texts()).await.expect("none was published before");
    assert_eq!(fake.state.published().len(), 7);
    fake.script("publish_all", [Act::DoThenCut]);
    let error = bus.publish_all(texts()).await.expect_err("nobody knows");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");
    assert_eq!(fake.state.published().len(), 10);
    assert_eq!(fake.seen("publish_all").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_published_is_not_sent_again() {
    let lost = [
        Act::DoThenFail(status(Code::Unavailable, UNKNOWN, "NO_LEADER")),
        Act::DoThenFail(Status::unavailable("a proxy's word")),
        Act::DoThenCut,
        Act::HangThenDo(Duration::from_millis(1)),
    ];
    for act in lost {
        let fake = Fake::start(3);
        fake.script("publish", [act.clone()]);
        fake.script("request", [act.clone()]);
        let bus = fake.client().bus();
        let error = bus.publish("c", "x").await.expect_err("nobody knows");
        assert!(matches!(error, Error::Indeterminate { .. }), "{act:?}: {error:?}");
        let error = bus.request("c", "x").await.expect_err("nobody knows");
        assert!(matches!(error, Error::Indeterminate { .. }), "{act:?}: {error:?}");
        assert_eq!((fake.seen("publish").len(), fake.seen("request").len()), (1, 1), "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_certainly_was_not_published_is_tried_until_the_deadline() {
    let fake = Fake::start(3);
    let refused = || fail(Code::Unavailable, NOT_APPLIED, "NO_LEADER");
    fake.script("publish", [refused(), refused(), Act::Answer]);
    let bus = fake.client().bus();
    bus.publish("c", "x").await.expect("the third node answers");
    assert_eq!((fake.seen("publish").len(), fake.state.published().len()), (3, 1));

    fake.always("publish", &refused());
    let since = Instant::now();
    let error = bus.publish("c", "x").timeout(secs(2)).await.expect_err("nobody leads");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let took = since.elapsed();
    assert!(took > secs(1) && took <= secs(2), "{took:?}");
    assert_eq!(fake.state.published().len(), 1);

    // A node that can't be reached was sent nothing.
    let fake = Fake::start(2);
    fake.net.kill("n1:1");
    for seed in 0..4 {
        let client = fake.options().seed(seed).connect().expect("good options");
        client.bus().publish("c", "x").await.expect("n2 answers");
    }
    assert_eq!(fake.state.published().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_as_long_as_it_says_and_is_answered() {
    let fake = Fake::start(2);
    fake.always("request", &Act::AnswerAfter(secs(40)));
    let request = fake.client().bus_in("ns").request("c", "x").header("a", "1");
    let since = Instant::now();
    let answer = request.timeout(secs(60)).await.expect("answered in time");
    assert_eq!(answer, Content::new("x").header("a", "1"));
    assert_eq!(since.elapsed(), secs(40), "silence does not end it");
    let requested = fake.state.requested();
    assert_eq!(requested.len(), 1, "and it was sent once");
    assert_eq!((requested[0].namespace.as_str(), requested[0].channel.as_str()), ("ns", "c"));
    let told = fake.seen("request")[0].timeout;
    assert!(told > secs(59) && told <= secs(60), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_receives_fails_at_once_and_one_that_nobody_answers_says_so() {
    let fake = Fake::start(3);
    let bus = fake.client().bus();
    fake.always("request", &fail(Code::Unavailable, NOT_APPLIED, "NO_SUBSCRIBERS"));
    let since = Instant::now();
    let error = bus.request("c", "x").await.expect_err("nobody subscribes");
    assert!(matches!(error, Error::NoSubscribers { .. }), "{error:?}");
    assert_eq!((error.reason(), error.may_have_been_applied()), ("NO_SUBSCRIBERS", false));
    assert_eq!((since.elapsed(), fake.seen("request").len()), (Duration::ZERO, 1));

    // Whatever the node says of the effect: that it was published is known.
    for outcome in [UNKNOWN, NOT_APPLIED, None] {
        fake.always("request", &fail(Code::DeadlineExceeded, outcome, "NO_REPLY"));
        let error = bus.request("c", "x").await.expect_err("nobody answers");
        assert!(matches!(error, Error::NoReply { .. }), "{error:?}");
        assert_eq!((error.reason(), error.may_have_been_applied()), ("NO_REPLY", true));
    }
    assert_eq!(fake.seen("request").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_counts_and_is_sent_until_it_is_heard() {
    let fake = Fake::start(3);
    fake.state.script_bus(vec![begun(1, 0), items(&[asking(1, "x", "r1"), item(1, 2)])]);
    let bus = fake.client().bus_in("ns");
    let mut subscription = bus.subscribe(["c"]).await.expect("begun");
    let Some(Ok(BusEvent::Message(asks))) = subscription.next().await else { panic!("no message") };
    assert!(asks.wants_reply() && asks.reply_to() == "r1");
    // Not done at first, whatever is said of that.
    fake.script("reply", [Act::Fail(Status::unavailable("a proxy's word"))]);
    asks.reply("y").content_type("t").send().await.expect("the second node answers");
    let content =
        BusContent { payload: "y".into(), content_type: "t".to_owned(), ..BusContent::default() };
    let reply = BusReplyRequest {
        namespace: "ns".to_owned(),
        reply_to: "r1".into(),
        content: Some(content),
    };
    assert_eq!(fake.state.replies(), [reply]);
    let error = bus.reply("r1", "z").await.expect_err("it has one");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert_eq!(error.reason(), "NO_REQUEST");
    // It may have been this very answer that was heard.
    fake.script("reply", [Act::DoThenCut]);
    let error = bus.reply("r2", "z").await.expect_err("nobody knows");
    assert!(matches!(error, Error::Indeterminate { .. }), "{error:?}");

    let Some(Ok(BusEvent::Message(tells))) = subscription.next().await else {
        panic!("no message")
    };
    assert!(!tells.wants_reply());
    let sent = fake.seen("reply").len();
    let error = tells.reply("y").await.expect_err("nobody asked");
    assert_eq!(error.reason(), "NOT_A_REQUEST");
    assert_eq!(fake.seen("reply").len(), sent);
}

#[tokio::test(start_paused = true)]
async fn values_are_sent_as_json() {
    let fake = Fake::start(1);
    let bus = fake.client().bus();
    bus.publish_json("c", &vec![1, 2]).expect("it is JSON").await.expect("answered");
    let content = fake.state.published().remove(0).content.expect("it has one");
    assert_eq!(
        (&content.payload[..], content.content_type.as_str()),
        (&b"[1,2]"[..], "application/json")
    );
    let answer = bus.request_json("c", "x").expect("it is JSON").await.expect("answered");
    assert_eq!(answer.json::<String>(), Ok("x".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn channels_are_listed_page_after_page() {
    let fake = Fake::start(1);
    let channels = fake.client().bus().channels("u*").stream();
    let channels: Vec<ChannelInfo> = channels.try_collect().await.expect("answered");
    let patterns: Vec<_> = channels.iter().map(|channel| channel.pattern.as_str()).collect();
    assert_eq!(patterns, ["user.*", "u*"]);
    let ChannelInfo { subscribers, nodes, queue_groups, members, last_sequence, .. } = &channels[0];
    assert_eq!((*subscribers, *nodes, *last_sequence), (3, 2, 7));
    assert_eq!((*queue_groups, *members), (1, 4));
}
