//! Workers who come and go, and are not always good ones.

use super::super::clients::{ms, now};
use super::QUEUES;
use super::party::{self, Party};
use super::record::{Kind, Word};
use quorate_client::queue::Consumer;
use quorate_client::{Client, Job};
use rand::RngExt;
use std::time::Duration;

/// The longest wait of a pull.
const WAIT_MAX_MS: u64 = 2_000;

/// One consumer after the other, each of some queue and through some node.
pub(super) async fn consume(mut party: Party, until: Duration) -> turmoil::Result {
    party.set_up().await;
    while now() < until {
        let client = party.any_client()?;
        let kind = QUEUES[party.rng.random_range(0..QUEUES.len())];
        let window = party.rng.random_range(1..=3);
        let asked = now();
        let consumer = match client.queue().consume(kind.name, window).start().await {
            Ok(consumer) => consumer,
            Err(error) => {
                party.refused("consume", asked, &error);
                tokio::time::sleep(ms(100)).await;
                continue;
            }
        };
        let stay = until.min(now() + ms(party.rng.random_range(300..=5_000)));
        consume_until(&mut party, &client, kind, consumer, stay).await;
    }
    party.books.course.is_done();
    Ok(())
}

async fn consume_until(
    party: &mut Party,
    client: &Client,
    kind: Kind,
    mut consumer: Consumer,
    stay: Duration,
) {
    loop {
        let left = stay.saturating_sub(now());
        match tokio::time::timeout(left, consumer.next()).await {
            Err(_) => break,
            Ok(Some(Ok(job))) => {
                party.told(kind, &job, None);
                treat(party, client, kind, job).await;
            }
            Ok(ended) => {
                let ended = ended.map(|ended| ended.map(drop));
                return party
                    .problem(format_args!("its consumer of {} ended: {ended:?}", kind.name));
            }
        }
    }
    match party.rng.random_range(0..3) {
        0 => consumer.close().await,
        1 => drop(consumer),
        _ => {
            // It hangs, and what it is sent waits.
            tokio::time::sleep(ms(party.rng.random_range(500..=2_500))).await;
            drop(consumer);
        }
    }
}

/// Pulls from one queue or another.
pub(super) async fn pull(mut party: Party, until: Duration) -> turmoil::Result {
    party.set_up().await;
    let mut client = party.any_client()?;
    while now() < until {
        tokio::time::sleep(ms(party.rng.random_range(5..=300))).await;
        let kind = QUEUES[party.rng.random_range(0..QUEUES.len())];
        let wait = ms(party.rng.random_range(0..=WAIT_MAX_MS));
        let wait = if party.rng.random_ratio(1, 3) { Duration::ZERO } else { wait };
        let asked = now();
        let pull = client.queue().pull(kind.name).count(party.rng.random_range(1..=3)).wait(wait);
        if party.rng.random_ratio(1, 8) {
            // It loses interest, and drops what it was given.
            let patience = ms(party.rng.random_range(1..=1_000));
            if let Ok(Ok(jobs)) = tokio::time::timeout(patience, pull).await {
                for job in jobs {
                    party.told(kind, &job, Some(asked));
                    drop_it(&party, kind, job);
                }
            }
            continue;
        }
        match pull.await {
            Ok(jobs) => {
                // All of them were given at once.
                for job in &jobs {
                    party.told(kind, job, Some(asked));
                }
                for job in jobs {
                    treat(&mut party, &client, kind, job).await;
                }
            }
            Err(error) => party.refused("pull", asked, &error),
        }
        if party.rng.random_ratio(1, 10) {
            client = party.any_client()?;
        }
    }
    party.books.course.is_done();
    Ok(())
}

/// Does something with a job, or nothing.
async fn treat(party: &mut Party, client: &Client, kind: Kind, job: Job) {
    let of = (kind, job.id(), job.lease());
    tokio::time::sleep(ms(party.rng.random_range(0..=150))).await;
    let asked = now();
    match party.rng.random_range(0..20) {
        0..=9 => ack(party, of, job).await,
        10 => {
            let said = job.nack("failed").await;
            party.said(of, Word::Nack, asked, said, |nacked| nacked.delay);
        }
        11..=12 => {
            let wait = ms(party.rng.random_range(50..=1_500));
            let said = job.nack_after(wait, "failed").await;
            party.said(of, Word::Nack, asked, said, |nacked| nacked.delay);
        }
        13..=14 => {
            let said = job.hand_back().await;
            party.said(of, Word::HandBack, asked, said, |_| Duration::ZERO);
        }
        15 => {
            let said = job.kill("hopeless").await;
            party.said(of, Word::Kill, asked, said, |_| Duration::ZERO);
        }
        16..=17 => {
            // For longer than it was given at first.
            for _ in 0..party.rng.random_range(1..=3) {
                let most = job.remaining().mul_f64(party.rng.random_range(0.3..=0.9));
                tokio::time::sleep(most).await;
                let length = ms(party.rng.random_range(1_000..=2_000));
                let asked = now();
                let said = job.extend(length).await;
                party.said(of, Word::Extend(length), asked, said, |left| left);
            }
            ack(party, of, job).await;
        }
        18 => {
            // It comes with it when somebody else may have it, or just in time.
            let lease = job.leave();
            let Party { books, number, .. } = &*party;
            books
                .journal
                .write(now(), format_args!("client {number} left job {} under {lease}", of.1));
            tokio::time::sleep(kind.visibility.mul_f64(party.rng.random_range(0.5..=1.6))).await;
            if party.rng.random_ratio(1, 2) {
                let asked = now();
                let said = client.queue().ack(kind.name, of.1, lease).await;
                party.said(of, Word::Ack, asked, said, |()| Duration::ZERO);
            }
        }
        _ => drop_it(party, kind, job),
    }
}

async fn ack(party: &Party, of: (Kind, u64, u64), job: Job) {
    let asked = now();
    let said = job.ack().await;
    party.said(of, Word::Ack, asked, said, |()| Duration::ZERO);
}

/// Whether this was told to anybody is not known.
fn drop_it(party: &Party, kind: Kind, job: Job) {
    party::unheard(&party.books, party.number, (kind, job.id(), job.lease()), Word::Nack);
    drop(job);
}
