//! What a workload is, and what it is given.

use super::book::Book;
use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use quorate_client::{Client, Options};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a call may take; above most failovers, so that most outcomes become known.
pub(crate) const CALL_DEADLINE: Duration = Duration::from_millis(5_000);
/// How long the last calls may take, when all is well again and nothing may be missing.
pub(crate) const LAST_DEADLINE: Duration = Duration::from_secs(60);

/// One kind of work.
///
/// Its callers pause a little between calls: what is checked is what happens around faults, and a
/// history that grows without need is only slower to check.
pub(crate) trait Workload: Send {
    /// A word for it.
    fn name(&self) -> &'static str;

    /// Its callers; each goes on until the token of the context is cancelled, and then ends its call.
    fn callers(&self, context: &Context) -> Vec<BoxFuture<'static, ()>>;

    /// When all is well again and all callers have ended: reads what is left, and judges. Calls have
    /// [`LAST_DEADLINE`], and none may fail.
    fn judge(self: Box<Self>, context: Context) -> BoxFuture<'static, Result<Verdict>>;
}

/// What a workload found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    /// What was wrong: each a line or more that says what, on what, and where to look.
    pub(crate) problems: Vec<String>,
    /// Why what was checked says little: so much has to have happened for that. A long run in which it
    /// has not is one that failed.
    pub(crate) too_little: Vec<String>,
    /// What was held against what, with numbers, in a line.
    pub(crate) checked: String,
}

impl Verdict {
    /// Notes that what was done says little, unless it is so.
    pub(crate) fn has_to_show(&mut self, so: bool, otherwise: impl FnOnce() -> String) {
        if !so {
            self.too_little.push(otherwise());
        }
    }
}

/// What a workload is given. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    /// What a client begins with: how it reaches some nodes. It finds the others, also those that come
    /// later.
    pub(crate) reach: Arc<dyn Fn() -> Options + Send + Sync>,
    pub(crate) seed: u64,
    pub(crate) book: Book,
    /// Where its history goes.
    pub(crate) journal: Journal,
    /// Cancelled when callers have to end.
    pub(crate) stop: CancellationToken,
}

impl Context {
    /// A new client in the namespace of a workload; not connected before its first call.
    pub(crate) fn client(&self, namespace: &str) -> Client {
        self.client_with(|options| options.namespace(namespace))
    }

    /// A new client with other options.
    pub(crate) fn client_with(&self, change: impl FnOnce(Options) -> Options) -> Client {
        let options = change((self.reach)().request_timeout(CALL_DEADLINE));
        options.connect().expect("the options are right")
    }

    /// Choices of one caller, which follow the seed.
    pub(crate) fn random(&self, workload: &str, caller: u64) -> SmallRng {
        let name = workload.bytes().fold(0_u64, |sum, byte| sum.rotate_left(8) ^ u64::from(byte));
        SmallRng::seed_from_u64(self.seed ^ name.rotate_left(17) ^ caller.wrapping_mul(0x9e37_79b9))
    }

    /// Waits a little; false when it is time to end.
    pub(crate) async fn pause(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stop.cancelled()).await.is_err()
    }
}

/// A history as JSON lines: for people who want to see for themselves. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    book: Book,
    to: Arc<Mutex<Box<dyn Write + Send>>>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    at_us: u128,
    #[serde(flatten)]
    what: &'a T,
}

impl Journal {
    /// Begins a file.
    pub(crate) fn create(path: &Path, book: &Book) -> Result<Self> {
        let file =
            File::create(path).with_context(|| format!("{} can't be made", path.display()))?;
        Ok(Self::to(BufWriter::new(file), book))
    }

    /// Goes on with what is there; each line comes in one piece.
    pub(crate) fn to(to: impl Write + Send + 'static, book: &Book) -> Self {
        Self { book: book.clone(), to: Arc::new(Mutex::new(Box::new(to))) }
    }

    /// Notes what happened, with the time since the run began.
    ///
    /// # Panics
    /// When it can't be written: a history with a hole in it shows nothing.
    pub(crate) fn write(&self, what: &impl Serialize) {
        let line = Line { at_us: self.book.elapsed().as_micros(), what };
        let mut bytes = serde_json::to_vec(&line).expect("a history is plain data");
        bytes.push(b'\n');
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        to.write_all(&bytes).expect("the disk of the test has room");
    }

    /// Hands everything to the kernel.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        to.flush().context("a history can't be written")
    }
}
