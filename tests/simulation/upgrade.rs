//! Rolling upgrades in the simulated cluster: builds of two feature levels run together, under writes.

use super::print;
use quorate_testkit::sim::run_upgrade;

/// Each node is the last one twice.
const SEEDS: u64 = 6;

#[test]
fn the_level_rises_when_the_last_node_is_upgraded_and_no_older_build_comes_back() {
    for seed in 0..SEEDS {
        let upgraded = run_upgrade(seed);
        print(&format!("seed {seed}: {upgraded:?}"));
        assert!(upgraded.problems.is_empty(), "seed {seed}: {upgraded:#?}");
        assert!(upgraded.writes_mixed > 100, "seed {seed}: {upgraded:?}");
        for part in ["is at feature level 2", "knows up to 1", "upgrade this node"] {
            assert!(upgraded.refusal.contains(part), "{part:?} is missing in {upgraded:?}");
        }
    }
}
