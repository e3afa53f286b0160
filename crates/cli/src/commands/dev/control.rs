//! `--test-control`: an HTTP server on loopback through which a test does to the cluster what goes wrong
//! in one. Its path is a secret, so that no web page and no other user of the machine can guess it.

use super::fleet::Layout;
use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quorate_client::{Client, Role, Routing, Status};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// Calls at once: a test makes one after another.
const CALLS_MAX: usize = 16;
/// How long a node may take to say what it knows.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks at the cluster.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a leader is waited for, and a healthy cluster unless more is said.
const WAIT: Duration = Duration::from_secs(30);
/// The longest wait.
const WAIT_SECONDS_MAX: u64 = 600;

/// What is done to the processes, one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Status,
    Kill(u16),
    Restart(u16),
    Pause(u16),
    Resume(u16),
    /// Cuts these off from all others; none: heals.
    Cut(BTreeSet<u16>),
    Stop,
}

/// A call that somebody waits for.
pub(super) struct Asked {
    pub(super) call: Call,
    pub(super) answer: oneshot::Sender<Result<Value, Refused>>,
}

/// Why a call was not done.
#[derive(Debug)]
pub(super) struct Refused(StatusCode, String);

impl Refused {
    pub(super) fn missing(why: String) -> Self {
        Self(StatusCode::NOT_FOUND, why)
    }

    pub(super) fn conflict(why: String) -> Self {
        Self(StatusCode::CONFLICT, why)
    }

    pub(super) fn failed(node: u16, what: &str, why: &impl Display) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("node {node} can't be {what}: {why}"))
    }

    fn wrong(why: String) -> Self {
        Self(StatusCode::BAD_REQUEST, why)
    }

    fn late(why: String) -> Self {
        Self(StatusCode::GATEWAY_TIMEOUT, why)
    }
}

/// The server.
pub(super) struct Control {
    url: String,
    asked: mpsc::Receiver<Asked>,
}

impl Control {
    pub(super) async fn start(layout: &Layout) -> Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
        let listener = listener.context("can't listen for test control")?;
        let address = listener.local_addr().context("can't listen for test control")?;
        let secret = format!("{:032x}", rand::random::<u128>());
        let url = format!("http://{address}/{secret}");
        let (ask, asked) = mpsc::channel(CALLS_MAX);
        let endpoints = (1..=layout.nodes).map(|id| (id, layout.address(id, 0)));
        let served = Arc::new(Served {
            secret,
            ask,
            endpoints: endpoints.collect(),
            room: Semaphore::new(CALLS_MAX),
        });
        let routes = Router::new().fallback(serve).with_state(served);
        // It ends with this process's runtime.
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { url, asked })
    }

    /// Where it is; whoever knows it may do everything.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What is to be done next.
    pub(super) async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // Its server has ended.
            None => std::future::pending().await,
        }
    }
}

struct Served {
    secret: String,
    ask: mpsc::Sender<Asked>,
    /// Where clients find the nodes.
    endpoints: BTreeMap<u16, String>,
    room: Semaphore,
}

/// What each running node says, by its id.
type Views = BTreeMap<u16, Status>;

