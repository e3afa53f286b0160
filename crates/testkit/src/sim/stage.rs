//! A simulated cluster under way: faults happen, clients do what they do, and everything is watched
//! until all is repaired, done and at rest. What clients do, and what is looked at beside the
//! invariants, is a [`Story`] of each kind of run.

use super::cluster::Cluster;
use super::cluster::GROUP;
use super::course::Course;
use super::faults::{Injected, Injector};
use super::invariants::{Settled, Watch, settled};
use super::journal::Journal;
use super::members::{self, Changes};
use super::plan::Plan;
use super::{LOOK, RECOVERY_MAX, SETTLING_MAX, world};
use quorate_storage::state::memory::MemoryState;
use std::time::Duration;

/// What a kind of run has of its own.
pub(super) trait Story {
    /// How far it is.
    fn course(&self) -> &Course;

    /// What its clients have to know before they go on.
    fn before_step(&mut self, _cluster: &Cluster, _now: Duration) {}

    /// Looks at what a step brought.
    fn look(&mut self, _: &Cluster, _now: Duration, _: &Journal) -> Result<(), String> {
        Ok(())
    }

    /// Looks every [`LOOK`] at what takes longer.
    fn look_longer(&mut self, _: &Cluster, _now: Duration, _: &Journal) -> Result<(), String> {
        Ok(())
    }

    /// Whether its clients have ended; or who has not.
    fn is_over(&self) -> Result<(), String>;

    /// Looks at what is left when all nodes hold the same; or says what is still to come.
    fn rest(&mut self, _cluster: &Cluster) -> Result<(), String> {
        Ok(())
    }
}

pub(super) struct Stage<'a, S> {
    pub(super) sim: turmoil::Sim<'a>,
    pub(super) cluster: Cluster,
    pub(super) journal: Journal,
    pub(super) story: S,
    injector: Injector,
    watch: Watch,
    /// Terms of clusters before this one.
    leaders_before: usize,
    looked: Duration,
    changes: Changes,
}

/// What a run leaves behind, before it is judged.
pub(super) struct Ended<S> {
    pub(super) story: S,
    pub(super) simulated: Duration,
    pub(super) leaders: usize,
    pub(super) injected: Injected,
    pub(super) settled: Option<Settled>,
    /// Nodes whose state began as a snapshot of another node.
    pub(super) caught_up_by_snapshot: usize,
}

impl<'a, S: Story> Stage<'a, S> {
    pub(super) fn new(plan: &Plan, journal: &Journal, story: S) -> Stage<'a, S> {
        let mut sim = world(plan);
        let cluster = Cluster::start(&mut sim, plan);
        let changes = members::start(&mut sim, &cluster, plan, journal);
        Self {
            sim,
            cluster,
            journal: journal.clone(),
            story,
            injector: Injector::new(plan),
            watch: Watch::default(),
            leaders_before: 0,
            looked: Duration::ZERO,
            changes,
        }
    }

    /// Runs until all is at rest. `audit` puts the client into the simulation that looks at what is
    /// left.
    pub(super) fn run_to_end(
        &mut self,
        plan: &Plan,
        audit: impl FnOnce(&mut Self),
    ) -> Option<Settled> {
        let settled = self.settle(plan, audit);
        if let Err(problem) = &settled {
            self.journal.problem(self.sim.elapsed(), format_args!("{problem}"));
        }
        settled.ok()
    }

    /// Ends all faults, and lets nothing more happen.
    pub(super) fn repair(&mut self) -> Result<(), String> {
        self.journal.write(self.sim.elapsed(), format_args!("everything is repaired"));
        self.injector.heal(self.sim.elapsed());
        while !self.injector.is_over() {
            self.step()?;
        }
        Ok(())
    }

    /// Forgets what nodes have been at: another cluster begins.
    pub(super) fn begin_anew(&mut self) {
        self.leaders_before += self.watch.leaders();
        self.watch = Watch::default();
    }

    pub(super) fn end(self, settled: Option<Settled>) -> Ended<S> {
        let machines = self.cluster.machines.iter();
        let installed = machines.filter(|machine| {
            let state = MemoryState::open(&machine.disk(), GROUP);
            state.installed().is_ok_and(|at| at.is_some())
        });
        let caught_up_by_snapshot = installed.count();
        let simulated = self.sim.elapsed();
        let injected = Injected { changes: self.changes.done(), ..self.injector.injected };
        // All tasks end with it; then nothing needs what is on the disks.
        drop(self.sim);
        self.cluster.machines.iter().for_each(|machine| machine.disk().wipe());
        Ended {
            caught_up_by_snapshot,
            story: self.story,
            simulated,
            leaders: self.leaders_before + self.watch.leaders(),
            injected,
            settled,
        }
    }

    fn settle(&mut self, plan: &Plan, audit: impl FnOnce(&mut Self)) -> Result<Settled, String> {
        while self.sim.elapsed() < plan.heal_at {
            self.step()?;
        }
        self.repair()?;
        let repaired = self.sim.elapsed();
        audit(self);
        loop {
            self.step()?;
            let now = self.sim.elapsed();
            if self.story.course().recovery().is_none() && now > repaired + RECOVERY_MAX {
                return Err(format!(
                    "no write succeeded within {RECOVERY_MAX:?} after everything was repaired"
                ));
            }
            let missing = match self.rest() {
                Ok(settled) => return Ok(settled),
                Err(missing) => missing,
            };
            if now > repaired + RECOVERY_MAX + SETTLING_MAX {
                return Err(format!("not settled in the end: {missing}"));
            }
        }
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        self.injector.turn(&mut self.sim, &self.cluster, self.changes.desk(), &self.journal);
        self.cluster.tell_time(self.sim.elapsed());
        self.story.before_step(&self.cluster, self.sim.elapsed());
        self.sim.step().map_err(|error| error.to_string())?;
        let now = self.sim.elapsed();
        self.story.look(&self.cluster, now, &self.journal)?;
        if now >= self.looked + LOOK {
            self.looked = now;
            self.watch.look(&self.cluster, now, &self.journal);
            self.story.look_longer(&self.cluster, now, &self.journal)?;
        }
        Ok(())
    }

    /// Whether there is nothing left to wait for; or what is missing.
    fn rest(&mut self) -> Result<Settled, String> {
        self.story.is_over()?;
        self.changes.are_done().map_err(|missing| {
            let at_work = self.cluster.at_work().map(|machine| {
                let role = machine.replica().map(|(_, replica)| replica.status().role);
                format!("{} as node {}: {role:?}", machine.host, machine.identity().id)
            });
            format!("{missing}; at work: {:?}", at_work.collect::<Vec<_>>())
        })?;
        let settled = settled(&self.cluster)?;
        self.story.rest(&self.cluster)?;
        Ok(settled)
    }
}
