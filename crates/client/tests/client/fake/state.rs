//! What the scripted nodes share: numbers, sessions and remembered answers. It keeps the rules of
//! the real state machine as far as a client can break them, and panics when one does.

use super::bus::Channels;
use super::cache::Caches;
use super::node::{Act, Sent};
use super::queue::Queues;
use quorate_proto::v1::{IncrementResponse, Origin, WatchRequest};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use tonic::{Code, Status};

const WINDOW: u64 = 1_024;

#[derive(Default)]
pub(crate) struct State(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    numbers: BTreeMap<Vec<u8>, i64>,
    applied: u64,
    sessions: BTreeMap<u64, Session>,
    opened: BTreeMap<Vec<u8>, u64>,
    last_session: u64,
    keyed: BTreeMap<Vec<u8>, (Vec<u8>, IncrementResponse)>,
    scripts: BTreeMap<&'static str, VecDeque<Act>>,
    requests: u64,
    members: Vec<String>,
    violations: Vec<String>,
    watch_scripts: VecDeque<Vec<Sent>>,
    /// Watches that were begun, and where.
    watches: Vec<(String, WatchRequest)>,
    queues: Queues,
    channels: Channels,
    caches: Caches,
}

#[derive(Default)]
struct Session {
    floor: u64,
    answers: BTreeMap<u64, (Vec<u8>, IncrementResponse)>,
}

impl State {
    pub(crate) fn number(&self, key: impl AsRef<[u8]>) -> i64 {
        self.with(|tables| tables.numbers.get(key.as_ref()).copied().unwrap_or(0))
    }

    pub(crate) fn sessions_opened(&self) -> u64 {
        self.with(|tables| tables.last_session)
    }

    pub(crate) fn sessions_open(&self) -> Vec<u64> {
        self.with(|tables| tables.sessions.keys().copied().collect())
    }

    pub(crate) fn floor(&self, session: u64) -> u64 {
        self.with(|tables| tables.sessions[&session].floor)
    }

    pub(crate) fn expire_sessions(&self) {
        self.with(|tables| tables.sessions.clear());
    }

    pub(crate) fn set_members<const N: usize>(&self, members: [&str; N]) {
        self.with(|tables| tables.members = members.map(str::to_owned).to_vec());
    }

    pub(crate) fn members(&self) -> Vec<String> {
        self.with(|tables| tables.members.clone())
    }

    /// Rules the client broke: must be empty at the end of every test that can break them.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.with(|tables| tables.violations.clone())
    }

    pub(super) fn script(&self, method: &'static str, acts: impl IntoIterator<Item = Act>) {
        self.with(|tables| tables.scripts.entry(method).or_default().extend(acts));
    }

    pub(super) fn next_act(&self, method: &str) -> Option<Act> {
        self.with(|tables| tables.scripts.get_mut(method)?.pop_front())
    }

    pub(super) fn next_request(&self) -> u64 {
        self.with(|tables| {
            tables.requests += 1;
            tables.requests
        })
    }

    pub(super) fn open(&self, origin: &Origin) -> u64 {
        self.with(|tables| {
            let key = origin.idempotency_key.to_vec();
            if key.is_empty() || origin.session_id != 0 {
                tables.violations.push(format!("a session was opened by {origin:?}"));
            }
            if let Some(id) = tables.opened.get(&key) {
                return *id;
            }
            tables.last_session += 1;
            let id = tables.last_session;
            tables.opened.insert(key, id);
            tables.sessions.insert(id, Session { floor: 1, ..Session::default() });
            id
        })
    }

    pub(super) fn close(&self, session: u64) -> bool {
        self.with(|tables| tables.sessions.remove(&session).is_some())
    }

    pub(super) fn lives(&self, session: u64) -> Result<(), Status> {
        let lives = self.with(|tables| tables.sessions.contains_key(&session));
        lives.then_some(()).ok_or_else(expired)
    }

    pub(super) fn increment(
        &self,
        origin: &Origin,
        key: &[u8],
        by: i64,
    ) -> Result<IncrementResponse, Status> {
        self.with(|tables| tables.increment(origin, key, by))
    }

    /// The next watch, wherever it begins, is sent this.
    pub(crate) fn script_watch(&self, sent: Vec<Sent>) {
        self.with(|tables| tables.watch_scripts.push_back(sent));
    }

    pub(crate) fn watches(&self) -> Vec<(String, WatchRequest)> {
        self.with(|tables| tables.watches.clone())
    }

    pub(super) fn begin_watch(&self, addr: &str, request: WatchRequest) -> Vec<Sent> {
        self.with(|tables| {
            tables.watches.push((addr.to_owned(), request));
            tables.watch_scripts.pop_front().unwrap_or_default()
        })
    }

    pub(super) fn queues<T>(&self, act: impl FnOnce(&mut Queues) -> T) -> T {
        self.with(|tables| act(&mut tables.queues))
    }

    pub(super) fn channels<T>(&self, act: impl FnOnce(&mut Channels) -> T) -> T {
        self.with(|tables| act(&mut tables.channels))
    }

    pub(super) fn caches<T>(&self, act: impl FnOnce(&mut Caches) -> T) -> T {
        self.with(|tables| act(&mut tables.caches))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Tables) -> T) -> T {
        act(&mut self.0.lock().expect("lock"))
    }
}

impl Tables {
    fn increment(
        &mut self,
        origin: &Origin,
        key: &[u8],
        by: i64,
    ) -> Result<IncrementResponse, Status> {
        let Origin { session_id, sequence, floor, idempotency_key, .. } = origin;
        if *session_id == 0 {
            if idempotency_key.is_empty() {
                return Ok(self.apply(key, by));
            }
            if let Some((request, answer)) = self.keyed.get(&idempotency_key[..]) {
                if request != key {
                    self.violations.push(format!("{idempotency_key:?} names two requests"));
                }
                return Ok(*answer);
            }
            let answer = self.apply(key, by);
            self.keyed.insert(idempotency_key.to_vec(), (key.to_vec(), answer));
            return Ok(answer);
        }
        let Some(session) = self.sessions.get_mut(session_id) else { return Err(expired()) };
        session.floor = session.floor.max(*floor);
        session.answers = session.answers.split_off(&session.floor);
        if !(*floor..floor + WINDOW).contains(sequence) {
            self.violations.push(format!("{sequence} is not in [{floor}, {floor} + {WINDOW})"));
        }
        if *sequence < session.floor {
            return Err(super::status(
                Code::FailedPrecondition,
                super::NOT_APPLIED,
                "SEQUENCE_TOO_OLD",
            ));
        }
        if let Some((request, answer)) = session.answers.get(sequence) {
            if request != key {
                self.violations.push(format!("{session_id}/{sequence} names two requests"));
            }
            return Ok(*answer);
        }
        let answer = self.apply(key, by);
        let session = self.sessions.get_mut(session_id).expect("it was there");
        session.answers.insert(*sequence, (key.to_vec(), answer));
        Ok(answer)
    }

    fn apply(&mut self, key: &[u8], by: i64) -> IncrementResponse {
        self.applied += 1;
        let number = self.numbers.entry(key.to_vec()).or_default();
        *number += by;
        IncrementResponse { value: *number, version: 1, revision: self.applied, group_id: 0 }
    }
}

fn expired() -> Status {
    super::status(Code::NotFound, super::NOT_APPLIED, "SESSION_EXPIRED")
}