async fn serve(State(served): State<Arc<Served>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut words = path.trim_start_matches('/').split('/');
    // Of the same length, so that only the number of equal characters could be measured, over a pipe of
    // this machine, of 32 random ones.
    if words.next() != Some(&served.secret) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let done = match served.room.try_acquire() {
        Ok(_room) => served.call(request.method(), &words.collect::<Vec<_>>()).await,
        Err(_) => {
            let why = format!("{CALLS_MAX} calls are under way; wait for one");
            Err(Refused(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    };
    let (status, body) = match done {
        Ok(done) => (StatusCode::OK, done),
        Err(Refused(status, why)) => (status, json!({ "error": why })),
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, format!("{body}\n")).into_response()
}

impl Served {
    async fn call(&self, method: &Method, words: &[&str]) -> Result<Value, Refused> {
        let expected = if words == ["status"] { Method::GET } else { Method::POST };
        if method != expected {
            let why = format!("/{} is called with {expected}, not with {method}", words.join("/"));
            return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, why));
        }
        match words {
            ["status"] => self.status().await,
            ["kill-leader"] => self.kill_leader().await,
            ["kill", node] => self.ask(Call::Kill(id(node)?)).await,
            ["restart", node] => self.ask(Call::Restart(id(node)?)).await,
            ["pause", node] => self.ask(Call::Pause(id(node)?)).await,
            ["resume", node] => self.ask(Call::Resume(id(node)?)).await,
            ["partition", nodes] => {
                let side = nodes.split(',').map(id).collect::<Result<_, _>>()?;
                self.ask(Call::Cut(side)).await
            }
            ["heal"] => self.ask(Call::Cut(BTreeSet::new())).await,
            ["await-healthy"] => self.await_healthy(WAIT).await,
            ["await-healthy", seconds] => {
                let seconds = seconds.parse().ok().filter(|s| (1..=WAIT_SECONDS_MAX).contains(s));
                let wrong = || format!("a wait has 1 to {WAIT_SECONDS_MAX} whole seconds");
                let seconds = seconds.ok_or_else(|| Refused::wrong(wrong()))?;
                self.await_healthy(Duration::from_secs(seconds)).await
            }
            ["stop"] => self.ask(Call::Stop).await,
            _ => Err(Refused::missing(format!(
                "there is no /{}; there are GET /status, and POST /kill-leader, /kill/ID, /restart/ID, \
                 /pause/ID, /resume/ID, /partition/ID,ID, /heal, /await-healthy/SECONDS and /stop",
                words.join("/")
            ))),
        }
    }

    async fn ask(&self, call: Call) -> Result<Value, Refused> {
        let (answer, answered) = oneshot::channel();
        let stopping = || Refused::conflict("the cluster stops".to_owned());
        self.ask.send(Asked { call, answer }).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    async fn status(&self) -> Result<Value, Refused> {
        let mut status = self.ask(Call::Status).await?;
        let leader = self.leader(&status, &self.views(&status).await);
        status["leader"] = json!(leader);
        Ok(status)
    }

    async fn kill_leader(&self) -> Result<Value, Refused> {
        let until = Instant::now() + WAIT;
        loop {
            let status = self.ask(Call::Status).await?;
            let views = self.views(&status).await;
            if let Some(leader) = self.leader(&status, &views) {
                return self.ask(Call::Kill(leader)).await;
            }
            if Instant::now() > until {
                return Err(Refused::late(format!("no node leads; {}", told(&views))));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until all nodes that run and are not paused know one leader among them.
    async fn await_healthy(&self, wait: Duration) -> Result<Value, Refused> {
        let until = Instant::now() + wait;
        loop {
            let status = self.ask(Call::Status).await?;
            let awake = awake(&status);
            let views = self.views(&status).await;
            if let Some(leader) = self.leader(&status, &views)
                && awake.iter().all(|id| names(views.get(id), leader))
            {
                return Ok(json!({ "leader": leader, "nodes": awake }));
            }
            if Instant::now() > until {
                let told = told(&views);
                let why = format!("not healthy within {wait:?}: nodes {awake:?} run; {told}");
                return Err(Refused::late(why));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What the nodes say that run and are not paused; nothing, those that do not answer.
    async fn views(&self, status: &Value) -> Views {
        let asked = awake(status).into_iter().map(|id| async move {
            let client = Client::builder()
                .endpoints(self.endpoints.get(&id).cloned())
                .routing(Routing::Endpoints)
                .request_timeout(ASK_TIMEOUT)
                .one_shot(true)
                .connect()
                .ok()?;
            // A node without a leader takes its time to answer for the others.
            let status = timeout(ASK_TIMEOUT, client.cluster().status()).await.ok()?.ok()?;
            Some((id, status))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// The node that says in the highest term that it leads, when a majority that it reaches agrees.
    fn leader(&self, status: &Value, views: &Views) -> Option<u16> {
        let leads = |(id, view): (&u16, &Status)| {
            let own = view.nodes.iter().find(|node| node.node_id == u64::from(*id))?;
            (own.role == Role::Leader).then_some((own.term, *id))
        };
        let (_, leader) = views.iter().filter_map(leads).max()?;
        let cut_off = &status["nodes"][usize::from(leader) - 1]["cut_off"];
        let reached = |id: &u16| !cut_off.as_array().is_some_and(|ids| ids.contains(&json!(id)));
        let follow = views.iter().filter(|(id, view)| reached(id) && names(Some(view), leader));
        (follow.count() > self.endpoints.len() / 2).then_some(leader)
    }
}

fn names(view: Option<&Status>, leader: u16) -> bool {
    view.is_some_and(|view| view.leader_id == Some(u64::from(leader)))
}

/// The nodes that run and are not paused.
fn awake(status: &Value) -> Vec<u16> {
    let nodes = status["nodes"].as_array().into_iter().flatten();
    let awake = nodes.filter(|node| node["running"] == true && node["paused"] == false);
    awake.filter_map(|node| u16::try_from(node["id"].as_u64()?).ok()).collect()
}

fn told(views: &Views) -> String {
    let told = views.iter().map(|(id, view)| match view.leader_id {
        Some(leader) => format!("node {id} says that {leader} leads"),
        None => format!("node {id} knows no leader"),
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() { "none of them answers".to_owned() } else { told.join(", ") }
}

fn id(word: &str) -> Result<u16, Refused> {
    word.parse().map_err(|_| Refused::wrong(format!("{word:?} is no node id")))
}
