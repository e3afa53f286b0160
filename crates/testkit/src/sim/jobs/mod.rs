//! Clients that push jobs and do them, well or badly, while leaders are cut off, killed and
//! replaced.
//!
//! # Who there is
//! - Pushers (`pusher`): jobs with delays, priorities, groups, ttls, and dedupe keys that are
//!   pushed again on purpose, mostly through another node. One of them also purges a queue now and
//!   then, and puts dead letters of another back.
//! - Workers who come and go (`worker`): consumers and pulls, that acknowledge, fail, hand back,
//!   extend, kill, leave what they have, come too late with it, or just hang.
//! - Workers who live through the whole run (`survivor`), two for each queue, whom nobody begins
//!   anew.
//! - In the end (`auditor`) everything is repaired, all others have gone, and these do what is
//!   left, until all queues are empty; then they get some more, to see whether each of them still
//!   does.
//!
//! # What is checked
//! By what clients and nodes said (`record`), when the run is over (`judge`):
//! - Every job that was added ends as one that was done or as a dead letter with a cause, unless
//!   its queue was purged; a push of unknown outcome adds one at most, and one that was refused
//!   none.
//! - A job is acknowledged once; under a lease that is not the newest nobody can say anything; a
//!   lease that is bound to nothing but its time lasts for that.
//! - Each delivery counts as one attempt at most, and there are not more than there may be.
//! - No job comes before its time, and none of a group before those in front of it are over.
//! - A duplicate is recognised while its key is remembered, whoever leads.
//! - When nothing is broken any more and a write has succeeded, a job that is ready is taken within
//!   [`TAKEN_WITHIN`]; and [`NOTICED_WITHIN`] after the last fault consumers that lived through the
//!   run, and they alone, get what is pushed then, within [`DELIVERED_WITHIN`].
//! - Queues count what happened in them, and `quorate_state::invariants` hold.
//!
//! # What is not
//! Times by the wall clock, limits of queues (length, rate, parallel jobs), schedules,
//! cancellation, and whether jobs of a higher priority come first. Clients that are killed: they
//! only stop, and say what they can.

mod auditor;
mod books;
mod counts;
mod judge;
mod party;
mod pusher;
mod record;
mod survivor;
mod witness;
mod worker;

pub use counts::JobCounts;

use super::clients::ms;
use super::cluster::{Cluster, GROUP};
use super::faults::{Injected, Injector};
use super::invariants::{Settled, Watch, settled};
use super::journal::Journal;
use super::net::CLIENT_HOSTS;
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::{LOOK, RECOVERY_MAX, SETTLING_MAX, in_a_thread, verdict, world};
use books::Books;
use party::Party;
use quorate_state::invariants;
use record::Kind;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use witness::Witness;

/// The queues there are.
const QUEUES: [Kind; 4] = [PLAIN, BRIEF, GROUPED, PURGED];
/// Its jobs are tried again for ever.
const PLAIN: Kind = Kind {
    name: "plain",
    visibility: ms(3_000),
    attempts_max: 0,
    backoff: ms(300),
    dedupe_window: ms(6_000),
};
/// Its jobs die soon, and their letters are put back now and then.
const BRIEF: Kind = Kind {
    name: "brief",
    visibility: ms(1_000),
    attempts_max: 2,
    backoff: ms(100),
    dedupe_window: ms(3_000),
};
/// Its jobs belong to groups.
const GROUPED: Kind = Kind {
    name: "grouped",
    visibility: ms(1_500),
    attempts_max: 3,
    backoff: ms(150),
    dedupe_window: ms(6_000),
};
/// It is emptied now and then.
const PURGED: Kind = Kind {
    name: "purged",
    visibility: ms(2_000),
    attempts_max: 0,
    backoff: ms(200),
    dedupe_window: ms(6_000),
};
/// Jobs that those who live through the run may have of one queue, in all.
const SURVIVING_WINDOWS: usize =
    survivor::WINDOW as usize + survivor::PARALLEL as usize + survivor::PREFETCH as usize;
/// How long a job may be ready while somebody has room for it.
const TAKEN_WITHIN: Duration = ms(1_000);
/// How long a job may take to a consumer that has nothing else to do.
const DELIVERED_WITHIN: Duration = ms(1_000);
/// How long after the first write since the last fault clients may still have troubles of their
/// own.
const RECOVERED_AFTER: Duration = ms(5_000);
/// How long clients go on after everything is repaired.
const AFTERMATH: Duration = ms(9_000);
/// How long what is left may take when all but the survivors have gone: a lease, or a wait, and the
/// work.
const DRAINED_WITHIN: Duration = ms(12_000);
/// How long after the last fault a node may take a consumer for one that is there, though its
/// client has gone. A connection that lost packets of the client here never brings any again, so
/// what it said in the end, that it is gone, does not come: the node notices by its pings, every 20
/// s, which are not answered within 10 s. (With retransmission it would be told.)
const NOTICED_WITHIN: Duration = ms(31_000);
/// Looks at the invariants until the relations between all rows are looked at, too.
const LOOKS_PER_CHECK: u32 = 25;
/// The test that runs a seed again.
const TEST: &str = "jobs::seeds_with_jobs_keep_every_promise";

