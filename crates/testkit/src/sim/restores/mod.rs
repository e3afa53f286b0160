//! A backup of the cluster is taken while faults happen, the cluster goes on, and ends; then another one
//! begins with what was saved, on one node.
//!
//! # What is checked
//! - Fencing tokens, revisions and ids of jobs are above all that the old cluster gave out, also after
//!   the backup: nothing of here is taken for something of there.
//! - What was acknowledged before the backup began is there, and nothing counts twice.
//! - A write under a lock of the old cluster is refused, and its locks are free.
//!
//! # What is not
//! The backup's file: `process` has that. What is saved here are the rows, of a view behind a read
//! barrier as it takes one.

mod auditor;
mod books;
mod client;

use super::cluster::{GROUP, Machine, addr};
use super::course::Course;
use super::journal::Journal;
use super::net::{CLIENT_HOSTS, CLIENT_PORT, NODES, Obstacle, PEER_PORT};
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::stage::{self, Ended, Story};
use super::{in_a_thread, verdict};
use books::{Books, Saved};
use quorate_consensus::{WallClock as _, begin_anew};
use quorate_state::Member;
use quorate_storage::Stores;
use quorate_storage::memory::{DiskModel, MemoryDisk};
use quorate_storage::state::AppliedMeta;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The locks there are.
const LOCKS: [&str; 3] = ["l0", "l1", "l2"];
/// How often something was done.
const COUNT: &str = "count";
const QUEUE: &str = "jobs";
/// Where the new cluster begins.
const FIRST: usize = 0;
/// How long clients have to end what they are at.
const ENDING: Duration = Duration::from_secs(12);
/// How long the new cluster has for all that is asked of it.
const ANEW: Duration = Duration::from_secs(30);
/// The test that runs a seed again.
const TEST: &str = "stories::seeds_with_restores_keep_every_promise";

/// As [`super::run`], with a backup and a restore.
#[must_use]
pub fn run_restores(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_restores(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended: Ended<Restores>| {
        report.problems = journal.problems();
        verdict::note(report, journal, &ended);
        report.counts = ended.story.books.counts();
        verdict::keep_journal(report, directory, "restores");
    };
    in_a_thread(TEST, seed, plan, simulate, judge)
}

struct Restores {
    books: Arc<Books>,
}

type Stage<'a> = stage::Stage<'a, Restores>;

impl Story for Restores {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn is_over(&self) -> Result<(), String> {
        Ok(())
    }
}

fn simulate(plan: &Plan, journal: &Journal) -> Ended<Restores> {
    let books = Arc::new(Books::new(journal.clone()));
    let mut stage = Stage::new(plan, journal, Restores { books });
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1..).step_by(10)) {
        client::start(&mut stage, plan, host, first);
    }
    client::save(&mut stage, plan);
    if let Err(problem) = play(&mut stage, plan) {
        stage.journal.problem(stage.sim.elapsed(), format_args!("{problem}"));
    }
    stage.end(None)
}

fn play(stage: &mut Stage<'_>, plan: &Plan) -> Result<(), String> {
    while stage.sim.elapsed() < plan.heal_at {
        stage.step()?;
    }
    stage.repair()?;
    stage.story.books.course.close();
    let books = Arc::clone(&stage.story.books);
    until(stage, ENDING, "the end of the old cluster's clients", || books.course.working() == 0)?;
    let saved = books.saved().ok_or("nobody was there to save anything")?;
    for node in 0..NODES.len() {
        stage.cluster.kill(&mut stage.sim, node, Obstacle::Refused);
    }
    restore(&stage.cluster.machines[FIRST], &saved)?;
    // What the old cluster has come to is nothing that the new one goes on from.
    stage.begin_anew();
    stage.journal.write(stage.sim.elapsed(), format_args!("{} is restored", NODES[FIRST]));
    stage.cluster.restart(&mut stage.sim, FIRST);
    auditor::audit(stage, plan);
    until(stage, ANEW, "what is asked of the new cluster", || books.course.is_audited())
}

fn until(
    stage: &mut Stage<'_>,
    patience: Duration,
    what: &str,
    so: impl Fn() -> bool,
) -> Result<(), String> {
    let deadline = stage.sim.elapsed() + patience;
    while !so() {
        stage.step()?;
        if stage.sim.elapsed() > deadline {
            return Err(format!("{what} has not come within {patience:?}"));
        }
    }
    Ok(())
}

/// Puts a cluster of this machine alone on an empty disk of it, as a restore of a backup does.
fn restore(machine: &Machine, saved: &Saved) -> Result<(), String> {
    let disk = MemoryDisk::new(DiskModel::immediate());
    let begun = || {
        let mut stores = Stores::memory(&disk, GROUP)?;
        let mut txn = stores.state.begin();
        saved.rows.iter().for_each(|(key, value)| txn.put(key, value));
        let (applied, membership) = (saved.applied, saved.membership.clone());
        txn.commit(&AppliedMeta { applied, membership })?;
        let member = Member {
            uuid: machine.identity().uuid,
            peer_addr: addr(machine.host, PEER_PORT),
            client_addr: addr(machine.host, CLIENT_PORT),
        };
        begin_anew(stores, GROUP, machine.identity().id, member, machine.wall.now_ms())
    };
    let cluster_id = begun().map_err(|error| format!("the restore failed: {error}"))?;
    disk.close();
    machine.replace_disk(disk, cluster_id);
    Ok(())
}
