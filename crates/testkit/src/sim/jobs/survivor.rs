//! Workers who live through the whole run: two for each queue, one on each host, none of whom is
//! ever begun anew.

use super::super::clients::{ms, now};
use super::books::Books;
use super::party::{self, Party};
use super::record::{Kind, Word};
use quorate_client::Job;
use quorate_client::queue::JobError;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;

/// Jobs that a consumer may have.
pub(super) const WINDOW: u32 = 3;
/// Jobs that a worker does at a time.
pub(super) const PARALLEL: u32 = 2;
/// Jobs that wait in it.
pub(super) const PREFETCH: u32 = 1;
/// How long a worker may take to stop.
const GRACE: Duration = ms(500);
/// Between two looks at whether all is over.
const GLANCE: Duration = ms(50);

/// Consumes a queue, mostly well, until all is over.
pub(super) async fn consume(mut party: Party, kind: Kind) -> turmoil::Result {
    party.set_up().await;
    let client = party.any_node_client()?;
    let mut consumer = loop {
        let asked = now();
        match client.queue().consume(kind.name, WINDOW).start().await {
            Ok(consumer) => break consumer,
            Err(error) => party.refused("consume", asked, &error),
        }
        tokio::time::sleep(GLANCE).await;
    };
    party.books.lives(party.number, kind.name);
    while !party.books.course.is_closed() {
        match tokio::time::timeout(GLANCE, consumer.next()).await {
            Err(_) => {}
            Ok(Some(Ok(job))) => do_it(&mut party, kind, job).await,
            Ok(ended) => {
                let ended = ended.map(|ended| ended.map(drop));
                party.problem(format_args!("its consumer of {} ended: {ended:?}", kind.name));
                break;
            }
        }
    }
    consumer.close().await;
    party.books.has_lived();
    Ok(())
}

async fn do_it(party: &mut Party, kind: Kind, job: Job) {
    party.told(kind, &job, None);
    let of = (kind, job.id(), job.lease());
    tokio::time::sleep(ms(party.rng.random_range(0..=60))).await;
    let asked = now();
    match party.rng.random_range(0..10) {
        0 if !party.books.is_draining() => {
            let said = job.nack("failed").await;
            party.said(of, Word::Nack, asked, said, |nacked| nacked.delay);
        }
        1 if !party.books.is_draining() => {
            let said = job.hand_back().await;
            party.said(of, Word::HandBack, asked, said, |_| Duration::ZERO);
        }
        _ => {
            let said = job.ack().await;
            party.said(of, Word::Ack, asked, said, |()| Duration::ZERO);
        }
    }
}

/// Has a function do the jobs of a queue until all is over. What becomes of its word is between it
/// and the client.
pub(super) async fn work(mut party: Party, kind: Kind) -> turmoil::Result {
    party.set_up().await;
    let client = party.any_node_client()?;
    let worker = loop {
        let asked = now();
        let (books, number) = (Arc::clone(&party.books), party.number);
        let handler = move |job| handle(Arc::clone(&books), number, kind, job);
        let worker = client.queue().worker(kind.name, handler);
        match worker.max_parallel(PARALLEL).prefetch(PREFETCH).grace(GRACE).start().await {
            Ok(worker) => break worker,
            Err(error) => party.refused("consume", asked, &error),
        }
        tokio::time::sleep(GLANCE).await;
    };
    party.books.lives(party.number, kind.name);
    while !party.books.course.is_closed() && !worker.is_finished() {
        tokio::time::sleep(GLANCE).await;
    }
    if worker.is_finished() {
        let ended = worker.join().await;
        party.problem(format_args!("its worker of {} ended: {ended:?}", kind.name));
    } else {
        worker.stop();
        if let Err(error) = worker.join().await {
            party.problem(format_args!("its worker of {} failed in the end: {error}", kind.name));
        }
    }
    party.books.has_lived();
    Ok(())
}

/// Leases are as good as random here.
async fn handle(books: Arc<Books>, client: u64, kind: Kind, job: Arc<Job>) -> Result<(), JobError> {
    party::told(&books, client, kind, &job, None);
    let lease = job.lease();
    tokio::time::sleep(ms(lease * 7 % 60)).await;
    let word = match lease % 10 {
        0 if !books.is_draining() => Word::Nack,
        1 if !books.is_draining() => Word::HandBack,
        _ => Word::Ack,
    };
    party::unheard(&books, client, (kind, job.id(), lease), word);
    match word {
        Word::Nack => Err(JobError::new("failed")),
        Word::HandBack => Err(JobError::new("").hand_back()),
        _ => Ok(()),
    }
}
