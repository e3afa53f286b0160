//! Log lines go to stderr through a bounded buffer: a sink that doesn't keep up loses lines, which
//! are counted, and never holds up a request.

use crate::config::{Config, LogFormat};
use std::io::{self, IsTerminal};
use std::sync::mpsc;
use std::time::Duration;
use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Lines that wait for stderr at most; beyond them new ones are dropped. About 2 MiB of text.
const BUFFERED_LINES_MAX: usize = 8_192;
/// How long the end waits for stderr to take what is buffered.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Keeps the log going. Dropping it writes out what is buffered, for at most a second.
#[derive(Debug)]
pub struct Logging {
    worker: Option<WorkerGuard>,
    dropped: ErrorCounter,
}

impl Drop for Logging {
    fn drop(&mut self) {
        let worker = self.worker.take();
        let (done, flushed) = mpsc::channel();
        // The guard gives up after a while, too, but then says so, on a stdout that may well be the
        // pipe that takes nothing.
        let flushing =
            std::thread::Builder::new().name("quorate-flush".to_owned()).spawn(move || {
                drop(worker);
                let _ = done.send(());
            });
        if flushing.is_ok() {
            let _ = flushed.recv_timeout(FLUSH_MAX);
        }
    }
}

impl Logging {
    /// Lines that were dropped so far because stderr did not take them.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }

    /// What counts them.
    pub(crate) fn dropped(&self) -> ErrorCounter {
        self.dropped.clone()
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
    let (writer, logging) = writer(io::stderr());
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = subscriber(&config.log_level, config.log_format, colours, writer);
    // The only failure is that there is a subscriber already, which then is the one to keep.
    let _ = subscriber.try_init();
    logging
}

/// The bounded buffer before a sink, and what keeps it going.
fn writer(sink: impl io::Write + Send + 'static) -> (NonBlocking, Logging) {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(BUFFERED_LINES_MAX)
        .lossy(true)
        .thread_name("quorate-log")
        .finish(sink);
    let dropped = writer.error_counter();
    (writer, Logging { worker: Some(worker), dropped })
}

fn subscriber(
    level: &str,
    format: LogFormat,
    colours: bool,
    writer: NonBlocking,
) -> Box<dyn Subscriber + Send + Sync> {
    let filter = EnvFilter::builder()
        .parse(format!("{QUIET},{level}"))
        .expect("the configuration has only filters that parse");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(colours).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    /// A sink that takes nothing until it is told to.
    struct Stuck(mpsc::Receiver<()>);

    impl io::Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error is the end of the test.
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_takes_nothing_holds_up_neither_a_request_nor_the_end() {
        let (_free, stuck) = mpsc::channel();
        let (writer, logging) = writer(Stuck(stuck));
        let subscriber = subscriber("info", LogFormat::Json, false, writer);
        let begun = Instant::now();
        tracing::subscriber::with_default(subscriber, || {
            for line in 0..BUFFERED_LINES_MAX + 100 {
                tracing::info!(line, "said");
            }
        });
        // All but those that are buffered, and perhaps one that is being written.
        let dropped = logging.dropped_lines();
        assert!((99..=100).contains(&dropped), "{dropped}");
        drop(logging);
        assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    }

    /// A sink to look into.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_writes_out_what_is_buffered_a_json_object_per_line() {
        let kept = Kept::default();
        let (writer, logging) = writer(kept.clone());
        let subscriber = subscriber("info", LogFormat::Json, false, writer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node = 1, "serving");
            tracing::debug!("not at this level");
            tracing::warn!("two\nlines");
        });
        drop(logging);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains(r#""message":"serving","node":1"#), "{text}");
        for line in lines {
            assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        }
    }
}
