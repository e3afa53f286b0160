//! Commands that were handed to the proposer and are in no entry yet: what is urgent first, the
//! others by turns of their origins, and none whose caller waits no longer.

use crate::admission::{OriginId, Permit};
use crate::proposer::ReplyTo;
use crate::turns::Turns;
use quorate_state::Envelope;
use quorate_state::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

/// A command on its way into an entry.
pub(crate) struct Proposal {
    pub(crate) envelope: Envelope,
    /// What it counts for in an entry.
    pub(crate) work: usize,
    /// With whose commands it has turns; none: before all of them.
    pub(crate) turn: Option<OriginId>,
    /// After that nobody waits for it.
    pub(crate) deadline: Instant,
    /// Whether it is to be known how long it was where.
    pub(crate) traced: bool,
    /// Set by whoever gets there first: the caller who gives up, or the proposer who takes it.
    pub(crate) claimed: Arc<AtomicBool>,
    pub(crate) reply: ReplyTo,
    pub(crate) permit: Permit,
}

impl Proposal {
    /// Who is told, and what is given back then.
    pub(crate) fn into_reply(self) -> (ReplyTo, Permit) {
        (self.reply, self.permit)
    }
}

/// Commands handed over and not in an entry yet.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Of the node's own: few, small, and bounded apart.
    urgent: VecDeque<Proposal>,
    turns: Turns<OriginId, Proposal>,
}

