//! Transactions over keys, a queue and the cache at once; some that are refused, some that are repeated.
//!
//! # What is checked
//! - In every view of every node, at every moment, crashes and snapshots included: the counter says how
//!   many jobs there are, and both keys and the cache hold the text of one transaction.
//! - What clients read at one moment fits together likewise.
//! - A refused transaction has no effect, though some of its operations would have gone through.
//! - A transaction that is sent again under its key is answered again as before, and counts once.
//! - In the end the counter holds every acknowledged transaction, and no other one twice.

mod books;
mod client;

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
use quorate_consensus::Replica;
use quorate_state::{Fatal, query};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many transactions there were.
const COUNT: &str = "count";
/// Both hold the text of the newest one, and so does the cache.
const LEFT: &str = "left";
const RIGHT: &str = "right";
const COPY: &str = "copy";
/// Has a job for each.
const QUEUE: &str = "jobs";
/// How long clients go on after everything is repaired.
const AFTERMATH: Duration = Duration::from_secs(3);
/// The test that runs a seed again.
const TEST: &str = "stories::seeds_with_transactions_keep_every_promise";

/// As [`super::run`], with transactions.
#[must_use]
pub fn run_transactions(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_transactions(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended: Ended<Transactions>| {
        report.problems = journal.problems();
        verdict::note(report, journal, &ended);
        report.counts = ended.story.books.counts();
        verdict::keep_journal(report, directory, "transactions");
    };
    in_a_thread(TEST, seed, plan, simulate, judge)
}

struct Transactions {
    books: Arc<Books>,
}

type Stage<'a> = stage::Stage<'a, Transactions>;

fn simulate(plan: &Plan, journal: &Journal) -> Ended<Transactions> {
    let books = Arc::new(Books::new(journal.clone()));
    let mut stage = Stage::new(plan, journal, Transactions { books });
    let until = plan.heal_at + AFTERMATH;
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1..).step_by(10)) {
        client::start(&mut stage, plan, host, first, until);
    }
    let settled = stage.run_to_end(plan, |stage| client::audit(stage, plan));
    stage.end(settled)
}

impl Story for Transactions {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn look(&mut self, cluster: &Cluster, now: Duration, journal: &Journal) -> Result<(), String> {
        for machine in &cluster.machines {
            let Some((_, replica)) = machine.replica() else { continue };
            if let Some(seen) = Seen::on(&replica)
                && let Err(what) = seen.check()
                && self.books.told_once()
            {
                let host = machine.host;
                journal.problem(now, format_args!("{host} holds half of a transaction: {what}"));
            }
        }
        Ok(())
    }

    fn is_over(&self) -> Result<(), String> {
        match self.books.course.is_audited() {
            true => Ok(()),
            false => Err("clients are still at work, or the auditor's reads fail".to_owned()),
        }
    }
}

/// What transactions left behind, at one moment.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    jobs: u64,
    left: Option<String>,
    right: Option<String>,
    copy: Option<String>,
}

impl Seen {
    /// What a node holds; nothing of one whose state is closed.
    fn on(replica: &Replica) -> Option<Self> {
        let view = replica.stale();
        let tables = view.tables.as_ref();
        let text = |key: &str| -> Result<Option<String>, Fatal> {
            let item = query::kv_get(tables, GROUP, "", key.as_bytes())?;
            Ok(item.map(|item| shown(&item.value)))
        };
        let seen = || -> Result<Self, Fatal> {
            let queue = query::queue(tables, GROUP, "", QUEUE)?;
            let copy = query::cache_get(tables, GROUP, "", COPY.as_bytes())?;
            Ok(Self {
                count: text(COUNT)?.and_then(|text| text.parse().ok()).unwrap_or_default(),
                jobs: queue.map_or(0, |queue| queue.jobs.ready),
                left: text(LEFT)?,
                right: text(RIGHT)?,
                copy: copy.map(|item| shown(&item.value)),
            })
        };
        seen().ok()
    }

    fn check(&self) -> Result<(), String> {
        let Self { count, jobs, left, right, copy } = self;
        match count == jobs && left == right && left == copy {
            true => Ok(()),
            false => Err(format!("{self:?}")),
        }
    }
}

/// What a value begins with, up to its padding.
fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end().to_owned()
}
