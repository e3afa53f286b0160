//! How commands find the cluster: endpoints, namespace, time allowed.

use crate::duration;
use crate::exit::Failure;
use clap::Args;
use quorate_client::{Client, Options};
use std::future::Future;
use std::time::Duration;

/// Where the cluster is, and how long to wait for it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connect {
    /// Client addresses of some or all nodes; any of them takes any request
    #[arg(
        long,
        global = true,
        env = "QUORATE_ENDPOINTS",
        value_name = "HOST:PORT,…",
        value_delimiter = ',',
        default_value = "127.0.0.1:8811"
    )]
    endpoints: Vec<String>,
    /// The namespace to work in
    #[arg(long, global = true, env = "QUORATE_NAMESPACE", value_name = "NAME", default_value = "")]
    namespace: String,
    /// How long the command may take, such as 500ms or 5s; by default 5s, without end for one that
    /// watches
    #[arg(
        long,
        global = true,
        env = "QUORATE_TIMEOUT",
        value_name = "DURATION",
        value_parser = parse_timeout
    )]
    timeout: Option<Duration>,
}

/// How long a call may take when nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest a call may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match duration::parse_positive(text)? {
        timeout if timeout > TIMEOUT_MAX => Err("a command may take at most 5m".to_owned()),
        timeout => Ok(timeout),
    }
}

impl Connect {
    /// Addresses, as they were given.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.trim())
    }

    /// How long a call may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    /// How long the command may take, if that was said.
    pub(crate) fn timeout_said(&self) -> Option<Duration> {
        self.timeout
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs `work` with a client, on a runtime that lives as long as the command.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.run_with(|options| options.one_shot(true), work)
    }

    /// As [`Connect::run`], with a client that has a session, which lives so long without being
    /// kept alive: also when the command has ended, unless it closes the client.
    pub(crate) fn run_in_session<T, F>(
        &self,
        session_ttl: Duration,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.run_with(|options| options.session_ttl(session_ttl), work)
    }

    fn run_with<T, F>(
        &self,
        settings: impl FnOnce(Options) -> Options,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let result = runtime.block_on(async {
            let options = Client::builder()
                .endpoints(self.endpoints())
                .namespace(&self.namespace)
                .request_timeout(self.timeout());
            let client = settings(options)
                .connect()
                // Nothing was asked of anybody yet: only the options can be wrong.
                .map_err(|error| Failure::Usage(error.message().to_owned()))?;
            work(client).await
        });
        // A lookup of a name may hang in a thread of the runtime; nobody waits for it.
        runtime.shutdown_background();
        result
    }
}
