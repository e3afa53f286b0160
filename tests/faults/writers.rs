//! Clients that write while nodes come and go, and take no error.

use quorate_client::{Client, Routing};
use quorate_testkit::process::ProcessCluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const WRITERS: usize = 6;
/// What a call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Writers under way, each with a key of its own.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(u64, Duration)>>,
}

/// Writes a key again and again; answers how often, and how long the slowest write took.
async fn write(client: Client, key: String, stop: Arc<AtomicBool>) -> (u64, Duration) {
    let (mut written, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let set = client.kv().set(&key, (written + 1).to_string()).timeout(DEADLINE).await;
        set.unwrap_or_else(|error| panic!("{key} could not be written: {error}"));
        slowest = slowest.max(begun.elapsed());
        written += 1;
    }
    (written, slowest)
}

impl Writers {
    pub(crate) fn start(cluster: &ProcessCluster) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |nth| {
            let client = Client::builder().endpoints(cluster.endpoints()).routing(Routing::AnyNode);
            let client = client.connect().expect("the options are right");
            tokio::spawn(write(client, format!("key {nth}"), Arc::clone(&stop)))
        };
        Self { tasks: (0..WRITERS).map(one).collect(), stop }
    }

    /// How many writes there were, none of which failed and all of which a client finds, and how long
    /// the slowest took.
    pub(crate) async fn end(self, client: &Client) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut total, mut slowest) = (0, Duration::ZERO);
        for (nth, task) in self.tasks.into_iter().enumerate() {
            let (written, slow) = task.await.expect("no write failed");
            let found = client.kv().get(format!("key {nth}")).await.expect("a read");
            assert_eq!(&found.expect("it was written").value[..], written.to_string().as_bytes());
            (total, slowest) = (total + written, slowest.max(slow));
        }
        assert!(total > 0, "nothing was written");
        (total, slowest)
    }
}
