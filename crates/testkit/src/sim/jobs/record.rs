//! What is written down of a run: plain data, which histories made up by hand can be, too.

pub(super) use crate::history::Outcome;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Everything that is known of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) queues: Vec<Kind>,
    pub(super) pushes: Vec<Push>,
    /// In the order in which clients were told of them.
    pub(super) deliveries: Vec<Delivery>,
    /// Acknowledgements and what else is said of a job under a lease.
    pub(super) said: Vec<Said>,
    pub(super) removals: Vec<Removal>,
    /// Leases that the nodes gave, by job, each with the attempt that it was.
    pub(super) given: BTreeMap<u64, BTreeMap<u64, u32>>,
    /// Jobs that were ready, and for how long nobody took them while all was well.
    pub(super) waits: Vec<Wait>,
    /// Jobs pushed in the end, when only those consume that lived through the whole run.
    pub(super) called: Vec<Called>,
    /// Who lived through the whole run, and what it consumes.
    pub(super) survivors: Vec<(u64, &'static str)>,
    /// What the nodes hold in the end.
    pub(super) rest: Rest,
}

/// A job that was ready.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) job: u64,
    pub(super) queue: &'static str,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// A job that a consumer has to get at once.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) queue: &'static str,
    pub(super) name: String,
    pub(super) pushed: Duration,
}

/// A queue, and how it was set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) visibility: Duration,
    /// 0: it gives up no job that fails.
    pub(super) attempts_max: u32,
    /// What its jobs wait after a failure of which nothing else is said.
    pub(super) backoff: Duration,
    pub(super) dedupe_window: Duration,
}

/// What a job is to be.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    pub(super) delay: Duration,
    pub(super) ttl: Option<Duration>,
    pub(super) priority: u8,
    pub(super) group: Option<String>,
    pub(super) dedupe: Option<String>,
}

/// A push of one job. Its name is its payload, and no other push has it.
#[derive(Clone, Debug)]
pub(super) struct Push {
    pub(super) name: String,
    pub(super) queue: &'static str,
    pub(super) wants: Wants,
    pub(super) asked: Duration,
    pub(super) ended: Duration,
    pub(super) outcome: Outcome<Pushed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    pub(super) id: u64,
    pub(super) duplicate: bool,
    pub(super) revision: u64,
}

/// A client was told that it has a job.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) client: u64,
    pub(super) queue: &'static str,
    pub(super) job: u64,
    pub(super) lease: u64,
    pub(super) attempt: u32,
    pub(super) name: String,
    pub(super) told: Duration,
    /// When it asked, if it was pulled: such a lease ends with nothing but its time, or a word.
    pub(super) pulled: Option<Duration>,
}

/// What is said of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It is done.
    Ack,
    /// It failed, and is to be tried again.
    Nack,
    /// It is to be given up.
    Kill,
    /// It was not tried.
    HandBack,
    /// Its lease is to last so long from now on.
    Extend(Duration),
}

/// A client said something of a job, under a lease.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) queue: &'static str,
    pub(super) job: u64,
    pub(super) lease: u64,
    pub(super) word: Word,
    pub(super) asked: Duration,
    /// How long it was told that is: the wait for the next attempt, or what the lease has.
    pub(super) outcome: Outcome<Duration>,
}

/// All jobs of a queue were taken out of it.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) queue: &'static str,
    pub(super) asked: Duration,
    /// At which revision.
    pub(super) outcome: Outcome<u64>,
}

/// What the nodes hold in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    /// Jobs that nobody has done or given up, and where.
    pub(super) left: BTreeMap<u64, &'static str>,
    pub(super) dead: BTreeMap<u64, Letter>,
    pub(super) totals: BTreeMap<&'static str, Totals>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) name: String,
    pub(super) from: String,
    pub(super) cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Attempts,
    Rejected,
    Expired,
    /// Nobody said why.
    None,
}

/// What a queue says that happened in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) duplicates: u64,
    pub(super) acked: u64,
    pub(super) lapsed: u64,
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delay, ttl, priority, group, dedupe } = self;
        write!(f, "priority {priority}")?;
        if !delay.is_zero() {
            write!(f, ", in {delay:?}")?;
        }
        if let Some(ttl) = ttl {
            write!(f, ", for {ttl:?}")?;
        }
        if let Some(group) = group {
            write!(f, ", of {group}")?;
        }
        if let Some(key) = dedupe {
            write!(f, ", once under {key}")?;
        }
        Ok(())
    }
}

impl Push {
    /// What it was answered, if it was.
    pub(super) fn pushed(&self) -> Option<Pushed> {
        answered(&self.outcome)
    }
}

/// What a call was answered, if it was.
pub(super) fn answered<T: Copy>(outcome: &Outcome<T>) -> Option<T> {
    match outcome {
        Outcome::Ok(answer) => Some(*answer),
        Outcome::Failed | Outcome::Unknown => None,
    }
}

impl Said {
    pub(super) fn is_ok(&self) -> bool {
        matches!(self.outcome, Outcome::Ok(_))
    }

    /// Whether it had, or may have had, an effect.
    pub(super) fn may_be_so(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed)
    }
}

impl History {
    pub(super) fn kind(&self, queue: &str) -> Option<&Kind> {
        self.queues.iter().find(|kind| kind.name == queue)
    }

    /// What was said of a job, or may have been.
    pub(super) fn said_of(&self, job: u64) -> impl Iterator<Item = &Said> {
        self.said.iter().filter(move |said| said.job == job)
    }

    /// The deliveries by job, those of each in the order of their leases: that of the nodes.
    pub(super) fn by_job(&self) -> BTreeMap<u64, Vec<&Delivery>> {
        let mut jobs: BTreeMap<u64, Vec<&Delivery>> = BTreeMap::new();
        for delivery in &self.deliveries {
            jobs.entry(delivery.job).or_default().push(delivery);
        }
        for deliveries in jobs.values_mut() {
            deliveries.sort_by_key(|delivery| delivery.lease);
        }
        jobs
    }

    /// All leases of a job that anybody heard of, and the attempts that they were.
    pub(super) fn leases_of(&self, job: u64) -> BTreeMap<u64, u32> {
        let mut leases = self.given.get(&job).cloned().unwrap_or_default();
        let told = self.deliveries.iter().filter(|delivery| delivery.job == job);
        leases.extend(told.map(|delivery| (delivery.lease, delivery.attempt)));
        leases
    }

    /// The job that a push added, as far as that is known: a push of unknown outcome is known by
    /// what came of it.
    pub(super) fn job_of(&self, push: &Push) -> Option<u64> {
        match push.outcome {
            Outcome::Ok(Pushed { id, duplicate: false, .. }) => Some(id),
            Outcome::Ok(_) | Outcome::Failed => None,
            Outcome::Unknown => self.seen().find(|(_, name)| *name == push.name).map(|(id, _)| id),
        }
    }

    /// Jobs that came to light, and their names.
    pub(super) fn seen(&self) -> impl Iterator<Item = (u64, &str)> {
        let told = self.deliveries.iter().map(|delivery| (delivery.job, delivery.name.as_str()));
        told.chain(self.rest.dead.iter().map(|(id, letter)| (*id, letter.name.as_str())))
    }

    /// The push whose job has this name.
    pub(super) fn push_of(&self, name: &str) -> Option<&Push> {
        self.pushes.iter().find(|push| push.name == name)
    }
}
