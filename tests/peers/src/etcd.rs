//! Three nodes of etcd: keys, and locks by a transaction that creates a key where there is none, or,
//! where many wait for one, by etcd's own lock service.

use crate::closed_loop::{Figures, Lane, Span, run};
use crate::kv::{self, Kv};
use crate::processes::Processes;
use crate::work::{Job, Work};
use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, Compare, CompareOp, KvClient, LockClient, LockOptions, Txn, TxnOp};
use std::path::Path;
use std::process::Command;
use tokio::time::Instant;

/// Client and peer ports of the first node; the others follow in tens.
const BASE_PORT: u16 = 12_379;
const NODES: u16 = 3;
/// Longer than any measurement, so that nobody has to keep a lease alive.
const LEASE_SECONDS: i64 = 3_600;

fn client_url(node: u16) -> String {
    format!("http://127.0.0.1:{}", BASE_PORT + node * 10)
}

fn peer_url(node: u16) -> String {
    format!("http://127.0.0.1:{}", BASE_PORT + node * 10 + 1)
}

fn start(program: &Path) -> Result<Processes> {
    let ports: Vec<_> =
        (0..NODES).map(|node| BASE_PORT + node * 10).flat_map(|port| [port, port + 1]).collect();
    let mut processes = Processes::new(&ports)?;
    let members: Vec<_> = (0..NODES).map(|node| format!("n{node}={}", peer_url(node))).collect();
    for node in 0..NODES {
        let data = processes.dir().join(format!("n{node}"));
        let mut command = Command::new(program);
        command
            .args(["--name", &format!("n{node}"), "--initial-cluster-state", "new"])
            .arg("--data-dir")
            .arg(data)
            .args(["--listen-client-urls", &client_url(node)])
            .args(["--advertise-client-urls", &client_url(node)])
            .args(["--listen-peer-urls", &peer_url(node)])
            .args(["--initial-advertise-peer-urls", &peer_url(node)])
            .args(["--initial-cluster", &members.join(",")]);
        processes.start(&format!("etcd-{node}"), &mut command)?;
    }
    Ok(processes)
}

/// The client address of the leader, once there is one.
async fn leader(processes: &mut Processes) -> Result<String> {
    let leader = async || {
        for node in 0..NODES {
            let mut client = Client::connect([client_url(node)], None).await?;
            let status = client.status().await?;
            let member = status.header().map(|header| header.member_id());
            if status.leader() != 0 && member == Some(status.leader()) {
                return Ok(client_url(node));
            }
        }
        bail!("no leader yet")
    };
    processes.answer("etcd", leader).await
}

pub(crate) async fn measure(program: &Path, job: &Job) -> Result<Figures> {
    let mut processes = start(program)?;
    let leader = leader(&mut processes).await?;
    let mut clients = Vec::new();
    for _ in 0..job.clients().connections {
        clients.push(Client::connect([&leader], None).await?);
    }
    let figures = match job.work {
        Work::Put | Work::Get => {
            let in_flight = job.clients().in_flight;
            // A clone shares the connection.
            let lanes =
                clients.iter().flat_map(|client| (0..in_flight).map(|_| client.kv_client()));
            kv::measure(lanes.collect(), job).await
        }
        Work::Lock => locks(&clients, job).await,
        Work::Contended => contended(&clients, job).await,
        Work::Queue | Work::Bus | Work::Cache => bail!("etcd has no {}", job.work.name()),
    };
    processes.check()?;
    figures
}

impl Kv for KvClient {
    async fn put(&mut self, key: String, value: Vec<u8>) -> Result<()> {
        KvClient::put(self, key, value, None).await?;
        Ok(())
    }

    async fn get(&mut self, key: String) -> Result<bool> {
        Ok(!KvClient::get(self, key, None).await?.kvs().is_empty())
    }
}

async fn locks(clients: &[Client], job: &Job) -> Result<Figures> {
    let in_flight = job.clients().in_flight;
    let lanes = clients.iter().zip(0_u32..).flat_map(|(client, number)| {
        (0..in_flight).map(move |lane| OwnLock {
            kv: client.kv_client(),
            name: format!("bench/lock/{number}/{lane}"),
        })
    });
    run(lanes.collect(), Span::after_warm_up(job.seconds)).await
}

/// A key that is created where there is none, and deleted. It has no lease, so a holder that dies
/// holds it for ever: less than a lock of Quorate does.
struct OwnLock {
    kv: KvClient,
    name: String,
}

impl Lane for OwnLock {
    async fn operate(&mut self) -> Result<Instant> {
        let name = self.name.as_str();
        let acquire = Txn::new()
            .when([Compare::create_revision(name, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(name, "held", None)]);
        let acquired = self.kv.txn(acquire).await.context("an acquire failed")?;
        ensure!(acquired.succeeded(), "somebody else holds {name}");
        let released = self.kv.delete(name, None).await.context("a release failed")?;
        ensure!(released.deleted() == 1, "{name} was not held any more");
        Ok(Instant::now())
    }
}

async fn contended(clients: &[Client], job: &Job) -> Result<Figures> {
    let mut lanes = Vec::new();
    for client in clients {
        let lease = client.lease_client().grant(LEASE_SECONDS, None).await?.id();
        lanes.push(Contender { locks: client.lock_client(), lease });
    }
    run(lanes, Span::after_warm_up(job.seconds)).await
}

/// Waits in line for the one lock, as etcd's lock service does it: a key of one's own, and a watch of
/// the one before.
struct Contender {
    locks: LockClient,
    lease: i64,
}

impl Lane for Contender {
    async fn operate(&mut self) -> Result<Instant> {
        let options = LockOptions::new().with_lease(self.lease);
        let held =
            self.locks.lock("bench/lock", Some(options)).await.context("an acquire failed")?;
        let held_at = Instant::now();
        self.locks.unlock(held.key()).await.context("a release failed")?;
        Ok(held_at)
    }
}
