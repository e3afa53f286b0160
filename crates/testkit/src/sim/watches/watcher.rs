//! Those who watch: from now on, from where they ended, or from something that may be gone.

use super::super::clients::{self, AGAIN, ms, now, options};
use super::books::{Became, Books, Span};
use super::writer::expected;
use super::{CAUGHT_UP_WITHIN, PREFIX};
use quorate_client::kv::{Change, Changes, StartWatch, Watch};
use quorate_client::{Client, Error, Routing};
use rand::RngExt;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a watch is begun at the oldest revision, when that is gone again each time.
const OLDEST_TRIES: u32 = 20;

type Party = clients::Party<Books>;

pub(super) async fn work(mut party: Party, until: Duration) -> turmoil::Result {
    let home = usize::try_from(party.number).unwrap_or_default();
    let client = options(party.host, &party.reach, home, Routing::AnyNode)
        .seed(party.rng.random())
        .request_timeout(ms(2_000))
        .attempt_timeout(ms(1_000))
        .connect()?;
    // Where it goes on; nowhere before it has begun.
    let mut next = 0;
    while now() < until {
        let for_now = ms(party.rng.random_range(200..=3_000));
        let from = match party.rng.random_range(0..6) {
            0..=2 => next,
            3 => 1,
            4 => {
                let number = party.rng.random::<u32>();
                party.books.some_revision(number).unwrap_or(1)
            }
            _ => 0,
        };
        if let Some(through) = watch(&mut party, &client, from, now() + for_now, 0).await
            && (from == next || from == 0)
        {
            next = through + 1;
        }
    }
    catch_up(&mut party, &client, next).await;
    party.books.course.is_done();
    Ok(())
}

/// Begins a watch; at the oldest revision there is, when what was asked for is gone. Answers what it
/// begins with.
async fn begin(party: &Party, client: &Client, from: u64) -> Option<(Watch, u64)> {
    let mut from = from;
    let mut told = None;
    for _ in 0..OLDEST_TRIES {
        match started(client, from).start().await {
            Ok(watch) => {
                if told.is_some() {
                    party.books.began_at_oldest();
                }
                let first = watch.revision() + 1;
                return Some((watch, if from == 0 { first } else { from }));
            }
            Err(Error::Compacted { oldest, .. }) => {
                note_compacted(party, from, oldest);
                (from, told) = (oldest, Some(oldest));
            }
            Err(error) => {
                expected(party, &error);
                tokio::time::sleep(AGAIN).await;
                return None;
            }
        }
    }
    None
}

fn started(client: &Client, from: u64) -> StartWatch {
    let watch = client.kv().watch_prefix(PREFIX).keys_only().progress();
    watch.from_revision(from).resume_timeout(ms(30_000))
}

fn note_compacted(party: &Party, from: u64, oldest: u64) {
    let number = party.number;
    party.books.compacted();
    party.books.journal.write(
        now(),
        format_args!("client {number} watches from {from}: compacted, the oldest is {oldest}"),
    );
    if oldest <= from {
        party.books.journal.problem(
            now(),
            format_args!("{from} was called compacted, and {oldest} the oldest revision"),
        );
    }
}

/// Watches until then, or until it has come up to `at_least` if that is later. Answers how far it came.
async fn watch(
    party: &mut Party,
    client: &Client,
    from: u64,
    until: Duration,
    at_least: u64,
) -> Option<u64> {
    let (mut watch, from) = begin(party, client, from).await?;
    let (client, through) = (party.number, watch.revision());
    let mut span = Span { client, from, through, changes: BTreeMap::new() };
    while now() < until && (at_least == 0 || span.through < at_least) {
        let left = until.saturating_sub(now());
        match tokio::time::timeout(left, watch.next()).await {
            Ok(Some(Ok(changes))) => take(party, &mut span, changes),
            Ok(Some(Err(Error::Compacted { oldest, .. }))) => {
                note_compacted(party, span.through + 1, oldest);
                break;
            }
            Ok(Some(Err(error))) => {
                expected(party, &error);
                break;
            }
            Ok(None) | Err(_) => break,
        }
    }
    let (through, count) = (span.through, span.changes.len());
    party.books.journal.write(
        now(),
        format_args!("client {client} has watched {from} to {through}: {count} changes"),
    );
    party.books.watched(span);
    Some(through)
}

fn take(party: &Party, span: &mut Span, changes: Changes) {
    let by = format!("a watch of client {}", span.client);
    let before = span.through;
    for event in changes.events {
        let key = String::from_utf8_lossy(&event.key).into_owned();
        let became = match event.change {
            Change::Set { version, .. } => Became::Set(version),
            _ => Became::Deleted,
        };
        party.books.told(&by, event.revision, &key, became);
        let place = (event.revision, key);
        let in_order = event.revision > before
            && span.changes.last_key_value().is_none_or(|(last, _)| last.0 <= event.revision);
        let twice = span.changes.insert(place.clone(), became).is_some();
        if !in_order || twice {
            party.books.journal.problem(
                now(),
                format_args!("{by} was told of {place:?} out of order or twice, at {before}"),
            );
        }
    }
    span.through = span.through.max(changes.revision);
}

/// In the end a watch has to come up to what was written.
async fn catch_up(party: &mut Party, client: &Client, next: u64) {
    // The last writers are still at it.
    tokio::time::sleep(ms(2_500)).await;
    let last = party.books.newest();
    let began = now();
    let deadline = began + CAUGHT_UP_WITHIN;
    let mut from = next;
    while now() < deadline {
        match watch(party, client, from, deadline, last).await {
            Some(through) if through >= last => return,
            Some(through) => from = through + 1,
            None => {}
        }
    }
    party.books.journal.problem(
        now(),
        format_args!(
            "client {} watches since {began:.3?}, and has not come up to revision {last}",
            party.number
        ),
    );
}
