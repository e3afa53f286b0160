//! The calls of scenarios, made with the Rust client.

use super::kept::{Kept, KeptLock, Shelf};
use super::{queue, txn};
use quorate_client::bus::{BusEvent, Content, RespondError};
use quorate_client::cache::{BuildError, BuildOptions, Source};
use quorate_client::kv::{Change, DeleteCause};
use quorate_client::{Client, Error, LockGuard};
use quorate_testkit::process::{NodeId, ProcessCluster};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Far more than an election takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a call of a scenario is given.
pub(super) type With = Map<String, Value>;

/// Why a step has no result.
pub(super) enum Failure {
    /// The call failed, as both clients name it.
    Call { kind: String, reason: String, message: String },
    /// The scenario makes no sense, or something around it failed.
    Scenario(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { kind, reason, message } => write!(f, "{kind}/{reason}: {message}"),
            Self::Scenario(why) => f.write_str(why),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // The name of the variant is that of the kind.
        let shown = format!("{error:?}");
        let kind = shown.split([' ', '{']).next().unwrap_or_default().to_owned();
        Self::Call { kind, reason: error.reason().to_owned(), message: error.message().to_owned() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Scenario(format!("{error:#}"))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Scenario(format!("no JSON came: {error}"))
    }
}

pub(super) type Came = Result<Value, Failure>;

/// One run of one scenario.
pub(super) struct Scenario {
    cluster: Arc<Mutex<ProcessCluster>>,
    namespace: String,
    endpoints: Vec<String>,
    clients: Mutex<BTreeMap<String, Client>>,
    pub(super) shelf: Shelf,
    killed: Mutex<Option<NodeId>>,
}

impl Scenario {
    pub(super) async fn new(cluster: Arc<Mutex<ProcessCluster>>, namespace: String) -> Self {
        let endpoints = cluster.lock().await.endpoints();
        let (clients, shelf, killed) = (Mutex::default(), Shelf::default(), Mutex::default());
        Self { cluster, namespace, endpoints, clients, shelf, killed }
    }

    /// Ends the sessions.
    pub(super) async fn end(&self) {
        for client in self.clients.lock().await.values() {
            // What can't be ended ends with its ttl.
            drop(client.close().await);
        }
    }

    async fn client(&self, name: &str) -> Result<Client, Failure> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(name) {
            return Ok(client.clone());
        }
        let options = Client::builder().endpoints(self.endpoints.clone());
        let client = options.namespace(&*self.namespace).request_timeout(PATIENCE).connect()?;
        clients.insert(name.to_owned(), client.clone());
        Ok(client)
    }

    pub(super) async fn call(&self, call: &str, with: &With, by: &str, name: Option<&str>) -> Came {
        let client = self.client(by).await?;
        match call.split_once('.').unwrap_or((call, "")) {
            ("kv", call) => self.kv(&client, call, with, name).await,
            ("watch", "next") => self.watch_next(with).await,
            ("cache", call) => cache(&client, call, with).await,
            ("queue", call) => queue::call(self, &client, call, with, name).await,
            ("consumer", call) => queue::consumer(self, &client, call, with, name).await,
            ("lock", call) => self.lock(&client, call, with, name).await,
            ("bus", call) => self.bus(&client, call, with, name).await,
            ("subscription", "next") => self.subscription_next(with).await,
            ("txn", "commit") => txn::commit(&client, with).await,
            ("client", "close") => {
                client.close().await?;
                self.clients.lock().await.remove(by);
                Ok(Value::Null)
            }
            ("cluster", call) => self.cluster(call).await,
            _ => Err(Failure::Scenario(format!("there is no call {call}"))),
        }
    }

    /// The lock that a mutation is guarded by, if it is.
    pub(super) async fn guard(&self, with: &With) -> Result<Option<LockGuard>, Failure> {
        let Some(name) = with.get("guard").and_then(Value::as_str) else { return Ok(None) };
        match &*self.shelf.get(name)?.lock().await {
            Kept::Lock(kept) => Ok(Some(kept.guard.clone())),
            _ => Err(Failure::Scenario(format!("{name} is no lock"))),
        }
    }

