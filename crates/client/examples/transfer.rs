//! Moves money from one account to another with compare-and-set, so that neither is overdrawn nor
//! money lost, whoever else moves some at the same time.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example transfer`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::{Client, Entry, Error};

/// How often somebody else may be faster.
const ATTEMPTS_MAX: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;

    // Both accounts, or neither; an earlier run may have opened them.
    let opened = client
        .txn()
        .when_absent("account/ann")
        .set("account/ann", "100")
        .set("account/bob", "0")
        .commit()
        .await?;
    println!("{}", if opened.succeeded() { "opened two accounts" } else { "they are open" });

    // Ten at once: those that are overtaken look again.
    let transfers = (0..10).map(|_| transfer(&client, "account/ann", "account/bob", 5));
    let moved = futures::future::try_join_all(transfers).await?;
    println!("{} of 10 transfers had enough money", moved.iter().filter(|moved| **moved).count());

    let both = client.txn().get("account/ann").get("account/bob").commit().await?;
    let (ann, bob) = (balance(both.entry(0))?, balance(both.entry(1))?);
    println!("ann has {ann}, bob has {bob}, together {}", ann + bob);
    client.close().await?;
    Ok(())
}

/// Moves `amount` unless there is not enough; answers whether it did.
async fn transfer(
    client: &Client,
    from: &str,
    to: &str,
    amount: i64,
) -> Result<bool, Box<dyn std::error::Error>> {
    // Both at one moment; it only reads, so it takes no place in the log.
    let mut seen = client.txn().get(from).get(to).commit().await?;
    for _ in 0..ATTEMPTS_MAX {
        let (has, receives) = (balance(seen.entry(0))?, balance(seen.entry(1))?);
        if has < amount {
            return Ok(false);
        }
        let versions = seen.version(0).zip(seen.version(1));
        let (from_version, to_version) = versions.ok_or("an account is gone")?;
        let outcome = client
            .txn()
            .when_version(from, from_version)
            .when_version(to, to_version)
            .set(from, (has - amount).to_string())
            .set(to, (receives + amount).to_string())
            // What is there instead, in the same round trip.
            .or_get(from)
            .or_get(to)
            .commit()
            .await;
        match outcome {
            Ok(outcome) if outcome.succeeded() => return Ok(true),
            Ok(overtaken) => seen = overtaken,
            // The answer was lost, and with it the knowledge whether the money moved.
            Err(error @ Error::Indeterminate { .. }) => {
                println!("look at both accounts before you repeat it");
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("others were faster {ATTEMPTS_MAX} times").into())
}

fn balance(entry: Option<&Entry>) -> Result<i64, Box<dyn std::error::Error>> {
    let entry = entry.ok_or("an account is gone")?;
    Ok(std::str::from_utf8(&entry.value)?.parse()?)
}
