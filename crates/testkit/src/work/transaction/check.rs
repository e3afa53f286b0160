//! What was seen of transactions over all services, and what of that can't be. Pure.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    Done,
    Not,
    Unknown,
}

/// One transaction of a teller, which makes them one after the other and numbers them from 1.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Transfer {
    pub(super) teller: usize,
    pub(super) number: u64,
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    pub(super) fate: Fate,
}

/// What one teller's keys said; 0 for one that is not there.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Marks {
    /// Each the number of its last transfer.
    pub(super) left: u64,
    pub(super) right: u64,
    /// How many it has made.
    pub(super) count: u64,
    /// How many of its jobs are done.
    pub(super) done: u64,
}

/// All keys at one moment.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Audit {
    pub(super) begun: Duration,
    pub(super) ended: Duration,
    /// All money together; none was ever made.
    pub(super) sum: i64,
    pub(super) marks: Vec<Marks>,
}

/// The mark of a teller in the cache, between two reads of the one in the keys.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Look {
    pub(super) teller: usize,
    pub(super) before: u64,
    /// None when it was not there; a cache may forget.
    pub(super) cached: Option<u64>,
    pub(super) after: u64,
}

/// A job that was taken, and the mark that was read then.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Taken {
    pub(super) teller: usize,
    pub(super) number: u64,
    pub(super) id: u64,
    pub(super) mark: Option<u64>,
    /// Of the transaction that says that it is done.
    pub(super) done: Fate,
}

#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) transfers: Vec<Transfer>,
    pub(super) audits: Vec<Audit>,
    pub(super) looks: Vec<Look>,
    pub(super) taken: Vec<Taken>,
    /// When all jobs are done.
    pub(super) end: Vec<Marks>,
}

type Numbered<'a> = BTreeMap<u64, &'a Transfer>;

