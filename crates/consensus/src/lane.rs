//! A lane: the commands of one connection on their way to the leader, many at once, in order.
//!
//! What [`Replica::propose`] does for one command with a future of its own, a lane does for all
//! commands of a connection with one: one hand-over to the proposer, or one message to the leader,
//! for all that came in together, and one answer for all that were applied together.

use crate::admission::{Origin, Permit};
use crate::backlog::Proposal;
use crate::failure::{Failure, Reason};
use crate::forward::{Forwarded, Link, Way};
use crate::proposer::{Answer, Answers, ReplyTo, overtaken};
use crate::replica::{PAUSE, Replica, no_leader};
use crate::trace::Trace;
use crate::weight::Weight;
use quorate_state::{Envelope, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

/// A command for a lane.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its answer carries it; differs from those of all unanswered commands of the lane. It may be
    /// used again once it was answered or cancelled.
    pub tag: u64,
    /// The command.
    pub envelope: Envelope,
    /// When it is answered at the latest.
    pub deadline: Instant,
    /// The request it is of, if its way is to be known.
    pub trace: Option<Arc<Trace>>,
}

/// The commands of one connection. Dropping it withdraws what was not proposed yet; what was runs
/// its course.
pub struct Lane {
    replica: Replica,
    /// Whose commands they are, unless it is said of each.
    origin: Origin,
    /// Whether commands may go to another node: not if they came from one.
    forwards: bool,
    /// By number, which is the order in which they came in. An answer finds its command by this
    /// number and not by its tag: a tag may name another command by then.
    unanswered: BTreeMap<u64, Unanswered>,
    /// The number of each tag.
    numbers: BTreeMap<u64, u64>,
    last_number: u64,
    held_bytes: usize,
    /// Numbers of commands that are to be sent (again).
    waiting: BTreeSet<u64>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// When what waits is sent again.
    again_at: Option<Instant>,
    /// Fires at or before whatever is due next.
    timer: Pin<Box<Sleep>>,
    answers: Answers,
    answered: mpsc::Receiver<Vec<(u64, Answer)>>,
    /// Known, by tag, and not handed out yet.
    ready: Vec<(u64, Answer)>,
}

struct Unanswered {
    tag: u64,
    origin: Origin,
    envelope: Envelope,
    weight: Weight,
    deadline: Instant,
    at: Place,
    held: Option<Arc<Permit>>,
}

/// Where a command is.
enum Place {
    /// Here; why it is not further, if it was refused before.
    Waiting(Option<Failure>),
    /// With the proposer. Set by whoever gets there first, to take it or to withdraw it.
    Proposed(Arc<AtomicBool>),
    /// On its way to the leader, under this number.
    Forwarded(Arc<Link>, u64),
    /// Its answer is known.
    Answered,
}

impl Place {
    /// Withdraws the command if that can be; what its caller is told who waits no longer.
    fn give_up(&mut self) -> Failure {
        match std::mem::replace(self, Self::Answered) {
            Self::Waiting(failure) => failure.unwrap_or_else(no_leader),
            Self::Proposed(claimed) => overtaken(!claimed.swap(true, Ordering::AcqRel)),
            Self::Forwarded(link, id) => link.overtaken(link.withdraw(id)),
            Self::Answered => no_leader(),
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        match &self.at {
            Place::Waiting(_) | Place::Answered => {}
            Place::Proposed(claimed) => claimed.store(true, Ordering::Release),
            Place::Forwarded(link, id) => drop(link.withdraw(*id)),
        }
    }
}

impl Lane {
    /// A lane for at most `unanswered_max` commands of this origin at once.
    ///
    /// # Panics
    /// If there may be none.
    #[must_use]
    pub fn new(replica: Replica, origin: Origin, unanswered_max: usize) -> Self {
        Self::make(replica, origin, true, unanswered_max)
    }

    /// A lane for commands that other nodes have sent here: proposed here or refused.
    pub(crate) fn of_forwarded(replica: Replica, unanswered_max: usize) -> Self {
        let origin = replica.0.own.clone();
        Self::make(replica, origin, false, unanswered_max)
    }

