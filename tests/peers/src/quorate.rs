//! Three nodes of Quorate, by `quorate dev`, and `quorate bench kv` against them.

use crate::{Figures, Work};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Apart from the usual ports, which may be in use.
const BASE_PORT: &str = "18811";

/// A running cluster; stopped when dropped.
pub struct Cluster {
    binary: PathBuf,
    process: Child,
    endpoints: String,
    _data: tempfile::TempDir,
}

impl Cluster {
    pub fn start(binary: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut process = Command::new(binary)
            .args(["dev", "--nodes", "3", "--base-port", BASE_PORT, "--data-dir"])
            .arg(data.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {}", binary.display()))?;
        let output = process.stdout.take().context("its output")?;
        for line in BufReader::new(output).lines() {
            if let Some(endpoints) = line?.strip_prefix("QUORATE_ENDPOINTS=") {
                let endpoints = endpoints.to_owned();
                return Ok(Self { binary: binary.to_owned(), process, endpoints, _data: data });
            }
        }
        bail!("quorate dev ended before its cluster was ready")
    }

    pub fn measure(&self, work: Work, unary: bool) -> Result<Figures> {
        let mut command = Command::new(&self.binary);
        command
            .args(["bench", "kv", "-o", "json", "--via", "leader"])
            .args(["--op", if work.put { "put" } else { "get" }])
            .args(["--clients", &work.clients.connections.to_string()])
            .args(["--in-flight", &work.clients.in_flight.to_string()])
            .args(["--seconds", &work.seconds.to_string()])
            .args(["--value-bytes", &work.value_bytes.to_string()])
            .args(["--keys", &work.keys.to_string()])
            .args(["--endpoints", &self.endpoints]);
        if unary {
            command.arg("--unary");
        }
        let output = command.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("quorate bench failed: {}", output.status);
        }
        let json: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        if json["failed"].as_u64() != Some(0) {
            bail!("operations failed: {}", json["failures"]);
        }
        let latency = |name: &str| json["latency_us"][name].as_u64().unwrap_or(0);
        Ok(Figures {
            per_second: json["operations_per_second"].as_f64().unwrap_or(0.0),
            p50_us: latency("p50"),
            p99_us: latency("p99"),
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Its nodes end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
