//! Watches of keys that are written so much that the history is compacted: they begin now, go on where
//! others ended, and begin at what is long past.
//!
//! # What is checked
//! - A watch hands out every change between where it began and how far it says it is: once, in order, all
//!   of a revision together; whatever becomes of its node, and wherever it goes on.
//! - What can't be handed out any more is told: as compacted, with the oldest revision that can. A watch
//!   from that one misses nothing.
//! - All watches are told the same of the same revision, and that is what writers were told.
//! - When all is repaired, watches come up to what was written.

mod books;
mod watcher;
mod writer;

use super::course::Course;
use super::journal::Journal;
use super::net::CLIENT_HOSTS;
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::stage::{self, Ended, Story};
use super::{in_a_thread, verdict};
use books::Books;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What the keys begin with.
const PREFIX: &str = "w/";
/// How many there are: values are so large that more would make long snapshots.
const KEYS: u64 = 6;
/// How long writers go on after everything is repaired.
const AFTERMATH: Duration = Duration::from_secs(3);
/// How long watches may then take to what was written: a connection that is dead is noticed late.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(20);
/// The test that runs a seed again.
const TEST: &str = "stories::seeds_with_watches_keep_every_promise";

/// As [`super::run`], with watches.
#[must_use]
pub fn run_watches(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_watches(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended: Ended<Watching>| {
        report.problems = journal.problems();
        report.problems.extend(ended.story.books.problems());
        verdict::note(report, journal, &ended);
        report.counts = ended.story.books.counts();
        verdict::keep_journal(report, directory, "watches");
    };
    in_a_thread(TEST, seed, plan, simulate, judge)
}

struct Watching {
    books: Arc<Books>,
}

type Stage<'a> = stage::Stage<'a, Watching>;

impl Story for Watching {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn is_over(&self) -> Result<(), String> {
        match self.books.course.is_audited() {
            true => Ok(()),
            false => Err("watches have not come up to what was written".to_owned()),
        }
    }
}

/// What one of the clients does.
type Work = Pin<Box<dyn Future<Output = turmoil::Result>>>;

fn simulate(plan: &Plan, journal: &Journal) -> Ended<Watching> {
    let books = Arc::new(Books::new(journal.clone()));
    let mut stage = Stage::new(plan, journal, Watching { books });
    let until = plan.heal_at + AFTERMATH;
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1..).step_by(10)) {
        let party =
            |number| super::clients::Party::new(&stage, &stage.story.books, plan, host, number);
        let all: Vec<Work> = vec![
            Box::pin(writer::work(party(first), until)),
            Box::pin(writer::work(party(first + 1), until)),
            Box::pin(watcher::work(party(first + 2), until)),
            Box::pin(watcher::work(party(first + 3), until)),
            Box::pin(watcher::work(party(first + 4), until)),
        ];
        all.iter().for_each(|_| stage.story.books.course.begins());
        stage.sim.client(host, async move {
            for worked in futures::future::join_all(all).await {
                worked?;
            }
            Ok(())
        });
    }
    let settled = stage.run_to_end(plan, |stage| writer::audit(stage, plan));
    stage.end(settled)
}