    fn make(replica: Replica, origin: Origin, forwards: bool, unanswered_max: usize) -> Self {
        // Each message on it answers a command at least, so it holds all answers; unless a client
        // gives up ever more commands and reads nothing. Then an answer may be lost, and its
        // command is told at its deadline that nobody knows its fate.
        let (answers, answered) = mpsc::channel(unanswered_max);
        Self {
            replica,
            origin,
            forwards,
            unanswered: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last_number: 0,
            held_bytes: 0,
            waiting: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            again_at: None,
            timer: Box::pin(tokio::time::sleep_until(Instant::now())),
            answers,
            answered,
            ready: Vec::new(),
        }
    }

    /// Commands without an answer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.unanswered.len() + self.ready.len()
    }

    /// Bytes of the commands without an answer.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether every command was answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes commands, in the order in which they are to be proposed. That order holds as long as
    /// the leader stays the same.
    pub fn submit(&mut self, submissions: Vec<Submission>) {
        let origin = self.origin.clone();
        self.submit_of(submissions.into_iter().map(|submission| (origin.clone(), submission)));
    }

    /// As [`Lane::submit`], of several origins.
    pub(crate) fn submit_of(&mut self, submissions: impl Iterator<Item = (Origin, Submission)>) {
        // What waits for a leader goes first.
        let queue = !self.waiting.is_empty();
        for (origin, Submission { tag, envelope, deadline, trace }) in submissions {
            let origin = match trace {
                None => origin,
                traced => origin.traced(traced),
            };
            let weight = Weight::of(&envelope);
            let held = match self.forwards.then(|| self.replica.0.held.take(&origin, weight.bytes))
            {
                Some(Err(refusal)) => {
                    self.ready.push((tag, Err(refusal)));
                    continue;
                }
                Some(Ok(permit)) => Some(Arc::new(permit)),
                // The node that forwarded it holds it, and the proposer here has a bound as well.
                None => None,
            };
            self.last_number += 1;
            let (number, at) = (self.last_number, Place::Waiting(None));
            self.waiting.insert(number);
            self.deadlines.insert((deadline, number));
            self.numbers.insert(tag, number);
            self.held_bytes += weight.bytes;
            let unanswered = Unanswered { tag, origin, envelope, weight, deadline, at, held };
            self.unanswered.insert(number, unanswered);
        }
        if !queue {
            self.send();
        }
    }

    /// Forgets a command whose caller is gone: it is withdrawn if it was not proposed yet, and has
    /// no answer any more.
    pub fn cancel(&mut self, tag: u64) {
        if let Some(number) = self.numbers.get(&tag).copied() {
            // Dropping it withdraws it.
            drop(self.remove(number));
        }
    }

    fn remove(&mut self, number: u64) -> Option<Unanswered> {
        let unanswered = self.unanswered.remove(&number)?;
        self.numbers.remove(&unanswered.tag);
        self.held_bytes -= unanswered.weight.bytes;
        self.deadlines.remove(&(unanswered.deadline, number));
        self.waiting.remove(&number);
        Some(unanswered)
    }

    /// The next answers; pending while none is known. Must be polled for anything to happen: time
    /// passes and commands are sent again in here.
    pub fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Vec<(u64, Answer)>> {
        loop {
            while let Poll::Ready(Some(answers)) = self.answered.poll_recv(cx) {
                for (number, answer) in answers {
                    self.take(number, answer);
                }
            }
            if !self.ready.is_empty() {
                return Poll::Ready(std::mem::take(&mut self.ready));
            }
            let due = self.deadlines.first().map(|(deadline, _)| *deadline);
            let Some(due) = due.into_iter().chain(self.again_at).min() else {
                return Poll::Pending;
            };
            // A timer that is set too early only looks once too often, which is cheaper than to
            // set it anew for every command.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.look_at_the_clock();
        }
    }

