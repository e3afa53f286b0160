//! When each session and each held lock runs out, as this term's leader counts it.
//!
//! Nothing of it is in the log while clients renew in time. A new leader begins every lease anew;
//! what is left of one that is not renewed is therefore recorded whenever half a ttl has gone by,
//! so that a failover adds half a ttl at most. (Leaders of which none leads for half a ttl record
//! nothing: while they follow each other so fast, nothing ends.) A recorded lease is renewed only after the record
//! was taken back in the log: else the next leader would end it early. (As etcd's checkpoints of
//! leases, <https://etcd.io/docs/v3.6/learning/api/#lease-api>, made by need instead of by time.)

#[cfg(feature = "planted-faults")]
use quorate_state::planted::{Fault, is_planted};
use quorate_state::{HeldLock, LeaseCheckpoint, LeaseId, SessionId, limits};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// All leases of this term.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    inner: Mutex<BTreeMap<LeaseId, Lease>>,
    /// Proposals so far to take a record back.
    taking_back: AtomicU64,
    /// Bumped when the fate of a proposed expiry or record is known.
    settled: watch::Sender<u64>,
    /// When this term's leader began.
    #[cfg(feature = "planted-faults")]
    started_ms: AtomicU64,
}

/// A lease as it begins.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub(crate) id: LeaseId,
    pub(crate) ttl_ms: u64,
    /// What is left of it, when that was recorded.
    pub(crate) remaining_ms: Option<u64>,
    /// The lock, when it is one.
    pub(crate) lock: Option<HeldLock>,
}

#[derive(Clone, Debug)]
struct Lease {
    ttl_ms: u64,
    /// In lease time.
    until_ms: u64,
    /// When it was last begun, renewed or recorded.
    marked_ms: u64,
    /// Its end was proposed: renewals wait for the proposal's fate.
    ending: bool,
    /// What is left of it was recorded, or may be yet.
    recorded: bool,
    /// To take that back was proposed, under this number; nothing is recorded meanwhile.
    taking_back: Option<u64>,
    lock: Option<HeldLock>,
}

/// What a renewal came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// It lives for this long.
    Renewed(u64),
    /// Its end was proposed: ask again when that is settled.
    Ending,
    /// What is left of it was recorded: take that back first.
    Recorded,
    /// There is no such lease here.
    Missing,
}

/// What has run out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct RunOut {
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) locks: Vec<HeldLock>,
}

impl RunOut {
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.locks.is_empty()
    }
}

impl Lease {
    fn new(begin: Begin, now_ms: u64) -> Self {
        let left_ms = begin.remaining_ms.unwrap_or(begin.ttl_ms);
        Self {
            ttl_ms: begin.ttl_ms,
            until_ms: now_ms.saturating_add(left_ms),
            marked_ms: now_ms,
            ending: false,
            recorded: begin.remaining_ms.is_some(),
            taking_back: None,
            lock: begin.lock,
        }
    }
}

impl Leases {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<LeaseId, Lease>> {
        self.inner.lock().expect("no holder of this lock can panic")
    }

    /// A new term, or events were missed: every live lease begins anew, but one whose end this
    /// leader has proposed goes on waiting for that proposal's fate, and one that it has recorded
    /// may still be found so.
    pub(crate) fn start(&self, begun: impl IntoIterator<Item = Begin>, now_ms: u64) {
        #[cfg(feature = "planted-faults")]
        self.started_ms.store(now_ms, Ordering::Relaxed);
        let mut leases = self.lock();
        let fresh = |begin: Begin| {
            #[cfg(feature = "planted-faults")]
            let begin = match is_planted(Fault::HalfLeases) {
                true => Begin { remaining_ms: Some(begin.ttl_ms / 2), ..begin },
                false => begin,
            };
            let id = begin.id;
            let before = leases.get(&id);
            let mut lease = Lease::new(begin, now_ms);
            lease.ending = before.is_some_and(|lease| lease.ending);
            lease.recorded |= before.is_some_and(|lease| lease.recorded);
            lease.taking_back = before.and_then(|lease| lease.taking_back);
            (id, lease)
        };
        *leases = begun.into_iter().map(fresh).collect();
        drop(leases);
        self.settle();
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.settle();
    }

