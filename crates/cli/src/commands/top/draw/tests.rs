//! What stands on the screen, of whatever size, and as plain text.

use super::*;
use crate::commands::top::look::Look;
use crate::commands::top::seen::{Channel, Holder, Listed, Lock, Queue, cluster};
use crate::commands::top::view::Key;
use quorate_client::Error;
use std::time::Duration;

fn frame(colours: bool) -> Frame {
    Frame { about: "every 1s".to_owned(), colours }
}

fn queue(name: &str, ready: u64, pushed: u64) -> Queue {
    Queue { queue: name.to_owned(), ready, pushed, dead: 2, ..Queue::default() }
}

/// Seen at two moments, two seconds apart.
fn seen() -> (Picture, Instant) {
    let begun = Instant::now();
    let later = begun + Duration::from_secs(2);
    let mut picture = Picture::default();
    for (at, times) in [(begun, 1), (later, 2)] {
        let mut cluster = cluster();
        for node in &mut cluster.nodes {
            for count in node.counters.iter_mut().flat_map(|counters| counters.values_mut()) {
                *count *= times;
            }
        }
        let queues = Listed {
            items: vec![queue("a", 5, 10 * times), queue("mail", 70, 100 * times)],
            ..Listed::default()
        };
        let holder = Holder { token: 17, mode: "exclusive", held_ms: 95_000, ..Holder::default() };
        let lock = Lock { name: "report".to_owned(), waiters: 2, holders: vec![holder] };
        let channel =
            Channel { pattern: "user.*".to_owned(), subscribers: 4, ..Channel::default() };
        picture.take(Look {
            at,
            cluster: Ok(cluster),
            queues: Some(Ok(queues)),
            locks: Some(Ok(Listed { items: vec![lock], ..Listed::default() })),
            cache: None,
            bus: Some(Ok(Listed { items: vec![channel], ..Listed::default() })),
            sessions: None,
        });
    }
    (picture, later)
}

fn drawn(picture: &Picture, view: &View, now: Instant, width: u16, height: u16) -> Vec<String> {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    screen(&mut buffer, &frame(false), picture, view, now);
    lines(&buffer)
}

#[test]
fn the_cluster_fits_a_small_terminal() {
    let (picture, now) = seen();
    let lines = drawn(&picture, &View::new(PageName::Cluster), now, 80, 24);
    let expected: [&str; 10] = [
        "quorate top                                                             every 1s",
        " 1 cluster  2 queues  3 locks  4 cache  5 bus  6 sessions",
        "node 1 leads in term 41; cluster c0ffee, 3 voters; node 1 says so",
        "calls 700/s ok, - failed, - unknown; writes 350/s in - entries, log -, fsyncs -",
        "node 3: no answer within 500 ms",
        "",
        "NODE  ROLE      HEALTH  LAG  FSYNC    P99  DISK FREE  CALLS/S  CONNS  ELECTED",
        "1     leader    well      0  900us  4.1ms    3.0 GiB      500      8      0/h",
        "2     follower  well      0  900us  4.1ms    3.0 GiB      200      8      0/h",
        "3     unknown   unwell    -      -      -          -        -      -        -",
    ];
    assert_eq!(lines[..expected.len()], expected, "{lines:#?}");
    assert_eq!(lines[23], "q quit  Tab page  s sort: NODE  / filter  p pause  ? help");
}

#[test]
fn queues_are_sorted_and_filtered_and_have_rates() {
    let (picture, now) = seen();
    let mut view = View::new(PageName::Queues);
    let lines = drawn(&picture, &view, now, 120, 24);
    assert_eq!(lines[2], "queues: 2; ready 75, delayed 0, leased 0, dead letters 4");
    assert!(
        lines[4].starts_with("QUEUE  READY  DELAYED  LEASED  DEAD  OLDEST  PUSHED/S"),
        "{lines:#?}"
    );
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // Those with most first.
    let mail = ["mail", "70", "0", "0", "2", "-", "50", "0", "0", "0", "0"];
    assert_eq!(words(&lines[5]), mail);
    assert_eq!(words(&lines[6])[..2], ["a", "5"]);
    assert_eq!(words(&lines[6])[6], "5.0");
    // By the name, which comes after the last column.
    for _ in 1..pages::columns(PageName::Queues).len() {
        view.press(Key::Char('s'), 10, pages::columns(PageName::Queues).len());
    }
    let lines = drawn(&picture, &view, now, 120, 24);
    assert!(lines[5].starts_with("a ") && lines[23].contains("sort: QUEUE"), "{lines:#?}");
    view.filter = "ai".to_owned();
    let lines = drawn(&picture, &view, now, 120, 24);
    assert!(lines[5].starts_with("mail ") && lines[6].is_empty(), "{lines:#?}");
    assert!(lines[23].contains("/ filter: ai"), "{lines:#?}");
    view.filter = "x".to_owned();
    let lines = drawn(&picture, &view, now, 120, 24);
    assert_eq!(lines[4], "nothing has that in its name");
}

