//! One run: a cluster, its work, what happens to it, and what is found in the end.

use super::nemesis::{Happened, Means, Nemesis};
use super::net::Net;
use super::plan::Plan;
use super::shim::Shim;
use crate::process::ProcessCluster;
use crate::work;
use crate::work::book::{Book, Ended, Record};
use crate::work::workload::{Context, Journal, Verdict, Workload};
use anyhow::{Context as _, Result, bail};
use quorate_client::{Client, Options};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Room on each node's disk: many times what the work leaves, and soon filled.
const DISK_BYTES: u64 = 512 << 20;
/// The cluster must serve again so soon after everything was repaired.
pub const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// How long callers may take to end their calls.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Snapshots every few seconds, and so little log that whoever was away for a moment needs one.
const SMALL: [&str; 3] = [
    "--storage-snapshot-every-ms=3000",
    "--storage-snapshot-log-bytes=1048576",
    "--storage-log-keep-entries=100",
];

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Nodes that found the cluster.
    pub nodes: u64,
    /// For the choices that the plan leaves open, and those of the work.
    pub seed: u64,
    /// What happens.
    pub plan: Plan,
    /// Names of workloads; all when there are none.
    pub workloads: Vec<String>,
    /// Where histories and logs go; a new directory.
    pub directory: PathBuf,
    /// The binary of the nodes, unless the usual one.
    pub binary: Option<PathBuf>,
    /// More of their environment.
    pub environment: Vec<(String, String)>,
}

/// Hosts of their own for all nodes.
pub struct Hosts {
    net: Net,
    shim: Shim,
}

impl Hosts {
    /// Puts this process into a network of its own; only one that has no other threads yet.
    ///
    /// # Errors
    /// When the machine does not allow it: it takes root, `/dev/net/tun` and g++.
    pub fn enter(seed: u64, directory: &Path) -> Result<Self> {
        let shim = Shim::compile(directory)?;
        let net = Net::enter(seed, shim.clone(), DISK_BYTES)?;
        Ok(Self { net, shim })
    }
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long it was disturbed.
    pub lasted: Duration,
    /// What went wrong, as planned.
    pub happened: Vec<Happened>,
    /// How often a node was sent all it needs as a snapshot.
    pub installs: usize,
    /// How often a node began to lead.
    pub elections: usize,
    /// Each time that everything had been repaired: how long it took until the first call of each
    /// workload that began then was answered, and until all nodes were well.
    pub recoveries: Vec<(Duration, Duration)>,
    /// The longest time in which no call was answered.
    pub longest_silence: Duration,
    /// All calls.
    pub(super) records: Vec<Record>,
    /// By workload.
    pub(super) verdicts: BTreeMap<&'static str, Verdict>,
    /// Everything that must not be, of workloads, nodes and the plan.
    pub problems: Vec<String>,
}

/// Makes a run.
///
/// # Errors
/// When it can't be made; what it finds is in the outcome.
pub async fn run(settings: &Settings, hosts: Option<&Hosts>) -> Result<Outcome> {
    fs::create_dir_all(&settings.directory).context("no directory for the histories")?;
    let plan = settings.directory.join("plan.jsonl");
    fs::write(&plan, settings.plan.to_string()).context("the plan can't be kept")?;
    let mut options = ProcessCluster::options(settings.nodes).deadline(Duration::from_secs(60));
    for argument in SMALL {
        options = options.arg(argument);
    }
    for (name, value) in &settings.environment {
        options = options.env(name, value);
    }
    if let Some(binary) = &settings.binary {
        options = options.binary(binary);
    }
    if let Some(hosts) = hosts {
        // The network is their own.
        options = options.hosts(Arc::new(hosts.net.clone())).arg("--insecure");
    }
    let mut cluster = options.start().await?;
    cluster.wait_ready().await?;
    let work = Work::start(settings, &cluster)?;
    let journal = Journal::create(&settings.directory.join("nemesis.jsonl"), &work.book)?;
    let means = Means { net: hosts.map(|hosts| (hosts.net.clone(), hosts.shim.clone())) };
    let client = work.context_of("nemesis", &settings.directory)?.client("");
    let mut nemesis = Nemesis::new(&settings.plan, settings.seed, means, client, journal.clone());
    let disturbed = nemesis.run(&mut cluster).await;
    let mut outcome = Outcome { lasted: work.book.elapsed(), ..Outcome::default() };
    if let Err(error) = disturbed {
        outcome.problems.push(format!("what was planned could not be done: {error:#}"));
    }
    outcome.problems.append(&mut nemesis.problems);
    // None of those that founded it may be left.
    let endpoints = Arc::new(cluster.endpoints());
    work.end(endpoints, &mut outcome).await?;
    journal.flush()?;
    outcome.happened = nemesis.happened;
    if let Err(error) = cluster.wait_same_state().await {
        outcome.problems.push(format!("the nodes do not hold the same: {error:#}"));
    }
    let logs = cluster.logs();
    outcome.installs = logs.lines_with("a snapshot arrived, installing it")?.len();
    outcome.elections = logs.lines_with("leading term=")?.len();
    outcome
        .problems
        .extend(logs.panics()?.into_iter().map(|line| format!("a node panicked: {line}")));
    judge(&mut outcome, &nemesis.calms);
    keep(&cluster, &settings.directory, !outcome.problems.is_empty())?;
    Ok(outcome)
}

/// The workloads under way.
struct Work {
    book: Book,
    contexts: Vec<(Box<dyn Workload>, Context)>,
    callers: JoinSet<()>,
    stop: CancellationToken,
    endpoints: Arc<Vec<String>>,
    seed: u64,
}

