//! The naive model of locks: lists of who holds and who waits, gone through from the start each
//! time something changed.

use super::too_much;
use crate::query::{LockHolder, LockItem, TicketStanding};
use crate::{
    Attachment, FencingToken, HeldLock, LockGuard, LockRequest, Outcome, Rejection, Revision,
    Sequence, SessionId, Share, TicketId,
};
use std::collections::{BTreeMap, BTreeSet};

type Name = (String, String);

#[derive(Clone)]
struct Held {
    token: FencingToken,
    session: SessionId,
    share: Share,
    ttl_ms: u64,
    granted_ms: u64,
    revision: Revision,
}

#[derive(Clone)]
struct Ticket {
    session: SessionId,
    sequence: Sequence,
    name: Name,
    share: Share,
    ttl_ms: u64,
    deadline_ms: u64,
    place: Option<Attachment>,
    standing: Standing,
}

#[derive(Clone, PartialEq)]
enum Standing {
    Waits,
    Granted(FencingToken, Revision),
    TimedOut,
}

#[derive(Clone, Default)]
pub(super) struct Locks {
    token: u64,
    held: BTreeMap<Name, Vec<Held>>,
    tickets: BTreeMap<TicketId, Ticket>,
}

impl Locks {
    pub(super) fn guard(&self, namespace: &str, guard: &LockGuard) -> Result<(), Rejection> {
        check(&guard.name)?;
        let held = self.held.get(&name(namespace, &guard.name));
        match held.is_some_and(|held| held.iter().any(|one| one.token == guard.token)) {
            true => Ok(()),
            false => Err(Rejection::LockLost { name: guard.name.clone(), token: guard.token }),
        }
    }

    /// Whether a lock is held: under this token, or under any.
    pub(super) fn is_held(
        &self,
        namespace: &str,
        lock: &str,
        under: Option<FencingToken>,
    ) -> Result<bool, Rejection> {
        check(lock)?;
        let held = self.held.get(&name(namespace, lock)).map_or(&[][..], |held| &held[..]);
        Ok(held.iter().any(|one| under.is_none_or(|token| one.token == token)))
    }

    /// Under which the last grant was made.
    pub(super) fn newest_token(&self) -> FencingToken {
        FencingToken(self.token)
    }

    pub(super) fn acquire(
        &mut self,
        (now_ms, at): (u64, Revision),
        namespace: &str,
        (session, sequence): (SessionId, Sequence),
        request: &LockRequest,
        place: Attachment,
    ) -> Result<Outcome, Rejection> {
        check(&request.name)?;
        let ttl_ms = request.ttl_ms;
        if ttl_ms < 100 {
            let why = format!("the lock's ttl is {ttl_ms} ms, the least is 100 ms");
            return Err(Rejection::Invalid(why));
        }
        if ttl_ms > 3_600_000 {
            return Err(too_much("lock ttl in milliseconds", ttl_ms, 3_600_000));
        }
        if request.share == (Share::Permit { of: 0 }) {
            return Err(Rejection::Invalid("the lock has 0 permits; give 1 or more".to_owned()));
        }
        // It waits, and if it is the next in line it does not wait long.
        let id = TicketId(at.0);
        let ticket = Ticket {
            session,
            sequence,
            name: name(namespace, &request.name),
            share: request.share,
            ttl_ms,
            deadline_ms: now_ms + request.wait_ms.max(1),
            place: Some(place),
            standing: Standing::Waits,
        };
        let name = ticket.name.clone();
        self.tickets.insert(id, ticket);
        self.settle(now_ms, at, &name);
        if let Standing::Granted(token, revision) = self.tickets[&id].standing {
            self.tickets.remove(&id);
            return Ok(Outcome::LockAcquire { token, ttl_ms, revision });
        }
        if request.wait_ms == 0 {
            self.tickets.remove(&id);
            let token = self.held.get(&name).and_then(|held| held.first()).map(|one| one.token);
            return Err(Rejection::LockHeld { name: request.name.clone(), token });
        }
        Ok(Outcome::LockQueued { ticket: id })
    }

