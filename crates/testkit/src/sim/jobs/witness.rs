//! What the nodes say of jobs: all leases that they give, how long jobs are ready, and what is left
//! in the end.

use super::super::cluster::{Cluster, GROUP};
use super::super::following::Following;
use super::super::journal::Journal;
use super::super::net::NODES;
use super::books::Books;
use super::record::{Cause, History, Letter, Rest, Totals, Wait};
use super::{QUEUES, RECONNECTED_WITHIN, SURVIVING_WINDOWS};
use quorate_consensus::{Replica, Role};
use quorate_state::query::{self, JobItem, JobList, JobStanding};
use quorate_state::{DeathCause, Event, NodeId, Read};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Follows what every node applies.
#[derive(Default)]
pub(super) struct Witness {
    following: Following,
    /// The state behind this index was looked at.
    looked: u64,
    given: BTreeMap<u64, BTreeMap<u64, u32>>,
    /// Who consumes, or waits for a pull, and on which nodes.
    attached: BTreeSet<(u64, u64)>,
    /// Jobs that are ready now, and since when that counts.
    ready: BTreeMap<u64, Wait>,
    /// Of each job the longest wait.
    waits: BTreeMap<u64, Wait>,
    /// Jobs that a wait would have been seen of.
    watched: BTreeSet<u64>,
    /// Terms of leaders, and when each was seen first.
    leaders: BTreeMap<u64, Duration>,
    rest: Rest,
}

impl Witness {
    pub(super) fn look(
        &mut self,
        cluster: &Cluster,
        books: &Books,
        now: Duration,
        journal: &Journal,
    ) -> Result<(), String> {
        for (node, machine) in cluster.machines.iter().enumerate() {
            let Some((replica, told)) = self.following.look(node, machine)? else { continue };
            let status = replica.status();
            if status.role == Role::Leader {
                self.leaders.entry(status.term).or_insert(now);
            }
            for event in told.iter().flat_map(|events| events.iter()) {
                self.take(event, now, journal);
            }
            self.look_at(&replica, books, now, journal)?;
        }
        Ok(())
    }

    fn take(&mut self, event: &Event, now: Duration, journal: &Journal) {
        if let Event::JobAssigned { consumer, job, attachment } = event {
            let to = format!("consumer {consumer} on node {}", attachment.node);
            self.gave(job.id.0, (job.lease.0, job.attempt), &to, now, journal);
        }
    }

    fn gave(
        &mut self,
        job: u64,
        (lease, attempt): (u64, u32),
        to: &str,
        now: Duration,
        journal: &Journal,
    ) {
        if self.given.entry(job).or_default().insert(lease, attempt).is_none() {
            journal.write(
                now,
                format_args!("given: job {job} under {lease} to {to}, attempt {attempt}"),
            );
        }
    }

    /// Looks at the jobs of all queues on whichever node is ahead of all others before it.
    fn look_at(
        &mut self,
        replica: &Replica,
        books: &Books,
        now: Duration,
        journal: &Journal,
    ) -> Result<(), String> {
        let view = replica.stale();
        let index = view.applied.map_or(0, |position| position.index.0);
        if index <= self.looked {
            return Ok(());
        }
        self.looked = index;
        let is_well = reconnected_since(books).is_some_and(|since| since <= now);
        let mut ready = BTreeSet::new();
        for kind in QUEUES {
            let jobs = jobs(view.tables.as_ref(), kind.name, false)?;
            let mut groups = BTreeSet::new();
            let mut leased = 0;
            let mut first = Vec::new();
            for job in &jobs {
                // Their ids are in the order in which they were pushed.
                let is_first = job.group.as_ref().is_none_or(|group| groups.insert(group));
                match job.standing {
                    JobStanding::Leased { lease, consumer, .. } => {
                        leased += 1;
                        let to = match consumer {
                            Some(consumer) => format!("consumer {consumer}"),
                            None => "a pull".to_owned(),
                        };
                        self.gave(job.id.0, (lease.0, job.attempts), &to, now, journal);
                    }
                    JobStanding::Ready if is_first => first.push(job.id.0),
                    _ => {}
                }
            }
            if leased < SURVIVING_WINDOWS {
                ready.extend(first.into_iter().map(|job| (job, kind.name)));
                if is_well {
                    self.watched.extend(jobs.iter().map(|job| job.id.0));
                }
            }
        }
        self.wait(&ready, books, now);
        self.look_at_consumers(view.tables.as_ref(), now, journal)
    }

