//! What must hold at every moment, looked at between the steps of the simulation.

use super::cluster::{Cluster, GROUP, Machine};
use super::journal::Journal;
use super::net::HOSTS;
use quorate_consensus::Role;
use quorate_state::{NodeId, query};
use std::collections::BTreeMap;
use std::time::Duration;

/// Rounding between the clocks of hosts that run their steps one after the other.
pub(super) const SLACK: Duration = Duration::from_millis(20);

/// What a node looked like when it was last seen in this incarnation.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    incarnation: u64,
    role: Role,
    term: u64,
    applied: Option<u64>,
}

/// The state at one index, which is the same everywhere and for ever.
#[derive(Clone, Copy)]
struct Point {
    node: NodeId,
    digest: u64,
    lease_ms: u64,
}

/// Watches:
/// - a term has one leader, and its log has all that was committed in terms before it;
/// - on a node that lives, term and applied never go back;
/// - purged ≤ applied;
/// - wherever and whenever an index is the last applied one, digest and lease clock are the same;
/// - the lease clock grows with the index, and is never ahead of the time that has passed.
#[derive(Default)]
pub(super) struct Watch {
    leaders: BTreeMap<u64, NodeId>,
    /// By term, the highest index that a node in that term said was committed. (One node's word
    /// for it may go back: a new leader begins with what it can prove itself.)
    committed: BTreeMap<u64, u64>,
    points: BTreeMap<u64, Point>,
    seen: [Option<Seen>; HOSTS.len()],
    /// Problems are told once each: the first is the one to look at.
    told: usize,
}

/// Problems told by one run, at most.
const TOLD_MAX: usize = 20;

impl Watch {
    /// Terms that had a leader.
    pub(super) fn leaders(&self) -> usize {
        self.leaders.len()
    }

    pub(super) fn look(&mut self, cluster: &Cluster, now: Duration, journal: &Journal) {
        for (node, machine) in cluster.machines.iter().enumerate() {
            if let Err(problem) = self.look_at(node, machine, now, journal)
                && self.told < TOLD_MAX
            {
                self.told += 1;
                journal.problem(now, format_args!("{}: {problem}", machine.host));
            }
        }
    }

    fn look_at(
        &mut self,
        node: usize,
        machine: &Machine,
        now: Duration,
        journal: &Journal,
    ) -> Result<(), String> {
        let Some((incarnation, replica)) = machine.replica() else { return Ok(()) };
        if machine.is_failing() {
            // Nothing can be read from it until it is started again.
            return Ok(());
        }
        let id = replica.node_id();
        let status = replica.status();
        let view = replica.stale();
        let seen = Seen {
            incarnation,
            role: status.role,
            term: status.term,
            applied: view.applied.map(|position| position.index.0),
        };
        let before = self.seen[node].replace(seen);
        let told = |seen: &Seen| (seen.incarnation, seen.role, seen.term);
        if before.as_ref().map(told) != Some(told(&seen)) {
            let (role, term) = (seen.role.as_str(), seen.term);
            journal.write(now, format_args!("{}: {role} in term {term}", machine.host));
        }
        if seen.role == Role::Leader {
            let leader = *self.leaders.entry(seen.term).or_insert(id);
            if leader != id {
                return Err(format!("leads in term {}, and so does node {leader}", seen.term));
            }
            let earlier = self.committed.range(..seen.term).map(|(_, index)| *index).max();
            let last = status.last_log.map(|index| index.0);
            if last < earlier {
                return Err(format!(
                    "leads in term {} with a log up to {last:?}, but {earlier:?} was committed",
                    seen.term
                ));
            }
        }
        if let Some(committed) = status.committed {
            let highest = self.committed.entry(seen.term).or_default();
            *highest = committed.0.max(*highest);
        }
        // A node that stops closes its disk and can't read its state any more: what it says then
        // is no claim about what it has applied.
        let alive = seen.role != Role::Shutdown;
        if let Some(before) = before.filter(|before| alive && before.incarnation == incarnation) {
            let back = |what: &str, from: Option<u64>, to: Option<u64>| match to < from {
                true => Err(format!("{what} went back from {from:?} to {to:?}")),
                false => Ok(()),
            };
            back("the term", Some(before.term), Some(seen.term))?;
            back("applied", before.applied, seen.applied)?;
        }
        if status.purged.map(|index| index.0) > seen.applied {
            return Err(format!("purged {:?}, but applied {:?}", status.purged, seen.applied));
        }
        let Some(index) = seen.applied else { return Ok(()) };
        let unreadable = |error| format!("its state is unreadable: {error}");
        let point = Point {
            node: id,
            digest: query::digest(view.tables.as_ref(), GROUP).map_err(unreadable)?,
            lease_ms: query::clocks(view.tables.as_ref(), GROUP).map_err(unreadable)?.lease_ms,
        };
        self.check_point(index, point, now)
    }

    fn check_point(&mut self, index: u64, point: Point, now: Duration) -> Result<(), String> {
        let known = *self.points.entry(index).or_insert(point);
        if (known.digest, known.lease_ms) != (point.digest, point.lease_ms) {
            return Err(format!(
                "at index {index} it has digest {:016x} and lease clock {}, but node {} had \
                 {:016x} and {} there",
                point.digest, point.lease_ms, known.node, known.digest, known.lease_ms
            ));
        }
        let earlier = self.points.range(..index).next_back();
        let later = self.points.range(index + 1..).next();
        if let Some((other, at)) = earlier.filter(|(_, at)| at.lease_ms > point.lease_ms) {
            return Err(format!(
                "the lease clock is {} at index {index}, and was {} at index {other}",
                point.lease_ms, at.lease_ms
            ));
        }
        if let Some((other, at)) = later.filter(|(_, at)| at.lease_ms < point.lease_ms) {
            return Err(format!(
                "the lease clock is {} at index {index}, and {} at index {other}",
                point.lease_ms, at.lease_ms
            ));
        }
        if Duration::from_millis(point.lease_ms) > now + SLACK {
            return Err(format!("the lease clock is {} ms after only {now:?}", point.lease_ms));
        }
        Ok(())
    }
}

/// What all nodes hold alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) applied: u64,
    pub(super) digest: u64,
    pub(super) checksum: u64,
}

/// Whether all nodes that are members are at the same index, and what they have there; or what is still
/// missing.
pub(super) fn settled(cluster: &Cluster) -> Result<Settled, String> {
    let mut all = Vec::new();
    for machine in cluster.at_work() {
        let Some((_, replica)) = machine.replica() else {
            return Err(format!("{} does not serve", machine.host));
        };
        let view = replica.stale();
        let tables = view.tables.as_ref();
        let found = query::digest(tables, GROUP)
            .and_then(|digest| Ok((digest, query::checksum(tables, GROUP)?)))
            .map_err(|error| format!("the state of {} is unreadable: {error}", machine.host))?;
        let applied = view.applied.map_or(0, |position| position.index.0);
        all.push(Settled { applied, digest: found.0, checksum: found.1 });
    }
    let first = all[0];
    if all.iter().all(|settled| *settled == first) {
        return Ok(first);
    }
    Err(format!("the nodes differ: {all:x?}"))
}
