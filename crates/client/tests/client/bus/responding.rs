//! Responders: what a function says is the answer, several at a time.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers with what it was sent, after so many seconds as that says, if it is a number.
async fn echo(message: Message) -> Result<Content, RespondError> {
    let text = std::str::from_utf8(&message.payload)?;
    match text {
        "panic" => panic!("it was asked for"),
        text => tokio::time::sleep(secs(text.parse()?)).await,
    }
    Ok(Content::new(message.payload.clone()))
}

fn answers(fake: &Fake) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let replies = fake.state.replies().into_iter();
    let answer = |reply: BusReplyRequest| {
        (text(&reply.reply_to), text(&reply.content.unwrap_or_default().payload))
    };
    replies.map(answer).collect()
}

#[tokio::test(start_paused = true)]
async fn each_request_is_answered_and_what_fails_is_counted() {
    let fake = Fake::start(2);
    fake.state.script_bus(vec![
        begun(1, 0),
        items(&[
            asking(1, "2", "r1"),
            asking(2, "1", "r2"),
            gap(Some(3)),
            asking(6, "no number", "r3"),
            asking(7, "panic", "r4"),
            // Of one that is answered already, and of one that asks for nothing.
            asking(8, "3", "r1"),
            asking(9, "1", ""),
        ]),
        Heard::Pause(secs(10)),
        Heard::Cut,
    ]);
    fake.state.script_bus(vec![begun(1, 9), items(&[asking(10, "1", "r5")])]);
    let responder = fake.client().bus().respond("c*", "g", echo).start().await.expect("begun");
    until(|| answers(&fake).len() == 3).await;
    let expected = [("r2", "1"), ("r1", "2"), ("r5", "1")];
    let expected = expected.map(|(to, answer)| (to.to_owned(), answer.to_owned()));
    assert_eq!(answers(&fake), expected);
    responder.stop();
    let counts = responder.join().await.expect("it was stopped");
    assert_eq!((counts.answered, counts.unheard, counts.failed, counts.gaps), (3, 2, 2, 1));
    let (_, asked) = fake.state.subscriptions().remove(0);
    assert_eq!((asked.patterns, asked.queue_group), (vec!["c*".to_owned()], "g".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_handled_at_a_time_than_may_be() {
    let fake = Fake::start(1);
    let many: Vec<_> = (1..=9).map(|position| asking(position, "", "r")).collect();
    fake.state.script_bus(vec![begun(1, 0), items(&many)]);
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
        move |_: Message| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            async move {
                most.fetch_max(busy.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(secs(1)).await;
                busy.fetch_sub(1, Ordering::Relaxed);
                Ok(Content::default())
            }
        }
    };
    let bus = fake.client().bus();
    let responder = bus.respond("c", "g", handler).max_parallel(2).start().await.expect("begun");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!((busy.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (2, 2));
    // Those that are handled are finished, those that wait are not begun.
    responder.stop();
    let counts = responder.join().await.expect("it was stopped");
    assert_eq!(counts.answered + counts.unheard, 6);
    assert_eq!(busy.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_responder_that_is_dropped_ends_and_one_that_can_not_go_on_says_why() {
    let fake = Fake::start(1);
    let bus = fake.client().bus();
    let responder = bus.respond("c", "g", echo).start().await.expect("begun");
    drop(responder);
    until(|| fake.state.subscriptions_ended() == 1).await;

    let refused = status(Code::PermissionDenied, NOT_APPLIED, "FORBIDDEN");
    fake.state.script_bus(vec![begun(1, 0), items(&[asking(1, "5", "r1")]), Heard::Fail(refused)]);
    let responder = bus.respond("c", "g", echo).start().await.expect("begun");
    let error = responder.join().await.expect_err("it can't go on");
    assert_eq!(error.reason(), "FORBIDDEN");
    assert_eq!(answers(&fake).len(), 1, "what it had is answered");

    for (responder, named) in [
        (bus.respond("c", "", echo), "no group"),
        (bus.respond("c", "g", echo).max_parallel(0), "max_parallel"),
        (bus.respond("c", "g", echo).max_parallel(1_001), "max_parallel"),
    ] {
        let error = responder.start().await.expect_err("it can't be");
        assert!(error.message().contains(named), "{error}");
    }
}