impl History {
    /// What can't be, a line each.
    pub(super) fn check(&self) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut known: BTreeMap<usize, Numbered<'_>> = BTreeMap::new();
        for transfer in &self.transfers {
            known.entry(transfer.teller).or_default().insert(transfer.number, transfer);
        }
        for audit in &self.audits {
            let Audit { begun, ended, sum, marks } = audit;
            let mut tell = |what: String| {
                breaches.push(format!("{what}, in an audit of {begun:?} to {ended:?}: {audit:?}"));
            };
            if *sum != 0 {
                tell(format!("the money adds up to {sum}"));
            }
            for (teller, marks) in marks.iter().enumerate() {
                marks_agree(teller, marks, known.get(&teller), &mut tell);
            }
        }
        self.nothing_goes_back(&mut breaches);
        for look in &self.looks {
            let Look { teller, before, cached, after } = look;
            let Some(cached) = *cached else { continue };
            if !(*before..=*after).contains(&cached) {
                breaches.push(format!(
                    "the cache has {cached} of teller {teller}; its keys had {before} before, and \
                     {after} after"
                ));
            }
            if !may_be(known.get(teller), cached) {
                breaches
                    .push(format!("the cache has {cached} of teller {teller}, which was refused"));
            }
        }
        self.jobs_are_done_once(&known, &mut breaches);
        for (teller, marks) in self.end.iter().enumerate() {
            let mut tell = |what: String| breaches.push(format!("{what}, at the end: {marks:?}"));
            marks_agree(teller, marks, known.get(&teller), &mut tell);
            if marks.done != marks.count {
                tell(format!("teller {teller} has {} jobs done of {}", marks.done, marks.count));
            }
        }
        breaches
    }

    /// Marks only grow, and are not behind what was acknowledged, or seen, before the audit began.
    fn nothing_goes_back(&self, breaches: &mut Vec<String>) {
        let acknowledged = self.transfers.iter().filter(|transfer| transfer.fate == Fate::Done);
        let acknowledged = acknowledged.map(|one| (one.ended, one.teller, one.number));
        let seen = self.audits.iter().flat_map(|audit| {
            let marks = audit.marks.iter().enumerate();
            marks.map(|(teller, marks)| (audit.ended, teller, marks.left))
        });
        let mut due: Vec<(Duration, usize, u64)> = acknowledged.chain(seen).collect();
        due.sort_unstable();
        let mut due = due.into_iter().peekable();
        let mut newest: BTreeMap<usize, u64> = BTreeMap::new();
        let mut audits: Vec<&Audit> = self.audits.iter().collect();
        audits.sort_by_key(|audit| audit.begun);
        for audit in audits {
            while let Some((_, teller, number)) = due.next_if(|(at, ..)| *at < audit.begun) {
                let known = newest.entry(teller).or_default();
                *known = number.max(*known);
            }
            for (teller, number) in &newest {
                if audit.marks[*teller].left < *number {
                    breaches
                        .push(format!("{number} of teller {teller} is not in {audit:?} any more"));
                }
            }
        }
        for (teller, number) in newest {
            if self.end.get(teller).is_some_and(|end| end.left < number) {
                breaches.push(format!("{number} of teller {teller} is not there at the end"));
            }
        }
    }

    fn jobs_are_done_once(
        &self,
        known: &BTreeMap<usize, Numbered<'_>>,
        breaches: &mut Vec<String>,
    ) {
        let mut ids: BTreeMap<(usize, u64), BTreeSet<u64>> = BTreeMap::new();
        let mut done: BTreeSet<u64> = BTreeSet::new();
        for taken in &self.taken {
            let Taken { teller, number, id, mark, .. } = taken;
            ids.entry((*teller, *number)).or_default().insert(*id);
            if *number == 0 || !may_be(known.get(teller), *number) {
                breaches.push(format!("there is a job of what was refused: {taken:?}"));
            }
            if mark.is_some_and(|mark| mark < *number) {
                breaches.push(format!("a job came before what belongs to it: {taken:?}"));
            }
            if taken.done == Fate::Done && !done.insert(*id) {
                breaches.push(format!("a job was done twice: {taken:?}"));
            }
        }
        for ((teller, number), ids) in &ids {
            if ids.len() > 1 {
                breaches.push(format!("{number} of teller {teller} has several jobs: {ids:?}"));
            }
        }
        for Transfer { teller, number, fate, .. } in &self.transfers {
            if *fate == Fate::Done && !ids.contains_key(&(*teller, *number)) {
                breaches
                    .push(format!("{number} of teller {teller} is done, and its job never came"));
            }
        }
    }
}

/// Whether a mark can be there: 0 is no mark.
fn may_be(known: Option<&Numbered<'_>>, number: u64) -> bool {
    let transfer = known.and_then(|known| known.get(&number));
    number == 0 || transfer.is_some_and(|transfer| transfer.fate != Fate::Not)
}

