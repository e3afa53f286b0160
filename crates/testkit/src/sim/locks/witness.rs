//! What the nodes say of locks, by the events of what they apply: all grants and all ends.

use super::super::cluster::{Cluster, GROUP};
use super::super::following::Following;
use super::super::journal::Journal;
use super::books::Books;
use super::probes::SHARED;
use super::{FREED_WITHIN, TOLD_WITHIN};
use quorate_consensus::{Replica, Role};
use quorate_state::{Event, query};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

/// A lock as it was granted.
#[derive(Clone, Debug)]
struct Grant {
    name: String,
    ttl: Duration,
    /// When the first node had applied it.
    seen: Duration,
    /// None when it was gone again before anybody could look.
    revision: Option<u64>,
    /// When the first node had applied its end.
    freed: Option<Duration>,
    /// Since when the leader led then.
    leader_since: Duration,
    /// A problem was told of it.
    told: bool,
}

/// Follows what every node applies.
#[derive(Default)]
pub(super) struct Witness {
    following: Following,
    grants: BTreeMap<u64, Grant>,
    sessions_ended: BTreeMap<u64, Duration>,
    /// The highest term that a node leads in, and since when.
    leader: (u64, Duration),
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
            if status.role == Role::Leader && status.term > self.leader.0 {
                self.leader = (status.term, now);
            }
            if let Some(applied) = replica.stale().applied {
                books.applied_term(applied.term.0);
            }
            for event in told.iter().flat_map(|events| events.iter()) {
                self.take(event, &replica, now, journal);
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &Event, replica: &Replica, now: Duration, journal: &Journal) {
        match event {
            Event::LockGranted { name, token, session, ttl_ms, .. } => {
                if self.grants.contains_key(&token.0) {
                    return;
                }
                let view = replica.stale();
                let item = query::lock(view.tables.as_ref(), GROUP, "", name).ok().flatten();
                let holders = item.map(|item| item.holders).unwrap_or_default();
                let holder = holders.iter().find(|holder| holder.token == *token);
                let revision = holder.map(|holder| holder.revision.0);
                let (name, ttl) = (name.clone(), Duration::from_millis(*ttl_ms));
                journal.write(
                    now,
                    format_args!("granted: {name} under {token} to session {session} for {ttl:?}"),
                );
                let (seen, leader_since) = (now, self.leader.1);
                let (freed, told) = (None, false);
                let grant = Grant { name, ttl, seen, revision, freed, leader_since, told };
                self.grants.insert(token.0, grant);
            }
            Event::LockFreed { name, token, .. } => {
                // A node that comes back applies again what others have long applied.
                if let Some(grant) = self.grants.get_mut(&token.0)
                    && grant.freed.is_none()
                {
                    grant.freed = Some(now);
                    journal.write(now, format_args!("freed: {name} under {token}"));
                }
            }
            Event::SessionEnded { id } => {
                if let Entry::Vacant(ended) = self.sessions_ended.entry(id.0) {
                    ended.insert(now);
                    journal.write(now, format_args!("ended: session {id}"));
                }
            }
            Event::SessionOpened { .. }
            | Event::LeaseRecorded { .. }
            | Event::TicketChanged { .. }
            | Event::JobAssigned { .. }
            | Event::JobWithdrawn { .. }
            | Event::ConsumerLeft { .. }
            | Event::ScheduleDue { .. }
            | Event::PullChanged { .. }
            | Event::CacheChanged { .. }
            | Event::CacheTagsInvalidated { .. }
            | Event::CachePatternDeleted { .. }
            | Event::CacheBuildEnded { .. }
            | Event::Published { .. }
            | Event::AccessChanged => {}
        }
    }

    /// What should be over, or known, by now.
    pub(super) fn look_for_stuck(&mut self, books: &Books, now: Duration, journal: &Journal) {
        let Some(calm_since) = books.course.calm_since() else { return };
        let leader_since = self.leader.1;
        let grants = self.grants.iter_mut();
        for (token, grant) in grants.filter(|(_, grant)| !grant.told && grant.name != SHARED) {
            let Grant { name, ttl, seen, freed, .. } = &*grant;
            let belief = books.belief(*token);
            let abandoned = match &belief {
                Some(belief) => belief.abandoned,
                // Whoever asked for it may have gone, but may also have renewed it once.
                None => Some(*seen + *ttl),
            };
            if let Some(abandoned) = abandoned
                && freed.is_none()
                && now > abandoned.max(calm_since).max(leader_since) + *ttl + FREED_WITHIN
            {
                grant.told = true;
                journal.problem(
                    now,
                    format_args!(
                        "{} is still held under {token}, which is not renewed since \
                         {abandoned:.3?}; its ttl is {:?}, and the leader is the same since \
                         {leader_since:.3?}: {belief:?}",
                        grant.name, grant.ttl
                    ),
                );
            } else if let Some(belief) = &belief
                && books.course.was_calm(*seen)
                && leader_since < *seen
                && belief.from > *seen + TOLD_WITHIN
            {
                let from = belief.from;
                let text = format!("{name} was granted under {token} at {seen:.3?}");
                grant.told = true;
                journal.problem(now, format_args!("{text}, but only told at {from:.3?}"));
            }
        }
    }

    /// When a lock was freed.
    pub(super) fn freed(&self, token: u64) -> Option<Duration> {
        self.grants.get(&token)?.freed
    }

    /// When a lock was granted, and since when the leader led then.
    pub(super) fn seen(&self, token: u64) -> Option<(Duration, Duration)> {
        let grant = self.grants.get(&token)?;
        Some((grant.seen, grant.leader_since))
    }

    /// The revision of a grant.
    pub(super) fn revision(&self, token: u64) -> Option<u64> {
        self.grants.get(&token)?.revision
    }

    /// When a session was ended.
    pub(super) fn session_ended(&self, id: u64) -> Option<Duration> {
        self.sessions_ended.get(&id).copied()
    }

    /// The highest term that a node leads in, and since when.
    pub(super) fn leader(&self) -> (u64, Duration) {
        self.leader
    }

    /// The first grant of a lock after that of `token` whose revision is known, and the revision.
    pub(super) fn later_grant(&self, name: &str, token: u64) -> Option<(u64, u64)> {
        let later = self.grants.range(token + 1..).filter(|(_, grant)| grant.name == name);
        later.filter_map(|(token, grant)| Some((*token, grant.revision?))).next()
    }

    /// Locks granted, and those of them that were freed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let freed = self.grants.values().filter(|grant| grant.freed.is_some()).count();
        (self.grants.len(), freed)
    }

    /// The tokens of the grants of a lock, in the order in which they came.
    pub(super) fn granted(&self, name: &str) -> Vec<u64> {
        let named = self.grants.iter().filter(|(_, grant)| grant.name == name);
        named.map(|(token, _)| *token).collect()
    }

    /// Whether nothing is held any more; or what is.
    pub(super) fn all_free(&self) -> Result<(), String> {
        match self.grants.iter().find(|(_, grant)| grant.freed.is_none()) {
            None => Ok(()),
            Some((token, grant)) => Err(format!("token {token} is still held: {grant:?}")),
        }
    }

    /// Tokens whose order is not that of the revisions.
    pub(super) fn problems(&self) -> Vec<String> {
        let known = self.grants.iter().filter_map(|(token, grant)| Some((token, grant.revision?)));
        let known: Vec<_> = known.collect();
        let pairs = known.windows(2).filter(|pair| pair[0].1 > pair[1].1);
        pairs
            .map(|pair| format!("tokens and revisions of grants go different ways: {pair:?}"))
            .collect()
    }
}
