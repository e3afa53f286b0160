//! All workloads for a moment on a cluster that is there, while a test does with it what it likes.

use super::book::{Book, Ended};
use super::workload::{Context, Journal, Verdict};
use super::workloads::all;
use crate::process::ProcessCluster;
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Far longer than the longest call, for callers that have to end.
const END_MAX: Duration = Duration::from_secs(60);

/// What one workload came to.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name.
    pub workload: &'static str,
    /// What was held against what.
    pub checked: String,
    /// What was wrong.
    pub problems: Vec<String>,
    /// Calls that were answered, certainly had no effect, and of which nobody knows.
    pub answered: u64,
    /// See above.
    pub failed: u64,
    /// See above.
    pub unknown: u64,
}

/// Runs all workloads while `disturb` goes on, which has to leave all nodes up; then waits until all
/// is well, and has each judge. Histories go to the directory, a file for each workload.
///
/// # Errors
/// When a history can't be written, the cluster does not get well, or a last call fails.
///
/// # Panics
/// When a caller does.
pub async fn trial(
    cluster: &mut ProcessCluster,
    seed: u64,
    directory: &Path,
    disturb: impl AsyncFnOnce(&mut ProcessCluster) -> Result<()>,
) -> Result<Vec<Found>> {
    fs::create_dir_all(directory).context("there is no place for histories")?;
    let (book, stop) = (Book::new(), CancellationToken::new());
    let context = |name: &str, endpoints: Vec<String>| {
        let path = directory.join(format!("{name}.jsonl"));
        let journal = Journal::create(&path, &book)?;
        let (book, stop) = (book.clone(), stop.clone());
        anyhow::Ok(Context { endpoints: Arc::new(endpoints), seed, book, journal, stop })
    };
    let mut callers = JoinSet::new();
    let mut working = Vec::new();
    for workload in all() {
        let context = context(workload.name(), cluster.endpoints())?;
        for caller in workload.callers(&context) {
            callers.spawn(caller);
        }
        working.push((workload, context));
    }
    let disturbed = disturb(cluster).await;
    stop.cancel();
    let ended = tokio::time::timeout(END_MAX, callers.join_all()).await;
    ensure!(ended.is_ok(), "callers have not ended {END_MAX:?} after they should");
    disturbed?;
    cluster.wait_ready().await?;
    let mut found = Vec::new();
    for (workload, context) in working {
        let name = workload.name();
        let context = Context { endpoints: Arc::new(cluster.endpoints()), ..context };
        let journal = context.journal.clone();
        let judged = workload.judge(context).await.with_context(|| format!("of {name}"))?;
        journal.flush()?;
        let Verdict { problems, checked } = judged;
        let counts = book.counts();
        let count = |how: Ended| {
            let of = counts.iter().filter(|((of, _, ended), _)| *of == name && *ended == how);
            of.map(|(_, count)| count).sum()
        };
        found.push(Found {
            workload: name,
            checked,
            problems,
            answered: count(Ended::Answered),
            failed: count(Ended::Failed),
            unknown: count(Ended::Unknown),
        });
    }
    Ok(found)
}
