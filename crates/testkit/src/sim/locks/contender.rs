//! The clients that contend: they take locks, hold and renew them in different ways, write under
//! them, give them back, or just stop.

use super::super::clients::{Party, auditor, ms, now, options, recover};
use super::super::net::{AUDITOR, CLIENT_HOSTS, Host};
use super::super::plan::Plan;
use super::super::planted::Planted;
use super::books::Books;
use super::{AFTERMATH, LOCKS, Stage, TTL_MAX};
use quorate_client::{Client, Error, Lock, LockGuard, Routing};
use rand::RngExt;
use std::time::Duration;

/// Contenders on each host.
const PER_HOST: u64 = 3;
/// The auditor's number.
const AUDITOR_NUMBER: u64 = 99;
/// How long a client tries to withdraw a request, as its documentation says.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(10);
/// The longest a call may take beside waiting.
const TIMEOUT_MAX_MS: u64 = 3_000;
/// Between two looks at a lock that is held.
const GLANCE: Duration = Duration::from_millis(10);

/// Puts the contenders into the simulation.
pub(super) fn start(stage: &mut Stage<'_>, plan: &Plan) {
    let until = plan.heal_at + AFTERMATH;
    for (host, first) in CLIENT_HOSTS.into_iter().zip((1..).step_by(10)) {
        let all: Vec<_> =
            (first..first + PER_HOST).map(|number| contender(stage, plan, host, number)).collect();
        for _ in &all {
            stage.story.books.course.begins();
        }
        stage.sim.client(host, async move {
            let work = all.into_iter().map(|contender| Box::pin(contender.work(until)));
            for worked in futures::future::join_all(work).await {
                worked?;
            }
            // What was left in the background has its time, too.
            std::future::pending().await
        });
    }
}

/// Puts the client into the simulation that looks at what is left.
pub(super) fn audit(stage: &mut Stage<'_>, plan: &Plan) {
    let auditor = contender(stage, plan, AUDITOR, AUDITOR_NUMBER);
    stage.sim.client(AUDITOR, Box::pin(auditor.audit()));
}

fn contender(stage: &Stage<'_>, plan: &Plan, host: Host, number: u64) -> Contender {
    Party::new(stage, &stage.story.books, plan, host, number)
}

/// One client.
type Contender = Party<Books>;

/// A lock that is held, and who by.
struct Holding {
    client: Client,
    name: &'static str,
    token: u64,
    ttl: Duration,
    guard: LockGuard,
}

impl Contender {
    fn client(&mut self) -> Result<Client, Error> {
        let routing = match self.number % 10 {
            1 => Routing::AnyNode,
            // Its home node alone, whatever becomes of it.
            2 => Routing::Endpoints,
            _ => Routing::Leader,
        };
        let home = usize::try_from(self.number).unwrap_or_default();
        options(self.host, &self.reach, home, routing)
            .seed(self.rng.random())
            .request_timeout(ms(self.rng.random_range(800..=TIMEOUT_MAX_MS)))
            .attempt_timeout(ms(self.rng.random_range(250..=1_000)))
            .session_ttl(ms(self.rng.random_range(1_000..=8_000)))
            .connect()
    }

    async fn work(mut self, until: Duration) -> turmoil::Result {
        let mut client = self.client()?;
        while now() < until {
            tokio::time::sleep(ms(self.rng.random_range(5..=150))).await;
            let (name, places) = LOCKS[self.rng.random_range(0..LOCKS.len())];
            let ttl = ms(self.rng.random_range(1_000..=u64::try_from(TTL_MAX.as_millis())?));
            let wait = ms(self.rng.random_range(0..=4_000));
            let wait = if self.rng.random_ratio(1, 6) { Duration::ZERO } else { wait };
            let acquire = client.locks().acquire(name).ttl(ttl).wait(wait);
            let acquire =
                if places > 1 { acquire.permits(u32::try_from(places)?) } else { acquire };
            let asked = now();
            if self.rng.random_ratio(1, 8) {
                // It loses interest: the request is withdrawn behind its back.
                let patience = ms(self.rng.random_range(1..=2_000));
                if let Ok(Ok(lock)) = tokio::time::timeout(patience, acquire).await {
                    drop(lock);
                }
                continue;
            }
            let acquired = acquire.await;
            self.books.course.called(&acquired);
            let took = now().saturating_sub(asked);
            let most = wait + ms(TIMEOUT_MAX_MS) + ttl + WITHDRAWN_WITHIN + ms(1_000);
            if took > most {
                let number = self.number;
                self.books.journal.problem(
                    now(),
                    format_args!("client {number} waited {took:?} for {name}, but for {wait:?}"),
                );
            }
            match acquired {
                Ok(lock) => {
                    self.books.waited(lock.fencing_token(), asked, wait);
                    client = self.hold(client, name, lock, ttl).await?;
                }
                Err(error) => self.not_granted(name, asked, &error),
            }
        }
        self.books.course.is_done();
        Ok(())
    }

    /// Some errors must not come at all, others not when all is well.
    fn not_granted(&self, name: &str, asked: Duration, error: &Error) {
        let told = matches!(error, Error::NotAcquired { .. });
        let troubled = matches!(
            error,
            Error::Unavailable { .. }
                | Error::Indeterminate { .. }
                | Error::LockLost { .. }
                | Error::SessionExpired { .. }
        );
        let (number, reason) = (self.number, error.reason());
        self.books.journal.write(
            now(),
            format_args!("client {number} asked for {name} at {asked:.3?}: {reason}"),
        );
        if !told && (!troubled || self.books.course.was_calm(asked)) {
            self.books.journal.problem(
                now(),
                format_args!(
                    "client {number}, which asked for {name} at {asked:.3?}, was told: {error}"
                ),
            );
        }
    }

