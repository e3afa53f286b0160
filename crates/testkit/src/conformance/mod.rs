//! What every adapter has to do, as checks that anyone can run on an adapter of theirs.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use quorate_client::Client;
//! use quorate_client::broker::Broker;
//! use quorate_testkit::conformance;
//! use std::sync::Arc;
//!
//! let report = conformance::run(|namespace| async move {
//!     let client = Client::builder().endpoints(["127.0.0.1:8811"]).namespace(namespace);
//!     Ok(Arc::new(client.connect()?) as Arc<dyn Broker>)
//! })
//! .await;
//! println!("{report}");
//! // The names of the checks that the adapter answers with `Unsupported`, and no others.
//! report.expect_unsupported(&[])?;
//! # Ok(())
//! # }
//! ```
//!
//! The factory makes an adapter for a namespace; it is called several times for each check, because
//! much is only to be seen between two adapters, as two processes would have. Each check has a
//! namespace of its own, whose name no earlier run had, so a server need not be emptied.
//!
//! A check is `unsupported` when the adapter said so by [`Error::Unsupported`]; anything else that is
//! not as it should be is a failure, with what was seen. Nothing is waited for by the clock alone:
//! what has to happen is waited for with a deadline, and what must not happen is ruled out by
//! something that comes later.

mod apart;
mod bus;
mod cache;
mod kv;
mod lock;
mod queue;
mod report;
mod stage;

pub use report::{Outcome, Report, Verdict};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use quorate_client::Error;
use quorate_client::broker::Broker;
use stage::{Stage, elapsed};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many checks run at the same time. They wait most of their time.
const AT_ONCE: usize = 8;
/// How long a check may take. What it waits for has a shorter deadline.
const CHECK_MAX: Duration = Duration::from_secs(90);

/// A check of one thing that an adapter has to do.
pub(crate) struct Check {
    service: &'static str,
    name: &'static str,
    run: fn(Stage) -> BoxFuture<'static, anyhow::Result<()>>,
}

impl Check {
    fn full_name(&self) -> String {
        format!("{}/{}", self.service, self.name)
    }
}

/// The checks of a service: functions of a [`Stage`], by their names.
macro_rules! checks {
    ($service:literal: $($name:ident),+ $(,)?) => {
        pub(super) const CHECKS: &[super::Check] = &[$(super::Check {
            service: $service,
            name: stringify!($name),
            run: |stage| Box::pin($name(stage)),
        }),+];
    };
}
use checks;

/// Makes an adapter for a namespace.
pub(crate) type Factory =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<Arc<dyn Broker>, Error>> + Send + Sync>;

fn all() -> impl Iterator<Item = &'static Check> {
    let services =
        [apart::CHECKS, bus::CHECKS, cache::CHECKS, kv::CHECKS, lock::CHECKS, queue::CHECKS];
    services.into_iter().flatten()
}

/// Names of all checks, such as `kv/ttl_ends`.
pub fn names() -> Vec<String> {
    all().map(Check::full_name).collect()
}

/// Runs all checks on the adapters that a factory makes.
pub async fn run<F, R>(factory: F) -> Report
where
    F: Fn(String) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Arc<dyn Broker>, Error>> + Send + 'static,
{
    run_some(factory, |_| true).await
}

/// Runs the checks whose names are wanted, such as `kv/ttl_ends`.
pub async fn run_some<F, R>(factory: F, wanted: impl Fn(&str) -> bool) -> Report
where
    F: Fn(String) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Arc<dyn Broker>, Error>> + Send + 'static,
{
    let factory: Factory = Arc::new(move |namespace| Box::pin(factory(namespace)));
    let run: u32 = rand::random();
    let mut running: Vec<BoxFuture<'static, Verdict>> = Vec::new();
    for check in all().filter(|check| wanted(&check.full_name())) {
        let factory = Arc::clone(&factory);
        running.push(Box::pin(async move {
            let begun = Instant::now();
            let outcome = run_one(check, factory, run).await;
            Verdict { check: check.full_name(), outcome, took: begun.elapsed() }
        }));
    }
    let verdicts = futures::stream::iter(running).buffered(AT_ONCE).collect().await;
    Report::new(verdicts)
}

async fn run_one(check: &'static Check, factory: Factory, run: u32) -> Outcome {
    let namespace = format!("conformance-{run:08x}-{}-{}", check.service, check.name);
    let checking = tokio::spawn(async move {
        let stage = Stage::new(factory, namespace).await?;
        let (one, other) = (Arc::clone(&stage.one), Arc::clone(&stage.other));
        let done = (check.run)(stage).await;
        // What it leaves behind is not what is checked.
        let _ = futures::join!(one.close(), other.close());
        done
    });
    let abort = checking.abort_handle();
    match tokio::time::timeout(CHECK_MAX, checking).await {
        Ok(Ok(done)) => Outcome::of(done),
        Ok(Err(panic)) => Outcome::Failed(format!("it panicked: {panic}")),
        Err(_) => {
            abort.abort();
            Outcome::Failed(format!("it was not over after {}", elapsed(CHECK_MAX)))
        }
    }
}
