//! What a consumer has: pure bookkeeping of leases, no calls.
//!
//! After a break the cluster says which leases the consumer still has, and sends their jobs again. What
//! is here and not among them was lost meanwhile; what is still here, what was settled while that was
//! on its way, and what was left to others is passed over.

use crate::Error;
use quorate_proto::v1::DeliveredJob;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Jobs of one stream that may be here at once: a full window, and as many whose settlement is on its
/// way. More were never asked for.
const HELD_MAX: usize = 2 * super::consume::WINDOW_MAX as usize;
/// Leases that were left to others and are remembered: one consumer has no more than a window of them,
/// and those of the one before it come on no stream any more.
const LEFT_MAX: usize = super::consume::WINDOW_MAX as usize;

/// The lease of one delivery.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) job_id: u64,
    pub(super) number: u64,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    until: Instant,
    withdrawn: bool,
}

impl Lease {
    pub(super) fn of(job: &DeliveredJob) -> Self {
        let state = watch::Sender::new(State { until: until(job), withdrawn: false });
        Self { job_id: job.job_id, number: job.lease, state }
    }

    /// Until when it lasts, as far as is known here.
    pub(super) fn until(&self) -> Instant {
        self.state.borrow().until
    }

    /// It lasts until then from now on.
    pub(super) fn set_until(&self, until: Instant) {
        self.state.send_modify(|state| state.until = until);
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.state.borrow().withdrawn
    }

    pub(super) fn withdraw(&self) {
        self.state.send_modify(|state| state.withdrawn = true);
    }

    pub(super) async fn withdrawn(&self) {
        // It fails when there is no sender any more, and this is the sender.
        let _ = self.state.subscribe().wait_for(|state| state.withdrawn).await;
    }
}

fn until(job: &DeliveredJob) -> Instant {
    // A lease is at most half a day, whatever comes.
    Instant::now() + Duration::from_millis(job.lease_ms.min(43_200_000))
}

/// A job that came and was not handed out yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: DeliveredJob,
    pub(super) lease: Arc<Lease>,
}

/// The jobs of one consumer.
#[derive(Debug, Default)]
pub(super) struct Holder {
    table: Mutex<Table>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts the streams, one after the other.
    stream: u64,
    /// The first stream of who it is now. What came on those before, if it is here still, is not known
    /// to whoever knows what the consumer has.
    own_since: u64,
    /// Not settled yet, by the job's id.
    held: BTreeMap<u64, Entry>,
    /// Settled after this stream was asked for, but delivered before: they may be sent again.
    settled: BTreeMap<u64, u64>,
    /// Leases that were left to whoever knows them: the consumer has them still, so their jobs may be
    /// sent again on any stream.
    left: BTreeSet<u64>,
    waiting: VecDeque<Waiting>,
    over: Option<Result<(), Error>>,
}

#[derive(Debug)]
struct Entry {
    lease: Arc<Lease>,
    /// The stream that sent it last.
    stream: u64,
}

impl Holder {
    /// Another stream is about to be asked for: what was settled until now is not sent on it.
    pub(super) fn begin_stream(&self) {
        let mut table = self.table();
        table.stream += 1;
        table.settled.clear();
    }

    /// The next stream is that of another consumer.
    pub(super) fn begin_consumer(&self) {
        let mut table = self.table();
        table.own_since = table.stream + 1;
    }

    /// The consumer has come back, and these are the leases that it still has: the others are lost,
    /// though nobody said so.
    pub(super) fn keep_only(&self, leases: &[u64]) {
        let kept: BTreeSet<u64> = leases.iter().copied().collect();
        let mut table = self.table();
        table.left.retain(|lease| kept.contains(lease));
        let own = table.held.iter().filter(|(_, entry)| entry.stream >= table.own_since);
        let held = own.map(|(job_id, entry)| (*job_id, entry.lease.number));
        let lost: Vec<_> = held.filter(|(_, lease)| !kept.contains(lease)).collect();
        for (job_id, lease) in lost {
            table.forget(job_id, lease, true);
        }
    }

    /// Takes a job in, unless it is here already. Fails when there are more than can be.
    pub(super) fn take_in(&self, job: DeliveredJob) -> Result<(), Error> {
        let mut table = self.table();
        let stream = table.stream;
        if table.settled.get(&job.job_id) == Some(&job.lease) || table.left.contains(&job.lease) {
            return Ok(());
        }
        if let Some(entry) = table.held.get_mut(&job.job_id) {
            if entry.lease.number == job.lease {
                entry.stream = stream;
                entry.lease.set_until(until(&job));
                return Ok(());
            }
            // Delivered again, so the lease before has ended, though nobody said so.
            let before = entry.lease.number;
            table.forget(job.job_id, before, true);
        }
        // Without a session a consumer has what it had before a break, too, and that is not bounded here.
        if table.held.len() >= HELD_MAX
            && table.held.values().filter(|entry| entry.stream == stream).count() >= HELD_MAX
        {
            return Err(Error::bad_answer(format!(
                "a consumer was sent more than {HELD_MAX} jobs that it has not settled"
            )));
        }
        let lease = Arc::new(Lease::of(&job));
        table.held.insert(job.job_id, Entry { lease: Arc::clone(&lease), stream });
        table.waiting.push_back(Waiting { job, lease });
        drop(table);
        self.news.notify_one();
        Ok(())
    }