    async fn kv(&self, client: &Client, call: &str, with: &With, name: Option<&str>) -> Came {
        let kv = client.kv();
        let (key, pattern) = (text(with, "key"), text(with, "pattern"));
        let by = with.get("by");
        Ok(match call {
            "set" => {
                let mut set = kv.set(key, bytes(&with["value"]));
                if let Some(ttl) = millis(with, "ttl_ms") {
                    set = set.ttl(ttl);
                }
                if let Some(version) = with.get("if_version").and_then(Value::as_u64) {
                    set = set.if_version(version);
                }
                if is(with, "if_absent") {
                    set = set.if_absent();
                }
                if is(with, "ephemeral") {
                    set = set.ephemeral();
                }
                if let Some(guard) = self.guard(with).await? {
                    set = set.guard(&guard);
                }
                json!({ "version": set.await?.version })
            }
            "get" => match kv.get(key).await? {
                Some(entry) => serde_json::from_slice(&entry.value)?,
                None => Value::Null,
            },
            "entry" => match kv.get(key).await? {
                Some(entry) => json!({
                    "value": serde_json::from_slice::<Value>(&entry.value)?,
                    "version": entry.version,
                    "ttl": entry.remaining_ttl.is_some(),
                }),
                None => Value::Null,
            },
            "delete" => {
                let mut delete = kv.delete(key);
                if let Some(version) = with.get("if_version").and_then(Value::as_u64) {
                    delete = delete.if_version(version);
                }
                delete.await?.deleted.into()
            }
            "increment" => {
                let by = by.and_then(Value::as_i64).unwrap_or(1);
                kv.increment(key, by).await?.value.into()
            }
            "increment_float" => {
                let by = by.and_then(Value::as_f64).unwrap_or(1.0);
                kv.increment_float(key, by).await?.value.into()
            }
            "list" => {
                let (mut found, mut after) = (Map::new(), None);
                loop {
                    let mut list = kv.list(pattern);
                    if let Some(cursor) = after {
                        list = list.after(cursor);
                    }
                    let page = list.await?;
                    for entry in page.entries {
                        let key = String::from_utf8_lossy(&entry.key).into_owned();
                        found.insert(key, serde_json::from_slice(&entry.value)?);
                    }
                    after = page.cursor;
                    if after.is_none() {
                        break found.into();
                    }
                }
            }
            "count" => kv.list(pattern).count().await?.into(),
            "delete_pattern" => kv.delete_pattern(pattern).await?.deleted.into(),
            "watch" => {
                let watch = Box::new(kv.watch(pattern).start().await?);
                self.shelf.put(name, Kept::Watch { watch, events: VecDeque::new() });
                Value::Null
            }
            _ => return Err(Failure::Scenario(format!("there is no call kv.{call}"))),
        })
    }

    async fn watch_next(&self, with: &With) -> Came {
        let kept = self.shelf.get(text(with, "watch"))?;
        let mut kept = kept.lock().await;
        let Kept::Watch { watch, events } = &mut *kept else {
            return Err(Failure::Scenario("it is no watch".to_owned()));
        };
        let count = usize::try_from(with["count"].as_u64().unwrap_or(1)).unwrap_or(1);
        while events.len() < count {
            let over = || Failure::Scenario("the watch is over".to_owned());
            events.extend(watch.next().await.ok_or_else(over)??.events);
        }
        let shown = events.drain(..count).map(|event| {
            let key = String::from_utf8_lossy(&event.key).into_owned();
            Ok(match event.change {
                Change::Set { value, .. } => {
                    json!({ "set": key, "value": serde_json::from_slice::<Value>(&value)? })
                }
                Change::Deleted { cause, .. } => {
                    let cause = match cause {
                        DeleteCause::Deleted => "deleted",
                        DeleteCause::Expired => "expired",
                        DeleteCause::SessionEnded => "session-ended",
                        _ => "other",
                    };
                    json!({ "deleted": key, "cause": cause })
                }
                _ => Value::Null,
            })
        });
        shown.collect()
    }

