//! The five services of a framework, over a cluster or over Redis: only the first function knows which.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example five_handles`
//!
//! `REDIS_URL=redis://127.0.0.1:6379 cargo run --release -p quorate-client --features redis --example
//! five_handles`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use futures::StreamExt as _;
use quorate_client::broker::{
    Broker, Bus, BusEvent, Cache, KeyValue, Lock, NewJob, Promise, Queue, QueueSettings,
};
use quorate_client::{Client, Error};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

const NAMESPACE: &str = "example/five_handles";

fn connect() -> Result<Arc<dyn Broker>, Error> {
    if let Ok(url) = std::env::var("REDIS_URL") {
        return redis(&url);
    }
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder()
        .endpoints(endpoints.split(',').map(str::trim))
        .namespace(NAMESPACE)
        .connect()?;
    Ok(Arc::new(client))
}

#[cfg(feature = "redis")]
fn redis(url: &str) -> Result<Arc<dyn Broker>, Error> {
    Ok(Arc::new(quorate_client::broker::RedisBroker::connect(url, NAMESPACE)?))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &str) -> Result<Arc<dyn Broker>, Error> {
    Err(Error::unsupported("redis", "anything, unless this is built with --features redis"))
}

#[derive(Debug, Serialize, Deserialize)]
struct User {
    id: u32,
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = connect()?;
    println!("over {}", broker.name());
    // What a program can't do without it asks for at its start.
    match broker.keeps(Promise::DurableWrites) {
        Ok(()) => println!("what is acknowledged here is kept"),
        Err(error) => println!("beware: {error}"),
    }

    let ann = User { id: 7, name: "ann".to_owned() };
    let bus = Bus::new(Arc::clone(&broker));
    let mut users = bus.subscribe(["user.*"]).await?;
    bus.publish("user.created", &ann).await?;
    match users.next().await.ok_or("the subscription has ended")?? {
        BusEvent::Message(message) => {
            println!("bus: {} {:?}", message.channel, message.json::<User>()?);
        }
        BusEvent::Gap { missed } => println!("bus: missed {missed:?} messages"),
    }

    let cache = Cache::new(Arc::clone(&broker));
    let hour = Duration::from_secs(3_600);
    let user: User = match cache.get("user:7").await? {
        Some(user) => user,
        None => {
            cache.set("user:7", &ann, hour).await?;
            cache.get("user:7").await?.ok_or("it was evicted")?
        }
    };
    println!("cache: {user:?}; {} invalidated", cache.delete_pattern("user:*").await?);

    let queue = Queue::new(Arc::clone(&broker));
    let settings = QueueSettings { attempts_max: Some(3), ..QueueSettings::default() };
    queue.update("email.send", settings).await?;
    queue.add("email.send", &ann).await?;
    queue.push("email.send", NewJob::json(&ann)?.priority(9)).await?;
    let mut jobs = queue.subscribe("email.send", 4).await?;
    for _ in 0..2 {
        let job = jobs.next().await.ok_or("the consumer has ended")??;
        println!("queue: attempt {} for {:?}", job.attempt(), job.json::<User>()?);
        job.ack().await?;
    }

    let kv = KeyValue::new(Arc::clone(&broker));
    kv.set("config:colour", "green").await?;
    println!("kv: {:?}", kv.list::<String>("config:*").await?);
    println!("kv: run {}", kv.increment("runs", 1).await?);

    let locks = Lock::new(Arc::clone(&broker));
    let held = locks.acquire("report", Duration::from_secs(10)).await?;
    match held.fencing_token() {
        Ok(token) => println!("lock: held under token {token}"),
        Err(Error::Unsupported { message, .. }) => println!("lock: held; {message}"),
        Err(error) => return Err(error.into()),
    }
    tokio::select! {
        () = held.lost() => return Err("the lock was lost".into()),
        () = std::future::ready(()) => println!("lock: what only one does at a time"),
    }
    println!("lock: was still held: {}", held.release().await?);
    drop((users, jobs));
    broker.close().await?;
    Ok(())
}
