//! Changes of members while everything goes wrong: a node takes the place of another, or one more joins
//! and one leaves. Each is done before the next begins, and all are in the end.

use super::clients::{self, AGAIN, ms, net, now};
use super::cluster::{Cluster, Identity, Machine, addr};
use super::journal::Journal;
use super::net::{CLIENT_PORT, Host, OPERATOR, PEER_PORT, Reach, SimNet};
use super::plan::Plan;
use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use quorate_client::{Client, Error, Members};
use quorate_proto::v1;
use quorate_proto::v1::cluster_service_client::ClusterServiceClient;
use quorate_state::{FeatureLevel, NodeId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

/// Of tokens with which nodes join: longer than any run.
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// How long one question of the operator may take.
const ASK: Duration = Duration::from_secs(2);

/// A change of members.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// A new node takes the place of the nth voter at once.
    Replace { which: usize },
    /// A new node takes the place of the leader at once.
    ReplaceLeader,
    /// One more joins, stays for so long, and the nth of the others leaves.
    GrowAndShrink { stays: Duration, which: usize },
}

/// A change, and when it is begun at the earliest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) change: Change,
}

/// Where the operator leaves what is to be started: only between its steps can a machine be started.
/// Clones are one and the same.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<Mutex<Vec<(usize, Identity)>>>);

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Identity)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be started now.
    pub(super) fn take(&self, mut can: impl FnMut(usize) -> bool) -> Vec<(usize, Identity)> {
        self.lock().extract_if(.., |(machine, _)| can(*machine)).collect()
    }

    fn put(&self, machine: usize, identity: Identity) {
        self.lock().push((machine, identity));
    }

    fn holds(&self, machine: usize) -> bool {
        self.lock().iter().any(|(other, _)| *other == machine)
    }
}

/// How far the changes of a run are.
pub(super) struct Changes {
    desk: Desk,
    planned: u32,
    /// Nodes that have joined or left, as planned.
    nodes: Arc<AtomicU32>,
    done: Arc<AtomicU32>,
}

impl Changes {
    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Nodes that have joined or left.
    pub(super) fn done(&self) -> u32 {
        self.nodes.load(Ordering::SeqCst)
    }

    /// Whether there is none to come.
    pub(super) fn are_done(&self) -> Result<(), String> {
        let done = self.done.load(Ordering::SeqCst);
        match done == self.planned {
            true => Ok(()),
            false => Err(format!("{done} of {} changes of members are done", self.planned)),
        }
    }
}

/// Puts the operator into the simulation, if there is anything to do.
pub(super) fn start(
    sim: &mut turmoil::Sim<'_>,
    cluster: &Cluster,
    plan: &Plan,
    journal: &Journal,
) -> Changes {
    let changes = Changes {
        desk: Desk::default(),
        planned: u32::try_from(plan.changes.len()).unwrap_or(u32::MAX),
        nodes: Arc::default(),
        done: Arc::default(),
    };
    if plan.changes.is_empty() {
        return changes;
    }
    let operator = Operator {
        machines: cluster.machines.clone(),
        reach: cluster.reach.clone(),
        desk: changes.desk.clone(),
        journal: journal.clone(),
        nodes: Arc::clone(&changes.nodes),
        rng: StdRng::seed_from_u64(plan.seeds.workload ^ 0x6f70_6572_6174_6f72),
    };
    let (planned, done) = (plan.changes.clone(), Arc::clone(&changes.done));
    sim.client(OPERATOR, Box::pin(operator.work(planned, done)));
    changes
}

struct Operator {
    machines: Vec<Arc<Machine>>,
    reach: Reach,
    desk: Desk,
    journal: Journal,
    nodes: Arc<AtomicU32>,
    rng: StdRng,
}

impl Operator {
    async fn work(mut self, planned: Vec<Planned>, done: Arc<AtomicU32>) -> turmoil::Result {
        for Planned { at, change } in planned {
            tokio::time::sleep(at.saturating_sub(now())).await;
            self.note(format_args!("begins: {change:?}"));
            match change {
                Change::Replace { which } => {
                    let old = self.some_voter(which, None).await;
                    self.replace(old).await;
                }
                Change::ReplaceLeader => {
                    let old = self.leader().await;
                    self.replace(old).await;
                }
                Change::GrowAndShrink { stays, which } => {
                    let new = self.joins(None).await;
                    tokio::time::sleep(stays).await;
                    let (old, machine) = self.some_voter(which, Some(new)).await;
                    self.leaves(old, &machine, true).await;
                }
            }
            done.fetch_add(1, Ordering::SeqCst);
            self.note(format_args!("is done: {change:?}"));
        }
        Ok(())
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.journal.write(now(), format_args!("operator: {what}"));
    }

    /// A client that knows those who are at work now: one that is made once may be of a time of which
    /// nobody is left.
    fn client(&mut self) -> Client {
        clients::auditor(OPERATOR, &self.reach, &mut self.rng).expect("its options are right")
    }