/// All keys of a teller are those of the same transfers.
fn marks_agree(
    teller: usize,
    marks: &Marks,
    known: Option<&Numbered<'_>>,
    tell: &mut impl FnMut(String),
) {
    let Marks { left, right, count, done } = *marks;
    if left != right {
        tell(format!("teller {teller} has {left} at one key and {right} at the other"));
    }
    if !may_be(known, left) {
        tell(format!("teller {teller} has {left}, which was refused"));
    }
    let before = known.into_iter().flat_map(|known| known.range(..=left));
    let (mut certain, mut unknown) = (0, 0);
    for (number, transfer) in before {
        match transfer.fate {
            // It is there, whatever was said of it.
            _ if *number == left => certain += 1,
            Fate::Done => certain += 1,
            Fate::Unknown => unknown += 1,
            Fate::Not => {}
        }
    }
    if !(certain..=certain + unknown).contains(&count) {
        tell(format!(
            "teller {teller} counts {count}; {certain} certainly happened, {unknown} may have"
        ));
    }
    if done > count {
        tell(format!("teller {teller} has {done} jobs done of {count}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn transfer(number: u64, fate: Fate) -> Transfer {
        let (begun, ended) = (at(number * 10), at(number * 10 + 5));
        Transfer { teller: 0, number, begun, ended, fate }
    }

    fn marks(mark: u64, count: u64, done: u64) -> Marks {
        Marks { left: mark, right: mark, count, done }
    }

    fn audit(begun: u64, marks: Marks) -> Audit {
        Audit { begun: at(begun), ended: at(begun + 2), sum: 0, marks: vec![marks] }
    }

    fn taken(number: u64, done: Fate) -> Taken {
        Taken { teller: 0, number, id: 100 + number, mark: Some(number), done }
    }

    /// Of four transfers the second is refused and the third unknown.
    fn right() -> History {
        History {
            transfers: vec![
                transfer(1, Fate::Done),
                transfer(2, Fate::Not),
                transfer(3, Fate::Unknown),
                transfer(4, Fate::Done),
            ],
            audits: vec![
                audit(5, marks(0, 0, 0)),
                audit(17, marks(1, 1, 0)),
                audit(37, marks(3, 2, 1)),
                audit(47, marks(4, 3, 2)),
            ],
            looks: vec![
                Look { teller: 0, before: 1, cached: Some(3), after: 4 },
                Look { teller: 0, before: 1, cached: None, after: 4 },
            ],
            taken: vec![
                taken(1, Fate::Unknown),
                taken(1, Fate::Done),
                taken(3, Fate::Done),
                taken(4, Fate::Done),
            ],
            end: vec![marks(4, 3, 3)],
        }
    }

    #[track_caller]
    fn finds(change: impl FnOnce(&mut History), part: &str) {
        let mut history = right();
        change(&mut history);
        let breaches = history.check();
        assert!(breaches.iter().any(|breach| breach.contains(part)), "{breaches:?}");
    }

    #[test]
    fn whole_transactions_are_right() {
        assert_eq!(right().check(), Vec::<String>::new());
        let mut without = right();
        without.audits.truncate(2);
        without.taken.remove(2);
        without.end = vec![marks(4, 2, 2)];
        assert_eq!(without.check(), Vec::<String>::new());
    }

    #[test]
    fn torn_transactions_are_found() {
        finds(|history| history.audits[1].sum = 5, "adds up to 5");
        finds(|history| history.audits[1].marks[0].right = 0, "at the other");
        finds(|history| history.audits[3].marks[0].count = 1, "counts 1");
        finds(|history| history.looks[0].cached = Some(0), "before, and 4 after");
        finds(|history| history.looks[0].after = 1, "before, and 1 after");
        finds(|history| history.taken[3].mark = Some(3), "before what belongs to it");
    }

    #[test]
    fn refused_transactions_with_an_effect_are_found() {
        finds(|history| history.audits[1].marks[0] = marks(2, 2, 0), "2, which was refused");
        finds(|history| history.looks[0].cached = Some(2), "which was refused");
        finds(|history| history.taken.push(taken(2, Fate::Done)), "of what was refused");
    }

    #[test]
    fn lost_transactions_are_found() {
        finds(|history| history.audits[3].marks[0] = marks(3, 2, 2), "not in Audit");
        finds(|history| history.audits.push(audit(60, marks(1, 1, 1))), "not in Audit");
        finds(|history| history.end[0] = marks(3, 2, 2), "not there at the end");
        let forget = |history: &mut History| {
            history.taken.remove(3);
        };
        finds(forget, "its job never came");
        finds(|history| history.end[0].done = 2, "2 jobs done of 3");
    }

    #[test]
    fn doubled_transactions_are_found() {
        finds(|history| history.audits[3].marks[0].count = 4, "counts 4");
        finds(|history| history.end[0].done = 4, "4 jobs done of 3");
        finds(|history| history.taken.push(taken(4, Fate::Done)), "done twice");
        let other = Taken { id: 7, ..taken(4, Fate::Not) };
        finds(|history| history.taken.push(other), "several jobs");
    }
}
