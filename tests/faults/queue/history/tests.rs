//! A good history, and what is planted into it for each check to find.

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn pushed(name: &str, sent: u64) -> Pushed {
    Pushed {
        name: name.to_owned(),
        sent: ms(sent),
        delay: Duration::ZERO,
        group: None,
        deduped: false,
    }
}

fn delivery(id: u64, lease: u64, attempt: u32, at: u64, settled: Settled) -> Delivery {
    Delivery { id, lease, attempt, at: ms(at), settled: Some((ms(at + 5), settled)) }
}

fn ended(id: u64, name: &str, done: bool, attempts: u32) -> Ended {
    Ended { id, name: name.to_owned(), done, attempts }
}

/// One as it should be, with something for each check.
fn good() -> History {
    let in_group = |number| Some(("g".to_owned(), number));
    History {
        attempts_max: 2,
        pushed: BTreeMap::from([
            (1, pushed("plain", 0)),
            (2, Pushed { delay: ms(100), ..pushed("delayed", 0) }),
            (3, Pushed { group: in_group(0), ..pushed("first", 0) }),
            (4, Pushed { group: in_group(1), ..pushed("second", 0) }),
            (5, Pushed { deduped: true, ..pushed("once", 0) }),
            (6, pushed("hopeless", 0)),
        ]),
        maybe: BTreeSet::from(["perhaps".to_owned(), "or not".to_owned()]),
        again: vec![Again { id: 5, answered: 5, duplicate: true }],
        deliveries: vec![
            // Its worker was stopped, and spoke when another one had it.
            Delivery {
                settled: Some((ms(80), Settled::Late)),
                ..delivery(1, 11, 1, 10, Settled::Late)
            },
            delivery(1, 12, 2, 50, Settled::Done),
            delivery(2, 13, 1, 101, Settled::Returned),
            // Sent again under the same lease, because nobody knew.
            delivery(2, 14, 1, 120, Settled::Unknown),
            delivery(2, 14, 1, 140, Settled::Done),
            delivery(3, 15, 1, 10, Settled::Failed),
            delivery(3, 16, 2, 20, Settled::Done),
            delivery(4, 17, 1, 30, Settled::Done),
            // Its worker died, and it was done all the same.
            delivery(5, 18, 1, 30, Settled::Unknown),
            Delivery { settled: None, ..delivery(6, 19, 1, 30, Settled::Failed) },
            delivery(6, 20, 2, 40, Settled::Failed),
            delivery(7, 21, 1, 40, Settled::Done),
        ],
        ended: vec![
            ended(1, "plain", true, 2),
            ended(2, "delayed", true, 1),
            ended(3, "first", true, 2),
            ended(4, "second", true, 1),
            ended(5, "once", true, 1),
            ended(6, "hopeless", false, 0),
            ended(7, "perhaps", true, 1),
        ],
    }
}

type Check = fn(&History) -> Checked;

/// The check finds what was planted into a good history.
#[track_caller]
fn assert_found(check: Check, says: &str, plant: impl FnOnce(&mut History)) {
    let mut history = good();
    plant(&mut history);
    let found = check(&history).expect_err("it was planted");
    assert!(found.contains(says), "{found}");
}

#[test]
fn a_good_history_passes_every_check_and_each_sees_something() {
    let history = good();
    assert_eq!(history.none_is_lost(), Ok(1));
    assert_eq!(history.none_is_done_twice(), Ok(5));
    assert_eq!(history.one_lease_is_alive(), Ok(4));
    assert_eq!(history.attempts_are_bounded(), Ok(3));
    assert_eq!(history.none_is_early(), Ok(1));
    assert_eq!(history.groups_are_in_order(), Ok(1));
    assert_eq!(history.duplicates_are_the_same(), Ok(1));
}

#[test]
fn a_lost_job_is_found() {
    let check: Check = History::none_is_lost;
    assert_found(check, "job 2, and maybe others, is lost", |history| {
        history.ended.retain(|ended| ended.id != 2);
    });
    assert_found(check, "job 6, and maybe others, is lost", |history| {
        history.ended.retain(|ended| ended.done);
    });
}

