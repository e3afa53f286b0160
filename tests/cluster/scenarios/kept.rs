//! What a scenario keeps under a name: what its calls opened or were given.

use super::calls::Failure;
use quorate_client::kv::{Event, Watch};
use quorate_client::queue::{Consumer, Job};
use quorate_client::{Lock, LockGuard, Subscription};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Plain, PoisonError};
use tokio::sync::Mutex;

/// A job, and what is known of it once it was settled.
pub(super) struct KeptJob {
    pub(super) job: Option<Job>,
    pub(super) queue: String,
    pub(super) id: u64,
    pub(super) lease: u64,
}

/// A lock, and what is known of it once it was given back.
pub(super) struct KeptLock {
    pub(super) lock: Option<Lock>,
    pub(super) guard: LockGuard,
}

/// Something that is kept. Who uses it has it alone.
pub(super) enum Kept {
    Watch { watch: Box<Watch>, events: VecDeque<Event> },
    Job(KeptJob),
    Consumer(Option<Consumer>),
    Lock(KeptLock),
    Subscription(Box<Subscription>),
    Responder(#[expect(dead_code, reason = "it answers until it is dropped")] Box<dyn Send>),
}

/// All that a scenario keeps.
#[derive(Default)]
pub(super) struct Shelf(Plain<BTreeMap<String, Arc<Mutex<Kept>>>>);

impl Shelf {
    pub(super) fn put(&self, name: Option<&str>, kept: Kept) {
        if let Some(name) = name {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(name.to_owned(), Arc::new(Mutex::new(kept)));
        }
    }

    /// What is kept under `$name`.
    pub(super) fn get(&self, name: &str) -> Result<Arc<Mutex<Kept>>, Failure> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = name.strip_prefix('$').and_then(|name| all.get(name)).cloned();
        kept.ok_or_else(|| Failure::Scenario(format!("nothing is kept as {name}")))
    }
}