    async fn lock(&self, client: &Client, call: &str, with: &With, name: Option<&str>) -> Came {
        let locks = client.locks();
        if call == "acquire" {
            let mut acquire = locks.acquire(text(with, "lock"));
            if let Some(wait) = millis(with, "wait_ms") {
                acquire = acquire.wait(wait);
            }
            if let Some(ttl) = millis(with, "ttl_ms") {
                acquire = acquire.ttl(ttl);
            }
            if is(with, "shared") {
                acquire = acquire.shared();
            }
            if let Some(permits) = with.get("permits").and_then(Value::as_u64) {
                acquire = acquire.permits(u32::try_from(permits).unwrap_or(u32::MAX));
            }
            let lock = acquire.await?;
            let guard = lock.guard();
            self.shelf.put(name, Kept::Lock(KeptLock { lock: Some(lock), guard }));
            return Ok(Value::Null);
        }
        if call == "inspect" {
            let state = locks.inspect(text(with, "lock")).await?;
            return Ok(json!({ "holders": state.holders.len(), "waiters": state.waiters }));
        }
        let kept = self.shelf.get(text(with, "held"))?;
        let mut kept = kept.lock().await;
        let Kept::Lock(held) = &mut *kept else {
            return Err(Failure::Scenario("it is no lock".to_owned()));
        };
        match call {
            "release" => match held.lock.take() {
                Some(lock) => Ok(lock.release().await?.into()),
                None => Ok(false.into()),
            },
            "is_lost" => Ok(held.lock.as_ref().is_none_or(|lock| lock.is_lost()).into()),
            "is_newer" => {
                let than = self.shelf.get(text(with, "than"))?;
                match &*than.lock().await {
                    Kept::Lock(than) => {
                        Ok((held.guard.fencing_token > than.guard.fencing_token).into())
                    }
                    _ => Err(Failure::Scenario("it is no lock".to_owned())),
                }
            }
            _ => Err(Failure::Scenario(format!("there is no call lock.{call}"))),
        }
    }

    async fn bus(&self, client: &Client, call: &str, with: &With, name: Option<&str>) -> Came {
        let bus = client.bus();
        let channel = text(with, "channel");
        match call {
            "subscribe" => {
                let mut subscribe = bus.subscribe(texts(&with["patterns"]));
                if let Some(group) = with.get("queue_group").and_then(Value::as_str) {
                    subscribe = subscribe.queue_group(group);
                }
                let subscription = subscribe.start().await?;
                self.shelf.put(name, Kept::Subscription(Box::new(subscription)));
                Ok(Value::Null)
            }
            "publish" => {
                let published = bus.publish(channel, Content::of_json(&with["message"])?).await?;
                Ok(json!({ "subscribers": published.subscribers }))
            }
            "request" => {
                let answer = bus.request(channel, Content::of_json(&with["message"])?).await?;
                Ok(answer.json()?)
            }
            "respond" => {
                let answer = with["answer"].clone();
                let responder = bus.respond(channel, "responders", move |message| {
                    let answer = answer.clone();
                    async move {
                        let to: Value = message.json()?;
                        let content = Content::of_json(&json!({ "answer": answer, "to": to }))?;
                        Ok::<_, RespondError>(content)
                    }
                });
                let responder = responder.start().await?;
                self.shelf.put(name, Kept::Responder(Box::new(responder)));
                Ok(Value::Null)
            }
            _ => Err(Failure::Scenario(format!("there is no call bus.{call}"))),
        }
    }

