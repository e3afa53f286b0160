//! What a run with jobs came to, for the claim that it has tried something.

use std::fmt;

/// What clients did with jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    /// Jobs that were added.
    pub added: usize,
    /// Pushes whose outcome their clients do not know.
    pub unknown: usize,
    /// Acknowledgements that were answered.
    pub done: usize,
    /// Jobs that clients were told of more than once.
    pub twice: usize,
    /// Leases that ran out.
    pub lapsed: u64,
    /// Dead letters in the end.
    pub dead: usize,
    /// Pushes that were answered with the job of an earlier one.
    pub duplicates: usize,
    /// Of those, the ones between which the leader changed.
    pub duplicates_after_failover: usize,
    /// Jobs that were handed back.
    pub handed_back: usize,
    /// Jobs that were there when all was well and somebody had room: had they been left waiting, it
    /// would have been seen.
    pub watched: usize,
    /// Jobs of a group that were delivered, as was the one pushed before them.
    pub group_pairs: usize,
    /// Jobs that were pushed with a delay, and delivered.
    pub delayed: usize,
    /// Leases that were pulled.
    pub pulled: usize,
    /// Purges that were answered.
    pub purges: usize,
    /// Leaders after the first one.
    pub failovers: usize,
}

impl fmt::Display for JobCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            added,
            unknown,
            done,
            twice,
            lapsed,
            dead,
            duplicates,
            duplicates_after_failover,
            handed_back,
            watched,
            group_pairs,
            delayed,
            pulled,
            purges,
            failovers,
        } = self;
        match added {
            0 => Ok(()),
            _ => write!(
                f,
                "; jobs: {added} added, {unknown} pushes unknown, {done} acknowledged, {twice} \
                 delivered again, {lapsed} leases lapsed, {dead} dead, {duplicates} duplicates \
                 ({duplicates_after_failover} after a failover), {handed_back} handed back, \
                 {watched} watched, {group_pairs} pairs of a group, {delayed} delayed, {pulled} \
                 pulled, {purges} purges, {failovers} failovers"
            ),
        }
    }
}
