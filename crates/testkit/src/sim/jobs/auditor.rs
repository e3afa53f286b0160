//! Who sets the queues up before the run, and looks at what is left after it.

use super::super::clients::{AGAIN, ms, now, recover};
use super::super::net::{AUDITOR, Host};
use super::super::plan::Plan;
use super::party::{Party, party};
use super::record::{Called, Kind, Outcome, Push, Pushed, Wants};
use super::{DELIVERED_WITHIN, DRAINED_WITHIN, NOTICED_WITHIN, QUEUES, Stage};
use quorate_client::queue::Backoff;
use quorate_client::{Client, Error, NewJob};
use rand::RngExt;

/// Where the queues are set up from; no fault cuts it off.
const HOST: Host = "set-up";
/// Their numbers.
const SET_UP_NUMBER: u64 = 98;
const AUDITOR_NUMBER: u64 = 99;
/// How often those who survive are given jobs in the end, and how many for each queue.
const ROUNDS: u32 = 4;
const JOBS_PER_ROUND: usize = 4;

/// Puts the client into the simulation that makes the queues.
pub(super) fn set_up(stage: &mut Stage<'_>, plan: &Plan) {
    let mut party = party(stage, plan, HOST, SET_UP_NUMBER);
    stage.sim.client(HOST, async move {
        let client = party.auditor()?;
        for kind in QUEUES {
            while let Err(error) = make(&client, kind).await {
                party.refused("update", now(), &error);
                tokio::time::sleep(AGAIN).await;
            }
        }
        party.books.set_up();
        Ok(())
    });
}

async fn make(client: &Client, kind: Kind) -> Result<(), Error> {
    let update = client.queue().update(kind.name).visibility(kind.visibility);
    let update = update.attempts_max(kind.attempts_max).dedupe_window(kind.dedupe_window);
    update.backoff(Backoff::fixed(kind.backoff)).await.map(drop)
}

/// Puts the client into the simulation that looks at what is left.
pub(super) fn audit(stage: &mut Stage<'_>, plan: &Plan) {
    let mut party = party(stage, plan, AUDITOR, AUDITOR_NUMBER);
    let audit = async move {
        let client = party.auditor()?;
        let began = recover(&client, &party.books.course, &party.books.journal).await;
        party.books.drain();
        drained(&party, &client).await?;
        // Until then consumers may be there of whom nobody is left to tell.
        tokio::time::sleep((began + NOTICED_WITHIN).saturating_sub(now())).await;
        for round in 0..ROUNDS {
            for kind in QUEUES {
                call(&party, &client, kind, round).await?;
            }
            tokio::time::sleep(ms(party.rng.random_range(200..=900))).await;
        }
        let last = now() + DELIVERED_WITHIN;
        while now() < last && !party.books.all_called_came() {
            tokio::time::sleep(AGAIN).await;
        }
        drained(&party, &client).await?;
        party.books.course.close();
        while party.books.surviving() > 0 {
            tokio::time::sleep(AGAIN).await;
        }
        party.books.course.audited();
        Ok(())
    };
    stage.sim.client(AUDITOR, Box::pin(audit));
}

/// Waits until all queues are empty.
async fn drained(party: &Party, client: &Client) -> turmoil::Result {
    let began = now();
    for kind in QUEUES {
        loop {
            let info = client.queue().stats(kind.name).await?;
            if info.ready + info.delayed + info.leased == 0 {
                break;
            }
            if now() > began + DRAINED_WITHIN {
                party.problem(format_args!(
                    "{} is not empty, though all were to do what is left since {began:.3?}: \
                     {info:?}",
                    kind.name
                ));
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(())
}

/// Pushes jobs for those who survive.
async fn call(party: &Party, client: &Client, kind: Kind, round: u32) -> turmoil::Result {
    let asked = now();
    let names: Vec<_> =
        (0..JOBS_PER_ROUND).map(|nth| format!("called.{}.{round}.{nth}", kind.name)).collect();
    let jobs = names.iter().map(|name| NewJob::new(name.clone()));
    let pushed = client.queue().push_many(kind.name, jobs).await?;
    let ended = now();
    for (name, pushed) in names.into_iter().zip(pushed) {
        let (id, duplicate, revision) = (pushed.id, pushed.duplicate, pushed.revision);
        let outcome = Outcome::Ok(Pushed { id, duplicate, revision });
        let called = Called { queue: kind.name, name: name.clone(), pushed: ended };
        party.books.called(called);
        let (queue, wants) = (kind.name, Wants::default());
        party.books.pushed(AUDITOR_NUMBER, Push { name, queue, wants, asked, ended, outcome });
    }
    Ok(())
}
