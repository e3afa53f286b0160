//! Keys that are set and read, as in `quorate bench kv`: the loop for every system that has keys.

use crate::closed_loop::{Figures, Lane, Span, run};
use crate::work::{Job, Work, key};
use anyhow::{Context, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Keys written at once before reads are measured.
const FILLING: usize = 256;

/// A connection. A clone shares it.
pub(crate) trait Kv: Clone + Send + Sync + 'static {
    /// Answers when the system has promised to keep it.
    fn put(&mut self, key: String, value: Vec<u8>) -> impl Future<Output = Result<()>> + Send;

    /// Answers whether there is a value.
    fn get(&mut self, key: String) -> impl Future<Output = Result<bool>> + Send;
}

/// Measures puts, or gets of keys that are put before. Each connection is one operation in flight.
pub(crate) async fn measure<K: Kv>(connections: Vec<K>, job: &Job) -> Result<Figures> {
    let put = job.work == Work::Put;
    if !put {
        fill(&connections, job).await?;
    }
    let lanes = connections.into_iter().zip(0_u64..).map(|(kv, number)| KvLane {
        kv,
        random: SmallRng::seed_from_u64(number),
        keys: job.keys,
        value: job.value(),
        put,
    });
    run(lanes.collect(), Span::after_warm_up(job.seconds)).await
}

async fn fill<K: Kv>(connections: &[K], job: &Job) -> Result<()> {
    let mut fillers = JoinSet::new();
    for (kv, first) in connections.iter().cycle().take(FILLING).zip(0_u64..) {
        let (mut kv, keys, value) = (kv.clone(), job.keys, job.value());
        fillers.spawn(async move {
            for number in (first..keys).step_by(FILLING) {
                kv.put(key(number), value.clone()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(own) = fillers.join_next().await {
        own.context("a filler panicked")?.context("the keys to read could not be written")?;
    }
    Ok(())
}

struct KvLane<K> {
    kv: K,
    random: SmallRng,
    keys: u64,
    value: Vec<u8>,
    put: bool,
}

impl<K: Kv> Lane for KvLane<K> {
    async fn operate(&mut self) -> Result<Instant> {
        let key = key(self.random.random_range(0..self.keys));
        if self.put {
            self.kv.put(key, self.value.clone()).await.context("a put failed")?;
        } else {
            let found = self.kv.get(key).await.context("a get failed")?;
            // Otherwise something that costs less would be measured.
            ensure!(found, "a key that was put is not there");
        }
        Ok(Instant::now())
    }
}
