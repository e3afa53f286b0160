//! Subscriptions: each message at most once, in order, and a gap where some are missing.

use super::*;

/// Where each stream of a subscription was to go on.
fn places(fake: &Fake) -> Vec<Option<(u64, u64)>> {
    let place = |place: BusPlace| (place.epoch, place.position);
    let begun = fake.state.subscriptions().into_iter();
    begun.map(|(_, request)| request.resume.map(place)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_subscribed_to_is_asked_for_and_what_comes_is_handed_out() {
    let fake = Fake::start(1);
    fake.state.script_bus(vec![
        begun(3, 7),
        items(&[item(3, 8), gap(Some(5)), item(3, 14)]),
        items(&[gap(None), item(4, 1)]),
    ]);
    let asked = fake.client().bus_in("ns").subscribe(["a.*", "b"]).queue_group("g");
    let asked = asked.buffer_messages(9).buffer_bytes(2_048).on_overflow(Overflow::Disconnect);
    let mut subscription = asked.await.expect("begun");
    let all = heard(&mut subscription, 5).await;
    assert_eq!(all, ["3/8", "gap Some(5)", "3/14", "gap None", "4/1"]);
    let expected = BusSubscribeRequest {
        namespace: "ns".to_owned(),
        patterns: vec!["a.*".to_owned(), "b".to_owned()],
        queue_group: "g".to_owned(),
        buffer_messages: 9,
        buffer_bytes: 2_048,
        overflow: BusOverflow::Disconnect.into(),
        resume: None,
    };
    assert_eq!(fake.state.subscriptions(), [("n1:1".to_owned(), expected)]);
}

#[tokio::test(start_paused = true)]
async fn when_a_stream_breaks_another_one_goes_on_behind_the_last_place() {
    let fake = Fake::start(3);
    let stops = status(Code::Unavailable, NOT_APPLIED, "SHUTTING_DOWN");
    // What is said to be sent counts, and so does what was.
    let first = Heard::Items(vec![item(3, 8)], Some((3, 20)));
    fake.state.script_bus(vec![begun(3, 7), first, Heard::Cut]);
    let second = items(&[gap(Some(2)), item(3, 23), item(3, 25)]);
    fake.state.script_bus(vec![begun(3, 22), second, Heard::Fail(stops)]);
    fake.state.script_bus(vec![begun(4, 0), items(&[gap(None), item(4, 1)]), Heard::End]);
    fake.state.script_bus(vec![begun(4, 1), items(&[item(4, 2)])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    let all = heard(&mut subscription, 7).await;
    assert_eq!(all, ["3/8", "gap Some(2)", "3/23", "3/25", "gap None", "4/1", "4/2"]);
    assert_eq!(places(&fake), [None, Some((3, 20)), Some((3, 25)), Some((4, 1))]);
}

#[tokio::test(start_paused = true)]
async fn when_a_node_dies_it_goes_on_at_another_one() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![begun(3, 7), items(&[item(3, 8)])]);
    fake.state.script_bus(vec![begun(3, 9), items(&[gap(Some(1)), item(3, 10)])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    assert_eq!(heard(&mut subscription, 1).await, ["3/8"]);
    let (dead, _) = fake.state.subscriptions().remove(0);
    fake.net.kill(&dead);
    assert_eq!(heard(&mut subscription, 2).await, ["gap Some(1)", "3/10"]);
    let subscriptions = fake.state.subscriptions();
    assert_eq!(subscriptions.len(), 2);
    assert_ne!(subscriptions[1].0, dead);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_on_a_connection_that_calls_gave_up_notices_that_its_node_is_gone() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![begun(3, 7), items(&[item(3, 8)]), Heard::Pause(secs(600))]);
    fake.state.script_bus(vec![begun(3, 9), items(&[item(3, 10)])]);
    // A pipeline would be another stream on the connection.
    let client = fake.options().unary(true).connect().expect("good options");
    let mut subscription = client.bus().subscribe(["c"]).await.expect("begun");
    assert_eq!(heard(&mut subscription, 1).await, ["3/8"]);
    let (gone, _) = fake.state.subscriptions().remove(0);
    fake.net.lose(&gone);
    // It finds the node silent, and lets go of the connection.
    let asked = client.cluster().at(&gone).expect("an address").timeout(secs(3));
    asked.members().await.expect_err("nobody is there");
    let goes_on = tokio::time::timeout(secs(30), heard(&mut subscription, 1));
    assert_eq!(goes_on.await.expect("it has noticed"), ["3/10"]);
}

#[tokio::test(start_paused = true)]
async fn without_any_place_it_begins_anew_behind_a_gap_of_unknown_size() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![items(&[]), Heard::End]);
    fake.state.script_bus(vec![begun(3, 9), items(&[item(3, 10)])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    assert_eq!(heard(&mut subscription, 2).await, ["gap None", "3/10"]);
    assert_eq!(places(&fake), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_twice_or_late_or_from_a_leader_that_is_none_any_more() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![
        begun(3, 7),
        // 7 was before it began; 9 comes again, and 8 after it.
        items(&[item(3, 7), item(3, 9), item(3, 9), item(3, 8)]),
        items(&[item(4, 1), item(3, 10), item(4, 2)]),
        // Everything up to 5 was sent, so 5 can't come any more; a place does not lead back.
        begun(4, 5),
        begun(4, 3),
        items(&[item(4, 5), item(4, 6)]),
        Heard::Cut,
    ]);
    // A node that is behind, and one of an old leader.
    fake.state.script_bus(vec![begun(3, 30), items(&[item(3, 31), item(4, 6), item(4, 7)])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    let all = heard(&mut subscription, 5).await;
    assert_eq!(all, ["3/9", "4/1", "4/2", "4/6", "4/7"]);
    assert_eq!(places(&fake), [None, Some((4, 6))]);
}

#[tokio::test(start_paused = true)]
async fn next_may_be_dropped_at_any_moment() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![begun(1, 0), items(&[item(1, 1), item(1, 2)]), Heard::Cut]);
    fake.state.script_bus(vec![begun(1, 2), items(&[gap(Some(1))]), Heard::End]);
    fake.state.script_bus(vec![begun(1, 3), items(&[item(1, 4)])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    let mut all = Vec::new();
    // Polled once and dropped, again and again.
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            next = heard(&mut subscription, 1) => all.extend(next),
            () = tokio::task::yield_now() => {}
        }
        if all.len() == 4 {
            break;
        }
        // Time passes only outside, so that waits within never end by themselves.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(all, ["1/1", "1/2", "gap Some(1)", "1/4"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscription_ends_or_goes_on_behind_a_gap_as_it_said() {
    let slow = || Heard::Fail(status(Code::ResourceExhausted, NOT_APPLIED, "SLOW_SUBSCRIBER"));
    let fake = Fake::start(2);
    fake.state.script_bus(vec![begun(1, 0), items(&[item(1, 1)]), slow()]);
    let bus = fake.client().bus();
    let asked = bus.subscribe(["c"]).on_overflow(Overflow::Disconnect);
    let mut subscription = asked.await.expect("begun");
    assert_eq!(heard(&mut subscription, 1).await, ["1/1"], "what waited comes before the end");
    let error = subscription.next().await.expect("something").expect_err("it was too slow");
    assert!(matches!(error, Error::ResourceExhausted { .. }), "{error:?}");
    assert_eq!(error.reason(), "SLOW_SUBSCRIBER");
    assert!(subscription.next().await.is_none());
    assert_eq!(fake.state.subscriptions().len(), 1);

    fake.state.script_bus(vec![begun(1, 0), items(&[item(1, 1)]), slow()]);
    fake.state.script_bus(vec![begun(1, 9), items(&[gap(Some(8)), item(1, 10)])]);
    let mut subscription = bus.subscribe(["c"]).await.expect("begun");
    assert_eq!(heard(&mut subscription, 3).await, ["1/1", "gap Some(8)", "1/10"]);
}

/// Nothing is published for an hour: that is no reason to look for another node.
#[tokio::test(start_paused = true)]
async fn silence_does_not_end_it() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![begun(1, 0), Heard::Pause(secs(3_600)), items(&[item(1, 1)])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    assert_eq!(heard(&mut subscription, 1).await, ["1/1"]);
    assert_eq!(fake.state.subscriptions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_dropped_ends_at_its_node() {
    let fake = Fake::start(1);
    let bus = fake.client().bus();
    let subscription = bus.subscribe(["c"]).await.expect("begun");
    let second = bus.subscribe(["c"]).await.expect("begun");
    tokio::time::sleep(secs(1)).await;
    assert_eq!(fake.state.subscriptions_ended(), 0, "it is active without being read");
    drop(subscription);
    until(|| fake.state.subscriptions_ended() == 1).await;
    drop(second.into_stream());
    until(|| fake.state.subscriptions_ended() == 2).await;
}

#[tokio::test(start_paused = true)]
async fn without_any_node_it_gives_up_in_time() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![begun(1, 0), items(&[item(1, 1)])]);
    let asked = fake.client().bus().subscribe(["c"]).resume_timeout(secs(7));
    let mut subscription = asked.await.expect("begun");
    assert_eq!(heard(&mut subscription, 1).await, ["1/1"]);
    fake.net.kill("n1:1");
    fake.net.kill("n2:1");
    let since = Instant::now();
    let error = subscription.next().await.expect("something").expect_err("nobody is there");
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let took = since.elapsed();
    assert!(took > secs(6) && took < secs(8), "{took:?}");
    assert!(subscription.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_no_cluster_takes_is_not_asked_for() {
    let fake = Fake::start(1);
    let bus = fake.client().bus();
    let none: [&str; 0] = [];
    let one = || bus.subscribe(["c"]);
    for (asked, named) in [
        (bus.subscribe(none), "0 patterns"),
        (bus.subscribe(vec!["c"; 65]), "65 patterns"),
        (one().buffer_messages(0), "buffer_messages is 0"),
        (one().buffer_messages(65_537), "buffer_messages is 65537"),
        (one().buffer_bytes(1_023), "buffer_bytes is 1023"),
        (one().buffer_bytes(16_777_217), "buffer_bytes is 16777217"),
    ] {
        let error = asked.await.expect_err("it can't be");
        assert_eq!(error.reason(), "BAD_OPTION");
        assert!(error.message().contains(named), "{error}");
    }
    assert_eq!(fake.state.subscriptions().len(), 0);
    bus.subscribe(vec!["c"; 64]).await.expect("as many as there may be");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_not_asked_again() {
    let fake = Fake::start(2);
    let full = status(Code::ResourceExhausted, NOT_APPLIED, "TOO_MANY_SUBSCRIPTIONS");
    fake.state.script_bus(vec![Heard::Fail(full)]);
    let error = fake.client().bus().subscribe(["c"]).await.expect_err("refused");
    assert_eq!(error.reason(), "TOO_MANY_SUBSCRIPTIONS");
    assert_eq!(fake.state.subscriptions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nonsense_ends_the_subscription() {
    let fake = Fake::start(1);
    fake.state.script_bus(vec![begun(1, 0), items(&[BusItem { item: None }])]);
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    let error = subscription.next().await.expect("something").expect_err("it is nonsense");
    assert_eq!(error.reason(), "BAD_ANSWER");
    assert!(subscription.next().await.is_none());
}

/// A node that ends each stream at once is not asked without a pause.
#[tokio::test(start_paused = true)]
async fn a_node_that_ends_every_stream_is_not_hammered() {
    let fake = Fake::start(1);
    for _ in 0..1_000 {
        fake.state.script_bus(vec![begun(1, 0), Heard::End]);
    }
    let mut subscription = fake.client().bus().subscribe(["c"]).await.expect("begun");
    let waited = tokio::time::timeout(secs(10), subscription.next()).await;
    assert!(waited.is_err());
    let begun = fake.state.subscriptions().len();
    assert!((20..100).contains(&begun), "{begun} times in ten seconds");
}