    async fn subscription_next(&self, with: &With) -> Came {
        let kept = self.shelf.get(text(with, "subscription"))?;
        let mut kept = kept.lock().await;
        let Kept::Subscription(subscription) = &mut *kept else {
            return Err(Failure::Scenario("it is no subscription".to_owned()));
        };
        let mut messages = Vec::new();
        while (messages.len() as u64) < with["count"].as_u64().unwrap_or(1) {
            let over = || Failure::Scenario("the subscription is over".to_owned());
            if let BusEvent::Message(message) = subscription.next().await.ok_or_else(over)?? {
                let content: Value = message.json()?;
                messages.push(json!({ "channel": message.channel, "message": content }));
            }
        }
        Ok(messages.into())
    }

    async fn cluster(&self, call: &str) -> Came {
        let mut cluster = self.cluster.lock().await;
        match call {
            "kill_leader" => {
                let leader = cluster.wait_ready().await?;
                cluster.kill(leader).await?;
                *self.killed.lock().await = Some(leader);
            }
            "restart" => {
                let killed = self.killed.lock().await.take();
                let nothing = || Failure::Scenario("nothing was killed".to_owned());
                cluster.restart(killed.ok_or_else(nothing)?).await?;
            }
            "await_healthy" => drop(cluster.wait_ready().await?),
            _ => return Err(Failure::Scenario(format!("there is no call cluster.{call}"))),
        }
        Ok(Value::Null)
    }
}

async fn cache(client: &Client, call: &str, with: &With) -> Came {
    let cache = client.cache();
    let key = text(with, "key");
    Ok(match call {
        "set" => {
            let mut set = cache.set(key, bytes(&with["value"]));
            if let Some(ttl) = millis(with, "ttl_ms") {
                set = set.ttl(ttl);
            }
            if let Some(stale) = millis(with, "stale_for_ms") {
                set = set.stale_for(stale);
            }
            set.tags(with.get("tags").map(texts).unwrap_or_default()).await?;
            Value::Null
        }
        "get" => match cache.get(key).await? {
            Some(entry) => serde_json::from_slice(&entry.value)?,
            None => Value::Null,
        },
        "delete" => cache.delete(key).await?.deleted.into(),
        "delete_pattern" => cache.delete_pattern(text(with, "pattern")).await?.deleted.into(),
        "invalidate_tags" => {
            cache.invalidate_tags(texts(&with["tags"])).await?;
            Value::Null
        }
        "get_or_build" => {
            let (value, fail) = (with.get("build").cloned(), with.get("fail").cloned());
            let mut options = BuildOptions::new();
            if let Some(ttl) = millis(with, "ttl_ms") {
                options = options.ttl(ttl);
            }
            let build = move || {
                let (value, fail) = (value.clone(), fail.clone());
                async move {
                    match fail {
                        Some(text) => Err(text.as_str().unwrap_or_default().to_owned()),
                        None => Ok(bytes(&value.unwrap_or_default())),
                    }
                }
            };
            match cache.get_or_build(key, options, build).await {
                Ok(came) => json!({
                    "value": serde_json::from_slice::<Value>(&came.value)?,
                    "built": came.source == Source::Built,
                }),
                Err(BuildError::Client(error)) => return Err(error.into()),
                Err(BuildError::Build(message)) => {
                    let (kind, reason) = ("Build".to_owned(), String::new());
                    return Err(Failure::Call { kind, reason, message });
                }
                Err(error) => {
                    let (kind, reason) = ("BuildFailed".to_owned(), "BUILD_FAILED".to_owned());
                    return Err(Failure::Call { kind, reason, message: error.to_string() });
                }
            }
        }
        _ => return Err(Failure::Scenario(format!("there is no call cache.{call}"))),
    })
}

/// A text of what a call is given; empty when it is not there.
pub(super) fn text<'a>(with: &'a With, name: &str) -> &'a str {
    with.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn millis(with: &With, name: &str) -> Option<Duration> {
    with.get(name).and_then(Value::as_u64).map(Duration::from_millis)
}

pub(super) fn is(with: &With, name: &str) -> bool {
    with.get(name) == Some(&Value::Bool(true))
}

/// A value as it is stored.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
