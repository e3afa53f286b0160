//! A rolling upgrade of the simulated cluster, under writes, to a build that knows one feature level
//! more; and an attempt to go back.
//!
//! # What is checked
//! - No write fails, and each that was acknowledged has its effect once.
//! - The level stays as long as one node is of the older build, serves or not, whoever leads; and
//!   rises on all nodes when the last one is there.
//! - Then a node of the older build refuses to start, says why, and leaves its directory as it is:
//!   the newer build goes on with it.

use super::clients;
use super::cluster::Machine;
use super::course::Course;
use super::in_a_thread;
use super::invariants::settled;
use super::journal::Journal;
use super::net::{CLIENT_HOSTS, NODES, Obstacle};
use super::plan::Plan;
use super::stage::{self, Story};
use quorate_client::Routing;
use quorate_state::FeatureLevel;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How exact the times of the story are.
const TICK: Duration = Duration::from_millis(5);
/// How long the whole story may take.
const LASTS: Duration = Duration::from_secs(120);
/// How long anything in it may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is looked whether the level stays: some rounds of the leader's questions.
const STAYS: Duration = Duration::from_secs(4);
/// Between two writes.
const PACE: Duration = Duration::from_millis(10);
/// What is written.
const COUNTER: &str = "counter";

const OLDER: FeatureLevel = FeatureLevel::FIRST;
const NEWER: FeatureLevel = FeatureLevel(OLDER.0 + 1);

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Upgraded {
    /// Writes that were acknowledged while builds of two levels ran together.
    pub writes_mixed: u64,
    /// Why the node of the older build did not start.
    pub refusal: String,
    /// What must not be.
    pub problems: Vec<String>,
}

/// Runs the story; the seed also chooses which node is upgraded last.
#[must_use]
pub fn run_upgrade(seed: u64) -> Upgraded {
    let plan = Plan::quiet(seed, TICK, LASTS);
    let last = usize::try_from(seed % NODES.len() as u64).unwrap_or_default();
    let simulate = move |plan: &Plan, journal: &Journal| {
        let mut stage = stage::Stage::new(plan, journal, Rolling::default());
        let mut upgraded = Upgraded::default();
        if let Err(problem) = upgrade(&mut stage, last, &mut upgraded) {
            upgraded.problems.push(problem);
        }
        upgraded
    };
    let mut upgraded = Upgraded::default();
    let report = in_a_thread("", seed, plan, simulate, |report, journal, told| {
        upgraded = told;
        report.problems = journal.problems();
    });
    upgraded.problems.extend(report.problems);
    upgraded
}

#[derive(Default)]
struct Rolling {
    course: Arc<Course>,
    /// Writes that were acknowledged.
    written: Arc<AtomicU64>,
}

type Stage<'a> = stage::Stage<'a, Rolling>;

impl Story for Rolling {
    fn course(&self) -> &Course {
        &self.course
    }

    fn is_over(&self) -> Result<(), String> {
        Ok(())
    }
}

fn upgrade(stage: &mut Stage<'_>, last: usize, upgraded: &mut Upgraded) -> Result<(), String> {
    for machine in &stage.cluster.machines {
        machine.install(OLDER);
    }
    start_writer(stage);
    writes_go_on(stage, "with three older nodes")?;
    let mixed_from = written(stage);
    for node in (0..NODES.len()).filter(|node| *node != last) {
        put(stage, node, NEWER)?;
        writes_go_on(stage, "with an older node")?;
    }
    stays(stage, OLDER, "while one node is older")?;
    // Nor is it raised behind its back, whichever build leads.
    stage.cluster.kill(&mut stage.sim, last, Obstacle::Refused);
    stays(stage, OLDER, "while one node is silent")?;
    stage.cluster.restart(&mut stage.sim, last);
    until(stage, "the older node", |stage| machine(stage, last).replica().is_some())?;
    stays(stage, OLDER, "while the older node is back")?;
    upgraded.writes_mixed = written(stage) - mixed_from;
    put(stage, last, NEWER)?;
    until(stage, "the level on all nodes", |stage| at(stage, |level| level == NEWER))?;
    writes_go_on(stage, "after the upgrade")?;

    let identity = machine(stage, last).cluster_id();
    machine(stage, last).let_it_refuse();
    stop(stage, last)?;
    machine(stage, last).install(OLDER);
    stage.cluster.restart(&mut stage.sim, last);
    until(stage, "the refusal", |stage| machine(stage, last).refusal().is_some())?;
    upgraded.refusal = machine(stage, last).refusal().unwrap_or_default();
    if machine(stage, last).cluster_id() != identity {
        return Err("the refused node changed the identity of its directory".to_owned());
    }
    down(stage, last)?;
    writes_go_on(stage, "without the refused node")?;
    machine(stage, last).install(NEWER);
    stage.cluster.restart(&mut stage.sim, last);
    until(stage, "the node that was refused", |stage| machine(stage, last).replica().is_some())?;
    writes_go_on(stage, "in the end")?;
    stage.story.course.close();
    until(stage, "the end of the writer", |stage| stage.story.course.working() == 0)?;
    until(stage, "one state on all nodes", |stage| settled(&stage.cluster).is_ok())
}