/// As [`super::run`], with clients that push jobs and do them.
#[must_use]
pub fn run_jobs(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_jobs(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended| {
        judge(report, journal, ended);
        verdict::keep_journal(report, directory, "jobs");
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
    let mut stage = Stage::new(plan, journal);
    auditor::set_up(&mut stage, plan);
    start(&mut stage, plan);
    let settled = run_to_end(&mut stage, plan);
    stage.end(settled)
}

/// Puts pushers and workers into the simulation.
fn start(stage: &mut Stage<'_>, plan: &Plan) {
    let (until, pushing) = (plan.heal_at + AFTERMATH, plan.heal_at + AFTERMATH / 2);
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1_u64..).step_by(20)) {
        let is_first = first == 1;
        let party = |number: u64| Party::new(stage, plan, host, first + number);
        let mut all: Vec<Work> = vec![
            Box::pin(pusher::work(party(0), is_first, pushing)),
            Box::pin(pusher::work(party(1), false, pushing)),
            Box::pin(worker::consume(party(2), until)),
            Box::pin(worker::consume(party(3), until)),
            Box::pin(worker::pull(party(4), until)),
        ];
        all.iter().for_each(|_| stage.books.begins());
        for (kind, number) in QUEUES.into_iter().zip(10..) {
            all.push(match is_first {
                true => Box::pin(survivor::consume(party(number), kind)),
                false => Box::pin(survivor::work(party(number), kind)),
            });
        }
        stage.sim.client(host, async move {
            for worked in futures::future::join_all(all).await {
                worked?;
            }
            // What was left in the background has its time, too.
            std::future::pending().await
        });
    }
}

/// What one of them does.
type Work = Pin<Box<dyn Future<Output = turmoil::Result>>>;

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
    auditor::audit(stage, plan);
    loop {
        stage.step()?;
        let now = stage.sim.elapsed();
        if stage.books.recovery().is_none() && now > repaired + RECOVERY_MAX {
            return Err(format!(
                "no write succeeded within {RECOVERY_MAX:?} after everything was repaired"
            ));
        }
        let missing = match stage.settled() {
            Ok(settled) => {
                stage.witness.look_at_rest(&stage.cluster)?;
                return Ok(settled);
            }
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
    looks: u32,
}

impl Stage<'_> {
    fn new(plan: &Plan, journal: &Journal) -> Self {
        let mut sim = world(plan);
        let cluster = Cluster::start(&mut sim, plan);
        Self {
            sim,
            cluster,
            injector: Injector::new(plan),
            watch: Watch::default(),
            witness: Witness::default(),
            books: Arc::new(Books::new(journal.clone())),
            journal: journal.clone(),
            looked: Duration::ZERO,
            looks: 0,
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.injector.turn(&mut self.sim, &self.cluster, &self.journal);
        self.cluster.tell_time(self.sim.elapsed());
        self.sim.step().map_err(|error| error.to_string())?;
        let now = self.sim.elapsed();
        self.witness.look(&self.cluster, &self.books, now, &self.journal)?;
        if now >= self.looked + LOOK {
            self.looked = now;
            self.watch.look(&self.cluster, now, &self.journal);
            self.looks += 1;
            if self.looks.is_multiple_of(LOOKS_PER_CHECK) {
                self.check_invariants()?;
            }
        }
        Ok(())
    }

    /// Of whichever node is next: the same index has the same state everywhere.
    fn check_invariants(&self) -> Result<(), String> {
        let machines = &self.cluster.machines;
        let machine = &machines[(self.looks / LOOKS_PER_CHECK) as usize % machines.len()];
        let Some((_, replica)) = machine.replica() else { return Ok(()) };
        invariants::check(replica.stale().tables.as_ref(), GROUP)
            .map_err(|error| format!("{}: {error}", machine.host))
    }

    /// Whether there is nothing left to wait for; or what is missing.
    fn settled(&self) -> Result<Settled, String> {
        if !self.books.is_audited() {
            return Err(format!(
                "{} clients are still at work, and {} survive; or the auditor is",
                self.books.working(),
                self.books.surviving()
            ));
        }
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
    let (problems, counts) = books.judge(&witness);
    report.problems = journal.problems();
    // What became of jobs in a run that did not end tells nothing more.
    if settled.is_some() {
        report.problems.extend(problems);
    }
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
    report.jobs = counts;
}
