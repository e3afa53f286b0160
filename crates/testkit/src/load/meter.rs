//! When writes were acknowledged, and for how long none was.

use super::ledger::Totals;
use anyhow::{Result, bail};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Acknowledgements kept of one failover; a round ends long before.
const KEPT_MAX: usize = 1 << 20;

/// What a failover cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From the kill until the first write was acknowledged after it. An answer of the dead node
    /// may still be on its way to a writer, so the longest time without any counts.
    pub first: Duration,
    /// Writes that were begun before the kill and acknowledged after that silence. No answer of the
    /// dead node comes so late: somebody else was asked again.
    pub carried: usize,
    /// From the kill until every writer had a write acknowledged that it began after the death.
    pub all: Duration,
}

/// One acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    writer: usize,
    begun: Instant,
    at: Instant,
}

/// Shared by the writers of a load.
pub(super) struct Meter {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// Since it was armed; `None` while it is not.
    kept: Option<Vec<Acknowledged>>,
    last: Instant,
    longest_silence: Duration,
    totals: Totals,
    /// What a writer found that must not be.
    violation: Option<String>,
}

impl Meter {
    pub(super) fn new() -> Self {
        let state = State {
            kept: None,
            last: Instant::now(),
            longest_silence: Duration::ZERO,
            totals: Totals::default(),
            violation: None,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each critical section leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn acknowledged(&self, writer: usize, begun: Instant) {
        let mut state = self.state();
        let at = Instant::now();
        state.longest_silence = state.longest_silence.max(at - state.last);
        state.last = at;
        state.totals.acknowledged += 1;
        if let Some(kept) = state.kept.as_mut().filter(|kept| kept.len() < KEPT_MAX) {
            kept.push(Acknowledged { writer, begun, at });
            self.changed.notify_one();
        }
    }

    pub(super) fn unknown(&self) {
        self.state().totals.unknown += 1;
    }

    pub(super) fn failed(&self) {
        self.state().totals.failed += 1;
    }

    pub(super) fn violated(&self, what: String) {
        self.state().violation.get_or_insert(what);
        self.changed.notify_one();
    }

    pub(super) fn totals(&self) -> Totals {
        self.state().totals
    }

    pub(super) fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    /// The longest time without an acknowledgement since this was asked last.
    pub(super) fn take_longest_silence(&self) -> Duration {
        let mut state = self.state();
        let now = Instant::now();
        let longest = state.longest_silence.max(now - state.last);
        (state.last, state.longest_silence) = (now, Duration::ZERO);
        longest
    }

    /// Begins to keep acknowledgements.
    pub(super) fn arm(&self) {
        self.state().kept = Some(Vec::new());
    }

    /// Waits until each of `writers` writers had a write acknowledged that it began after `dead`.
    pub(super) async fn gap(
        &self,
        writers: usize,
        killed: Instant,
        dead: Instant,
        deadline: Duration,
    ) -> Result<Gap> {
        let wait = async {
            loop {
                let found = {
                    let state = self.state();
                    if let Some(violation) = &state.violation {
                        bail!("{violation}");
                    }
                    gap_in(state.kept.as_deref().unwrap_or_default(), writers, killed, dead)
                };
                match found {
                    Ok(gap) => return Ok(gap),
                    Err(_) => self.changed.notified().await,
                }
            }
        };
        let gap = tokio::time::timeout(deadline, wait).await;
        let mut state = self.state();
        let kept = state.kept.take().unwrap_or_default();
        gap.unwrap_or_else(|_| {
            let missing = gap_in(&kept, writers, killed, dead).err().unwrap_or_default();
            bail!(
                "after the kill {} writes were acknowledged within {deadline:?}, and writers \
                 {missing:?} are still without one",
                kept.iter().filter(|ack| ack.at > dead).count()
            )
        })
    }
}

/// The gap, or who has not gone on yet.
fn gap_in(
    kept: &[Acknowledged],
    writers: usize,
    killed: Instant,
    dead: Instant,
) -> Result<Gap, Vec<usize>> {
    let mut waiting: Vec<bool> = vec![true; writers];
    let mut left = writers;
    let (mut last, mut first, mut carried) = (killed, Duration::ZERO, 0);
    for ack in kept.iter().filter(|ack| ack.at > killed) {
        if ack.at - last > first {
            first = ack.at - last;
            carried = 0;
        }
        carried += usize::from(ack.begun < killed);
        last = ack.at;
        if ack.begun >= dead && std::mem::take(&mut waiting[ack.writer]) {
            left -= 1;
            if left == 0 {
                return Ok(Gap { first, carried, all: ack.at - killed });
            }
        }
    }
    Err((0..writers).filter(|writer| waiting[*writer]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(base: Instant, acks: &[(usize, u64, u64)]) -> Vec<Acknowledged> {
        let at = |ms| base + Duration::from_millis(ms);
        acks.iter()
            .map(|&(writer, begun, end)| Acknowledged { writer, begun: at(begun), at: at(end) })
            .collect()
    }

    #[test]
    fn a_gap_ends_when_all_writers_go_on_and_is_the_longest_silence() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        // Killed at 100, dead at 110. Writer 0 reads an answer of the dead node at 112.
        let mut acks = vec![(1, 90, 95), (0, 90, 112), (1, 96, 700), (0, 113, 710)];
        assert_eq!(gap_in(&kept(base, &acks), 2, at(100), at(110)), Err(vec![1]));
        acks.push((1, 701, 730));
        let gap = gap_in(&kept(base, &acks), 2, at(100), at(110)).unwrap();
        assert_eq!((gap.first.as_millis(), gap.all.as_millis()), (588, 630));
    }

    #[test]
    fn a_write_is_carried_over_when_it_is_answered_behind_the_silence() {
        let base = Instant::now();
        let at = |ms| base + Duration::from_millis(ms);
        // Killed at 100. Writer 0 reads an answer of the dead node at 112; writers 1 and 2 repeat
        // their calls until they are answered; what writer 0 begins later is no retry.
        let acks = [(0, 90, 112), (1, 95, 700), (0, 113, 702), (2, 99, 705), (1, 701, 710)];
        let acks = [acks.as_slice(), &[(2, 706, 711)]].concat();
        let gap = gap_in(&kept(base, &acks), 3, at(100), at(110)).unwrap();
        assert_eq!((gap.first.as_millis(), gap.carried), (588, 2));
    }

    #[tokio::test]
    async fn a_violation_ends_the_wait() {
        let meter = Meter::new();
        meter.arm();
        let now = Instant::now();
        let wait = meter.gap(1, now, now, Duration::from_secs(60));
        let (gap, ()) = tokio::join!(wait, async { meter.violated("lost".to_owned()) });
        assert_eq!(gap.unwrap_err().to_string(), "lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_says_who_waits() {
        let meter = Meter::new();
        let before = Instant::now();
        meter.arm();
        meter.acknowledged(1, Instant::now());
        let gap = meter.gap(3, before, before, Duration::from_secs(1)).await;
        let error = gap.unwrap_err().to_string();
        assert!(error.contains("writers [0, 2]"), "{error}");
    }
}
