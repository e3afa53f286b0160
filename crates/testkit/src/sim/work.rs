//! What [`crate::chaos`] does with real processes, in simulated time: two of its ten kinds of work in a
//! seed, each on a host of its own, with the checkers that chaos has.
//!
//! # What is checked
//! - What the kinds of work check themselves: see `crate::work`.
//! - When all is repaired, no call of those that look at what is left fails.

use super::clients::{self, now, options};
use super::cluster::Cluster;
use super::course::Course;
use super::journal::Journal;
use super::net::{AUDITOR, CLIENT_HOSTS, Host};
use super::plan::Plan;
use super::planted::Planted;
use super::report::Report;
use super::stage::{self, Ended, Story};
use super::{in_a_thread, verdict};
use crate::work::book::{self, Book};
use crate::work::workload::{self, Context, Verdict, Workload};
use quorate_client::Routing;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long callers go on after everything is repaired.
const AFTERMATH: Duration = Duration::from_secs(3);
/// The test that runs a seed again.
const TEST: &str = "work::seeds_with_the_work_of_chaos_keep_every_promise";

/// As [`super::run`], with two of the ten kinds of work of [`crate::chaos`].
#[must_use]
pub fn run_work(seed: u64, planted: Planted, directory: &Path) -> Report {
    let plan = Plan::draw_of_work(seed, planted);
    let judge = |report: &mut Report, journal: &Journal, ended: Ended<Work>| {
        report.problems = journal.problems();
        verdict::note(report, journal, &ended);
        report.calls = ended.story.calls();
        report.counts = ended.story.counts();
        verdict::keep_journal(report, directory, "work");
    };
    in_a_thread(TEST, seed, plan, move |plan, journal| simulate(seed, plan, journal), judge)
}

/// What both kinds of work of a run share.
struct Books {
    journal: Journal,
    course: Course,
    judged: AtomicU64,
    /// Of them, those in which too little happened for the checks to say much.
    showed_little: AtomicU64,
}

struct Work {
    books: Arc<Books>,
    /// Of each kind of work, its calls.
    calls: Vec<Book>,
}

impl Work {
    fn judged(&self) -> u64 {
        self.books.judged.load(Ordering::SeqCst)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let showed_little = self.books.showed_little.load(Ordering::SeqCst);
        vec![("kinds of work judged", self.judged()), ("that showed little", showed_little)]
    }

    /// Calls that were answered, failed, and of unknown outcome.
    fn calls(&self) -> (usize, usize, usize) {
        let count = |how| {
            let records = self.calls.iter().flat_map(Book::records);
            records.filter(|record| record.how == how).count()
        };
        (count(book::Ended::Answered), count(book::Ended::Failed), count(book::Ended::Unknown))
    }
}

impl Story for Work {
    fn course(&self) -> &Course {
        &self.books.course
    }

    fn is_over(&self) -> Result<(), String> {
        match self.books.course.is_audited() && self.judged() == CLIENT_HOSTS.len() as u64 {
            true => Ok(()),
            false => Err("calls are still under way".to_owned()),
        }
    }

    fn rest(&mut self, _: &Cluster) -> Result<(), String> {
        Ok(())
    }
}

type Stage<'a> = stage::Stage<'a, Work>;

/// Which kinds of work a seed has: ninety seeds have all pairs.
fn drawn(seed: u64) -> [Box<dyn Workload>; 2] {
    let mut all = crate::work::all();
    let kinds = all.len() as u64;
    let first = seed % kinds;
    let second = (first + 1 + seed / kinds % (kinds - 1)) % kinds;
    let (first, second) = (first.min(second), first.max(second));
    let mut take = |nth: u64| all.remove(usize::try_from(nth).expect("there are ten"));
    let second = take(second);
    [take(first), second]
}