#[test]
fn what_can_not_be_reached_is_said_above_what_was_seen() {
    let (mut picture, now) = seen();
    let reason = "UNREACHABLE".to_owned();
    let error = Error::Unavailable { reason, message: "no node answers".to_owned() };
    picture.cluster.take(now, Err(error.clone()));
    picture.queues.take(now, Err(error));
    let later = now + Duration::from_secs(7);
    let lines = drawn(&picture, &View::new(PageName::Cluster), later, 80, 24);
    let says = "what is shown is 7s old; trying again: no node answers (UNREACHABLE)";
    assert_eq!(lines[2], says);
    assert!(lines[3].starts_with("node 1 leads"), "{lines:#?}");
    // Once is enough.
    let lines = drawn(&picture, &View::new(PageName::Queues), later, 80, 24);
    assert_eq!(lines[2], says);
    assert!(lines[3].starts_with("queues: 2"), "{lines:#?}");
    // Where only the page's own part fails, the page says so, as text as well.
    picture.cluster.take(now, Ok(cluster()));
    let lines = drawn(&picture, &View::new(PageName::Queues), later, 80, 24);
    assert_eq!(lines[2], says);
    let text = text(&picture, &View::new(PageName::Queues), 80, later);
    assert!(text.starts_with(says) && text.contains("\nmail "), "{text}");
    let nothing = drawn(&Picture::default(), &View::new(PageName::Cluster), now, 80, 24);
    assert_eq!(nothing[3], "no node has answered yet", "{nothing:#?}");
}

#[test]
fn rows_are_scrolled_no_further_than_there_are_any() {
    let (mut picture, now) = seen();
    let items = (0..50).map(|at| queue(&format!("q{at:02}"), 50 - at, 0)).collect();
    picture.queues.take(now, Ok(Listed { items, more: true, stale: true }));
    let mut view = View::new(PageName::Queues);
    let lines = drawn(&picture, &view, now, 80, 24);
    assert_eq!(lines[2], "told without a quorum: what is shown may be old");
    assert_eq!(lines[3], "there are more than the first 50 by name; / finds others");
    assert!(lines[7].starts_with("q00 ") && lines[22].starts_with("q15 "), "{lines:#?}");
    assert!(lines[23].starts_with("1 to 16 of 50  q quit"), "{lines:#?}");
    view.scroll = usize::MAX;
    let lines = drawn(&picture, &view, now, 80, 24);
    assert!(lines[7].starts_with("q34 ") && lines[22].starts_with("q49 "), "{lines:#?}");
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    let drawn = screen(&mut buffer, &frame(false), &picture, &view, now);
    assert_eq!(drawn, Drawn { rows: 16, of: 50 });
    assert_eq!(drawn.scroll_max(), 34);
    // All of them where there is no screen.
    assert_eq!(text(&picture, &view, 80, now).lines().count(), 3 + 1 + 1 + 50);
}

#[test]
fn no_size_is_too_small() {
    let (picture, now) = seen();
    for page in PageName::ALL {
        for (help, typing) in [(false, false), (true, false), (false, true)] {
            let view = View { help, typing, scroll: 3, ..View::new(page) };
            for height in 0..12 {
                for width in 0..40 {
                    let lines = drawn(&picture, &view, now, width, height);
                    assert!(lines.iter().all(|line| super::width(line) <= width.into()));
                }
            }
        }
    }
}

#[test]
fn names_are_cut_off_before_columns_are_left_out() {
    let (mut picture, now) = seen();
    let items = vec![queue(&"long".repeat(20), 1, 0), queue("漢字漢字漢字漢字\n", 2, 0)];
    picture.queues.take(now, Ok(Listed { items, ..Listed::default() }));
    let lines = drawn(&picture, &View::new(PageName::Queues), now, 60, 24);
    // What is no line is escaped.
    assert!(lines[5].starts_with("\\xe6\\xbc\\xa…"), "{lines:#?}");
    assert!(lines[6].starts_with("longlonglon…"), "{lines:#?}");
    assert!(lines[4].ends_with("PUSHED/S"), "{lines:#?}");
    let narrow = drawn(&picture, &View::new(PageName::Queues), now, 22, 24);
    assert!(narrow.iter().any(|line| line.ends_with("READY")), "{narrow:#?}");
    assert_eq!(cut("漢字", 3), "漢…");
    assert_eq!((cut("abc", 3).as_str(), cut("abcd", 3).as_str()), ("abc", "ab…"));
}

#[test]
fn colours_are_left_out_when_nobody_wants_them() {
    let (picture, now) = seen();
    let colours = |wanted| {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        screen(&mut buffer, &frame(wanted), &picture, &View::new(PageName::Cluster), now);
        let coloured = buffer.content.iter().filter(|cell| cell.fg != Color::Reset).count();
        (coloured, buffer.content.iter().filter(|cell| cell.fg == Color::Red).count())
    };
    assert_eq!(colours(false), (0, 0));
    let (any, red) = colours(true);
    assert!(red > 20 && any > red, "{any}, {red}");
}

#[test]
fn help_and_the_filter_are_on_the_screen() {
    let (picture, now) = seen();
    let mut view = View::new(PageName::Locks);
    let lines = drawn(&picture, &view, now, 80, 24);
    assert_eq!(lines[2], "locks held: 1, calls that wait: 2");
    assert!(lines[5].starts_with("report        2        1       95s"), "{lines:#?}");
    view.press(Key::Char('?'), 10, 3);
    let lines = drawn(&picture, &view, now, 80, 24);
    assert!(lines[2].starts_with("q, Esc, Ctrl-C"), "{lines:#?}");
    view.press(Key::Char('/'), 10, 3);
    view.press(Key::Char('r'), 10, 3);
    let lines = drawn(&picture, &view, now, 80, 24);
    assert!(lines[23].starts_with("/r_"), "{lines:#?}");
    view = View { paused: true, ..View::new(PageName::Bus) };
    let lines = drawn(&picture, &view, now, 80, 24);
    assert!(lines[0].ends_with("PAUSED, every 1s"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("user.*")), "{lines:#?}");
}
