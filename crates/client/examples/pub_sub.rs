//! Publishes and subscribes, asks and answers.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example pub_sub`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{BusEvent, Client, Content, Error};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let bus = client.bus_in("example/pub_sub");

    // Active from here on: what is published now waits until it is asked for.
    let mut users = bus.subscribe(["user.*"]).await?;
    for name in ["ann", "bob", "carol"] {
        let published = bus.publish("user.created", name).header("source", "example").await?;
        let (number, subscribers) = (published.sequence, published.subscribers);
        println!("{name} is message {number} of its channel, for {subscribers} subscribers");
    }
    for _ in 0..3 {
        match users.next().await.ok_or("the subscription has ended")?? {
            BusEvent::Message(message) => {
                let name = String::from_utf8_lossy(&message.payload);
                println!("{} {}: {name}", message.channel, message.sequence);
            }
            // Messages are not stored: whoever misses some is told so, and reads what they are about.
            BusEvent::Gap { missed, .. } => println!("missed {missed:?} messages"),
            _ => {}
        }
    }

    // Of all responders of a group, one gets each request.
    let responder = bus
        .respond("sum", "adders", |message| async move {
            let numbers: Vec<i64> = message.json()?;
            Ok(Content::of_json(&numbers.iter().sum::<i64>())?)
        })
        .start()
        .await?;
    let sum = bus.request_json("sum", &[1, 2, 39])?.timeout(Duration::from_secs(2)).await?;
    println!("the sum is {}", sum.json::<i64>()?);
    responder.stop();
    responder.join().await?;
    match bus.request("sum", "[1]").await {
        Err(Error::NoSubscribers { .. }) => println!("now nobody adds, and that is said at once"),
        other => println!("somebody else adds: {other:?}"),
    }
    client.close().await?;
    Ok(())
}