    pub(crate) fn begun(&self, begin: Begin, now_ms: u64) {
        let id = begin.id;
        #[cfg(feature = "planted-faults")]
        let now_ms = self.counted_from(now_ms);
        // A renewal may have come before the event of the beginning; it counts from later.
        self.lock().entry(id).or_insert_with(|| Lease::new(begin, now_ms));
        self.settle();
    }

    pub(crate) fn ended(&self, id: LeaseId) {
        self.lock().remove(&id);
        self.settle();
    }

    /// What is left of one.
    pub(crate) fn remaining_ms(&self, id: LeaseId, now_ms: u64) -> Option<u64> {
        Some(self.lock().get(&id)?.until_ms.saturating_sub(now_ms))
    }

    pub(crate) fn renew(&self, id: LeaseId, now_ms: u64) -> Renewal {
        let mut leases = self.lock();
        let Some(lease) = leases.get_mut(&id) else { return Renewal::Missing };
        if lease.ending {
            return Renewal::Ending;
        }
        #[cfg(feature = "planted-faults")]
        if is_planted(Fault::RenewRecorded) {
            lease.recorded = false;
        }
        if lease.recorded {
            return Renewal::Recorded;
        }
        lease.marked_ms = now_ms;
        #[cfg(feature = "planted-faults")]
        let now_ms = self.counted_from(now_ms);
        lease.until_ms = lease.until_ms.max(now_ms.saturating_add(lease.ttl_ms));
        Renewal::Renewed(lease.ttl_ms)
    }

    /// What the ttl of a lease that begins or is renewed now is counted from.
    #[cfg(feature = "planted-faults")]
    fn counted_from(&self, now_ms: u64) -> u64 {
        match is_planted(Fault::LeaseFromLeaderStart) {
            true => self.started_ms.load(Ordering::Relaxed),
            false => now_ms,
        }
    }

    /// What the caller has to propose, and under which number, to take a record back; none when
    /// somebody else has done so already.
    pub(crate) fn take_back(&self, id: LeaseId) -> Option<(u64, LeaseCheckpoint)> {
        let mut leases = self.lock();
        let lease = leases.get_mut(&id)?;
        if !lease.recorded || lease.taking_back.is_some() {
            return None;
        }
        let number = self.taking_back.fetch_add(1, Ordering::Relaxed);
        lease.taking_back = Some(number);
        let mut checkpoint = LeaseCheckpoint::default();
        match (id, &lease.lock) {
            (LeaseId::Session(id), _) => checkpoint.sessions.push((id, None)),
            (LeaseId::Lock(_), Some(held)) => checkpoint.locks.push((held.clone(), None)),
            (LeaseId::Lock(_), None) => debug_assert!(false, "a lock's lease names its lock"),
        }
        Some((number, checkpoint))
    }

    /// That a record be taken back was proposed and applied. Its event says so, too, but the leader
    /// may have missed that.
    pub(crate) fn taken_back(&self, id: LeaseId, number: u64) {
        if let Some(lease) = self.lock().get_mut(&id)
            && lease.taking_back == Some(number)
        {
            (lease.taking_back, lease.recorded) = (None, false);
        }
        self.settle();
    }

    /// That a record be taken back was proposed, and certainly will not happen.
    pub(crate) fn not_taken_back(&self, id: LeaseId, number: u64) {
        if let Some(lease) = self.lock().get_mut(&id)
            && lease.taking_back == Some(number)
        {
            lease.taking_back = None;
        }
        self.settle();
    }

    /// Marks up to one entry's worth of run-out leases as ending, and names them.
    pub(crate) fn run_out(&self, now_ms: u64) -> RunOut {
        let mut leases = self.lock();
        let due = leases.iter_mut().filter(|(_, lease)| !lease.ending && lease.until_ms <= now_ms);
        let mut run_out = RunOut::default();
        for (id, lease) in due.take(limits::EXPIRE_PER_ENTRY_MAX) {
            lease.ending = true;
            match (id, &lease.lock) {
                (LeaseId::Session(id), _) => run_out.sessions.push(*id),
                (LeaseId::Lock(_), Some(held)) => run_out.locks.push(held.clone()),
                (LeaseId::Lock(_), None) => debug_assert!(false, "a lock's lease names its lock"),
            }
        }
        run_out
    }

