//! Other writes, beside which something is done.

use super::{connect, micros};
use crate::process::ProcessCluster;
use anyhow::{Result, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::JoinSet;

/// Keys that are written again and again.
const KEYS: u64 = 10_000;

/// Clients that write until they are stopped, each one write after the other.
pub struct Writers {
    tasks: JoinSet<Result<(), quorate_client::Error>>,
    stop: Arc<AtomicBool>,
    times: Arc<Mutex<Histogram<u64>>>,
}

impl Writers {
    /// Starts so many, with a client each, of values of so many bytes.
    ///
    /// # Errors
    /// When the addresses of the nodes are none.
    pub fn start(
        cluster: &ProcessCluster,
        count: u64,
        value_bytes: usize,
        seed: u64,
    ) -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let times = Arc::new(Mutex::new(Histogram::new(3)?));
        let mut tasks = JoinSet::new();
        for writer in 0..count {
            let (client, stop, times) = (connect(cluster)?, Arc::clone(&stop), Arc::clone(&times));
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(writer));
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let number = random.random_range(0..KEYS);
                    let value = Bytes::from(number.to_be_bytes().repeat(value_bytes / 8));
                    let begun = Instant::now();
                    client.kv().set(format!("w/{number:05}"), value).await?;
                    let took = micros(begun.elapsed());
                    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                    times.record(took).expect("it grows");
                }
                Ok(())
            });
        }
        Ok(Self { tasks, stop, times })
    }

    /// The times, in microseconds, since the last look.
    ///
    /// # Errors
    /// When no write was answered since.
    pub fn take(&self) -> Result<Histogram<u64>> {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!times.is_empty(), "no write was answered");
        Ok(std::mem::replace(&mut times, Histogram::new(3)?))
    }

    /// Lets them finish.
    ///
    /// # Errors
    /// When a write failed.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}
