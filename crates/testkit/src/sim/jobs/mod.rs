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
//! - [`RECONNECTED_WITHIN`] after nothing is broken any more and a write has succeeded, a job that is
//!   ready is taken within [`TAKEN_WITHIN`]; and [`NOTICED_WITHIN`] after the last fault consumers that lived through the
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
use super::course::Course;
use super::journal::Journal;
use super::net::CLIENT_HOSTS;
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::stage::{self, Ended, Story};
use super::{in_a_thread, verdict};
use books::Books;
use quorate_state::invariants;
use record::Kind;
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
/// How long after the last fault a client may wait for what comes on a connection that is dead: its
/// pings, every 5 s, are not answered within 5 s. So long a consumer may be gone, as its node has it,
/// whose client does not know.
const RECONNECTED_WITHIN: Duration = ms(10_500);
/// How long a job may be ready while somebody has room for it.
const TAKEN_WITHIN: Duration = ms(1_000);
/// How long a job may take to a consumer that has nothing else to do.
const DELIVERED_WITHIN: Duration = ms(1_000);
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
        judge(report, journal, &ended);
        verdict::keep_journal(report, directory, "jobs");
    };
    in_a_thread(TEST, seed, plan, simulate, judge)
}

/// Clients that push jobs and do them, and what is seen of those.
struct Errands {
    books: Arc<Books>,
    witness: Witness,
    looks: u32,
}

type Stage<'a> = stage::Stage<'a, Errands>;

impl Errands {
    fn new(journal: &Journal) -> Self {
        let (books, witness) = (Arc::new(Books::new(journal.clone())), Witness::default());
        Self { books, witness, looks: 0 }
    }
}

impl Story for Errands {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn look(&mut self, cluster: &Cluster, now: Duration, journal: &Journal) -> Result<(), String> {
        self.witness.look(cluster, &self.books, now, journal)
    }

    /// Now and then at the relations between all rows, on whichever node is next: the same index has
    /// the same state everywhere.
    fn look_longer(&mut self, cluster: &Cluster, _: Duration, _: &Journal) -> Result<(), String> {
        self.looks += 1;
        if !self.looks.is_multiple_of(LOOKS_PER_CHECK) {
            return Ok(());
        }
        let machines = &cluster.machines;
        let machine = &machines[(self.looks / LOOKS_PER_CHECK) as usize % machines.len()];
        let Some((_, replica)) = machine.replica() else { return Ok(()) };
        invariants::check(replica.stale().tables.as_ref(), GROUP)
            .map_err(|error| format!("{}: {error}", machine.host))
    }

    fn is_over(&self) -> Result<(), String> {
        if self.course().is_audited() {
            return Ok(());
        }
        Err(format!(
            "{} clients are still at work, and {} survive; or the auditor is",
            self.course().working(),
            self.books.surviving()
        ))
    }

    fn rest(&mut self, cluster: &Cluster) -> Result<(), String> {
        self.witness.look_at_rest(cluster)
    }
}

fn simulate(plan: &Plan, journal: &Journal) -> Ended<Errands> {
    let mut stage = Stage::new(plan, journal, Errands::new(journal));
    auditor::set_up(&mut stage, plan);
    start(&mut stage, plan);
    let settled = stage.run_to_end(plan, |stage| auditor::audit(stage, plan));
    stage.end(settled)
}

/// Puts pushers and workers into the simulation.
fn start(stage: &mut Stage<'_>, plan: &Plan) {
    let (until, pushing) = (plan.heal_at + AFTERMATH, plan.heal_at + AFTERMATH / 2);
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1_u64..).step_by(20)) {
        let is_first = first == 1;
        let party = |number: u64| party::party(stage, plan, host, first + number);
        let mut all: Vec<Work> = vec![
            Box::pin(pusher::work(party(0), is_first, pushing)),
            Box::pin(pusher::work(party(1), false, pushing)),
            Box::pin(worker::consume(party(2), until)),
            Box::pin(worker::consume(party(3), until)),
            Box::pin(worker::pull(party(4), until)),
        ];
        all.iter().for_each(|_| stage.story.books.course.begins());
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

fn judge(report: &mut Report, journal: &Journal, ended: &Ended<Errands>) {
    let Errands { books, witness, .. } = &ended.story;
    let (problems, counts) = books.judge(witness);
    report.problems = journal.problems();
    // What became of jobs in a run that did not end tells nothing more.
    if ended.settled.is_some() {
        report.problems.extend(problems);
    }
    verdict::note(report, journal, ended);
    report.jobs = counts;
}
