//! The clients of the old cluster, which take locks, count and push jobs; and the one that saves it all.

use super::super::clients::{self, AGAIN, ms, now, options};
use super::super::cluster::{GROUP, Machine};
use super::super::net::Host;
use super::super::plan::Plan;
use super::books::{Books, Saved};
use super::{COUNT, LOCKS, QUEUE, Stage};
use quorate_client::{Client, Error, Routing};
use quorate_state::{Fatal, query};
use quorate_storage::state::View;
use rand::RngExt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Clients on each host.
const PER_HOST: u64 = 3;
/// Where the backup is taken from; no fault cuts it off.
const HOST: Host = "saver";
const SAVER_NUMBER: u64 = 98;

pub(super) type Party = clients::Party<Books>;

pub(super) fn start(stage: &mut Stage<'_>, plan: &Plan, host: Host, first: u64) {
    let party = |number| Party::new(stage, &stage.story.books, plan, host, number);
    let all: Vec<_> = (first..first + PER_HOST).map(party).collect();
    all.iter().for_each(|_| stage.story.books.course.begins());
    stage.sim.client(host, async move {
        let work = all.into_iter().map(|party| Box::pin(work(party)));
        for worked in futures::future::join_all(work).await {
            worked?;
        }
        // What was left in the background has its time, too.
        std::future::pending().await
    });
}

async fn work(mut party: Party) -> turmoil::Result {
    let home = usize::try_from(party.number).unwrap_or_default();
    let routing = if party.number % 10 == 1 { Routing::AnyNode } else { Routing::Leader };
    let client = options(party.host, &party.reach, home, routing)
        .seed(party.rng.random())
        .request_timeout(ms(party.rng.random_range(800..=2_500)))
        .attempt_timeout(ms(party.rng.random_range(250..=1_000)))
        .connect()?;
    while !party.books.course.is_closed() {
        tokio::time::sleep(ms(party.rng.random_range(5..=120))).await;
        match party.rng.random_range(0..4) {
            0..=1 => hold(&mut party, &client).await,
            2 => count(&party, &client).await,
            _ => push(&party, &client).await,
        }
    }
    party.books.course.is_done();
    Ok(())
}

async fn hold(party: &mut Party, client: &Client) {
    let name = LOCKS[party.rng.random_range(0..LOCKS.len())];
    let acquire = client.locks().acquire(name).ttl(ms(party.rng.random_range(500..=2_000)));
    let acquired = acquire.wait(ms(party.rng.random_range(0..=800))).await;
    party.books.course.called(&acquired);
    let Ok(lock) = acquired else { return };
    party.books.granted(&lock.guard(), lock.revision());
    let (number, token) = (party.number, lock.fencing_token());
    party.books.journal.write(now(), format_args!("client {number} holds {name} under {token}"));
    tokio::time::sleep(ms(party.rng.random_range(0..=150))).await;
    if party.rng.random_ratio(1, 3) {
        // It is lost in time.
        let _ = lock.leave();
    } else {
        let _ = lock.release().await;
    }
}

async fn count(party: &Party, client: &Client) {
    let counted = client.kv().increment(COUNT, 1).await;
    party.books.course.called(&counted);
    match counted {
        Ok(counted) => party.books.counted(counted.revision),
        Err(error) if error.may_have_been_applied() => party.books.not_counted_for_sure(),
        Err(_) => {}
    }
}

async fn push(party: &Party, client: &Client) {
    let pushed = client.queue().push(QUEUE, "a job").await;
    party.books.course.called(&pushed);
    if let Ok(pushed) = pushed {
        party.books.pushed(pushed.id, pushed.revision);
    }
}

/// Puts the one into the simulation that takes the backup, somewhere in the middle.
pub(super) fn save(stage: &mut Stage<'_>, plan: &Plan) {
    let mut party = Party::new(stage, &stage.story.books, plan, HOST, SAVER_NUMBER);
    let machines = stage.cluster.machines.clone();
    let begin = plan.heal_at.mul_f64(party.rng.random_range(0.4..=0.8));
    party.books.course.begins();
    stage.sim.client(HOST, async move {
        tokio::time::sleep(begin).await;
        while !try_to_save(&party, &machines).await {
            tokio::time::sleep(AGAIN).await;
        }
        party.books.journal.write(now(), format_args!("the backup is there"));
        party.books.course.is_done();
        Ok(())
    });
}

/// Takes it from the first node that has a quorum.
async fn try_to_save(party: &Party, machines: &[Arc<Machine>]) -> bool {
    for machine in machines {
        let Some((_, replica)) = machine.replica() else { continue };
        let count_min = party.books.acknowledged();
        let Ok(view) = replica.read(ms(500)).await else { continue };
        if let Ok(saved) = saved(&view, count_min) {
            party.books.save(saved);
            return true;
        }
    }
    false
}

fn saved(view: &View, count_min: u64) -> Result<Saved, Fatal> {
    let (from, to) = query::group_range(GROUP);
    let mut rows = Vec::new();
    view.tables.scan(&from, &to, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    let membership = view.tables.membership()?;
    Ok(Saved { rows, applied: view.applied, membership, count_min })
}

/// Until it is answered.
pub(super) async fn persist<T, F: Future<Output = Result<T, Error>>>(call: impl Fn() -> F) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}
