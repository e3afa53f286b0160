//! Log lines go to stderr through a bounded buffer: a sink that doesn't keep up loses lines, which
//! are counted, and never holds up a request.

use crate::config::{Config, LogFormat};
use std::io::IsTerminal;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait for stderr at most; beyond them new ones are dropped. About 2 MiB of text.
const BUFFERED_LINES_MAX: usize = 8_192;

/// Keeps the log going. Dropping it writes out what is buffered, for at most about a second.
#[derive(Debug)]
pub struct Logging {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
}

impl Logging {
    /// Lines that were dropped so far because stderr did not take them.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Set before what the user asks for, which overrides it: while a peer is away openraft repeats a
/// warning twenty times a second, and RocksDB lists hundreds of options whenever it opens.
const QUIET: &str = "openraft=error,rocksdb=error";

/// Checks a log filter.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("it is empty; write a level such as info".to_owned()),
        Err(error) => Err(format!("{text:?} is not a log filter such as info: {error}")),
    }
}

/// Starts logging for the whole process, as the configuration says. A process that has a
/// subscriber already keeps it.
#[must_use]
pub fn start(config: &Config) -> Logging {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES_MAX)
        .lossy(true)
        .thread_name("quorate-log")
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{}", config.log_level))
        .expect("the configuration has only filters that parse");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // The only failure is that there is a subscriber already, which then is the one to keep.
    let _ = match config.log_format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Logging { _worker: worker, dropped }
}