    /// Sends what waits, or sets the time at which to try again.
    fn send(&mut self) {
        let me = self.replica.node_id();
        match self.replica.leader() {
            None => self.send_later(),
            Some(leader) if leader != me && !self.forwards => self.refuse(&Failure::not_applied(
                Reason::NotLeader,
                format!("node {me} does not lead; ask the leader"),
            )),
            Some(leader) if leader != me => self.forward(leader),
            // Leadership is taken up a moment after the election.
            Some(_) if self.replica.0.leadership.borrow().is_none() => self.send_later(),
            Some(_) => self.propose(),
        }
    }

    fn send_later(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let again = Instant::now() + PAUSE;
        self.again_at = Some(self.again_at.map_or(again, |at| at.min(again)));
    }

    fn propose(&mut self) {
        let mut proposals = Vec::with_capacity(self.waiting.len());
        for number in std::mem::take(&mut self.waiting) {
            let Some(unanswered) = self.unanswered.get_mut(&number) else { continue };
            let reply = ReplyTo::Lane { number, answers: self.answers.clone() };
            let Unanswered { origin, envelope, weight, deadline, .. } = unanswered;
            let (envelope, proposer) = (envelope.clone(), &self.replica.0.proposer);
            match proposer.proposal(origin, envelope, *weight, *deadline, reply) {
                Ok((proposal, claimed)) => {
                    unanswered.at = Place::Proposed(claimed);
                    proposals.push(proposal);
                }
                Err(refusal) => self.settle(number, Err(refusal)),
            }
        }
        let refused: Vec<Proposal> = match self.replica.0.proposer.queue(proposals) {
            Ok(()) => return,
            Err(refused) => refused,
        };
        for proposal in refused {
            if let ReplyTo::Lane { number, .. } = proposal.reply {
                self.settle(number, Err(self.replica.0.proposer.refusal()));
            }
        }
    }

    fn forward(&mut self, leader: NodeId) {
        let link = match self.replica.link(leader, Way::ByTurns) {
            Ok(link) => link,
            // Known in a moment, or never; until then it is as good as no leader.
            Err(_) => return self.send_later(),
        };
        while !self.waiting.is_empty() {
            let commands = self.waiting.iter().filter_map(|number| {
                let unanswered = self.unanswered.get(number)?;
                Some(Forwarded {
                    number: *number,
                    envelope: &unanswered.envelope,
                    origin: &unanswered.origin,
                    deadline: unanswered.deadline,
                    held: unanswered.held.clone(),
                })
            });
            let Some(sent) = link.send_all(commands, &self.answers) else {
                return self.send_later();
            };
            for (number, id) in sent {
                if let Some(unanswered) = self.unanswered.get_mut(&number) {
                    unanswered.at = Place::Forwarded(Arc::clone(&link), id);
                }
                self.waiting.remove(&number);
            }
        }
    }

    fn refuse(&mut self, failure: &Failure) {
        for number in std::mem::take(&mut self.waiting) {
            self.settle(number, Err(failure.clone()));
        }
    }

    /// An answer came in; or a refusal after which another try has no risk.
    fn take(&mut self, number: u64, answer: Answer) {
        let Some(unanswered) = self.unanswered.get_mut(&number) else { return };
        match answer {
            Err(failure)
                if self.forwards
                    && failure.is_worth_another_leader()
                    && unanswered.deadline > Instant::now() + PAUSE =>
            {
                unanswered.at = Place::Waiting(Some(failure));
                self.waiting.insert(number);
                self.send_later();
            }
            answer => self.settle(number, answer),
        }
    }

    fn settle(&mut self, number: u64, answer: Answer) {
        if let Some(mut unanswered) = self.remove(number) {
            unanswered.at = Place::Answered;
            let answer = answer.map(|committed| committed.told(&unanswered.origin));
            self.ready.push((unanswered.tag, answer));
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        while let Some((deadline, number)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            if let Some(mut unanswered) = self.remove(number) {
                self.ready.push((unanswered.tag, Err(unanswered.at.give_up())));
            }
        }
        // What is left after that.
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.send();
        }
    }
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("unanswered", &self.unanswered.len()).finish_non_exhaustive()
    }
}