fn simulate(seed: u64, plan: &Plan, journal: &Journal) -> Ended<Work> {
    let books = Books {
        journal: journal.clone(),
        course: Course::default(),
        judged: AtomicU64::new(0),
        showed_little: AtomicU64::new(0),
    };
    let story = Work { books: Arc::new(books), calls: Vec::new() };
    let mut stage = Stage::new(plan, journal, story);
    for (host, workload) in CLIENT_HOSTS.into_iter().zip(drawn(seed)) {
        // What is dropped when a run has failed is dropped outside of the simulation.
        let calls = Book::by(|| turmoil::sim_elapsed().unwrap_or_default());
        stage.story.calls.push(calls.clone());
        let context = context(&stage, plan, host, workload.name(), calls);
        let (books, until) = (Arc::clone(&stage.story.books), plan.heal_at + AFTERMATH);
        books.course.begins();
        stage.sim.client(host, Box::pin(work(books, workload, context, until)));
    }
    let settled = stage.run_to_end(plan, |stage| {
        let party = clients::Party::new(stage, &stage.story.books, plan, AUDITOR, 99);
        stage.sim.client(AUDITOR, Box::pin(audit(party)));
    });
    stage.end(settled)
}

fn context(stage: &Stage<'_>, plan: &Plan, host: Host, name: &'static str, calls: Book) -> Context {
    let lines = Lines { name, journal: stage.journal.clone() };
    let (reach, made) = (stage.cluster.reach.clone(), AtomicU64::new(0));
    let seed = plan.seeds.workload ^ name.bytes().fold(0, |sum, byte| sum * 31 + u64::from(byte));
    let options = move || {
        let nth = made.fetch_add(1, Ordering::Relaxed);
        let home = usize::try_from(nth).unwrap_or_default();
        options(host, &reach, home, Routing::default()).seed(seed.wrapping_add(nth))
    };
    Context {
        reach: Arc::new(options),
        seed: plan.seeds.workload,
        journal: workload::Journal::to(lines, &calls),
        book: calls,
        stop: CancellationToken::new(),
    }
}

/// A history that goes into the journal of the run, which two runs of one seed have alike.
struct Lines {
    name: &'static str,
    journal: Journal,
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.journal.write(now(), format_args!("{} {}", self.name, text.trim_end()));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has callers work until everything was repaired, and judges then.
async fn work(
    books: Arc<Books>,
    workload: Box<dyn Workload>,
    context: Context,
    until: Duration,
) -> turmoil::Result {
    let name = workload.name();
    let callers: Vec<Pin<Box<dyn Future<Output = ()>>>> = workload
        .callers(&context)
        .into_iter()
        .map(|caller| caller as Pin<Box<dyn Future<Output = ()>>>)
        .collect();
    let ends = async {
        tokio::time::sleep(until.saturating_sub(now())).await;
        context.stop.cancel();
    };
    futures::future::join(futures::future::join_all(callers), ends).await;
    books.course.is_done();
    // The auditor's first write says that the cluster serves again.
    while books.course.recovery().is_none() {
        tokio::time::sleep(clients::AGAIN).await;
    }
    let problem = |what: &str| books.journal.problem(now(), format_args!("{name}: {what}"));
    match workload.judge(context).await {
        Ok(Verdict { problems, too_little, checked }) => {
            problems.iter().for_each(|what| problem(what));
            if !too_little.is_empty() {
                books.showed_little.fetch_add(1, Ordering::SeqCst);
            }
            books.journal.write(now(), format_args!("{name}: {checked} {too_little:?}"));
        }
        Err(error) => problem(&format!("what is left can't be read: {error:#}")),
    }
    books.judged.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

async fn audit(mut party: clients::Party<Books>) -> turmoil::Result {
    let client = clients::auditor(party.host, &party.reach, &mut party.rng)?;
    clients::recover(&client, &party.books.course, &party.books.journal).await;
    party.books.course.audited();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ninety_seeds_have_all_pairs_of_kinds_of_work() {
        let names = |seed| drawn(seed).map(|workload| workload.name());
        let pairs: BTreeSet<_> = (0..90).map(names).collect();
        assert_eq!(pairs.len(), 45);
    }
}