    pub(super) fn release(
        &mut self,
        (now_ms, at): (u64, Revision),
        namespace: &str,
        lock: &str,
        token: Option<FencingToken>,
    ) -> Result<Outcome, Rejection> {
        check(lock)?;
        let name = name(namespace, lock);
        let released = self.free(&name, |held| token.is_none_or(|token| held.token == token));
        self.settle(now_ms, at, &name);
        Ok(Outcome::LockRelease { released, revision: at })
    }

    pub(super) fn expire(&mut self, (now_ms, at): (u64, Revision), locks: &[HeldLock]) {
        for lock in locks {
            let name = name(&lock.namespace, &lock.name);
            self.free(&name, |held| held.token == lock.token);
            self.settle(now_ms, at, &name);
        }
    }

    /// Undoes what the answer to a request promised.
    pub(super) fn cancel(&mut self, (now_ms, at): (u64, Revision), answer: &Outcome) -> u64 {
        let mut released = 0;
        let mut token = None;
        match answer {
            Outcome::LockAcquire { token: granted, .. } => token = Some(*granted),
            Outcome::LockQueued { ticket } => {
                if let Some(ticket) = self.tickets.remove(ticket) {
                    match ticket.standing {
                        Standing::Waits => released = 1,
                        Standing::Granted(granted, _) => token = Some(granted),
                        Standing::TimedOut => {}
                    }
                }
            }
            _ => return 0,
        }
        let names: Vec<Name> = self.held.keys().cloned().collect();
        for name in names {
            if let Some(token) = token {
                released += self.free(&name, |held| held.token == token);
            }
        }
        self.settle_all(now_ms, at);
        released
    }

    pub(super) fn attach(&mut self, (now_ms, at): (u64, Revision), id: TicketId, to: Attachment) {
        if let Some(ticket) = self.tickets.get_mut(&id)
            && ticket.standing != Standing::TimedOut
        {
            ticket.place = Some(to);
            self.settle_all(now_ms, at);
        }
    }

    pub(super) fn detach(&mut self, (now_ms, at): (u64, Revision), id: TicketId, from: Attachment) {
        let Some(ticket) = self.tickets.get_mut(&id) else { return };
        if ticket.place != Some(from) {
            return;
        }
        let name = ticket.name.clone();
        match ticket.standing {
            Standing::TimedOut => {}
            Standing::Waits => ticket.place = None,
            Standing::Granted(token, _) => {
                if self.free(&name, |held| held.token == token) == 1
                    && let Some(ticket) = self.tickets.get_mut(&id)
                {
                    ticket.place = None;
                    let in_time = now_ms < ticket.deadline_ms;
                    ticket.standing = if in_time { Standing::Waits } else { Standing::TimedOut };
                }
            }
        }
        self.settle_all(now_ms, at);
    }

    pub(super) fn detach_node(&mut self, (now_ms, at): (u64, Revision), node: crate::NodeId) {
        for ticket in self.tickets.values_mut() {
            if ticket.standing == Standing::Waits && ticket.place.is_some_and(|at| at.node == node)
            {
                ticket.place = None;
            }
        }
        self.settle_all(now_ms, at);
    }

    /// Waits end in the order of their deadlines.
    pub(super) fn pass_time(&mut self, now_ms: u64, at: Revision) {
        let due = self.tickets.iter().filter(|(_, ticket)| {
            ticket.standing == Standing::Waits && ticket.deadline_ms <= now_ms
        });
        let due: BTreeSet<_> = due.map(|(id, ticket)| (ticket.deadline_ms, *id)).collect();
        for (_, id) in due {
            let Some(ticket) = self.tickets.get_mut(&id) else { continue };
            ticket.standing = Standing::TimedOut;
            let name = ticket.name.clone();
            self.settle(now_ms, at, &name);
        }
    }

    pub(super) fn floor_rose(
        &mut self,
        (now_ms, at): (u64, Revision),
        session: SessionId,
        floor: Sequence,
    ) {
        self.tickets.retain(|_, ticket| ticket.session != session || ticket.sequence >= floor);
        self.settle_all(now_ms, at);
    }