#[test]
fn a_job_that_nobody_pushed_is_found_and_one_that_is_there_twice() {
    let check: Check = History::none_is_lost;
    assert_found(check, "never pushed", |history| {
        history.ended.push(ended(8, "ghost", true, 1));
    });
    assert_found(check, "job 1 is there twice", |history| {
        history.ended.push(ended(1, "plain", false, 0));
    });
    assert_found(check, "was pushed as plain", |history| history.ended[0].name = "other".into());
    // A push of which nobody knew whether it had its effect had it twice.
    assert_found(check, "perhaps is there under two ids", |history| {
        history.ended.push(ended(8, "perhaps", true, 1));
    });
    assert_found(check, "once is there under two ids", |history| {
        history.maybe.insert("once".to_owned());
        history.ended.push(ended(8, "once", true, 1));
    });
}

#[test]
fn a_job_that_is_done_twice_or_not_at_all_is_found() {
    let check: Check = History::none_is_done_twice;
    assert_found(check, "job 1 was done 2 times", |history| {
        history.deliveries[0].settled = Some((ms(80), Settled::Done));
    });
    assert_found(check, "job 4 was done 0 times", |history| {
        history.deliveries[7].settled = Some((ms(35), Settled::Failed));
    });
    assert_found(check, "job 6 was done, and is a dead letter", |history| {
        history.deliveries[10].settled = Some((ms(45), Settled::Done));
    });
}

#[test]
fn a_job_that_is_done_under_two_live_leases_is_found() {
    let check: Check = History::one_lease_is_alive;
    for taken in [Settled::Done, Settled::Failed, Settled::Returned] {
        assert_found(check, "after 12 was given", |history| {
            history.deliveries[0].settled = Some((ms(80), taken));
        });
    }
    assert_found(check, "job 3 was given out twice under 15", |history| {
        history.deliveries[6].lease = 15;
    });
    // What was refused for no reason of its own may come again.
    let mut history = good();
    history.deliveries[3].settled = Some((ms(125), Settled::Refused));
    assert_eq!(history.one_lease_is_alive(), Ok(4));
}

#[test]
fn too_many_attempts_are_found() {
    let check: Check = History::attempts_are_bounded;
    assert_found(check, "attempt 3 of 2", |history| history.deliveries[10].attempt = 3);
    assert_found(check, "attempt 0 of 2", |history| history.deliveries[1].attempt = 0);
    assert_found(check, "job 3 had 3 attempts", |history| history.ended[2].attempts = 3);
}

#[test]
fn an_attempt_that_is_not_counted_is_found() {
    let check: Check = History::attempts_are_bounded;
    // It failed, its lease ran out while its worker stood still, its worker died.
    for (place, says) in [(6, "under 16"), (1, "under 12"), (10, "under 20")] {
        let says = format!("for attempt 1 {says}, after 1 that failed");
        assert_found(check, &says, |history| history.deliveries[place].attempt = 1);
    }
    assert_found(check, "for attempt 1 under 16, after 1 that failed", |history| {
        history.deliveries[5].settled = Some((ms(15), Settled::Refused));
        history.deliveries[6].attempt = 1;
    });
    // Perhaps it was handed back.
    let mut history = good();
    history.deliveries[5].settled = Some((ms(15), Settled::Unknown));
    history.deliveries[6].attempt = 1;
    assert_eq!(history.attempts_are_bounded(), Ok(2));
}

#[test]
fn an_early_delay_is_found() {
    assert_found(History::none_is_early, "delayed came after 99ms of 100ms", |history| {
        history.deliveries[2].at = ms(99);
    });
}

#[test]
fn a_group_out_of_its_order_is_found() {
    let check: Check = History::groups_are_in_order;
    // While the one before was worked on, and while it waited for its next attempt.
    for at in [22, 12] {
        assert_found(check, "job 4 came before 3 was settled", |history| {
            history.deliveries[7].at = ms(at);
        });
    }
    // Whoever handed it back had it still.
    assert_found(check, "job 4 came before 3 was settled", |history| {
        history.deliveries[6].settled = Some((ms(40), Settled::Returned));
    });
}

#[test]
fn a_duplicate_that_is_another_job_is_found() {
    let check: Check = History::duplicates_are_the_same;
    assert_found(check, "became 9", |history| history.again[0].answered = 9);
    assert_found(check, "became 5", |history| history.again[0].duplicate = false);
}
