//! A job runner with a web form: texts are handed in, and workers count their words.
//!
//! Start it as often as you like; all of them share the work. A job is done when its result is stored:
//! both happen in one transaction, so however often a job is begun, it has one result. Kill a node of the
//! cluster, or one of these, while there is work: nothing is lost, and nothing is counted twice.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example job_runner -- 127.0.0.1:8080`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::TryStreamExt as _;
use quorate_client::queue::JobState;
use quorate_client::{Client, Error, Job};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::task::JoinSet;

const QUEUE: &str = "example/texts";
const RESULTS: &str = "example/words/";
/// Texts that one process counts at a time.
const PARALLEL: u32 = 4;
/// How long jobs of a process that is gone wait for it.
const SESSION_TTL: Duration = Duration::from_secs(5);
/// What counting one word takes: work is slow.
const PER_WORD: Duration = Duration::from_millis(20);
/// Jobs and results that are shown.
const SHOWN_MAX: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim));
    // An election fits in, with much to spare; and jobs of a process that is killed go to others soon.
    let client =
        client.request_timeout(Duration::from_secs(20)).session_ttl(SESSION_TTL).connect()?;
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let working = tokio::spawn(work(client.clone()));

    let pages = Router::new()
        .route("/", get(|| async { Html(include_str!("page.html")) }))
        .route("/jobs", post(hand_in).get(show))
        .with_state(client.clone());
    println!("listening on http://{}", listener.local_addr()?);
    let serving = axum::serve(listener, pages).with_graceful_shutdown(async {
        // It fails where there are no signals; then the program ends.
        drop(tokio::signal::ctrl_c().await);
    });
    tokio::select! {
        served = serving => served?,
        worked = working => worked??,
    }
    // What was not finished goes to others at once.
    client.close().await?;
    Ok(())
}

#[derive(Deserialize)]
struct Text {
    text: String,
}

/// `POST /jobs`: pushes a job, and shows the page again once a majority of the nodes has it.
async fn hand_in(State(client): State<Client>, Form(form): Form<Text>) -> Response {
    match client.queue().push(QUEUE, form.text).await {
        Ok(_) => Redirect::to("/").into_response(),
        Err(error) => failed(&error),
    }
}

/// `GET /jobs`: what is to be done, and what came of it.
async fn show(State(client): State<Client>) -> Response {
    match look(&client).await {
        Ok(seen) => Json(seen).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> Response {
    let status = match error {
        Error::InvalidArgument { .. } => StatusCode::BAD_REQUEST,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.to_string()).into_response()
}

async fn look(client: &Client) -> Result<Value, Error> {
    let mut waiting = Vec::new();
    let mut jobs = std::pin::pin!(client.queue().list_jobs(QUEUE).stream());
    loop {
        let job = match jobs.try_next().await {
            Ok(job) => job,
            // Nobody has handed in anything yet.
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let Some(job) = job else { break };
        let done = job.progress.map_or(0.0, |progress| progress.fraction);
        let is_worked_on = job.state == JobState::Leased;
        waiting.push(json!({ "id": job.id, "working": is_worked_on, "done": done, "attempts": job.attempts }));
        if waiting.len() == SHOWN_MAX {
            break;
        }
    }
    let results = client.kv().list_prefix(RESULTS).await?;
    let done = results.entries.iter().take(SHOWN_MAX).map(|entry| {
        let id = String::from_utf8_lossy(&entry.key[RESULTS.len()..]).into_owned();
        let words = String::from_utf8_lossy(&entry.value).into_owned();
        json!({ "id": id, "words": words })
    });
    let done = done.collect::<Vec<_>>();
    Ok(json!({ "waiting": waiting, "done": done, "count": results.count }))
}

/// Takes jobs for as long as the program runs. Nodes may come and go meanwhile.
async fn work(client: Client) -> Result<(), Error> {
    let mut jobs = client.queue().consume(QUEUE, PARALLEL).start().await?;
    // At most a window of them: others are not delivered before one is done.
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = running.join_next() => {
                if let Err(panic) = ended {
                    eprintln!("a job ended before its time, and comes again: {panic}");
                }
            }
            job = jobs.next() => {
                let Some(job) = job.transpose()? else { return Ok(()) };
                running.spawn(finish(client.clone(), job));
            }
        }
    }
}

/// Counts the words of one text, and stores the result.
async fn finish(client: Client, job: Job) {
    let counted = tokio::select! {
        counted = count(&job) => counted,
        // Its lease is lost although it was renewed: somebody else does it.
        () = job.keep() => return,
    };
    let stored = match counted {
        // Done, and the result: both or neither. Whoever comes too late has neither.
        Ok(words) => {
            let key = format!("{RESULTS}{}", job.id());
            client.txn().ack(&job).set(key, words.to_string()).commit().await.map(drop)
        }
        // The queue says when it is tried again, and how often.
        Err(error) => {
            if let Err(error) = job.nack(error).await {
                eprintln!("a job failed, and the queue could not be told: {error}");
            }
            return;
        }
    };
    match stored {
        Ok(()) => println!("job {} is done, at attempt {}", job.id(), job.attempt()),
        // Its lease ends, and it comes again. If it was done after all, it does not.
        Err(error) => eprintln!("the result of job {} was not stored: {error}", job.id()),
    }
    // What became of it was said by the transaction.
    let _lease = job.leave();
}

async fn count(job: &Job) -> Result<usize, String> {
    let text = std::str::from_utf8(job.payload()).map_err(|error| error.to_string())?;
    let words: Vec<_> = text.split_whitespace().collect();
    for (counted, _) in words.iter().enumerate() {
        tokio::time::sleep(PER_WORD).await;
        let fraction = (counted + 1) as f64 / words.len() as f64;
        // For those who look at the page; it does not matter when one is missing.
        drop(job.progress(fraction, "counting").await);
    }
    Ok(words.len())
}