    /// A job is not this consumer's any more.
    pub(super) fn withdraw(&self, job_id: u64, lease: u64) {
        let mut table = self.table();
        table.left.remove(&lease);
        table.forget(job_id, lease, true);
    }

    /// No job is this consumer's any more.
    pub(super) fn withdraw_all(&self) {
        let mut table = self.table();
        table.waiting.clear();
        table.left.clear();
        for entry in std::mem::take(&mut table.held).into_values() {
            entry.lease.withdraw();
        }
    }

    /// A job was settled, or nobody cares for it any more.
    pub(super) fn settled(&self, job_id: u64, lease: u64) {
        let mut table = self.table();
        if let Some(before) = table.forget(job_id, lease, false)
            && before < table.stream
        {
            table.settled.insert(job_id, lease);
        }
    }

    /// A job is left to whoever knows its lease.
    pub(super) fn leave(&self, job_id: u64, lease: u64) {
        let mut table = self.table();
        if table.forget(job_id, lease, false).is_none() {
            return;
        }
        table.left.insert(lease);
        if table.left.len() > LEFT_MAX {
            // Leases grow, so this one is the oldest.
            table.left.pop_first();
        }
    }

    /// Nothing comes any more.
    pub(super) fn end(&self, why: Result<(), Error>) {
        self.table().over.get_or_insert(why);
        self.news.notify_one();
    }

