//! The stories that look at one service or promise each: transactions, watches, restores.

use super::{directory, print, run_seeds};
use quorate_testkit::sim::{Planted, Report, StoryKind};

/// Seeds that every test run goes through.
const SEEDS_DEFAULT: u64 = 24;
/// Of the story that writes a history full.
const SEEDS_OF_WATCHES: u64 = 8;

/// Runs seeds of a story, and what it counted, when it was enough seeds to say anything of that.
fn counted(story: StoryKind, default: u64) -> Option<(u64, impl Fn(&str) -> u64)> {
    let run = |seed| story.run(seed, Planted::Nothing, directory());
    let (seeds, reports) = run_seeds(default, run)?;
    if seeds < default {
        return None;
    }
    let names: Vec<_> = reports[0].counts.iter().map(|(what, _)| *what).collect();
    let sum = move |of: &str| reports.iter().map(|report| report.count(of)).sum::<u64>();
    let all: Vec<_> = names.iter().map(|what| format!("{} {what}", sum(what))).collect();
    print(&format!("{seeds} seeds: {}", all.join(", ")));
    Some((seeds, sum))
}

#[test]
fn seeds_with_transactions_keep_every_promise() {
    let Some((seeds, sum)) = counted(StoryKind::Transactions, SEEDS_DEFAULT) else { return };
    assert!(sum("acknowledged") > 50 * seeds, "too few transactions were acknowledged");
    assert!(sum("of unknown outcome") > 0, "no transaction had an unknown outcome");
    assert!(sum("refused") > 5 * seeds, "too few transactions were refused");
    assert!(sum("answered again") > 10 * seeds, "too few transactions were sent again");
    assert!(sum("read at one moment") > 50 * seeds, "too little was read");
}

#[test]
fn seeds_with_watches_keep_every_promise() {
    let Some((seeds, sum)) = counted(StoryKind::Watches, SEEDS_OF_WATCHES) else { return };
    assert!(sum("changes known") > 300 * seeds, "too little was written");
    assert!(sum("watches") > 20 * seeds, "too few watches were begun");
    assert!(sum("told compacted") > seeds, "too few watches were told that they came too late");
    assert!(sum("begun at the oldest") > seeds, "too few watches began at the oldest revision");
}

#[test]
fn seeds_with_restores_keep_every_promise() {
    let Some((seeds, sum)) = counted(StoryKind::Restores, SEEDS_DEFAULT) else { return };
    assert!(sum("locks granted") > 20 * seeds, "too few locks were granted");
    assert!(sum("of them since the backup") > 2 * seeds, "too few of them since the backup");
    assert!(sum("asked of the new cluster") >= 6 * seeds, "the new cluster was not asked");
}

/// Twice the same, as far as the journal tells.
fn repeats(run: impl Fn() -> Report) {
    let [first, second] = [(); 2].map(|()| run());
    let differs = first.journal.iter().zip(&second.journal).find(|(one, other)| one != other);
    assert_eq!(differs, None, "the seed does not repeat itself");
    assert_eq!(first.trace, second.trace, "what the nodes hold in the end");
}

#[test]
fn one_seed_twice_is_the_same_run() {
    for story in [StoryKind::Transactions, StoryKind::Watches, StoryKind::Restores, StoryKind::Work]
    {
        repeats(|| story.run(7, Planted::Nothing, directory()));
    }
}
