//! Holds what the new cluster answers against what is known of the old one.

use super::super::clients::{auditor, ms, now};
use super::super::net::AUDITOR;
use super::super::plan::Plan;
use super::client::{Party, persist};
use super::{COUNT, LOCKS, QUEUE, Stage};
use quorate_client::{Client, Error};

/// The auditor's number.
const AUDITOR_NUMBER: u64 = 99;

pub(super) fn audit(stage: &mut Stage<'_>, plan: &Plan) {
    let mut party = Party::new(stage, &stage.story.books, plan, AUDITOR, AUDITOR_NUMBER);
    let audit = async move {
        let client = auditor(party.host, &party.reach, &mut party.rng)?;
        what_was_acknowledged(&party, &client).await;
        what_was_held(&party, &client).await;
        new_numbers(&party, &client).await;
        party.books.course.audited();
        Ok(())
    };
    stage.sim.client(AUDITOR, Box::pin(audit));
}

async fn what_was_acknowledged(party: &Party, client: &Client) {
    let found = persist(|| async { client.kv().get(COUNT).await }).await;
    let found = found.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
    let found = found.map_or(0, |text| text.parse().unwrap_or_default());
    let (least, most) = party.books.bounds();
    if !(least..=most).contains(&found) {
        party.books.journal.problem(
            now(),
            format_args!(
                "{found} are counted after the restore, of {least} at least and {most} at most"
            ),
        );
    }
    party.books.asked();
}

async fn what_was_held(party: &Party, client: &Client) {
    let Some(guard) = party.books.guard() else { return };
    loop {
        match client.kv().set("guarded", "late").guard(&guard).await {
            Err(Error::LockLost { .. }) => break,
            Ok(_) => {
                let what = "a write under a lock of the old cluster went through";
                party.books.journal.problem(now(), format_args!("{what}: {guard:?}"));
                break;
            }
            Err(_) => tokio::time::sleep(ms(50)).await,
        }
    }
    party.books.asked();
}

async fn new_numbers(party: &Party, client: &Client) {
    let numbers = party.books.numbers();
    let above = |what: &str, number: u64, before: u64| {
        party.books.asked();
        if number <= before {
            party.books.journal.problem(
                now(),
                format_args!(
                    "{what} {number} was given out after the restore, and {before} before it"
                ),
            );
        }
    };
    for name in LOCKS {
        let lock = persist(|| async { client.locks().acquire(name).await }).await;
        above("fencing token", lock.fencing_token(), numbers.token);
        above("revision", lock.revision(), numbers.revision);
        let _ = lock.release().await;
    }
    let pushed = persist(|| async { client.queue().push(QUEUE, "a job").await }).await;
    above("job", pushed.id, numbers.job);
}