impl Work {
    fn start(settings: &Settings, cluster: &ProcessCluster) -> Result<Self> {
        let mut work = Self {
            book: Book::new(),
            contexts: Vec::new(),
            callers: JoinSet::new(),
            stop: CancellationToken::new(),
            endpoints: Arc::new(cluster.endpoints()),
            seed: settings.seed,
        };
        let mut all = work::all();
        let wanted = &settings.workloads;
        if let Some(unknown) =
            wanted.iter().find(|name| !all.iter().any(|workload| workload.name() == *name))
        {
            let names: Vec<_> = all.iter().map(|workload| workload.name()).collect();
            bail!("there is no workload {unknown:?}; there are: {}", names.join(", "));
        }
        all.retain(|workload| {
            wanted.is_empty() || wanted.iter().any(|name| name == workload.name())
        });
        for workload in all {
            let context = work.context_of(workload.name(), &settings.directory)?;
            for caller in workload.callers(&context) {
                work.callers.spawn(caller);
            }
            work.contexts.push((workload, context));
        }
        Ok(work)
    }

    fn context_of(&self, name: &str, directory: &Path) -> Result<Context> {
        let path = directory.join(format!("{name}-history.jsonl"));
        Ok(Context {
            reach: reaching(&self.endpoints),
            seed: self.seed,
            book: self.book.clone(),
            journal: Journal::create(&path, &self.book)?,
            stop: self.stop.clone(),
        })
    }

    /// Ends all callers, and lets each workload judge.
    async fn end(mut self, endpoints: Arc<Vec<String>>, outcome: &mut Outcome) -> Result<()> {
        self.stop.cancel();
        let all_ended = async {
            while let Some(ended) = self.callers.join_next().await {
                if let Err(error) = ended {
                    outcome.problems.push(format!("a caller failed: {error}"));
                }
            }
        };
        if tokio::time::timeout(ENDS_WITHIN, all_ended).await.is_err() {
            outcome.problems.push(format!("callers did not end within {ENDS_WITHIN:?}"));
        }
        outcome.records = self.book.records();
        for (workload, context) in self.contexts {
            let (name, journal) = (workload.name(), context.journal.clone());
            let context = Context { reach: reaching(&endpoints), ..context };
            let verdict = workload.judge(context).await.unwrap_or_else(|error| Verdict {
                problems: vec![format!("what is left can't be read: {error:#}")],
                checked: "not at all".to_owned(),
                ..Verdict::default()
            });
            journal.flush()?;
            let problems = verdict.problems.iter().chain(&verdict.too_little);
            let problems = problems.map(|problem| format!("{name}: {problem}"));
            outcome.problems.extend(problems);
            outcome.verdicts.insert(name, verdict);
        }
        Ok(())
    }
}

fn reaching(endpoints: &Arc<Vec<String>>) -> Arc<dyn Fn() -> Options + Send + Sync> {
    let endpoints = Arc::clone(endpoints);
    Arc::new(move || Client::builder().endpoints(endpoints.iter().cloned()))
}

/// Looks at the calls as a whole.
fn judge(outcome: &mut Outcome, calms: &[(Duration, Duration)]) {
    let answered = || outcome.records.iter().filter(|record| record.how == Ended::Answered);
    let mut silence = Duration::ZERO;
    let mut last = Duration::ZERO;
    // They are in the order in which they ended.
    for record in answered() {
        silence = silence.max(record.ended.saturating_sub(last));
        last = record.ended;
    }
    let mut problems = Vec::new();
    let mut recoveries = Vec::new();
    for (healed, well_after) in calms {
        let mut slowest = Duration::ZERO;
        for name in outcome.verdicts.keys() {
            let first =
                answered().find(|record| record.workload == *name && record.begun >= *healed);
            // The run may have ended before any call of a workload began.
            if let Some(first) = first {
                slowest = slowest.max(first.ended - *healed);
            }
        }
        if slowest > RECOVERY_MAX {
            problems.push(format!(
                "a workload was not served for {slowest:?} after everything was repaired at {healed:?}"
            ));
        }
        recoveries.push((slowest, *well_after));
    }
    for record in &outcome.records {
        if record.how != Ended::Answered && !is_explained(record, &outcome.happened) {
            problems.push(format!("nothing was wrong, and yet: {record:?}"));
        }
    }
    (outcome.longest_silence, outcome.recoveries) = (silence, recoveries);
    outcome.problems.append(&mut problems);
}

/// Whether something was wrong while a call was under way, or had been shortly before.
fn is_explained(record: &Record, happened: &[Happened]) -> bool {
    let meets = |fault: &Happened| {
        fault.kind != "calm"
            && fault.from <= record.ended
            && record.begun <= fault.until + RECOVERY_MAX
    };
    happened.iter().any(meets)
}

/// Copies the logs of the nodes beside the histories, and their data too when they are needed: disks of
/// their own end with the run.
fn keep(cluster: &ProcessCluster, directory: &Path, with_data: bool) -> Result<()> {
    let mut names: Vec<PathBuf> = cluster.logs().paths().to_vec();
    if with_data {
        names.extend(cluster.ids().into_iter().map(|id| cluster.data_dir(id)));
    }
    for path in names {
        let Some(name) = path.file_name() else { continue };
        copy(&path, &directory.join(name))
            .with_context(|| format!("{} was not kept", path.display()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        fs::copy(from, to)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // Files of a running node may be gone by now.
        if entry.path().exists() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