    /// When the next one runs out, in lease time; 0 while the end of one is under way.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let leases = self.lock();
        leases.values().map(|lease| if lease.ending { 0 } else { lease.until_ms }).min()
    }

    /// An expiry certainly did not happen: the leases may be renewed, or run out, again.
    pub(crate) fn spared(&self, ids: impl IntoIterator<Item = LeaseId>) {
        let mut leases = self.lock();
        for id in ids {
            if let Some(lease) = leases.get_mut(&id) {
                lease.ending = false;
            }
        }
        drop(leases);
        self.settle();
    }

    /// What is left of up to one entry's worth of leases that were not renewed for half their
    /// ttl. From now on they are taken for recorded.
    pub(crate) fn to_record(&self, now_ms: u64) -> Option<LeaseCheckpoint> {
        let mut leases = self.lock();
        let due = leases.iter_mut().filter(|(_, lease)| {
            !lease.ending
                && lease.taking_back.is_none()
                && now_ms >= lease.marked_ms.saturating_add(lease.ttl_ms.div_ceil(2))
        });
        let mut checkpoint = LeaseCheckpoint::default();
        for (id, lease) in due.take(limits::EXPIRE_PER_ENTRY_MAX) {
            lease.marked_ms = now_ms;
            lease.recorded = true;
            let left_ms = Some(lease.until_ms.saturating_sub(now_ms));
            match (id, &lease.lock) {
                (LeaseId::Session(id), _) => checkpoint.sessions.push((*id, left_ms)),
                (LeaseId::Lock(_), Some(held)) => {
                    checkpoint.locks.push((held.clone(), left_ms));
                }
                (LeaseId::Lock(_), None) => debug_assert!(false, "a lock's lease names its lock"),
            }
        }
        let empty = checkpoint.sessions.is_empty() && checkpoint.locks.is_empty();
        (!empty).then_some(checkpoint)
    }

    /// A record, or that it was taken back, was applied. Commands apply in the order they were
    /// proposed, so what is taken back is what was proposed before.
    pub(crate) fn recorded(&self, id: LeaseId, remaining_ms: Option<u64>) {
        if let Some(lease) = self.lock().get_mut(&id) {
            lease.recorded = remaining_ms.is_some();
            lease.taking_back = lease.taking_back.filter(|_| lease.recorded);
        }
        self.settle();
    }

    fn settle(&self) {
        self.settled.send_modify(|version| *version += 1);
    }

    pub(crate) fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_state::FencingToken;

    const SESSION: SessionId = SessionId(7);
    const ID: LeaseId = LeaseId::Session(SESSION);
    const LOCK: LeaseId = LeaseId::Lock(FencingToken(3));

    fn session(ttl_ms: u64) -> Begin {
        Begin { id: ID, ttl_ms, remaining_ms: None, lock: None }
    }

    fn held() -> HeldLock {
        HeldLock { namespace: String::new(), name: "l".to_owned(), token: FencingToken(3) }
    }

    fn lock(ttl_ms: u64) -> Begin {
        Begin { id: LOCK, ttl_ms, remaining_ms: None, lock: Some(held()) }
    }

    #[test]
    fn a_lease_runs_out_unless_renewed_and_is_not_renewed_while_it_ends() {
        let leases = Leases::default();
        leases.start([session(1_000)], 5_000);
        assert!(leases.run_out(5_999).is_empty());
        assert_eq!(leases.renew(ID, 5_500), Renewal::Renewed(1_000));
        assert!(leases.run_out(6_499).is_empty());
        assert_eq!(leases.run_out(6_500).sessions, [SESSION]);
        assert_eq!(leases.renew(ID, 6_500), Renewal::Ending);
        leases.start([session(1_000)], 6_500);
        assert_eq!(leases.renew(ID, 6_500), Renewal::Ending, "its end may still be applied");
        assert!(leases.run_out(9_000).is_empty(), "its end is proposed once");
        leases.spared([ID]);
        assert_eq!(leases.renew(ID, 6_600), Renewal::Renewed(1_000));
        leases.ended(ID);
        assert_eq!(leases.renew(ID, 6_700), Renewal::Missing);
    }

    #[test]
    fn a_late_opening_event_does_not_shorten_a_renewed_lease() {
        let leases = Leases::default();
        leases.begun(session(1_000), 100);
        leases.renew(ID, 900);
        leases.begun(session(1_000), 200);
        assert!(leases.run_out(1_899).is_empty());
        assert_eq!(leases.run_out(1_900).sessions, [SESSION]);
    }

    #[test]
    fn one_entry_ends_a_bounded_number_of_sessions() {
        let leases = Leases::default();
        let many = (0..2_500).map(|id| Begin { id: LeaseId::Session(SessionId(id)), ..session(1) });
        leases.start(many, 0);
        let rounds: Vec<_> = (0..4).map(|_| leases.run_out(10).sessions.len()).collect();
        assert_eq!(rounds, [1_000, 1_000, 500, 0]);
    }

    #[test]
    fn what_is_left_is_recorded_after_half_a_ttl_without_a_renewal_and_again() {
        let leases = Leases::default();
        leases.start([session(1_000), lock(400)], 0);
        assert_eq!(leases.to_record(199), None);
        let of_lock = LeaseCheckpoint { sessions: vec![], locks: vec![(held(), Some(200))] };
        assert_eq!(leases.to_record(200), Some(of_lock));
        assert_eq!(leases.renew(ID, 400), Renewal::Renewed(1_000));
        assert_eq!(leases.run_out(400).locks, [held()]);
        assert_eq!(leases.to_record(899), None, "renewed at 400, and the lock is ending");
        let of_session = LeaseCheckpoint { sessions: vec![(SESSION, Some(500))], locks: vec![] };
        assert_eq!(leases.to_record(900), Some(of_session));
        assert_eq!(leases.to_record(901), None, "once");
        assert!(leases.run_out(1_399).is_empty());
        assert_eq!(leases.run_out(1_400).sessions, [SESSION]);
    }

    #[test]
    fn a_recorded_lease_is_renewed_once_that_was_taken_back() {
        let leases = Leases::default();
        leases.start([session(1_000)], 0);
        assert!(leases.to_record(500).is_some());
        assert_eq!(leases.renew(ID, 501), Renewal::Recorded, "the record may yet be applied");
        leases.recorded(ID, Some(500));
        assert_eq!(leases.renew(ID, 502), Renewal::Recorded);
        leases.start([session(1_000)], 502);
        assert_eq!(leases.renew(ID, 503), Renewal::Recorded, "what was applied may be older");
        let taken_back = LeaseCheckpoint { sessions: vec![(SESSION, None)], locks: vec![] };
        assert_eq!(leases.take_back(ID), Some((0, taken_back.clone())));
        assert_eq!(leases.take_back(ID), None, "once is enough");
        assert_eq!(leases.to_record(1_400), None, "it would be applied behind that");
        leases.not_taken_back(ID, 0);
        assert_eq!(leases.take_back(ID), Some((1, taken_back)));
        leases.not_taken_back(ID, 0);
        assert_eq!(leases.take_back(ID), None, "that was an older one");
        leases.recorded(ID, None);
        assert_eq!(leases.renew(ID, 504), Renewal::Renewed(1_000));
        assert_eq!(leases.take_back(ID), None, "there is nothing to take back");
    }

    #[test]
    fn a_lease_is_renewed_again_also_when_the_event_was_missed_that_its_record_was_taken_back() {
        let leases = Leases::default();
        leases.start([session(1_000)], 0);
        assert!(leases.to_record(500).is_some());
        let (number, _) = leases.take_back(ID).unwrap();
        // Events were missed, among them both of the lease, and it was derived anew.
        leases.start([session(1_000)], 600);
        assert_eq!(leases.renew(ID, 601), Renewal::Recorded, "nothing is known of them");
        leases.taken_back(ID, number);
        assert_eq!(leases.renew(ID, 602), Renewal::Renewed(1_000));
        assert!(leases.to_record(1_102).is_some());
        leases.taken_back(ID, number);
        assert_eq!(leases.renew(ID, 1_103), Renewal::Recorded, "that was of the record before");
    }

    #[test]
    fn a_new_leader_gives_a_recorded_lease_what_was_left() {
        let leases = Leases::default();
        leases.start([Begin { remaining_ms: Some(300), ..session(1_000) }], 10_000);
        assert_eq!(leases.renew(ID, 10_001), Renewal::Recorded);
        assert!(leases.run_out(10_299).is_empty());
        assert_eq!(leases.run_out(10_300).sessions, [SESSION]);
    }
}