    /// Holds a lock in one of several ways until it is given back, lost, or left; answers with the
    /// client to go on with.
    async fn hold(
        &mut self,
        client: Client,
        name: &'static str,
        lock: Lock,
        ttl: Duration,
    ) -> Result<Client, Error> {
        let (token, guard) = (lock.fencing_token(), lock.guard());
        self.books.granted(self.number, name, &lock, now());
        let holding = Holding { client, name, token, ttl, guard };
        match self.rng.random_range(0..10) {
            0..=4 => self.renewed(&holding, lock).await,
            5..=7 => self.renewed_late(&holding, lock).await,
            _ => {
                self.frozen(&holding, lock).await;
                if self.rng.random_ratio(1, 2) {
                    // The process ends: nobody cares for the session either.
                    drop(holding);
                    return self.client();
                }
            }
        }
        Ok(holding.client)
    }

    /// As programs do it: renewed in the background, until it is given back.
    async fn renewed(&mut self, holding: &Holding, lock: Lock) {
        let until = now() + ms(self.rng.random_range(10..=4_000));
        while now() < until {
            tokio::time::sleep(GLANCE).await;
            let left = lock.remaining();
            if left.is_zero() {
                self.books.lost(holding.token, now());
                return;
            }
            self.books.believes(holding.token, now() + left);
            if self.rng.random_ratio(1, 10) {
                self.write(holding).await;
            }
        }
        self.books.ended(holding.token, now(), "given back");
        if self.rng.random_ratio(1, 4) {
            drop(lock);
        } else if lock.release().await.is_err() {
            self.books.journal.write(now(), format_args!("{} not released", holding.token));
        }
    }

    /// Renewed by hand when more than half of its time is over, so that this was recorded.
    async fn renewed_late(&mut self, holding: &Holding, lock: Lock) {
        let Holding { client, name, token, ttl, .. } = holding;
        let mut sent = now();
        let mut until = sent + lock.remaining();
        let _ = lock.leave();
        for _ in 0..self.rng.random_range(1..=4) {
            let left = until.saturating_sub(now());
            tokio::time::sleep(left.mul_f64(self.rng.random_range(0.55..=0.85))).await;
            while now() < until {
                let asked = now();
                let renewed = client.locks().renew(name, *token).await;
                self.books.course.called(&renewed);
                match renewed {
                    Ok(left) => {
                        if asked > sent + *ttl / 2 {
                            self.books.renewed_late();
                        }
                        sent = asked;
                        until = until.max(asked + left);
                        self.books.believes(*token, until);
                        break;
                    }
                    Err(Error::LockLost { .. }) => return self.books.lost(*token, now()),
                    Err(_) => tokio::time::sleep(GLANCE).await,
                }
            }
            if now() >= until {
                return self.books.lost(*token, until);
            }
            if self.rng.random_ratio(1, 2) {
                self.write(holding).await;
            }
        }
        if self.rng.random_ratio(1, 2) {
            self.books.ended(*token, now(), "given back");
            let _ = client.locks().release(name, *token).await;
        } else {
            self.books.abandoned(*token, now(), "left");
            tokio::time::sleep(until.saturating_sub(now())).await;
        }
    }

    /// It stops, and later does what it had in mind. Only the guard can keep that from having an
    /// effect.
    async fn frozen(&mut self, holding: &Holding, lock: Lock) {
        let _ = lock.leave();
        self.books.abandoned(holding.token, now(), "frozen");
        let freeze = holding.ttl.mul_f64(self.rng.random_range(0.3..=2.0));
        tokio::time::sleep(freeze).await;
        self.write(holding).await;
    }

    async fn write(&mut self, holding: &Holding) {
        let set = holding.client.kv().set(holding.name, holding.token.to_string());
        let set = match self.planted {
            Planted::SkippedGuards => set,
            _ => set.guard(&holding.guard),
        };
        let written = set.await;
        self.books.course.called(&written);
        match written {
            Ok(written) => self.books.wrote(holding.token, written.revision),
            Err(Error::LockLost { .. }) => self.books.refused(),
            Err(_) => {}
        }
    }

    /// Writes until that succeeds, waits for the others, and takes every lock once more: whatever
    /// became of their holders, it has to come free.
    async fn audit(mut self) -> turmoil::Result {
        let client = auditor(self.host, &self.reach, &mut self.rng)?;
        recover(&client, &self.books.course, &self.books.journal).await;
        for (name, _) in LOCKS {
            let asked = now();
            match client.locks().acquire(name).wait(TTL_MAX * 2).await {
                Ok(lock) => {
                    let token = lock.fencing_token();
                    self.books.granted(self.number, name, &lock, now());
                    self.books.ended(token, now(), "given back");
                    lock.release().await?;
                }
                Err(error) => self.books.journal.problem(
                    now(),
                    format_args!("{name} was not to be had since {asked:.3?}: {error}"),
                ),
            }
        }
        self.books.course.close();
        self.books.course.audited();
        Ok(())
    }
}
