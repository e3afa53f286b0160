//! Three nodes of Quorate, by `quorate dev`, and `quorate bench` against them.

use crate::closed_loop::Figures;
use crate::processes::Processes;
use crate::work::{Job, Work};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::Command;

/// Apart from the usual ports, which may be in use. Each node has three in a row, ten apart.
const BASE_PORT: u16 = 18_811;
const NODES: u16 = 3;

/// What of the JSON of a benchmark is kept beside the figures, if it is there.
const KEPT: [&str; 5] = ["counters", "gaps", "latency_of", "missed", "parts_us"];

fn start(program: &Path) -> Result<Processes> {
    let ports = (0..NODES).map(|node| BASE_PORT + node * 10);
    let mut processes =
        Processes::new(&ports.flat_map(|port| port..port + 3).collect::<Vec<_>>())?;
    let data = processes.dir().join("data");
    std::fs::create_dir(&data)?;
    let mut command = Command::new(program);
    command
        .args(["dev", "--nodes", &NODES.to_string(), "--base-port", &BASE_PORT.to_string()])
        .arg("--data-dir")
        .arg(data);
    processes.start("quorate", &mut command)?;
    Ok(processes)
}

/// What it says once its nodes are ready.
async fn endpoints(processes: &mut Processes) -> Result<String> {
    let log = processes.dir().join("quorate.log");
    let said = async || {
        let said = std::fs::read_to_string(&log)?;
        // A line may be half there.
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let found = whole.lines().find_map(|line| line.strip_prefix("QUORATE_ENDPOINTS="));
        found.map(str::to_owned).context("no endpoints yet")
    };
    processes.answer("quorate dev", said).await
}

fn arguments(job: &Job, unary: bool) -> Vec<String> {
    let clients = job.clients();
    let (keys, bytes) = (job.keys.to_string(), job.value_bytes.to_string());
    let keyed = ["--via", "leader", "--keys", &keys, "--value-bytes", &bytes];
    let subscribers = job.subscribers().to_string();
    let of_work: Vec<&str> = match job.work {
        Work::Put => [&["kv", "--op", "put"][..], &keyed].concat(),
        Work::Get => [&["kv", "--op", "get"][..], &keyed].concat(),
        Work::Cache => [&["cache", "--op", "get"][..], &keyed].concat(),
        Work::Lock => vec!["lock"],
        Work::Contended => vec!["lock", "--contended"],
        Work::Queue => vec!["queue", "--value-bytes", &bytes],
        Work::Bus => vec!["bus", "--value-bytes", &bytes, "--subscribers", &subscribers],
    };
    let mut arguments = vec!["bench".to_owned()];
    arguments.extend(of_work.into_iter().map(str::to_owned));
    for (name, value) in [
        ("--clients", u64::from(clients.connections)),
        ("--in-flight", u64::from(clients.in_flight)),
        ("--seconds", job.seconds),
    ] {
        arguments.extend([name.to_owned(), value.to_string()]);
    }
    if unary {
        arguments.push("--unary".to_owned());
    }
    arguments
}

pub(crate) async fn measure(program: &Path, job: &Job, unary: bool) -> Result<Figures> {
    let mut processes = start(program)?;
    let endpoints = endpoints(&mut processes).await?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments(job, unary))
        .args(["-o", "json", "--endpoints", &endpoints])
        .kill_on_drop(true)
        // Ctrl-C is for us, and we end it.
        .process_group(0);
    let output = command.output().await.context("can't start quorate bench")?;
    processes.check()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "quorate bench: {}: {}", output.status, said.trim());
    let json: Value = serde_json::from_slice(&output.stdout).context("the answer of the bench")?;
    figures(job.work, &json)
}

/// The figures of a result of `quorate bench`.
fn figures(work: Work, json: &Value) -> Result<Figures> {
    if json["failed"].as_u64() != Some(0) {
        bail!("operations failed: {}", json["failures"]);
    }
    let (operations, per_second, latency) = match work {
        Work::Bus => ("delivered", "delivered_per_second", "deliver_latency_us"),
        _ => ("operations", "operations_per_second", "latency_us"),
    };
    let missing = |name: &str| format!("quorate bench says no {name}");
    let number = |value: &Value, name: &str| value.as_f64().with_context(|| missing(name));
    let whole = |value: &Value, name: &str| value.as_u64().with_context(|| missing(name));
    let kept = KEPT.iter().filter_map(|name| Some(((*name).to_owned(), json.get(name)?.clone())));
    let mut more: Map<_, _> = kept.collect();
    if work == Work::Bus {
        more.insert("published_per_second".into(), json["operations_per_second"].clone());
    }
    Ok(Figures {
        operations: whole(&json[operations], operations)?,
        per_second: number(&json[per_second], per_second)?,
        p50_us: whole(&json[latency]["p50"], latency)?,
        p99_us: whole(&json[latency]["p99"], latency)?,
        more,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_are_those_of_the_bench() {
        let mut said = json!({
            "failed": 0, "operations": 200, "operations_per_second": 100.0,
            "latency_us": { "p50": 5, "p99": 9 },
            "delivered": 2_000, "delivered_per_second": 1_000.0,
            "deliver_latency_us": { "p50": 7, "p99": 11 }, "gaps": 1,
        });
        let put = figures(Work::Put, &said).unwrap();
        assert_eq!((put.operations, put.per_second, put.p99_us), (200, 100.0, 9));
        let bus = figures(Work::Bus, &said).unwrap();
        assert_eq!((bus.operations, bus.per_second, bus.p50_us), (2_000, 1_000.0, 7));
        assert_eq!(bus.more["published_per_second"], 100.0);
        said["failed"] = 3.into();
        assert!(figures(Work::Put, &said).is_err());
    }
}
