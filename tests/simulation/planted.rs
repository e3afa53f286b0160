//! Every fault that can be planted in the broker is caught, by the check that is there for it.

use super::{directory, print};
use quorate_testkit::sim::{Caught, Fault, cases, prove};

fn is_caught(fault: Fault) {
    let case = cases().into_iter().find(|case| case.fault == fault).expect("each fault has a case");
    match prove(&case, directory()) {
        Ok(Caught { seed, seeds, real, problem, .. }) => {
            print(&format!("{fault}: seed {seed}, {seeds} seeds, {real:.1?}: {problem}"));
        }
        Err(missed) => panic!("{fault} was not caught: {missed:#?}"),
    }
}

macro_rules! caught {
    ($($fault:ident: $test:ident,)+) => {
        $(
            #[test]
            fn $test() {
                is_caught(Fault::$fault);
            }
        )+

        #[test]
        fn no_fault_is_forgotten() {
            assert_eq!(Fault::ALL, [$(Fault::$fault),+]);
        }
    };
}

caught! {
    AcknowledgeBeforeFsync: writes_that_were_not_synced_are_missed,
    ReadWithoutBarrier: reads_that_ask_nobody_are_found,
    DedupeSkipped: repetitions_that_are_executed_are_found,
    ExpiredWaiterGranted: grants_to_those_whose_wait_was_over_are_found,
    LeaseFromLeaderStart: leases_that_count_from_the_leaders_start_are_found,
    WatchEventDropped: events_that_a_compaction_dropped_are_missed,
    TransactionInTwoBatches: halves_of_transactions_are_found,
    FencingCounterLost: tokens_that_are_given_again_after_a_restore_are_found,
    KeepAliveByDeposedLeader: renewals_by_deposed_leaders_are_found,
    StateAheadOfLog: states_ahead_of_their_logs_are_refused,
    SnapshotMetaAhead: snapshots_that_hold_less_than_they_say_are_found,
    HalfLeases: leases_that_a_new_leader_cuts_short_are_found,
    RenewRecorded: records_that_outlive_a_renewal_are_found,
}