    pub(super) fn session_ended(&mut self, (now_ms, at): (u64, Revision), session: SessionId) {
        self.tickets.retain(|_, ticket| ticket.session != session);
        let names: Vec<Name> = self.held.keys().cloned().collect();
        for name in names {
            self.free(&name, |held| held.session == session);
        }
        self.settle_all(now_ms, at);
    }

    fn free(&mut self, name: &Name, which: impl Fn(&Held) -> bool) -> u64 {
        let Some(held) = self.held.get_mut(name) else { return 0 };
        let before = held.len();
        held.retain(|one| !which(one));
        (before - held.len()) as u64
    }

    fn settle_all(&mut self, now_ms: u64, at: Revision) {
        let names: BTreeSet<Name> =
            self.tickets.values().map(|ticket| ticket.name.clone()).collect();
        for name in names {
            self.settle(now_ms, at, &name);
        }
    }

    /// The first that waits here and in time gets the lock while it may.
    fn settle(&mut self, now_ms: u64, at: Revision, name: &Name) {
        for ticket in self.tickets.values_mut() {
            let next = ticket.name == *name
                && ticket.standing == Standing::Waits
                && ticket.place.is_some()
                && ticket.deadline_ms > now_ms;
            if !next {
                continue;
            }
            let held = self.held.entry(name.clone()).or_default();
            let fits = match ticket.share {
                Share::Exclusive => held.is_empty(),
                Share::Shared => held.iter().all(|one| one.share == Share::Shared),
                Share::Permit { of } => {
                    held.len() < of as usize && held.iter().all(|one| one.share == ticket.share)
                }
            };
            if !fits {
                return;
            }
            self.token += 1;
            let token = FencingToken(self.token);
            held.push(Held {
                token,
                session: ticket.session,
                share: ticket.share,
                ttl_ms: ticket.ttl_ms,
                granted_ms: now_ms,
                revision: at,
            });
            ticket.standing = Standing::Granted(token, at);
        }
    }

    pub(super) fn shown(&self, now_ms: u64, namespace: &str, lock: &str) -> Option<LockItem> {
        let name = name(namespace, lock);
        let waits = |ticket: &&Ticket| ticket.name == name && ticket.standing == Standing::Waits;
        let waiters = self.tickets.values().filter(waits).count() as u64;
        let holders = self.held.get(&name).map_or(&[][..], |held| &held[..]).iter();
        let holders: Vec<LockHolder> = holders
            .map(|held| LockHolder {
                token: held.token,
                session: held.session,
                share: held.share,
                ttl_ms: held.ttl_ms,
                held_ms: now_ms - held.granted_ms,
                revision: held.revision,
            })
            .collect();
        (!holders.is_empty() || waiters > 0).then_some(LockItem { holders, waiters })
    }

    pub(super) fn standing(&self, id: TicketId) -> Option<TicketStanding> {
        let ticket = self.tickets.get(&id)?;
        Some(match ticket.standing {
            Standing::Waits => TicketStanding::Waiting(ticket.place),
            Standing::Granted(token, revision) => {
                let (attachment, ttl_ms) = (ticket.place, ticket.ttl_ms);
                TicketStanding::Granted { token, attachment, ttl_ms, revision }
            }
            Standing::TimedOut => TicketStanding::TimedOut,
        })
    }

    /// The earliest end of a wait.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = u64> {
        let waits = self.tickets.values().filter(|ticket| ticket.standing == Standing::Waits);
        waits.map(|ticket| ticket.deadline_ms)
    }
}

fn name(namespace: &str, lock: &str) -> Name {
    (namespace.to_owned(), lock.to_owned())
}

fn check(lock: &str) -> Result<(), Rejection> {
    if lock.is_empty() {
        let why = "the lock's name is empty; name one of 1 byte or more";
        return Err(Rejection::Invalid(why.to_owned()));
    }
    Ok(())
}
