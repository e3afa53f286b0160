//! What pushers and workers have in common: how they reach the cluster, and how they say what
//! becomes of a job.

use super::super::clients::{self, ms, now, options};
use super::super::net::{Host, NODES};
use super::super::plan::Plan;
use super::super::planted::Planted;
use super::Stage;
use super::books::Books;
use super::record::{Delivery, Kind, Outcome, Said, Word};
use quorate_client::{Client, Error, Job, Routing};
use rand::RngExt;
use std::time::Duration;

/// One of them.
pub(super) type Party = clients::Party<Books>;

pub(super) fn party(stage: &Stage<'_>, plan: &Plan, host: Host, number: u64) -> Party {
    Party::new(stage, &stage.story.books, plan, host, number)
}

impl Party {
    /// A client with this node first, and with some way to the others.
    pub(super) fn client(&mut self, home: usize) -> Result<Client, Error> {
        let routing = match self.rng.random_range(0..4) {
            0 => Routing::AnyNode,
            // Its home node alone, whatever becomes of it.
            1 => Routing::Endpoints,
            _ => Routing::Leader,
        };
        options(self.host, &self.reach, home, routing)
            .seed(self.rng.random())
            .request_timeout(ms(self.rng.random_range(800..=3_000)))
            .attempt_timeout(ms(self.rng.random_range(250..=1_000)))
            .session_ttl(ms(self.rng.random_range(1_500..=8_000)))
            .one_shot(self.rng.random_ratio(1, 6))
            .connect()
    }

    /// One that finds its way as long as there is one: through any node, and under a session.
    pub(super) fn any_node_client(&mut self) -> Result<Client, Error> {
        let home = self.rng.random_range(0..NODES.len());
        let any = self.rng.random_ratio(1, 2);
        let routing = if any { Routing::AnyNode } else { Routing::Leader };
        options(self.host, &self.reach, home, routing)
            .seed(self.rng.random())
            .request_timeout(ms(2_000))
            .attempt_timeout(ms(500))
            .session_ttl(ms(self.rng.random_range(2_000..=8_000)))
            .connect()
    }

    /// One for calls that have to succeed in the end.
    pub(super) fn auditor(&mut self) -> Result<Client, Error> {
        clients::auditor(self.host, &self.reach, &mut self.rng)
    }

    pub(super) fn any_client(&mut self) -> Result<Client, Error> {
        let home = self.rng.random_range(0..NODES.len());
        self.client(home)
    }

    /// Waits until the queues are what they are to be.
    pub(super) async fn set_up(&self) {
        while !self.books.is_set_up() {
            tokio::time::sleep(ms(20)).await;
        }
    }

    pub(super) fn problem(&self, what: std::fmt::Arguments<'_>) {
        self.books.journal.problem(now(), format_args!("client {}: {what}", self.number));
    }

    /// Some errors must not come at all, others not when all is well.
    pub(super) fn refused(&self, what: &str, asked: Duration, error: &Error) {
        look_at_error(&self.books, self.number, what, asked, error);
    }

    pub(super) fn told(&self, kind: Kind, job: &Job, pulled: Option<Duration>) {
        told(&self.books, self.number, kind, job, pulled);
    }

    /// Notes what was said of a job, and what came of it.
    pub(super) fn said<T>(
        &self,
        (kind, job, lease): (Kind, u64, u64),
        word: Word,
        asked: Duration,
        answer: Result<T, Error>,
        read: impl FnOnce(T) -> Duration,
    ) {
        self.books.course.called(&answer);
        let outcome = match answer {
            Ok(answer) => Outcome::Ok(read(answer)),
            Err(error) => {
                let lost = matches!(error, Error::JobLost { .. });
                if !lost {
                    self.refused(&format!("{word:?}"), asked, &error);
                }
                match word {
                    Word::Ack if lost && self.planted == Planted::StaleAcks => {
                        Outcome::Ok(Duration::ZERO)
                    }
                    // It is sent again like a read: an earlier attempt may have had its effect.
                    Word::Extend(_) => Outcome::Unknown,
                    _ if error.may_have_been_applied() => Outcome::Unknown,
                    _ => Outcome::Failed,
                }
            }
        };
        let said = Said { queue: kind.name, job, lease, word, asked, outcome };
        self.books.said(self.number, said, now());
    }
}

/// As [`Party::told`], for who is not one.
pub(super) fn told(books: &Books, client: u64, kind: Kind, job: &Job, pulled: Option<Duration>) {
    books.told(Delivery {
        client,
        queue: kind.name,
        job: job.id(),
        lease: job.lease(),
        attempt: job.attempt(),
        name: String::from_utf8_lossy(job.payload()).into_owned(),
        told: now(),
        pulled,
    });
}

/// Something is said of a job, and nobody hears what comes of it.
pub(super) fn unheard(books: &Books, client: u64, of: (Kind, u64, u64), word: Word) {
    let ((kind, job, lease), asked) = (of, now());
    let said = Said { queue: kind.name, job, lease, word, asked, outcome: Outcome::Unknown };
    books.said(client, said, asked);
}

fn look_at_error(books: &Books, client: u64, what: &str, asked: Duration, error: &Error) {
    let troubled = matches!(
        error,
        Error::Unavailable { .. } | Error::Indeterminate { .. } | Error::SessionExpired { .. }
    );
    let reason = error.reason();
    books
        .journal
        .write(now(), format_args!("client {client} asked at {asked:.3?}: {what}: {reason}"));
    if !troubled || books.course.was_calm(asked) {
        books.journal.problem(
            now(),
            format_args!("client {client} asked at {asked:.3?}: {what}, and was told: {error}"),
        );
    }
}
