//! Three nodes of Quorate, and `quorate bench` against them.

use crate::closed_loop::Figures;
use crate::processes::Processes;
use crate::work::{Job, Work};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::path::Path;
use std::process::Output;
use tokio::process::Command;

/// Apart from the usual ports, which may be in use. Each node has three in a row, ten apart.
const BASE_PORT: u16 = 18_811;
const NODES: u16 = 3;

/// What of the JSON of a benchmark is kept beside the figures, if it is there.
const KEPT: [&str; 5] = ["counters", "gaps", "latency_of", "missed", "parts_us"];

/// Where a node listens: for clients, for peers, for HTTP.
fn address(node: u16, which: u16) -> String {
    format!("127.0.0.1:{}", BASE_PORT + node * 10 + which)
}

/// Without whatever settings this one was started with.
fn command(program: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command
}

/// Not by `quorate dev`: its nodes outlive it for a moment when it is killed, and would disturb whoever
/// is measured next.
fn start(program: &Path) -> Result<Processes> {
    let ports = (0..NODES).flat_map(|node| (0..3).map(move |which| BASE_PORT + node * 10 + which));
    let mut processes = Processes::new(&ports.collect::<Vec<_>>())?;
    let peers: Vec<_> =
        (0..NODES).map(|node| format!("{}={}", node + 1, address(node, 1))).collect();
    for node in 0..NODES {
        let data = processes.dir().join(format!("n{node}"));
        let mut command = command(program);
        command
            .args(["serve", "--node-id", &(node + 1).to_string()])
            .arg("--data-dir")
            .arg(data)
            .args(["--client-listen", &address(node, 0)])
            .args(["--peer-listen", &address(node, 1)])
            .args(["--http-listen", &address(node, 2)])
            .args(["--initial-cluster", &peers.join(",")]);
        processes.start(&format!("quorate-{node}"), &mut command)?;
    }
    Ok(processes)
}

/// Runs a command against the nodes; answers its JSON.
async fn ask(program: &Path, arguments: &[String]) -> Result<Value> {
    ask_of(program, arguments, 0..NODES).await
}

/// Likewise, against some of them.
async fn ask_of(
    program: &Path,
    arguments: &[String],
    nodes: impl Iterator<Item = u16>,
) -> Result<Value> {
    let endpoints: Vec<_> = nodes.map(|node| address(node, 0)).collect();
    let mut command = Command::from(command(program));
    command
        .args(arguments)
        .args(["-o", "json", "--endpoints", &endpoints.join(",")])
        .kill_on_drop(true)
        // Ctrl-C is for us, and we end it.
        .process_group(0);
    let Output { status, stdout, stderr } =
        command.output().await.context("can't start quorate")?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "quorate {}: {status}: {}", arguments.join(" "), said.trim());
    serde_json::from_slice(&stdout).context("an answer of quorate")
}

/// Waits until all nodes are there, under one leader, and answers which that is.
async fn ready(processes: &mut Processes, program: &Path) -> Result<u16> {
    let status = ["cluster", "status"].map(str::to_owned);
    let ready = async || {
        let status = ask(program, &status).await?;
        let nodes = status["nodes"].as_array().context("a status without nodes")?;
        let healthy = nodes.iter().filter(|node| node["healthy"] == true).count();
        ensure!(healthy == usize::from(NODES), "{healthy} of {NODES} nodes are healthy");
        let leader = status["leader_id"].as_u64().filter(|id| *id > 0).context("no leader yet")?;
        Ok(u16::try_from(leader - 1)?)
    };
    processes.answer("quorate", ready).await
}

/// How calls go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Together with others, to the leader.
    Pipeline,
    /// Each on its own, to the leader.
    Unary,
    /// Together with others, to a node that does not lead.
    Follower,
}

fn arguments(job: &Job, way: Way) -> Vec<String> {
    let mut clients = job.clients();
    let (keys, bytes) = (job.keys.to_string(), job.value_bytes.to_string());
    let via = if way == Way::Follower { "any" } else { "leader" };
    let keyed = ["--via", via, "--keys", &keys, "--value-bytes", &bytes];
    let subscribers = job.subscribers().to_string();
    // As with NATS, whose publishers don't wait for each message: so many are under way, in two halves.
    let batch = if job.work == Work::Bus { (clients.in_flight / 2).max(1) } else { 1 };
    clients.in_flight /= batch;
    let batch = batch.to_string();
    let of_work: Vec<&str> = match job.work {
        Work::Put => [&["kv", "--op", "put"][..], &keyed].concat(),
        Work::Get => [&["kv", "--op", "get"][..], &keyed].concat(),
        Work::Cache => [&["cache", "--op", "get"][..], &keyed].concat(),
        Work::Lock => vec!["lock"],
        Work::Contended => vec!["lock", "--contended"],
        Work::Queue => vec!["queue", "--value-bytes", &bytes],
        Work::Bus => {
            let all = ["--subscribers", &subscribers, "--batch", &batch];
            [&["bus", "--value-bytes", &bytes][..], &all].concat()
        }
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
    if way == Way::Unary {
        arguments.push("--unary".to_owned());
    }
    arguments
}

pub(crate) async fn measure(program: &Path, job: &Job, way: Way) -> Result<Figures> {
    let mut processes = start(program)?;
    let leader = ready(&mut processes, program).await?;
    let arguments = arguments(job, way);
    let json = match way {
        // `--via any` takes the endpoints as they are.
        Way::Follower => ask_of(program, &arguments, [(leader + 1) % NODES].into_iter()).await,
        Way::Pipeline | Way::Unary => ask(program, &arguments).await,
    };
    processes.check()?;
    let mut figures = figures(job.work, &json?)?;
    figures.more.insert("resident_max_mib".into(), processes.resident_max_mib()?.into());
    Ok(figures)
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
        more.insert("published_per_second".into(), json["published_per_second"].clone());
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
            "published_per_second": 100.0,
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
