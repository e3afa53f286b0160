//! The work of the chaos runs, in simulated time.

use super::{directory, print, run_seeds};
use quorate_testkit::sim::{Planted, StoryKind};

/// Seeds that every test run goes through: each kind of work is in four of them.
const SEEDS_DEFAULT: u64 = 20;

#[test]
fn seeds_with_the_work_of_chaos_keep_every_promise() {
    let run = |seed| StoryKind::Work.run(seed, Planted::Nothing, directory());
    let Some((seeds, reports)) = run_seeds(SEEDS_DEFAULT, run) else { return };
    if seeds < SEEDS_DEFAULT {
        return;
    }
    let sum = |of: &str| reports.iter().map(|report| report.count(of)).sum::<u64>();
    let (judged, little) = (sum("kinds of work judged"), sum("that showed little"));
    print(&format!("{seeds} seeds: {judged} kinds of work judged, {little} of them showed little"));
    assert_eq!(judged, 2 * seeds, "what is left behind is judged");
    assert!(little < seeds / 4, "{little} of {judged} kinds of work showed little");
}
