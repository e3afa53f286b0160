//! Consumers: what comes on their streams, breaks, and how they end.

use super::*;

#[tokio::test(start_paused = true)]
async fn after_a_break_a_consumer_comes_back_as_who_it_was_and_does_nothing_twice() {
    let fake = Fake::start(3);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13)]), Said::Cut]);
    // 1 is being done, 2 was done meanwhile, 3 waits; 4 is new.
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13), (4, 14)])]);
    let mut consumer = consumer(&fake.client()).await;
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    assert_eq!((first.id(), second.id()), (1, 2));
    // Its answer comes long after the break.
    fake.script("ack", [Act::AnswerAfter(Duration::from_millis(900))]);
    let acked = tokio::spawn(second.ack());
    until(|| fake.state.consumes().len() == 2).await;
    let mut rest = Vec::new();
    for _ in 0..2 {
        let job = next(&mut consumer).await;
        rest.push((job.id(), job.lease(), job.is_withdrawn()));
        job.ack().await.expect("acked");
    }
    assert_eq!(rest, [(3, 13, false), (4, 14, false)]);
    acked.await.expect("no panic").expect("acked");
    assert!(!first.is_withdrawn(), "it has it still");
    first.ack().await.expect("acked");
    assert!(tokio::time::timeout(secs(60), consumer.next()).await.is_err(), "that was all");
    let opened = fake.state.consumes();
    let who: Vec<_> =
        opened.iter().map(|(_, session, consumer, _)| (*session, *consumer)).collect();
    assert_eq!(who, [(1, 0), (1, 1)]);
    assert_ne!(opened[0].0, opened[1].0, "at another node");
}

/// Or its node goes on with it, and gives jobs to a consumer that nobody is.
#[tokio::test(start_paused = true)]
async fn an_opening_that_is_given_up_ends() {
    let fake = Fake::start(3);
    fake.state.script_consume(vec![Said::Nothing]);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let mut consumer = consumer(&fake.client()).await;
    let job = next(&mut consumer).await;
    assert_eq!(job.id(), 1);
    until(|| fake.state.windows() == [(1, None)]).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_break_a_consumer_is_told_what_it_has_lost() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![
        jobs(&[(1, 11), (2, 12), (3, 13)]),
        Said::Pause(secs(1)),
        // The lease of one that runs ended while nobody could say so, and that of one that waits.
        Said::Lost(11),
        Said::Lost(13),
        Said::Cut,
    ]);
    fake.state.script_consume(vec![jobs(&[(2, 12), (4, 14)])]);
    let mut consumer = consumer(&fake.client()).await;
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    tokio::time::timeout(secs(5), first.withdrawn()).await.expect("it is told");
    assert!(!second.is_withdrawn());
    let next = next(&mut consumer).await;
    assert_eq!((next.id(), next.lease()), (4, 14), "and not the one that waited");
    drop(first);
    second.ack().await.expect("acked");
    next.ack().await.expect("acked");
    assert_eq!(fake.state.queue_calls(), ["ack q 2/12", "ack q 4/14"]);
}

