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
//!   of the grant; and calls for locks are granted, or told that they were not in time.
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
use super::faults::{Injected, Injector};
use super::invariants::{Settled, Watch, settled};
use super::journal::Journal;
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::{LOOK, RECOVERY_MAX, SETTLING_MAX, in_a_thread, verdict, world};
use books::Books;
use std::hash::{DefaultHasher, Hash, Hasher};
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
/// How long after the first write since the last fault clients may still have troubles of their own.
const RECOVERED_AFTER: Duration = Duration::from_secs(5);
/// How long clients go on after everything is repaired.
const AFTERMATH: Duration = Duration::from_secs(12);
/// The test that runs a seed again.
const TEST: &str = "locks::seeds_with_contenders_keep_every_promise";

/// As [`super::run`], with clients that contend for locks.
#[must_use]
pub fn run_locks(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_locks(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended| {
        judge(report, journal, ended);
        verdict::keep_journal(report, directory, "locks");
    };
    in_a_thread(TEST, seed, plan, simulate, judge)
}

/// What a run leaves behind, before it is judged.
struct Ended {
    books: Arc<Books>,
    witness: Witness,
    simulated: Duration,
    leaders: usize,
    injected: Injected,
    settled: Option<Settled>,
}

fn simulate(plan: &Plan, journal: &Journal) -> Ended {
    let books = Arc::new(Books::new(journal.clone()));
    let mut stage = Stage::new(plan, journal, &books);
    contender::start(&mut stage, plan);
    probes::start(&mut stage, plan);
    let settled = run_to_end(&mut stage, plan);
    stage.end(settled)
}

fn run_to_end(stage: &mut Stage<'_>, plan: &Plan) -> Result<Settled, String> {
    while stage.sim.elapsed() < plan.heal_at {
        stage.step()?;
    }
    stage.journal.write(stage.sim.elapsed(), format_args!("everything is repaired"));
    stage.injector.heal(stage.sim.elapsed());
    while !stage.injector.is_over() {
        stage.step()?;
    }
    let repaired = stage.sim.elapsed();
    contender::audit(stage, plan);
    loop {
        stage.step()?;
        let now = stage.sim.elapsed();
        if stage.books.recovery().is_none() && now > repaired + RECOVERY_MAX {
            return Err(format!(
                "no write succeeded within {RECOVERY_MAX:?} after everything was repaired"
            ));
        }
        let missing = match stage.settled() {
            Ok(settled) => return Ok(settled),
            Err(missing) => missing,
        };
        if now > repaired + RECOVERY_MAX + SETTLING_MAX {
            return Err(format!("not settled in the end: {missing}"));
        }
    }
}

/// A simulated cluster under way, and who watches it.
struct Stage<'a> {
    sim: turmoil::Sim<'a>,
    cluster: Cluster,
    injector: Injector,
    watch: Watch,
    witness: Witness,
    books: Arc<Books>,
    journal: Journal,
    looked: Duration,
}

impl Stage<'_> {
    fn new(plan: &Plan, journal: &Journal, books: &Arc<Books>) -> Self {
        let mut sim = world(plan);
        let cluster = Cluster::start(&mut sim, plan);
        Self {
            sim,
            cluster,
            injector: Injector::new(plan),
            watch: Watch::default(),
            witness: Witness::default(),
            books: Arc::clone(books),
            journal: journal.clone(),
            looked: Duration::ZERO,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.injector.turn(&mut self.sim, &self.cluster, &self.journal);
        self.cluster.tell_time(self.sim.elapsed());
        self.books.tell_isolated(&self.cluster, self.sim.elapsed());
        self.sim.step().map_err(|error| error.to_string())?;
        let now = self.sim.elapsed();
        self.witness.look(&self.cluster, &self.books, now, &self.journal)?;
        if now >= self.looked + LOOK {
            self.looked = now;
            self.watch.look(&self.cluster, now, &self.journal);
            self.witness.look_for_stuck(&self.books, now, &self.journal);
        }
        Ok(())
    }

    /// Whether there is nothing left to wait for; or what is missing.
    fn settled(&self) -> Result<Settled, String> {
        if !self.books.is_over() {
            return Err("clients are still at work".to_owned());
        }
        self.witness.all_free()?;
        settled(&self.cluster)
    }

    fn end(self, settled: Result<Settled, String>) -> Ended {
        if let Err(problem) = &settled {
            self.journal.problem(self.sim.elapsed(), format_args!("{problem}"));
        }
        Ended {
            books: self.books,
            simulated: self.sim.elapsed(),
            leaders: self.watch.leaders(),
            witness: self.witness,
            injected: self.injector.injected,
            settled: settled.ok(),
        }
    }
}

fn judge(report: &mut Report, journal: &Journal, ended: Ended) {
    let Ended { books, witness, simulated, leaders, injected, settled } = ended;
    report.problems = journal.problems();
    report.problems.extend(books.problems(&witness));
    report.problems.extend(witness.problems());
    report.journal = journal.lines();
    let mut hasher = DefaultHasher::new();
    journal.hash().hash(&mut hasher);
    if let Some(settled) = settled {
        (settled.applied, settled.digest, settled.checksum).hash(&mut hasher);
    }
    report.trace = hasher.finish();
    report.simulated = simulated;
    report.recovery = books.recovery();
    report.leaders = leaders;
    report.injected = injected;
    report.locks = books.counts(&witness);
}