    /// The next job; none once it is over.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(super) async fn next(&self) -> Option<Result<Waiting, Error>> {
        loop {
            // Kept for us if it comes before we wait for it.
            let news = self.news.notified();
            {
                let mut table = self.table();
                if let Some(waiting) = table.waiting.pop_front() {
                    return Some(Ok(waiting));
                }
                if let Some(over) = &mut table.over {
                    return std::mem::replace(over, Ok(())).err().map(Err);
                }
            }
            news.await;
        }
    }

    /// What was not handed out.
    pub(super) fn drain(&self) -> Vec<Waiting> {
        std::mem::take(&mut self.table().waiting).into()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes a delivery out. Answers which stream sent it last, if it was here.
    fn forget(&mut self, job_id: u64, lease: u64, withdrawn: bool) -> Option<u64> {
        if self.held.get(&job_id)?.lease.number != lease {
            return None;
        }
        let entry = self.held.remove(&job_id)?;
        if withdrawn {
            self.waiting.retain(|waiting| waiting.job.job_id != job_id);
            entry.lease.withdraw();
        }
        Some(entry.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(job_id: u64, lease: u64) -> DeliveredJob {
        DeliveredJob { job_id, lease, lease_ms: 30_000, ..DeliveredJob::default() }
    }

    /// The leases that wait to be handed out.
    fn waiting(holder: &Holder) -> Vec<(u64, u64)> {
        holder.drain().iter().map(|waiting| (waiting.job.job_id, waiting.job.lease)).collect()
    }

    fn take_in(holder: &Holder, jobs: impl IntoIterator<Item = (u64, u64)>) {
        for (id, lease) in jobs {
            holder.take_in(job(id, lease)).expect("there is room");
        }
    }

    #[tokio::test]
    async fn what_is_held_or_was_settled_meanwhile_is_not_handed_out_again() {
        let holder = Holder::default();
        holder.begin_stream();
        take_in(&holder, [(1, 11), (2, 12), (3, 13)]);
        assert_eq!(waiting(&holder), [(1, 11), (2, 12), (3, 13)]);
        // Acknowledged before the next stream was asked for: it can't come on it.
        holder.settled(1, 11);
        holder.begin_stream();
        holder.settled(2, 12);
        take_in(&holder, [(2, 12), (3, 13), (4, 14)]);
        assert_eq!(waiting(&holder), [(4, 14)]);
        // Another delivery of the same job is another one.
        take_in(&holder, [(2, 22)]);
        assert_eq!(waiting(&holder), [(2, 22)]);
        // Sent on this stream and settled on it: nothing has to be remembered.
        holder.settled(3, 13);
        holder.settled(4, 14);
        assert!(holder.table().settled.len() <= 1, "{:?}", holder.table());
    }

    #[tokio::test]
    async fn a_job_that_is_withdrawn_is_not_handed_out_and_its_worker_is_told() {
        let holder = Holder::default();
        holder.begin_stream();
        take_in(&holder, [(1, 11), (2, 12), (3, 13)]);
        let Some(Ok(first)) = holder.next().await else { panic!("it waits") };
        // Of a lease before: nothing.
        holder.withdraw(1, 10);
        assert!(!first.lease.is_withdrawn());
        holder.withdraw(1, 11);
        holder.withdraw(2, 12);
        assert!(first.lease.is_withdrawn());
        assert_eq!(waiting(&holder), [(3, 13)]);
        // A newer delivery says that the one before is over.
        take_in(&holder, [(4, 14)]);
        let Some(Ok(fourth)) = holder.next().await else { panic!("it waits") };
        take_in(&holder, [(4, 24)]);
        assert!(fourth.lease.is_withdrawn());
        // What was settled under the older lease is not the newer one.
        holder.settled(4, 14);
        assert!(holder.table().held.contains_key(&4));
        holder.withdraw_all();
        assert_eq!(waiting(&holder), []);
        assert!(holder.table().held.is_empty());
    }

    #[tokio::test]
    async fn after_a_break_what_is_not_named_is_lost() {
        let holder = Holder::default();
        holder.begin_stream();
        take_in(&holder, [(1, 11), (2, 12), (3, 13), (4, 14)]);
        let Some(Ok(first)) = holder.next().await else { panic!("it waits") };
        let Some(Ok(second)) = holder.next().await else { panic!("it waits") };
        holder.begin_stream();
        // The fourth has another lease by now.
        holder.keep_only(&[12, 24, 99]);
        assert!(first.lease.is_withdrawn() && !second.lease.is_withdrawn());
        take_in(&holder, [(2, 12), (4, 24)]);
        assert_eq!(waiting(&holder), [(4, 24)]);
    }

    #[tokio::test]
    async fn what_another_consumer_has_is_not_lost_with_what_one_has_lost() {
        let holder = Holder::default();
        holder.begin_consumer();
        holder.begin_stream();
        take_in(&holder, [(1, 11)]);
        let Some(Ok(first)) = holder.next().await else { panic!("it waits") };
        holder.begin_consumer();
        holder.begin_stream();
        take_in(&holder, [(2, 12), (3, 13)]);
        holder.keep_only(&[13]);
        assert!(!first.lease.is_withdrawn());
        assert_eq!(waiting(&holder), [(3, 13)]);
    }

    #[tokio::test]
    async fn what_was_left_to_others_is_passed_over_until_its_lease_ends() {
        let holder = Holder::default();
        holder.begin_stream();
        take_in(&holder, [(1, 11), (2, 12), (3, 13)]);
        assert_eq!(waiting(&holder).len(), 3);
        for (id, lease) in [(1, 11), (2, 12), (3, 13)] {
            holder.leave(id, lease);
            // Its end is that of any job.
            holder.settled(id, lease);
        }
        for _ in 0..2 {
            holder.begin_stream();
            holder.keep_only(&[11, 12]);
            take_in(&holder, [(1, 11), (2, 12)]);
            assert_eq!(waiting(&holder), []);
        }
        assert_eq!(holder.table().left, [11, 12].into());
        holder.withdraw(2, 12);
        take_in(&holder, [(1, 21)]);
        assert_eq!(waiting(&holder), [(1, 21)]);
        // Of what was withdrawn before nothing is left.
        holder.withdraw(1, 21);
        holder.leave(1, 21);
        assert_eq!(holder.table().left, [11].into());
        for id in 100..100 + 2 * LEFT_MAX as u64 {
            take_in(&holder, [(id, id)]);
            holder.leave(id, id);
        }
        assert_eq!(holder.table().left.len(), LEFT_MAX);
    }

    #[tokio::test]
    async fn more_than_can_be_is_refused() {
        let holder = Holder::default();
        for id in 0..HELD_MAX as u64 {
            take_in(&holder, [(id, id)]);
        }
        assert!(holder.take_in(job(9_999, 1)).is_err());
        holder.settled(0, 0);
        take_in(&holder, [(9_999, 1)]);
        // Who has no session keeps what it works on, however often its stream breaks.
        holder.begin_stream();
        take_in(&holder, [(10_000, 2)]);
    }

    #[tokio::test]
    async fn what_waits_comes_before_the_end_and_the_error_comes_once() {
        let holder = Holder::default();
        take_in(&holder, [(1, 11)]);
        holder.end(Err(Error::bad_answer("x".to_owned())));
        holder.end(Ok(()));
        assert!(matches!(holder.next().await, Some(Ok(_))));
        assert!(matches!(holder.next().await, Some(Err(_))));
        assert!(holder.next().await.is_none());
        assert!(holder.next().await.is_none());
    }
}