/// Its stream goes on: it was lost to its node for a moment.
#[tokio::test(start_paused = true)]
async fn a_consumer_that_comes_back_on_its_stream_is_told_what_it_has_lost() {
    for one_shot in [false, true] {
        let fake = Fake::start(1);
        fake.state.script_consume(vec![
            jobs(&[(1, 11), (2, 12), (3, 13)]),
            Said::Pause(secs(1)),
            Said::Lost(11),
            Said::Lost(13),
            Said::Opened { wrong: false },
            jobs(&[(4, 14)]),
        ]);
        let client = fake.options().one_shot(one_shot).connect().expect("good options");
        let mut consumer = consumer(&client).await;
        let first = next(&mut consumer).await;
        let second = next(&mut consumer).await;
        tokio::time::timeout(secs(5), first.withdrawn()).await.expect("it is told");
        assert!(!second.is_withdrawn());
        let next = next(&mut consumer).await;
        assert_eq!((next.id(), next.lease()), (4, 14), "and not the one that waited");
        assert_eq!(fake.state.consumes().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_told_to_be_another_one_gives_up() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![Said::Opened { wrong: true }]);
    let mut consumer = consumer(&fake.client()).await;
    let error = consumer.next().await.expect("something").expect_err("it is wrong");
    assert!(error.to_string().contains("another one"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_dropped_or_left_before_a_break_is_not_handed_out_again() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12)]), Said::Pause(secs(1)), Said::Cut]);
    let again = vec![jobs(&[(1, 11), (2, 12)]), Said::Pause(secs(1)), Said::Cut];
    fake.state.script_consume(again);
    fake.state.script_consume(vec![jobs(&[(2, 12), (3, 13)])]);
    // Told only after the break, and so sent again before.
    fake.script("nack", [Act::AnswerAfter(Duration::from_millis(1_500))]);
    let client = fake.options().attempt_timeout(secs(3)).connect().expect("good options");
    let mut consumer = consumer(&client).await;
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    assert_eq!(second.leave(), 12);
    tokio::time::sleep(Duration::from_millis(800)).await;
    drop(first);
    let next = next(&mut consumer).await;
    assert_eq!((next.id(), next.lease()), (3, 13));
    assert_eq!(fake.state.consumes().len(), 3);
    let told = fake.state.queue_calls();
    assert_eq!(told, ["nack q 1/11 None it was dropped without a word"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_settled_while_the_stream_was_asked_for_is_passed_over() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::End]);
    // Sent again long after the answer to the ack has come.
    fake.state.script_consume(vec![Said::Pause(secs(5)), jobs(&[(1, 11), (2, 12)]), Said::End]);
    // Here it can't come any more; if a node says so all the same, it is another story.
    fake.state.script_consume(vec![jobs(&[(1, 21)])]);
    let mut consumer = consumer(&fake.client()).await;
    let first = next(&mut consumer).await;
    until(|| fake.state.consumes().len() == 2).await;
    first.ack().await.expect("acked");
    let mut got = Vec::new();
    for _ in 0..2 {
        let job = next(&mut consumer).await;
        got.push((job.id(), job.lease()));
        job.ack().await.expect("acked");
    }
    assert_eq!(got, [(2, 12), (1, 21)]);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_has_ended_begins_anew_without_what_it_had() {
    let fake = Fake::start(1);
    let end = status(Code::NotFound, NOT_APPLIED, "CONSUMER_GONE");
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12)]), Said::End]);
    fake.state.script_consume(vec![Said::Fail(end)]);
    fake.state.script_consume(vec![jobs(&[(1, 21)])]);
    let mut consumer = consumer(&fake.client()).await;
    let before = next(&mut consumer).await;
    before.withdrawn().await;
    let after = next(&mut consumer).await;
    assert_eq!((after.id(), after.lease()), (1, 21), "and not the one that waited");
    let who: Vec<_> = fake
        .state
        .consumes()
        .iter()
        .map(|(_, session, consumer, _)| (*session, *consumer))
        .collect();
    assert_eq!(who, [(1, 0), (1, 1), (1, 0)]);
    drop(before);
    after.ack().await.expect("acked");
    assert_eq!(fake.state.queue_calls(), ["ack q 1/21"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_takes_the_consumer_along() {
    let fake = Fake::start(1);
    let expired = status(Code::NotFound, NOT_APPLIED, "SESSION_EXPIRED");
    fake.state.script_consume(vec![
        jobs(&[(1, 11)]),
        Said::Pause(secs(1)),
        Said::Fail(expired.clone()),
    ]);
    fake.state.script_consume(vec![Said::Fail(expired)]);
    let mut consumer = consumer(&fake.client()).await;
    let job = next(&mut consumer).await;
    job.withdrawn().await;
    until(|| fake.state.consumes().len() == 3).await;
    let who: Vec<_> = fake
        .state
        .consumes()
        .iter()
        .map(|(_, session, consumer, _)| (*session, *consumer))
        .collect();
    assert_eq!(who, [(1, 0), (1, 1), (2, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_one_shot_client_consumes_without_a_session() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::End]);
    fake.state.script_consume(vec![jobs(&[(2, 12)])]);
    let client = fake.options().one_shot(true).connect().expect("good options");
    let mut consumer = consumer(&client).await;
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    // Its lease is not the stream's.
    assert!(!first.is_withdrawn());
    first.ack().await.expect("acked");
    second.ack().await.expect("acked");
    let who: Vec<_> = fake
        .state
        .consumes()
        .iter()
        .map(|(_, session, consumer, _)| (*session, *consumer))
        .collect();
    assert_eq!(who, [(0, 0), (0, 0)]);
    assert_eq!(fake.state.sessions_opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_has_no_session_hands_back_what_waited_when_its_stream_broke() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13)]), Said::End]);
    fake.state.script_consume(vec![jobs(&[(2, 22)])]);
    let client = fake.options().one_shot(true).connect().expect("good options");
    let mut consumer = consumer(&client).await;
    let first = next(&mut consumer).await;
    until(|| fake.state.consumes().len() == 2).await;
    let next = next(&mut consumer).await;
    assert_eq!((next.id(), next.lease()), (2, 22), "a window is all that is here");
    // It does not wait for that.
    until(|| fake.state.queue_calls() == ["return q 2/12", "return q 3/13"]).await;
    first.ack().await.expect("it is its own still");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_ends_hands_back_what_was_not_taken() {
    for close in [true, false] {
        let fake = Fake::start(1);
        fake.state.script_consume(vec![jobs(&[(1, 11), (2, 12), (3, 13)])]);
        let mut consumer = consumer(&fake.client()).await;
        let first = next(&mut consumer).await;
        match close {
            true => consumer.close().await,
            false => drop(consumer),
        }
        until(|| fake.state.queue_calls().len() == 2).await;
        assert_eq!(fake.state.queue_calls(), ["return q 2/12", "return q 3/13"]);
        assert_eq!(fake.state.windows(), [(1, Some(0)), (1, None)]);
        // What was taken can be settled all the same.
        first.ack().await.expect("acked");
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_consumer_is_not_waited_for_longer_than_that() {
    let fake = Fake::start(1);
    let many: Vec<_> = (1..=300).map(|id| (id, 1_000 + id)).collect();
    fake.state.script_consume(vec![jobs(&many)]);
    fake.always("nack", &Act::Hang);
    let consumer = fake.client().queue().consume("q", 300).start().await.expect("it starts");
    tokio::time::sleep(secs(1)).await;
    let begun = Instant::now();
    consumer.close().await;
    assert!(begun.elapsed() <= secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_window_can_be_changed_and_without_one_no_stream_is_opened() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![Said::Pause(secs(10)), Said::End]);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let mut consumer = consumer(&fake.client()).await;
    assert!(consumer.set_window(1_001).is_err());
    consumer.set_window(5).expect("it fits");
    tokio::time::sleep(secs(1)).await;
    consumer.set_window(0).expect("it fits");
    tokio::time::sleep(secs(60)).await;
    assert_eq!(fake.state.consumes().len(), 1);
    assert_eq!(fake.state.windows(), [(1, Some(5)), (1, Some(0))]);
    consumer.set_window(3).expect("it fits");
    assert_eq!(next(&mut consumer).await.id(), 1);
    assert_eq!(fake.state.consumes()[1].3, 3);
    for wrong in [0, 1_001] {
        let queue = fake.client().queue();
        let error = queue.consume("q", wrong).start().await.expect_err("out of bounds");
        assert_eq!(error.reason(), "BAD_OPTION");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_deleted_ends_its_consumers() {
    let fake = Fake::start(1);
    let deleted = status(Code::NotFound, NOT_APPLIED, "QUEUE_UNKNOWN");
    let end = status(Code::NotFound, NOT_APPLIED, "CONSUMER_GONE");
    fake.state.script_consume(vec![jobs(&[(1, 11)]), Said::Pause(secs(2)), Said::Fail(end)]);
    fake.state.script_consume(vec![Said::Fail(deleted)]);
    let worker = worker(&fake, 1, &[(1, 500)]).await;
    let begun = Instant::now();
    worker.finished().await;
    assert!(begun.elapsed() < secs(5), "what runs is for nothing: {:?}", begun.elapsed());
    assert!(counts(0, 0, 1, 0) == worker.counts(), "{:?}", worker.counts());
    let error = worker.join().await.expect_err("it can't go on");
    assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
    assert_eq!(fake.state.queue_calls().len(), 0, "there is nothing to say of what is gone");
    assert_eq!(fake.state.consumes().len(), 2, "and it was not made again");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_without_a_session_does_not_make_a_deleted_queue_again() {
    for deleted in [true, false] {
        let fake = Fake::start(1);
        let end = status(Code::NotFound, NOT_APPLIED, "CONSUMER_GONE");
        fake.state.script_consume(vec![Said::Pause(secs(1)), Said::Fail(end)]);
        fake.state.script_consume(vec![jobs(&[(1, 11)])]);
        if deleted {
            fake.script("stats", [fail(Code::NotFound, NOT_APPLIED, "QUEUE_UNKNOWN")]);
        }
        let client = fake.options().one_shot(true).connect().expect("good options");
        let mut consumer = consumer(&client).await;
        let next = consumer.next().await.expect("something");
        match deleted {
            true => assert!(matches!(next, Err(Error::NotFound { .. })), "{next:?}"),
            false => assert_eq!(next.expect("a job").leave(), 11),
        }
        assert_eq!(fake.state.consumes().len(), if deleted { 1 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_ends_every_stream_is_not_hammered() {
    let fake = Fake::start(1);
    for _ in 0..1_000 {
        fake.state.script_consume(vec![Said::End]);
    }
    let mut consumer = consumer(&fake.client()).await;
    assert!(tokio::time::timeout(secs(10), consumer.next()).await.is_err());
    let opened = fake.state.consumes().len();
    assert!((20..100).contains(&opened), "{opened} times in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_for_which_there_is_no_room_asks_now_and_then() {
    let fake = Fake::start(1);
    fake.state.script_consume(vec![Said::End]);
    for _ in 0..8 {
        let full = status(Code::ResourceExhausted, NOT_APPLIED, "TOO_MANY_CONSUMERS");
        fake.state.script_consume(vec![Said::Fail(full)]);
    }
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let begun = Instant::now();
    let mut consumer = consumer(&fake.client()).await;
    assert_eq!(next(&mut consumer).await.id(), 1);
    let took = begun.elapsed();
    assert!(took >= secs(8) && took < secs(17), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_outlives_any_time_without_nodes() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![]);
    fake.state.script_consume(vec![jobs(&[(1, 11)])]);
    let client = fake.options().session_ttl(secs(3_600)).connect().expect("good options");
    let mut consumer = consumer(&client).await;
    for node in ["n1:1", "n2:1"] {
        fake.net.kill(node);
    }
    assert!(tokio::time::timeout(secs(600), consumer.next()).await.is_err());
    for node in ["n1:1", "n2:1"] {
        fake.net.reach(node, crate::fake::Reach::Open);
    }
    assert_eq!(next(&mut consumer).await.id(), 1);
}

#[tokio::test(start_paused = true)]
async fn next_may_be_dropped_at_any_moment() {
    let fake = Fake::start(2);
    fake.state.script_consume(vec![
        jobs(&[(1, 11)]),
        Said::Pause(secs(1)),
        jobs(&[(2, 12)]),
        Said::Cut,
    ]);
    fake.state.script_consume(vec![Said::Pause(secs(1)), jobs(&[(1, 11), (2, 12), (3, 13)])]);
    let mut consumer = consumer(&fake.client()).await;
    let mut got = Vec::new();
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            next = consumer.next() => got.push(next.expect("a job").expect("no error")),
            () = tokio::task::yield_now() => {}
        }
        if got.len() == 3 {
            break;
        }
        // Time passes only outside, so that waits within never end by themselves.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(got.iter().map(Job::id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(got.iter().all(|job| !job.is_withdrawn()));
}
