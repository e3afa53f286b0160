//! How commands find the cluster: endpoints, namespace, time allowed.

use crate::duration;
use crate::exit::Failure;
use clap::Args;
use quorate_client::{Client, Options, Tls};
use std::future::Future;
use std::path::PathBuf;
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
    /// Speak TLS, and believe nodes whose certificates were signed by an authority of this system
    #[arg(long, global = true)]
    tls: bool,
    /// Speak TLS, and believe nodes whose certificates were signed by the authority in this file (PEM)
    #[arg(long, global = true, env = "QUORATE_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The certificate to show (PEM); needs TLS and --key-file
    #[arg(long, global = true, env = "QUORATE_CERT_FILE", value_name = "FILE")]
    cert_file: Option<PathBuf>,
    /// The key of the certificate to show (PEM)
    #[arg(long, global = true, env = "QUORATE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The file with the token to show; without it QUORATE_TOKEN is looked at, which other programs of
    /// this machine's user may see
    #[arg(long, global = true, env = "QUORATE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The variable with a token. There is no flag for it: flags are seen by everybody on the machine.
const TOKEN_VARIABLE: &str = "QUORATE_TOKEN";

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

    /// The settings of a client that connects as was asked for.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let options = Client::builder().endpoints(self.endpoints()).request_timeout(self.timeout());
        let options = match self.tls_said()? {
            Some(tls) => options.tls(tls),
            None => options,
        };
        Ok(match self.token()? {
            Some(token) => options.token(token),
            None => options,
        })
    }

    fn tls_said(&self) -> Result<Option<Tls>, Failure> {
        let tls = match &self.ca_file {
            Some(ca) => Some(Tls::new().ca_file(ca)),
            None => self.tls.then(Tls::new),
        };
        match (tls, &self.cert_file, &self.key_file) {
            (tls, None, None) => Ok(tls),
            (Some(tls), Some(cert), Some(key)) => Ok(Some(tls.identity_files(cert, key))),
            (None, ..) => Err(Failure::Usage(
                "a certificate can be shown only with TLS: give --ca-file, or --tls".to_owned(),
            )),
            (_, Some(_), None) => {
                Err(Failure::Usage("--cert-file needs --key-file, its key".to_owned()))
            }
            (_, None, Some(_)) => {
                Err(Failure::Usage("--key-file needs --cert-file, its certificate".to_owned()))
            }
        }
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else {
            return Ok(std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()));
        };
        let read = std::fs::read_to_string(path);
        let read = read.map_err(|error| {
            Failure::Usage(format!("can't read the token in {}: {error}", path.display()))
        });
        Ok(Some(read?))
    }

    /// What a program that is started by a command needs to connect as it does.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("QUORATE_ENDPOINTS", self.endpoints().collect::<Vec<_>>().join(",")),
            ("QUORATE_NAMESPACE", self.namespace.clone()),
        ];
        let files = [
            ("QUORATE_CA_FILE", &self.ca_file),
            ("QUORATE_CERT_FILE", &self.cert_file),
            ("QUORATE_KEY_FILE", &self.key_file),
            ("QUORATE_TOKEN_FILE", &self.token_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                environment.push((name, file.display().to_string()));
            }
        }
        environment
    }

    /// Runs `work` with a client, on a runtime that lives as long as the command.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.run_with(|options| options.one_shot(true), work)
    }

    /// As [`Connect::run`], with this time for each call unless another was said.
    pub(crate) fn run_looking<T, F>(
        &self,
        call_timeout: Duration,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let timeout = self.timeout.unwrap_or(call_timeout);
        self.run_with(|options| options.one_shot(true).request_timeout(timeout), work)
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
        let options = self.options()?.namespace(&self.namespace);
        let result = runtime.block_on(async {
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
