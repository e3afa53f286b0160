//! Those who change keys: with large values, so that the history is full soon; several at once; and
//! they delete some.

use super::super::clients::{self, ms, now, options, recover};
use super::super::net::AUDITOR;
use super::super::plan::Plan;
use super::books::{Became, Books};
use super::{KEYS, PREFIX, Stage};
use bytes::Bytes;
use quorate_client::{Client, Error, Routing};
use rand::RngExt;
use std::time::Duration;

/// The auditor's number.
const AUDITOR_NUMBER: u64 = 99;
/// Bytes of the large values: some hundred of them fill the history.
const LARGE: usize = 384 << 10;
/// Changes that are known until most values are small: by then the history is full.
const FILLING: u64 = 190;

type Party = clients::Party<Books>;

pub(super) async fn work(mut party: Party, until: Duration) -> turmoil::Result {
    let home = usize::try_from(party.number).unwrap_or_default();
    let client = options(party.host, &party.reach, home, Routing::Leader)
        .seed(party.rng.random())
        .request_timeout(ms(2_000))
        .attempt_timeout(ms(1_000))
        .connect()?;
    let large = Bytes::from(vec![b'.'; LARGE]);
    while now() < until {
        tokio::time::sleep(ms(party.rng.random_range(5..=60))).await;
        let full = party.books.large() >= FILLING;
        let is_large = !full || party.rng.random_ratio(1, 5);
        let value = if is_large { large.clone() } else { Bytes::from_static(b"small") };
        let outcome = match party.rng.random_range(0..10) {
            0 => delete(&mut party, &client).await,
            1 => set_two(&mut party, &client, value).await,
            _ => set(&mut party, &client, value).await,
        };
        party.books.course.called(&outcome);
        match outcome {
            Ok(()) if is_large => party.books.wrote_large(),
            Ok(()) => {}
            Err(error) => expected(&party, &error),
        }
    }
    party.books.course.is_done();
    Ok(())
}

fn key(party: &mut Party) -> String {
    format!("{PREFIX}{}", party.rng.random_range(0..KEYS))
}

async fn set(party: &mut Party, client: &Client, value: Bytes) -> Result<(), Error> {
    let key = key(party);
    let written = client.kv().set(&key, value).await?;
    party.books.told("a writer was", written.revision, &key, Became::Set(written.version));
    Ok(())
}

/// Both at one revision.
async fn set_two(party: &mut Party, client: &Client, value: Bytes) -> Result<(), Error> {
    let keys = [0, KEYS / 2].map(|from| {
        let number = from + party.rng.random_range(0..KEYS / 2);
        format!("{PREFIX}{number}")
    });
    let [one, other] = &keys;
    let done = client.txn().set(one, value).set(other, "small").commit().await?;
    for (key, at) in keys.iter().zip(0..) {
        if let Some(version) = done.version(at) {
            party.books.told("a writer was", done.revision, key, Became::Set(version));
        }
    }
    Ok(())
}

async fn delete(party: &mut Party, client: &Client) -> Result<(), Error> {
    let key = key(party);
    let done = client.kv().delete(&key).await?;
    if done.deleted {
        party.books.told("a writer was", done.revision, &key, Became::Deleted);
    }
    Ok(())
}

/// Some errors must not come at all.
pub(super) fn expected(party: &Party, error: &Error) {
    let troubled = matches!(
        error,
        Error::Unavailable { .. }
            | Error::Indeterminate { .. }
            | Error::ResourceExhausted { .. }
            | Error::SessionExpired { .. }
    );
    if !troubled {
        let number = party.number;
        party.books.journal.problem(now(), format_args!("client {number} was told: {error}"));
    }
}

/// Puts the client into the simulation that waits for all others.
pub(super) fn audit(stage: &mut Stage<'_>, plan: &Plan) {
    let books = &stage.story.books;
    let mut party: Party = clients::Party::new(stage, books, plan, AUDITOR, AUDITOR_NUMBER);
    let audit = async move {
        let client = clients::auditor(party.host, &party.reach, &mut party.rng)?;
        let began = recover(&client, &party.books.course, &party.books.journal).await;
        party.books.journal.write(
            now(),
            format_args!("all have ended, {:?} after the repair", now().saturating_sub(began)),
        );
        party.books.course.audited();
        Ok(())
    };
    stage.sim.client(AUDITOR, Box::pin(audit));
}
