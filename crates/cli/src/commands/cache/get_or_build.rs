//! `quorate cache get-or-build`: a value from the cache, or from a command that only one caller in the
//! cluster runs.

use super::Kept;
use crate::child::{self, Running, Signals};
use crate::commands::kv::about;
use crate::connect::Connect;
use crate::duration;
use crate::exit::Failure;
use crate::output::{Output, put_bytes};
use clap::Args;
use quorate_client::cache::{BuildError, BuildOptions, Source};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Bytes read from a command: above any value a cluster can be configured to take.
const VALUE_BYTES_MAX: u64 = 16 << 20;
/// The build leases that a cluster grants.
const BUILD_LEASE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(600);
/// Exit status when the command ended well, but its output can't be taken.
const NO_VALUE: u8 = 1;

const AFTER_HELP: &str = "\
When the value is in the cache it is written to stdout, and CMD does not run. Of all callers that miss
it at once, one runs CMD, stores what it writes to stdout, and writes it out; the others wait for that.
When CMD ends with another exit status than 0, nothing is stored, and those who wait fail, too. A value
whose ttl is over is not written: a new one is built.

CMD finds in its environment
  QUORATE_CACHE_KEY  the key
  QUORATE_ENDPOINTS, QUORATE_NAMESPACE  as they were given to this command
It may run up to three times, when the key or one of the tags is set, deleted or invalidated meanwhile,
or when it takes longer than --build-lease: what comes too late is not stored.

Exit status: 0, or CMD's own when it failed (128 and the signal's number when a signal ended it), 126
when CMD can't be run, 127 when there is no CMD; 1 when another caller's failed.

Example:
  quorate cache get-or-build report/today --ttl 1h --tag reports -- psql -Atc 'select report()'";

/// Write the value of a key to stdout; when it is not in the cache, what CMD writes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct GetOrBuild {
    key: OsString,
    #[command(flatten)]
    kept: Kept,
    /// How long CMD may take, 100ms to 10m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_build_lease)]
    build_lease: Duration,
    /// How long to wait for another caller's; by default as long as the build lease
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    wait: Option<Duration>,
    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn parse_build_lease(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        lease if BUILD_LEASE.contains(&lease) => Ok(lease),
        _ => Err(format!("{text} is not between 100ms and 10m")),
    }
}

/// Why a command made no value.
struct Unbuilt(Failure);

impl fmt::Display for Unbuilt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text())
    }
}

impl GetOrBuild {
    pub(super) fn run(self, connect: &Connect, output: Output) -> Result<(), Failure> {
        let value = connect.run(async |client| {
            // A process that ends does not rebuild anything behind a stale value.
            let mut options = BuildOptions::new()
                .tags(self.kept.tags.iter().cloned())
                .build_lease(self.build_lease)
                .fresh_only();
            if let Some(ttl) = self.kept.ttl {
                options = options.ttl(ttl);
            }
            if let Some(stale_for) = self.kept.stale_for {
                options = options.stale_for(stale_for);
            }
            if let Some(wait) = self.wait {
                options = options.wait(wait);
            }
            let what = What {
                command: self.command.clone(),
                environment: connect
                    .environment()
                    .into_iter()
                    .map(|(name, value)| (name, value.into()))
                    .chain([("QUORATE_CACHE_KEY", self.key.clone())])
                    .collect(),
            };
            let build = move || what.clone().build();
            let got = client.cache().get_or_build(self.key.as_bytes(), options, build).await;
            match got {
                Ok(value) => Ok(value),
                Err(BuildError::Build(Unbuilt(failure))) => Err(failure),
                Err(BuildError::Client(error)) => Err(error.into()),
                Err(error) => Err(anyhow::anyhow!("{error}").into()),
            }
        })?;
        if !output.is_json() {
            return output.bytes(&value.value);
        }
        let mut object = Map::new();
        put_bytes(&mut object, "value", &value.value);
        object.insert("built".to_owned(), (value.source == Source::Built).into());
        object.insert("revision".to_owned(), value.revision.into());
        output.line(&about(&self.key, Value::from(object)).to_string())
    }
}

/// What is run.
#[derive(Clone)]
struct What {
    command: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
}

impl What {
    /// Runs it to its end; answers what it wrote.
    async fn build(self) -> Result<Vec<u8>, Unbuilt> {
        self.run().await.map_err(Unbuilt)
    }

    async fn run(self) -> Result<Vec<u8>, Failure> {
        // From here on a signal goes to the command: it ends, and then so does this process, in order.
        let mut signals = Signals::new()?;
        // The parser has seen to it that there is one.
        let mut command = Command::new(self.command.first().cloned().unwrap_or_default());
        command
            .args(self.command.iter().skip(1))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // Without a stdin it needs no terminal, so it can lead a group.
        let mut running =
            Running::start(command, true).map_err(|error| child::not_run(&self.command, &error))?;
        let stdout = running.child.stdout.take();
        let reading = async {
            let mut value = Vec::new();
            if let Some(stdout) = stdout {
                stdout.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value).await?;
            }
            Ok::<_, std::io::Error>(value)
        };
        let mut reading = std::pin::pin!(reading);
        let value = loop {
            tokio::select! {
                read = &mut reading => break read,
                signal = signals.next() => running.pass_on(signal),
            }
        };
        let value = match value {
            Ok(value) if value.len() as u64 <= VALUE_BYTES_MAX => value,
            Ok(_) => {
                running.end().await;
                return Err(self.no_value(format!(
                    "wrote more than {VALUE_BYTES_MAX} bytes; no cluster takes that"
                )));
            }
            Err(error) => {
                running.end().await;
                return Err(self.no_value(format!("can't be read: {error}")));
            }
        };
        let ended = loop {
            tokio::select! {
                ended = running.child.wait() => break ended,
                signal = signals.next() => running.pass_on(signal),
            }
        };
        match ended.map(child::exit_status) {
            Ok(0) => Ok(value),
            Ok(status) => Err(Failure::Run {
                status,
                reason: "BUILD_FAILED",
                message: format!("{} ended with exit status {status}", self.name()),
            }),
            Err(error) => Err(self.no_value(format!("can't be waited for: {error}"))),
        }
    }

    fn no_value(&self, why: String) -> Failure {
        let message = format!("{} {why}", self.name());
        Failure::Run { status: NO_VALUE, reason: "BUILD_FAILED", message }
    }

    fn name(&self) -> String {
        self.command.first().cloned().unwrap_or_default().to_string_lossy().into_owned()
    }
}
