//! A master and its workers, each a process of its own: the master publishes work, one of the workers
//! takes each task, and says when it is done.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example work_coordination`
//!
//! Start it, and kill nodes while it runs. The bus does not store anything, so a task that is on its
//! way just then is lost: the master sees which, and says so. Tasks that must not be lost belong into a
//! queue; see `task_queue.rs`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{Bus, BusEvent, Client, Message, Subscription};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::Instant;

const WORKERS: usize = 3;
const TASKS: usize = 12;
/// The workers share a group, so that one of them gets each task.
const GROUP: &str = "workers";
/// How long the master waits in all.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a worker waits for the master to say that all is done.
const MASTER_LOST: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Task {
    task_id: String,
    data: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completed {
    task_id: String,
    worker_id: String,
    result: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => {
            // Two runs at once do not meet.
            let namespace = format!("example-work-{}", std::process::id());
            master(&client.bus_in(&namespace), &namespace).await
        }
        (Some("worker"), Some(namespace), Some(id)) => worker(&client.bus_in(namespace), &id).await,
        _ => Err("it takes no arguments; it starts its workers itself".into()),
    }
}

async fn master(bus: &Bus, namespace: &str) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    // Before anybody is there to say something.
    let mut heard = bus.subscribe(["work.ready", "work.completed"]).await?;
    let workers = (1..=WORKERS).map(|id| start_worker(namespace, id));
    let mut workers = workers.collect::<Result<Vec<_>, _>>()?;
    for _ in 0..WORKERS {
        let ready = next(&mut heard, deadline).await?.ok_or("not all workers came in time")?;
        println!("worker {} is ready", String::from_utf8_lossy(&ready.payload));
    }

    let mut open = BTreeSet::new();
    for number in 1..=TASKS {
        let task = Task { task_id: format!("task-{number}"), data: number as u64 };
        let published = bus.publish_json("work.available", &task)?.await?;
        println!("{} is message {}", task.task_id, published.sequence);
        open.insert(task.task_id);
    }
    while !open.is_empty() {
        let Some(message) = next(&mut heard, deadline).await? else { break };
        let Completed { task_id, worker_id, result } = message.json()?;
        println!("{task_id} was done by worker {worker_id}: {result}");
        open.remove(&task_id);
    }
    bus.publish("work.stop", "").await?;
    for worker in &mut workers {
        worker.wait().await?;
    }
    match open.is_empty() {
        true => println!("all {TASKS} tasks are done"),
        false => println!("lost, to be published again: {open:?}"),
    }
    Ok(())
}

fn start_worker(namespace: &str, id: usize) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["worker", namespace, &id.to_string()])
        .kill_on_drop(true)
        .spawn()
}

async fn worker(bus: &Bus, id: &str) -> Result<(), Failure> {
    let mut tasks = bus.subscribe(["work.available"]).queue_group(GROUP).await?;
    // Without a group: each worker is told.
    let mut stop = bus.subscribe(["work.stop"]).await?;
    bus.publish("work.ready", id.to_owned()).await?;
    let deadline = Instant::now() + MASTER_LOST;
    loop {
        let message = tokio::select! {
            message = next(&mut tasks, deadline) => message?,
            _ = next(&mut stop, deadline) => return Ok(()),
        };
        let Some(message) = message else { return Err("the master is gone".into()) };
        let Task { task_id, data } = message.json()?;
        // The work itself.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let completed = Completed { task_id, worker_id: id.to_owned(), result: data * data };
        bus.publish_json("work.completed", &completed)?.await?;
    }
}

/// The next message; none when the time is over.
async fn next(
    subscription: &mut Subscription,
    deadline: Instant,
) -> Result<Option<Message>, Failure> {
    loop {
        let Ok(event) = tokio::time::timeout_at(deadline, subscription.next()).await else {
            return Ok(None);
        };
        match event.ok_or("the subscription has ended")?? {
            BusEvent::Message(message) => return Ok(Some(message)),
            BusEvent::Gap { missed, .. } => println!("{missed:?} messages are missing"),
            _ => {}
        }
    }
}
