//! `quorate health`: asks a node's HTTP port whether it lives or serves, for whoever starts containers.

use crate::exit::Failure;
use crate::http::Port;
use crate::output::Output;
use clap::Args;
use serde_json::json;
use std::time::Duration;

/// How long a probe may take: that behind `/readyz` takes 0.9 s at most.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `quorate health …`
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// The node's HTTP port
    #[arg(long, env = "QUORATE_HTTP", value_name = "URL", default_value = "http://127.0.0.1:8813")]
    http: String,
    /// Whether its process lives, instead of whether it can serve
    #[arg(long, conflicts_with = "started")]
    live: bool,
    /// Whether it has started, instead of whether it can serve
    #[arg(long)]
    started: bool,
    /// Believe a node whose certificate was signed by the authority in this file (PEM); for https
    #[arg(long, env = "QUORATE_CA_FILE", value_name = "FILE")]
    ca_file: Option<std::path::PathBuf>,
}

impl Health {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let path = match (self.live, self.started) {
            (true, _) => "/livez",
            (_, true) => "/startupz",
            _ => "/readyz",
        };
        let port = Port::of(&self.http, self.ca_file)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| anyhow::Error::new(error).context("can't start"))?;
        let asked = runtime.block_on(async { tokio::time::timeout(TIMEOUT, port.get(path)).await });
        runtime.shutdown_background();
        let unavailable = |why: String| {
            Failure::Client(quorate_client::Error::Unavailable {
                reason: "NOT_HEALTHY".to_owned(),
                message: why,
            })
        };
        match asked {
            Err(_) => Err(unavailable(format!("{} did not answer within {TIMEOUT:?}", self.http))),
            Ok(Err(error)) => Err(unavailable(format!("{} can't be asked: {error:#}", self.http))),
            Ok(Ok((200, _))) => output.result(|| json!({ "ok": true }), || "ok".to_owned()),
            Ok(Ok((status, body))) => {
                Err(unavailable(format!("{}{path} answers {status}: {}", self.http, body.trim())))
            }
        }
    }
}
