//! Three nodes of etcd, and a loop that does to them what `quorate bench kv` does to ours.

use crate::{Figures, Work};
use anyhow::{Context, Result, bail};
use etcd_client::Client;
use hdrhistogram::Histogram;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Client and peer ports of the first node; the others follow in tens.
const BASE_PORT: u16 = 12_379;
const NODES: u16 = 3;
const WARM_UP: Duration = Duration::from_secs(1);
const START_MAX: Duration = Duration::from_secs(30);
/// Keys written at once before reads are measured.
const FILLING: u64 = 256;

struct Cluster {
    nodes: Vec<Child>,
    _data: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn client_url(node: u16) -> String {
    format!("http://127.0.0.1:{}", BASE_PORT + node * 10)
}

fn peer_url(node: u16) -> String {
    format!("http://127.0.0.1:{}", BASE_PORT + node * 10 + 1)
}

fn start(binary: &Path) -> Result<Cluster> {
    let data = tempfile::tempdir()?;
    let members: Vec<_> = (0..NODES).map(|node| format!("n{node}={}", peer_url(node))).collect();
    let nodes = (0..NODES).map(|node| {
        Command::new(binary)
            .args(["--name", &format!("n{node}"), "--initial-cluster-state", "new"])
            .arg("--data-dir")
            .arg(data.path().join(format!("n{node}")))
            .args(["--listen-client-urls", &client_url(node)])
            .args(["--advertise-client-urls", &client_url(node)])
            .args(["--listen-peer-urls", &peer_url(node)])
            .args(["--initial-advertise-peer-urls", &peer_url(node)])
            .args(["--initial-cluster", &members.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {}", binary.display()))
    });
    Ok(Cluster { nodes: nodes.collect::<Result<_>>()?, _data: data })
}

/// The client address of the leader, once there is one.
async fn leader() -> Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < START_MAX {
        for node in 0..NODES {
            let asked = async {
                let mut client = Client::connect([client_url(node)], None).await?;
                client.status().await
            };
            if let Ok(Ok(status)) = tokio::time::timeout(Duration::from_secs(1), asked).await
                && let Some(header) = status.header()
                && status.leader() != 0
                && header.member_id() == status.leader()
            {
                return Ok(client_url(node));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("etcd has no leader after {START_MAX:?}")
}

fn key(number: u64) -> String {
    format!("bench/{number:010}")
}

pub async fn measure(binary: &Path, work: Work) -> Result<Figures> {
    let _cluster = start(binary)?;
    let leader = leader().await?;
    if !work.put {
        fill(&leader, work).await?;
    }
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(work.seconds);
    let value = Arc::new(vec![b'x'; work.value_bytes]);
    let mut workers = Vec::new();
    for connection in 0..work.clients.connections {
        let client = Client::connect([&leader], None).await?;
        for flight in 0..work.clients.in_flight {
            let number = connection * work.clients.in_flight + flight;
            // A clone shares the connection.
            let (client, value) = (client.clone(), Arc::clone(&value));
            workers.push(tokio::spawn(async move {
                work_on(client, number, work, &value, from, until).await
            }));
        }
    }
    let mut latencies = histogram()?;
    for worker in workers {
        latencies.add(worker.await??)?;
    }
    Ok(Figures {
        per_second: latencies.len() as f64 / work.seconds as f64,
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
    })
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

async fn work_on(
    client: Client,
    number: u32,
    work: Work,
    value: &[u8],
    from: Instant,
    until: Instant,
) -> Result<Histogram<u64>> {
    let mut latencies = histogram()?;
    let mut random = SmallRng::seed_from_u64(number.into());
    let mut kv = client.kv_client();
    loop {
        let begun = Instant::now();
        if begun >= until {
            return Ok(latencies);
        }
        let key = key(random.random_range(0..work.keys));
        if work.put {
            kv.put(key, value.to_vec(), None).await?;
        } else {
            kv.get(key, None).await?;
        }
        let ended = Instant::now();
        if begun >= from && ended <= until {
            let micros = u64::try_from((ended - begun).as_micros()).unwrap_or(u64::MAX);
            latencies.saturating_record(micros.max(1));
        }
    }
}

async fn fill(leader: &str, work: Work) -> Result<()> {
    let client = Client::connect([leader], None).await?;
    let mut fillers = Vec::new();
    for filler in 0..FILLING {
        let mut kv = client.kv_client();
        fillers.push(tokio::spawn(async move {
            for number in (filler..work.keys).step_by(usize::try_from(FILLING).unwrap_or(1)) {
                kv.put(key(number), vec![b'x'; work.value_bytes], None).await?;
            }
            anyhow::Ok(())
        }));
    }
    for filler in fillers {
        filler.await??;
    }
    Ok(())
}