    /// Who is a member, as whoever answers knows it.
    async fn members(&mut self) -> Members {
        loop {
            let client = self.client();
            if let Ok(members) = client.cluster().timeout(ASK).members().await {
                return members;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn replace(&mut self, (old, machine): (u64, Arc<Machine>)) {
        self.joins(Some(old)).await;
        self.leaves(old, &machine, false).await;
    }

    async fn leader(&mut self) -> (u64, Arc<Machine>) {
        loop {
            let leader = self.members().await.leader_id;
            if let Some((leader, machine)) = leader.and_then(|id| Some((id, self.machine_of(id)?)))
            {
                return (leader, machine);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// A voter, and its machine.
    async fn some_voter(&mut self, which: usize, but: Option<u64>) -> (u64, Arc<Machine>) {
        loop {
            let members = self.members().await.members;
            let voters = members.iter().filter(|member| member.voter).map(|member| member.node_id);
            let voters: Vec<_> = voters.filter(|id| Some(*id) != but).collect();
            let voter = voters[which % voters.len()];
            // Whoever answered may not know yet that it is none any more.
            if let Some(machine) = self.machine_of(voter) {
                return (voter, machine);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn machine_of(&self, node: u64) -> Option<Arc<Machine>> {
        let is_there =
            |machine: &&Arc<Machine>| machine.is_at_work() && machine.identity().id == NodeId(node);
        self.machines.iter().find(is_there).map(Arc::clone)
    }

    /// Has a node join on a machine that stands by, in the place of another if one is given; answers its
    /// id once it votes.
    async fn joins(&mut self, replaces: Option<u64>) -> u64 {
        let machine = self.stand_by().await;
        let uuid = self.rng.random();
        let (new, cluster_id) = loop {
            let client = self.client();
            if let Ok(token) = client.cluster().timeout(ASK).invite(TOKEN_TTL, replaces).await
                && let Ok(joined) = self.ask_to_join(machine, uuid, &token).await
            {
                break joined;
            }
            tokio::time::sleep(AGAIN).await;
        };
        self.note(format_args!("node {new} joins on {}", self.machines[machine].host));
        self.desk.put(machine, Identity { id: NodeId(new), uuid, joins: Some(cluster_id) });
        while !self
            .members()
            .await
            .members
            .iter()
            .any(|member| member.node_id == new && member.voter)
        {
            tokio::time::sleep(ms(200)).await;
        }
        self.nodes.fetch_add(1, Ordering::SeqCst);
        self.note(format_args!("node {new} votes"));
        new
    }

    async fn stand_by(&self) -> usize {
        loop {
            let mut machines = self.machines.iter().enumerate();
            let stands_by =
                machines.find(|(nth, machine)| !machine.is_at_work() && !self.desk.holds(*nth));
            match stands_by {
                Some((nth, _)) => return nth,
                None => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// What a node does that is started with a token: until it is answered, and with the same uuid each
    /// time.
    async fn ask_to_join(&self, machine: usize, uuid: u128, token: &str) -> Result<(u64, String)> {
        let host = self.machines[machine].host;
        let request = v1::JoinRequest {
            group_id: 0,
            uuid: uuid.to_be_bytes().to_vec().into(),
            peer_addr: addr(host, PEER_PORT),
            client_addr: addr(host, CLIENT_PORT),
            token: token.to_owned(),
            learner: false,
            feature_level: FeatureLevel::NEWEST.0.into(),
        };
        let mut last = None;
        // The token is good for one node; whoever asks again is answered as before.
        for at in self.reach.nodes().into_iter().cycle().take(30) {
            match tokio::time::timeout(ASK, self.ask(at, request.clone())).await {
                Ok(Ok(joined)) => return Ok((joined.node_id, joined.cluster_id)),
                Ok(Err(error)) => last = Some(error),
                Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no node answers")))
    }

    async fn ask(&self, at: Host, request: v1::JoinRequest) -> Result<v1::JoinResponse> {
        let net = net(OPERATOR, &self.reach);
        let connector = service_fn(move |_: Uri| connect(net.clone(), at));
        let endpoint = Endpoint::from_static("http://node");
        let channel = endpoint.connect_with_connector(connector).await.context("no connection")?;
        Ok(ClusterServiceClient::new(channel).join(request).await?.into_inner())
    }

    /// That a node is no member, somebody may say who has not heard of it yet; a plan is in the log.
    async fn plan_to_remove(&mut self, node: u64) {
        loop {
            match self.client().cluster().timeout(ASK).remove(node).await {
                // Refused: it has left already, by a plan of which the outcome was unknown.
                Ok(()) | Err(Error::InvalidArgument { .. }) => return,
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Waits until a node has left, and has ended by itself; plans it first if that was not done yet.
    async fn leaves(&mut self, old: u64, machine: &Machine, plan: bool) {
        if plan {
            self.plan_to_remove(old).await;
        }
        while machine.is_at_work() && machine.identity().id == NodeId(old) {
            tokio::time::sleep(AGAIN).await;
        }
        self.nodes.fetch_add(1, Ordering::SeqCst);
        self.note(format_args!("node {old} has ended"));
    }
}

async fn connect(net: SimNet, at: Host) -> std::io::Result<TokioIo<Box<dyn quorate_client::Io>>> {
    let io = quorate_client::Dial::dial(&net, &addr(at, CLIENT_PORT)).await?;
    Ok(TokioIo::new(io))
}