/// What was taken for an entry.
#[derive(Default)]
pub(crate) struct Taken {
    /// The commands of the entry, in their order.
    pub(crate) commands: Vec<Proposal>,
    /// Those whose deadline had come. They are told so, and are never proposed.
    pub(crate) late: Vec<Proposal>,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.turns.is_empty()
    }

    pub(crate) fn extend(&mut self, proposals: Vec<Proposal>) {
        for proposal in proposals {
            match proposal.turn {
                None => self.urgent.push_back(proposal),
                Some(origin) => self.turns.push(origin, proposal.work, proposal),
            }
        }
    }

    /// The commands of the next entry: as many as fit, one at least if any is waited for. Whoever
    /// gave up is left out: it was told that nothing happened.
    pub(crate) fn next_entry(&mut self, now: Instant) -> Taken {
        let mut work = 0;
        let mut taken = Taken::default();
        loop {
            let first = taken.commands.is_empty();
            let fits = taken.commands.len() < ENTRY_COMMANDS_MAX;
            let has_room = |next: usize| first || (fits && work + next <= ENTRY_BYTES_MAX);
            let next = match self.urgent.front() {
                Some(next) if has_room(next.work) => self.urgent.pop_front(),
                Some(_) => None,
                None => self.turns.next(has_room),
            };
            let Some(next) = next else { return taken };
            if next.claimed.swap(true, Ordering::AcqRel) {
                continue;
            }
            if next.deadline <= now {
                taken.late.push(next);
                continue;
            }
            work += next.work;
            taken.commands.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Admission, Origin, Where};
    use crate::weight::tests::{add, envelope, get, transaction};
    use crate::weight::{DETACH_STEPS, Weight};
    use quorate_state::{
        Command, ConsumerDetach, ConsumerId, Expect, JobLease, KvSet, NewJob, NodeId, PullRequest,
        QueueDelete, QueuePull, QueuePurge, QueuePush,
    };
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn proposal(command: &Command, connection: u64) -> Proposal {
        let envelope = envelope(command.clone());
        let Weight { bytes, work } = Weight::of(&envelope);
        let id = OriginId { node: NodeId(1), connection };
        let permit = Admission::new(Where::Proposed, 1 << 30).take(&Origin::new(id), bytes);
        Proposal {
            envelope,
            work,
            turn: Some(id),
            deadline: Instant::now() + Duration::from_secs(60),
            traced: false,
            claimed: Arc::default(),
            reply: ReplyTo::Caller(oneshot::channel().0),
            permit: permit.expect("there is room"),
        }
    }

    fn set(value_bytes: usize) -> Command {
        Command::KvSet(KvSet {
            key: "k".into(),
            value: vec![0; value_bytes].into(),
            ttl_ms: None,
            expect: Expect::Any,
            owner: None,
        })
    }

    /// How many of so many equal commands the first entry takes.
    fn taken(command: &Command, count: usize) -> usize {
        let mut backlog = Backlog::default();
        backlog.extend((0..count).map(|_| proposal(command, 1)).collect());
        backlog.next_entry(Instant::now()).commands.len()
    }

    #[test]
    fn whoever_asks_for_little_is_in_one_of_the_next_entries_beside_a_flood() {
        let mut backlog = Backlog::default();
        for connection in 1..=16 {
            backlog.extend((0..4).map(|_| proposal(&set(1 << 20), connection)).collect());
            backlog.extend((0..64).map(|_| proposal(&set(2_000), 100 + connection)).collect());
        }
        backlog.next_entry(Instant::now());
        backlog.extend(vec![proposal(&set(100), 0)]);
        let entries = std::iter::from_fn(|| {
            (!backlog.is_empty()).then(|| backlog.next_entry(Instant::now()).commands)
        });
        let is_little = |taken: &Proposal| taken.turn.unwrap().connection == 0;
        let at = entries.take_while(|entry| !entry.iter().any(is_little)).count();
        // A large one that was begun, which is an entry by itself, and a run of each of the others, which
        // were behind because of it. All there is are more than twenty times as many entries.
        assert!(at <= 2, "it was in entry {at} after it came");
    }

    #[test]
    fn what_is_urgent_goes_before_everything() {
        let mut backlog = Backlog::default();
        backlog.extend((0..100).map(|_| proposal(&set(10_000), 1)).collect());
        backlog.next_entry(Instant::now());
        backlog.extend(vec![Proposal { turn: None, ..proposal(&Command::Tick, 0) }]);
        let entry = backlog.next_entry(Instant::now()).commands;
        assert_eq!(entry[0].envelope.command, Command::Tick);
        assert!(entry.len() > 1, "others went along");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_no_longer_is_left_out_and_takes_no_room() {
        let mut backlog = Backlog::default();
        let full = ENTRY_BYTES_MAX / 4;
        let soon = Instant::now() + Duration::from_millis(10);
        let late = (0..9).map(|_| Proposal { deadline: soon, ..proposal(&set(full), 1) });
        backlog.extend(late.collect());
        let gone: Vec<_> = (0..9).map(|_| proposal(&set(full), 1)).collect();
        let claims: Vec<_> = gone.iter().map(|gone| Arc::clone(&gone.claimed)).collect();
        backlog.extend(gone);
        backlog.extend((0..2).map(|_| proposal(&set(full), 1)).collect());
        claims.iter().for_each(|claim| claim.store(true, Ordering::Release));
        tokio::time::advance(Duration::from_millis(10)).await;
        let taken = backlog.next_entry(Instant::now());
        assert_eq!((taken.commands.len(), taken.late.len()), (2, 9));
        assert!(backlog.is_empty());
        // Its caller can't be told any more that nothing was done with it, but by who took it.
        assert!(taken.late.iter().all(|late| late.claimed.load(Ordering::Acquire)));
    }

    #[test]
    fn an_entry_has_so_many_steps_and_so_many_that_read() {
        // Of the smallest steps no more than it may have commands.
        for steps in [1, 16, 128] {
            let entry = taken(&transaction(vec![add(); steps], Vec::new()), 1_000) * steps;
            assert!(entry <= ENTRY_COMMANDS_MAX, "{entry} steps, {steps} at a time");
            assert!(entry >= ENTRY_COMMANDS_MAX / 2, "{entry} steps, {steps} at a time");
        }
        // A megabyte each.
        for (then, otherwise) in [(vec![add(), get()], vec![]), (vec![add()], vec![get()])] {
            let entry = taken(&transaction(then, otherwise), 1_000);
            assert!((8..=16).contains(&entry), "{entry} that read");
        }
        // However large it is, an entry takes one.
        assert_eq!(taken(&transaction(vec![add(); 128], vec![get(); 128]), 2), 1);
    }

    #[test]
    fn an_entry_has_so_many_jobs_however_many_are_pushed_or_pulled_at_once() {
        for count in [1, 16, 128] {
            let jobs = vec![NewJob::default(); count];
            let push = Command::QueuePush(QueuePush { queue: "q".into(), jobs });
            let request = PullRequest { queue: "q".into(), count: 0, wait_ms: 0 };
            let request = PullRequest { count: u32::try_from(count).unwrap(), ..request };
            let pull = Command::QueuePull(QueuePull { request, attachment: Default::default() });
            for command in [push, pull] {
                let entry = taken(&command, 1_000) * count;
                assert!(entry <= ENTRY_COMMANDS_MAX, "{entry} jobs, {count} at a time");
                assert!(entry >= ENTRY_COMMANDS_MAX / 2, "{entry} jobs, {count} at a time");
            }
        }
    }

    #[test]
    fn an_entry_has_a_few_ends_of_consumers() {
        let (consumer, delivered) = (ConsumerId(7), JobLease(0));
        let detach = ConsumerDetach { consumer, attachment: Default::default(), delivered };
        let entry = taken(&Command::ConsumerDetach(detach), 1_000);
        let fits = ENTRY_COMMANDS_MAX / DETACH_STEPS;
        assert!((fits / 2..=fits).contains(&entry), "{entry} of {fits}");
    }

    #[test]
    fn what_goes_through_all_consumers_has_an_entry_to_itself() {
        let queue = || "q".to_owned();
        for command in [
            Command::QueuePurge(QueuePurge { queue: queue() }),
            Command::QueueDelete(QueueDelete { queue: queue() }),
        ] {
            assert_eq!(taken(&command, 10), 1, "{command:?}");
        }
    }
}
