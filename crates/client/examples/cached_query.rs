//! A query that is made once, however many ask for its result at once, in whichever process; and made
//! anew as soon as what it is about has changed.
//!
//! `QUORATE_ENDPOINTS=127.0.0.1:8811 cargo run --release -p quorate-client --example cached_query`
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use quorate_client::cache::{BuildError, BuildOptions, NearOptions, TypedCache};
use quorate_client::{Cache, Client};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    /// Which query it is from.
    query: u32,
}

/// Stands for a database that is slow, and gets slower the more it is asked.
#[derive(Clone, Default)]
struct Database {
    queries: Arc<AtomicU32>,
}

impl Database {
    async fn load_user(self, id: u64) -> Result<User, io::Error> {
        let query = self.queries.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(User { id, name: format!("user {id}"), query })
    }
}

#[derive(Clone)]
struct Users {
    cache: Cache,
    typed: TypedCache<User>,
    database: Database,
}

impl Users {
    /// The user as it is cached, or else from the database.
    async fn get(&self, id: u64) -> Result<User, BuildError<io::Error>> {
        let options = BuildOptions::new()
            .ttl(Duration::from_secs(3_600))
            // When the hour is over, nobody waits for the database: the old one will do for a minute.
            .stale_for(Duration::from_secs(60))
            .tags(["users".to_owned(), format!("user:{id}")])
            .build_lease(Duration::from_secs(5));
        let database = self.database.clone();
        let load = move || database.clone().load_user(id);
        self.typed.get_or_build(format!("user:{id}"), options, load).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints =
        std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:8811".to_owned());
    let client = Client::builder().endpoints(endpoints.split(',').map(str::trim)).connect()?;
    let cache = client.cache().near(NearOptions::new());
    // Whatever an earlier run has left.
    cache.invalidate_tags(["users"]).await?;
    let typed = cache.typed();
    let users = Users { cache, typed, database: Database::default() };

    // Fifty at once: one asks the database. Those of other processes would wait for the same.
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let users = users.clone();
            tokio::spawn(async move { users.get(7).await })
        })
        .collect();
    for asked in asking {
        asked.await??;
    }
    println!(
        "50 asked at once, {} queries were made",
        users.database.queries.load(Ordering::Relaxed)
    );

    // From here on no read of this client answers what was before, on whichever node.
    users.cache.invalidate_tags(["user:7"]).await?;
    let user = users.get(7).await?;
    println!("after it was changed, {} is from query {}", user.name, user.query);

    users.get(7).await?;
    println!("{:?}", users.cache.counters());
    client.close().await?;
    Ok(())
}
