//! Whoever asks one node alone, again and again: whether it renews and reads although it can't know
//! that nobody has taken its place.

use super::super::clients::{ms, now, options};
use super::super::cluster::Machine;
use super::super::net::{Host, Reach};
use super::super::plan::Plan;
use super::Stage;
use super::books::Books;
use quorate_client::{Lock, Routing};
use quorate_consensus::Role;
use std::sync::Arc;
use std::time::Duration;

/// Where they run; no fault cuts it off.
const HOST: Host = "probes";
/// The lock that all of them renew.
pub(super) const SHARED: &str = "shared";
/// Longer than any fault lasts.
const TTL: Duration = Duration::from_secs(30);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// Puts them into the simulation.
pub(super) fn start(stage: &mut Stage<'_>, plan: &Plan) {
    let (reach, books, seed) =
        (stage.cluster.reach.clone(), Arc::clone(&stage.story.books), plan.seeds.workload);
    let machines = stage.cluster.machines.clone();
    stage.story.books.course.begins();
    stage.sim.client(HOST, async move {
        let probes = machines.into_iter().enumerate().map(|(node, machine)| {
            Box::pin(probe((node, machine), reach.clone(), Arc::clone(&books), seed))
        });
        let probes = futures::future::join_all(probes);
        let (probed, kept) = futures::join!(probes, keep(&reach, &books, seed));
        probed.into_iter().chain([kept]).collect::<turmoil::Result>()?;
        books.course.is_done();
        Ok(())
    });
}

/// Asks one node alone until the others have ended.
async fn probe(
    (node, machine): (usize, Arc<Machine>),
    reach: Reach,
    books: Arc<Books>,
    seed: u64,
) -> turmoil::Result {
    let client = options(HOST, &reach, node, Routing::Endpoints)
        .seed(seed.wrapping_sub(1 + node as u64))
        .request_timeout(PATIENCE)
        .attempt_timeout(PATIENCE)
        .connect()?;
    while books.course.working() > 1 {
        tokio::time::sleep(ms(30)).await;
        let Some((name, token)) = books.shared() else { continue };
        let status = machine.replica().map(|(_, replica)| replica.status());
        let leads = status.filter(|status| status.role == Role::Leader).map(|status| status.term);
        books.asked(machine.host, leads);
        let asked = now();
        if client.locks().renew(&name, token).await.is_ok() {
            books.answered(machine.host, "renewal", asked, now());
        }
        let asked = now();
        if client.kv().get("probed").await.is_ok() {
            books.answered(machine.host, "read", asked, now());
        }
    }
    Ok(())
}

/// Holds the lock that the others renew.
async fn keep(reach: &Reach, books: &Books, seed: u64) -> turmoil::Result {
    let client =
        options(HOST, reach, 0, Routing::default()).seed(seed).session_ttl(TTL).connect()?;
    let mut lock: Option<Lock> = None;
    while books.course.working() > 1 {
        tokio::time::sleep(ms(30)).await;
        if lock.as_ref().is_some_and(|lock| !lock.is_lost()) {
            continue;
        }
        books.share(None);
        if let Ok(acquired) = client.locks().acquire(SHARED).ttl(TTL).await {
            books.share(Some((SHARED.to_owned(), acquired.fencing_token())));
            lock = Some(acquired);
        }
    }
    books.share(None);
    if let Some(lock) = lock {
        lock.release().await?;
    }
    Ok(())
}