    /// Notes who comes and goes: the journal tells who got what.
    fn look_at_consumers(
        &mut self,
        tables: &dyn Read,
        now: Duration,
        journal: &Journal,
    ) -> Result<(), String> {
        let mut there = BTreeSet::new();
        for node in (1..).map(NodeId).take(NODES.len()) {
            let on = query::consumers_on(tables, GROUP, node)
                .map_err(|error| format!("the consumers are unreadable: {error}"))?;
            there.extend(on.into_iter().map(|(id, at)| (id.0, at.node.0)));
        }
        for (id, node) in there.difference(&self.attached) {
            journal.write(now, format_args!("attached: consumer {id} on node {node}"));
        }
        for (id, node) in self.attached.difference(&there) {
            journal.write(now, format_args!("gone: consumer {id} from node {node}"));
        }
        self.attached = there;
        Ok(())
    }

    /// Notes how long the jobs have been ready, as far as nothing was in the way of anybody.
    fn wait(&mut self, ready: &BTreeSet<(u64, &'static str)>, books: &Books, now: Duration) {
        // Until just now they were all ready that were the last time.
        for wait in self.ready.values_mut() {
            wait.to = now;
            let longest = self.waits.entry(wait.job).or_insert_with(|| wait.clone());
            if wait.to.saturating_sub(wait.from) > longest.to.saturating_sub(longest.from) {
                *longest = wait.clone();
            }
        }
        let led_since = self.leaders.last_key_value().map(|(_, since)| *since).unwrap_or_default();
        let Some(well_since) = reconnected_since(books) else { return };
        let counts_from = now.max(well_since).max(led_since);
        self.ready
            .retain(|job, wait| ready.contains(&(*job, wait.queue)) && wait.from >= led_since);
        for &(job, queue) in ready {
            let wait = Wait { job, queue, from: counts_from, to: counts_from };
            self.ready.entry(job).or_insert(wait);
        }
    }

    /// When each leader was seen first.
    pub(super) fn leader_changes(&self) -> impl Iterator<Item = Duration> {
        self.leaders.values().copied()
    }

    /// How many jobs were there when they should have been taken at once: most are, so that few are
    /// ever seen to wait.
    pub(super) fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Looks at what is left. All nodes hold the same.
    pub(super) fn look_at_rest(&mut self, cluster: &Cluster) -> Result<(), String> {
        for machine in &cluster.machines {
            let Some((_, replica)) = machine.replica() else { continue };
            let view = replica.stale();
            let tables = view.tables.as_ref();
            quorate_state::invariants::check(tables, GROUP)
                .map_err(|error| format!("{}: {error}", machine.host))?;
            self.rest = rest(tables)?;
        }
        Ok(())
    }

    /// Adds what it has seen.
    pub(super) fn tell(&self, history: &mut History) {
        history.given = self.given.clone();
        history.waits = self.waits.values().cloned().collect();
        history.rest = self.rest.clone();
    }
}

/// From when on all clients that are there have the connections they think they have.
fn reconnected_since(books: &Books) -> Option<Duration> {
    books.course.calm_since().map(|since| since + RECONNECTED_WITHIN)
}

fn jobs(tables: &dyn Read, queue: &str, bodies: bool) -> Result<Vec<JobItem>, String> {
    let list = JobList {
        filter: query::JobFilter::All,
        after: None,
        items_max: usize::MAX,
        bodies,
        bytes_max: usize::MAX,
    };
    let page = query::jobs(tables, GROUP, "", queue, &list)
        .map_err(|error| format!("the jobs of {queue} are unreadable: {error}"))?;
    let page = page.unwrap_or_default();
    match page.cursor {
        Some(_) => Err(format!("{queue} has more jobs than can be looked at")),
        None => Ok(page.jobs),
    }
}

fn rest(tables: &dyn Read) -> Result<Rest, String> {
    let mut rest = Rest::default();
    for kind in QUEUES {
        for job in jobs(tables, kind.name, false)? {
            rest.left.insert(job.id.0, kind.name);
        }
        for job in jobs(tables, &format!("{}.dead", kind.name), true)? {
            let body = job.body.unwrap_or_default();
            let cause = match job.death {
                Some(DeathCause::Attempts) => Cause::Attempts,
                Some(DeathCause::Rejected) => Cause::Rejected,
                Some(DeathCause::Expired) => Cause::Expired,
                None => Cause::None,
            };
            let name = String::from_utf8_lossy(&body.payload).into_owned();
            let from = job.from.unwrap_or_default();
            rest.dead.insert(job.id.0, Letter { name, from, cause });
        }
        let queue = query::queue(tables, GROUP, "", kind.name);
        let queue = queue.map_err(|error| format!("{} is unreadable: {error}", kind.name))?;
        let totals = queue.map(|queue| queue.totals).unwrap_or_default();
        let (duplicates, acked, lapsed) = (totals.duplicates, totals.acked, totals.lapsed);
        rest.totals.insert(kind.name, Totals { duplicates, acked, lapsed });
    }
    Ok(rest)
}
