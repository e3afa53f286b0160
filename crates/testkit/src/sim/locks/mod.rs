//! Clients that contend for locks while leaders are cut off, killed and replaced, and clocks jump.
//!
//! # What is checked
//! - No two clients think at one time that they hold an exclusive lock (`books`): each counts until
//!   its own deadline, and all of them have the same clock here.
//! - What a client thinks it holds, it holds: a lock is not freed before the ttl is over that was
//!   counted from when the last answered renewal was sent, whatever happens to the leaders.
//! - Tokens grow with the revisions of the grants, and no guarded write is acknowledged with a
//!   revision behind that of a later grant.
//! - A node that reaches no other answers no renewal and no read that began after that (`probes`):
//!   it may lead by its own lights, while others have a leader of theirs.
//! - When nothing is broken any more and a write has succeeded, a lock that nobody renews is free at the latest its ttl and
//!   [`FREED_WITHIN`] after the leader last changed; who waits for one is told within [`TOLD_WITHIN`]
//!   of the grant; nobody is granted what it has waited for in vain; and calls for locks are granted, or told that they were not in time.
//! - In the end every lock is free, and nobody waits.
//!
//! # What is not
//! A frozen process is one that stops renewing and later does what it had in mind; its timers are
//! not late. Locks taken by operators, and sessions closed by them.

mod books;
mod contender;
mod probes;
mod scenarios;
mod witness;

pub use books::Counts;
pub use scenarios::{Dead, Failovers, run_failovers, run_queue, run_wall_jumps};

use super::cluster::Cluster;
use super::course::Course;
use super::journal::Journal;
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::stage::{self, Ended, Story};
use super::{in_a_thread, verdict};
use books::Books;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use witness::Witness;

/// The locks there are, and how many may hold each at once.
const LOCKS: [(&str, usize); 3] = [("x0", 1), ("x1", 1), ("p0", 2)];
/// The longest ttl of a contender's lock.
const TTL_MAX: Duration = Duration::from_secs(5);
/// How long after its time a lock that nobody renews may still be held.
const FREED_WITHIN: Duration = Duration::from_secs(2);
/// How long a grant may take to be told to a client that nothing is in the way of.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// How long clients go on after everything is repaired.
const AFTERMATH: Duration = Duration::from_secs(12);
/// The test that runs a seed again.
const TEST: &str = "locks::seeds_with_contenders_keep_every_promise";

/// As [`super::run`], with clients that contend for locks.
#[must_use]
pub fn run_locks(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_locks(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended| {
        judge(report, journal, &ended);
        verdict::keep_journal(report, directory, "locks");
    };
    in_a_thread(TEST, seed, plan, simulate, judge)
}

/// Clients that contend, and what is seen of their locks.
struct Contention {
    books: Arc<Books>,
    witness: Witness,
}

type Stage<'a> = stage::Stage<'a, Contention>;

impl Contention {
    fn new(journal: &Journal) -> Self {
        Self { books: Arc::new(Books::new(journal.clone())), witness: Witness::default() }
    }
}

impl Story for Contention {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn before_step(&mut self, cluster: &Cluster, now: Duration) {
        self.books.tell_isolated(cluster, now);
    }

    fn look(&mut self, cluster: &Cluster, now: Duration, journal: &Journal) -> Result<(), String> {
        self.witness.look(cluster, &self.books, now, journal)
    }

    fn look_longer(&mut self, _: &Cluster, now: Duration, journal: &Journal) -> Result<(), String> {
        self.witness.look_for_stuck(&self.books, now, journal);
        Ok(())
    }

    fn is_over(&self) -> Result<(), String> {
        if !self.course().is_audited() || self.course().working() > 0 {
            return Err("clients are still at work".to_owned());
        }
        self.witness.all_free()
    }
}

fn simulate(plan: &Plan, journal: &Journal) -> Ended<Contention> {
    contend(Stage::new(plan, journal, Contention::new(journal)), plan)
}

/// Runs contenders and probes to the end.
fn contend(mut stage: Stage<'_>, plan: &Plan) -> Ended<Contention> {
    contender::start(&mut stage, plan);
    probes::start(&mut stage, plan);
    let settled = stage.run_to_end(plan, |stage| contender::audit(stage, plan));
    stage.end(settled)
}

fn judge(report: &mut Report, journal: &Journal, ended: &Ended<Contention>) {
    let Contention { books, witness } = &ended.story;
    report.problems = journal.problems();
    report.problems.extend(books.problems(witness));
    report.problems.extend(witness.problems());
    verdict::note(report, journal, ended);
    report.locks = books.counts(witness);
}