fn machine<'a>(stage: &'a Stage<'_>, node: usize) -> &'a Machine {
    &stage.cluster.machines[node]
}

fn written(stage: &Stage<'_>) -> u64 {
    stage.story.written.load(Ordering::SeqCst)
}

/// Whether all nodes serve, and at such a level.
fn at(stage: &Stage<'_>, so: impl Fn(FeatureLevel) -> bool) -> bool {
    let mut machines = stage.cluster.machines.iter();
    machines
        .all(|machine| machine.replica().is_some_and(|(_, replica)| so(replica.feature_level())))
}

/// Stops a node in order, and starts it with another build.
fn put(stage: &mut Stage<'_>, node: usize, knows: FeatureLevel) -> Result<(), String> {
    stop(stage, node)?;
    machine(stage, node).install(knows);
    stage.cluster.restart(&mut stage.sim, node);
    until(stage, "a node with another build", |stage| machine(stage, node).replica().is_some())
}

fn stop(stage: &mut Stage<'_>, node: usize) -> Result<(), String> {
    if !machine(stage, node).ask_to_stop() {
        return Err(format!("{} does not serve", NODES[node]));
    }
    down(stage, node)
}

fn down(stage: &mut Stage<'_>, node: usize) -> Result<(), String> {
    until(stage, "the end of a node", |stage| !stage.sim.is_host_running(NODES[node]))
}

fn until(
    stage: &mut Stage<'_>,
    what: &str,
    so: impl Fn(&mut Stage<'_>) -> bool,
) -> Result<(), String> {
    let deadline = stage.sim.elapsed() + PATIENCE;
    while !so(stage) {
        stage.step()?;
        if stage.sim.elapsed() > deadline {
            return Err(format!("at {:?}: {what} has not come", stage.sim.elapsed()));
        }
    }
    Ok(())
}

fn stays(stage: &mut Stage<'_>, level: FeatureLevel, when: &str) -> Result<(), String> {
    let end = stage.sim.elapsed() + STAYS;
    while stage.sim.elapsed() < end {
        stage.step()?;
        let replicas = stage.cluster.machines.iter().filter_map(|machine| machine.replica());
        let levels: Vec<_> = replicas.map(|(_, replica)| replica.feature_level()).collect();
        if levels.iter().any(|found| *found != level) {
            return Err(format!("at {:?}: the level is {levels:?} {when}", stage.sim.elapsed()));
        }
    }
    writes_go_on(stage, when)
}

fn writes_go_on(stage: &mut Stage<'_>, when: &str) -> Result<(), String> {
    let before = written(stage);
    until(stage, &format!("a write {when}"), |stage| written(stage) >= before + 10)
}

/// Writes all the time, and compares in the end.
fn start_writer(stage: &mut Stage<'_>) {
    let (course, written) = (Arc::clone(&stage.story.course), Arc::clone(&stage.story.written));
    let (reach, journal) = (stage.cluster.reach.clone(), stage.journal.clone());
    let host = CLIENT_HOSTS[0];
    course.begins();
    stage.sim.client(host, async move {
        let client = clients::options(host, &reach, 0, Routing::Leader).seed(1).connect()?;
        while !course.is_closed() {
            match client.kv().increment(COUNTER, 1).await {
                Ok(_) => drop(written.fetch_add(1, Ordering::SeqCst)),
                Err(error) => {
                    journal.problem(clients::now(), format_args!("a write failed: {error}"));
                }
            }
            tokio::time::sleep(PACE).await;
        }
        let found = client.kv().get(COUNTER).await?.map(|item| item.value);
        let written = written.load(Ordering::SeqCst).to_string();
        if found.as_deref() != Some(written.as_bytes()) {
            journal.problem(
                clients::now(),
                format_args!("{written} writes were acknowledged, and there is {found:?}"),
            );
        }
        course.is_done();
        Ok(())
    });
}
