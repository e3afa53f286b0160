//! Who pushes jobs, and looks after queues now and then.

use super::super::clients::{ms, now};
use super::super::net::NODES;
use super::super::planted::Planted;
use super::party::Party;
use super::record::{Kind, Outcome, Push, Pushed, Removal, Wants};
use super::{BRIEF, GROUPED, PLAIN, PURGED};
use quorate_client::Client;
use rand::RngExt;
use std::time::Duration;

/// Of how many pushes the planted fault sends none.
const NOT_SENT_ONE_IN: u32 = 20;
/// Jobs of one pusher that share a dedupe key, before it goes on to another one.
const PUSHES_PER_KEY: u64 = 3;
/// A key that all pushers share changes so often.
const SHARED_KEY_CHANGES: Duration = Duration::from_secs(4);

/// One pusher, with two ways into the cluster.
struct Pusher {
    party: Party,
    clients: [Client; 2],
    pushed: u64,
    keyed: u64,
}

/// Pushes; the keeper of the queues purges and puts back, too.
pub(super) async fn work(mut party: Party, is_keeper: bool, until: Duration) -> turmoil::Result {
    party.set_up().await;
    let home = party.rng.random_range(0..NODES.len());
    let clients = [party.client(home)?, party.client(home + 1)?];
    let mut pusher = Pusher { party, clients, pushed: 0, keyed: 0 };
    while now() < until {
        tokio::time::sleep(ms(pusher.party.rng.random_range(40..=500))).await;
        if is_keeper && pusher.party.rng.random_ratio(1, 12) {
            pusher.keep_queues().await;
        } else {
            pusher.push_one().await;
        }
    }
    pusher.party.books.course.is_done();
    Ok(())
}

impl Pusher {
    /// Half of what has a dedupe key is pushed again at once, or a little later.
    async fn push_one(&mut self) {
        let (kind, wants) = self.draw();
        let way = self.party.rng.random_range(0..self.clients.len());
        self.push(way, kind, &wants).await;
        if wants.dedupe.is_some() && self.party.rng.random_ratio(1, 2) {
            if self.party.rng.random_ratio(1, 2) {
                tokio::time::sleep(ms(self.party.rng.random_range(0..=2_500))).await;
            }
            self.push(1 - way, kind, &wants).await;
        }
    }

    fn draw(&mut self) -> (Kind, Wants) {
        let kind = [PLAIN, BRIEF, GROUPED, PURGED][self.party.rng.random_range(0..4)];
        let rng = &mut self.party.rng;
        let mut wants = Wants { priority: rng.random_range(0..3), ..Wants::default() };
        if rng.random_ratio(1, 4) {
            wants.delay = ms(rng.random_range(100..=3_000));
        }
        if kind.name == GROUPED.name && rng.random_ratio(3, 4) {
            wants.group = Some(format!("g{}", rng.random_range(0..2)));
        }
        // Elsewhere it would be put back, or hold up its group for nothing.
        if kind.name == BRIEF.name && rng.random_ratio(1, 6) {
            wants.ttl = Some(ms(rng.random_range(200..=3_000)));
        }
        if rng.random_ratio(1, 4) {
            self.keyed += 1;
            wants.dedupe = Some(match rng.random_ratio(1, 3) {
                true => format!("shared.{}", now().as_millis() / SHARED_KEY_CHANGES.as_millis()),
                false => format!("{}.{}", self.party.number, self.keyed / PUSHES_PER_KEY),
            });
        }
        (kind, wants)
    }

    async fn push(&mut self, way: usize, kind: Kind, wants: &Wants) {
        self.pushed += 1;
        let name = format!("{}.{}", self.party.number, self.pushed);
        let asked = now();
        let outcome = if self.party.planted == Planted::PushesNotSent
            && self.party.rng.random_ratio(1, NOT_SENT_ONE_IN)
        {
            // What it says is made up.
            Outcome::Ok(Pushed { id: u64::MAX - self.pushed, duplicate: false, revision: 1 })
        } else {
            self.send(way, kind, &name, wants).await
        };
        let (wants, ended) = (wants.clone(), now());
        let push = Push { name, queue: kind.name, wants, asked, ended, outcome };
        self.party.books.pushed(self.party.number, push);
    }

    async fn send(&self, way: usize, kind: Kind, name: &str, wants: &Wants) -> Outcome<Pushed> {
        let asked = now();
        let push = self.clients[way].queue().push(kind.name, name.to_owned());
        let mut push = push.priority(wants.priority).delay(wants.delay);
        if let Some(ttl) = wants.ttl {
            push = push.ttl(ttl);
        }
        if let Some(group) = &wants.group {
            push = push.group(group);
        }
        if let Some(key) = &wants.dedupe {
            push = push.dedupe_key(key);
        }
        let pushed = push.await;
        self.party.books.course.called(&pushed);
        match pushed {
            Ok(pushed) => {
                let (id, duplicate, revision) = (pushed.id, pushed.duplicate, pushed.revision);
                Outcome::Ok(Pushed { id, duplicate, revision })
            }
            Err(error) => {
                self.party.refused("push", asked, &error);
                if error.may_have_been_applied() { Outcome::Unknown } else { Outcome::Failed }
            }
        }
    }

    async fn keep_queues(&mut self) {
        let asked = now();
        let queues = self.clients[0].queue();
        if self.party.rng.random_ratio(1, 3) {
            let outcome = match queues.purge(PURGED.name).await {
                Ok(purged) => Outcome::Ok(purged.revision),
                Err(error) => {
                    self.party.refused("purge", asked, &error);
                    if error.may_have_been_applied() { Outcome::Unknown } else { Outcome::Failed }
                }
            };
            let removal = Removal { queue: PURGED.name, asked, outcome };
            self.party.books.removed(self.party.number, removal, now());
        } else if let Err(error) = queues.redrive(BRIEF.name).await {
            self.party.refused("redrive", asked, &error);
        }
    }
}
