//! What every state store does, on both.

use crate::support::{Place, append, at, entries, len, membership, meta, put, rows, seed};
use quorate_state::Read;
use quorate_storage::state::AppliedMeta;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn get(tables: &(impl Read + ?Sized), key: &[u8]) -> Option<Vec<u8>> {
    tables.get(key).expect("readable")
}

#[test]
fn a_commit_is_visible_at_once_and_a_dropped_transaction_is_not() {
    for place in Place::both() {
        let mut stores = place.open();
        let reader = stores.state.reader();
        assert_eq!(stores.state.applied(), AppliedMeta::default());
        assert_eq!(reader.view().applied, None);
        let old = reader.view();
        put(&mut *stores.state, &meta(1, 5), &[(b"a", b"1"), (b"b", b"2")]);
        assert_eq!(stores.state.applied(), meta(1, 5));
        let new = reader.view();
        assert_eq!((old.applied, new.applied), (None, Some(at(1, 5))));
        assert_eq!((get(&*old.tables, b"a"), get(&*new.tables, b"a")), (None, Some(vec![b'1'])));
        {
            let mut txn = stores.state.begin();
            txn.as_txn().put(b"a", b"changed");
            txn.as_txn().delete(b"b");
            assert_eq!(get(txn.as_txn(), b"a"), Some(b"changed".to_vec()));
            assert_eq!(rows(txn.as_txn()).len(), 1);
        }
        assert_eq!(rows(&*reader.view().tables), rows(&*new.tables));
        assert_eq!(stores.state.applied(), meta(1, 5));
    }
}

/// What a transaction reads is what was committed last, however often it was read, written, deleted or given
/// up before; and after an install it is what was installed.
#[test]
fn a_transaction_reads_what_was_committed_last() {
    let seed = seed("a_transaction_reads_what_was_committed_last");
    for place in Place::both() {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stores = place.open();
        let mut model = BTreeMap::new();
        let mut installed = None;
        for index in 1..=300 {
            let mut next = model.clone();
            let mut txn = stores.state.begin();
            for _ in 0..rng.random_range(1..8) {
                let key = vec![b'k', rng.random_range(0..12)];
                let right = get(txn.as_txn(), &key) == next.get(&key).cloned();
                assert!(right, "key {key:?} at entry {index}, seed {seed}");
                let value = vec![rng.random(); len(rng.random_range(0..10_000))];
                if rng.random_ratio(1, 4) {
                    txn.as_txn().delete(&key);
                    next.remove(&key);
                } else {
                    txn.as_txn().put(&key, &value);
                    next.insert(key, value);
                }
            }
            if rng.random_ratio(1, 4) {
                drop(txn);
                continue;
            }
            txn.commit(&meta(1, index)).expect("committed");
            model = next;
            if index >= 100 && installed.is_none() && index < 200 {
                installed = Some((stores.snapshots.build().expect("taken"), model.clone()));
            }
            // Back to how it was: a snapshot of what is not newer is none that a node would install, but
            // the store does as it is told.
            if index > 200
                && let Some((snapshot, then)) = installed.take()
            {
                stores.state.install(snapshot).expect("installed");
                model = then;
            }
        }
        assert!(installed.is_none(), "nothing was installed, seed {seed}");
    }
}

#[test]
fn the_membership_stays_until_another_one_is_applied() {
    for place in Place::both() {
        let mut stores = place.open();
        append(&*stores.log, entries(1, 0..=9));
        let first = AppliedMeta { applied: Some(at(1, 0)), membership: membership(0) };
        put(&mut *stores.state, &first, &[]);
        let second = AppliedMeta { applied: Some(at(1, 9)), ..first };
        put(&mut *stores.state, &second, &[]);
        drop(stores);
        // Closing cleanly keeps everything.
        let mut stores = place.open();
        assert_eq!(stores.state.applied(), second);
        append(&*stores.log, entries(1, 10..=10));
        let third = AppliedMeta { applied: Some(at(1, 10)), membership: membership(10) };
        put(&mut *stores.state, &third, &[]);
        drop(stores);
        assert_eq!(place.open().state.applied(), third);
    }
}

#[test]
fn the_state_does_not_go_back() {
    for place in Place::both() {
        let mut stores = place.open();
        put(&mut *stores.state, &meta(1, 5), &[(b"a", b"1")]);
        let mut txn = stores.state.begin();
        txn.as_txn().put(b"a", b"2");
        txn.commit(&meta(1, 4)).expect_err("5 was applied");
        assert_eq!(get(&*stores.state.reader().view().tables, b"a"), Some(vec![b'1']));
    }
}

#[test]
fn scans_stay_in_their_range() {
    for place in Place::both() {
        let mut stores = place.open();
        let keys: [&[u8]; 5] = [b"", b"a", b"a\0", b"b", &[0xff; 60]];
        put(&mut *stores.state, &meta(1, 1), &keys.map(|key| (key, key)));
        let view = stores.state.reader().view();
        let scan = |from: &[u8], to: &[u8]| {
            let mut found = Vec::new();
            let scanned = view.tables.scan(from, to, &mut |key, value| {
                assert_eq!(key, value);
                found.push(key.to_vec());
                ControlFlow::Continue(())
            });
            scanned.expect("readable");
            found
        };
        assert_eq!(scan(b"", &[0xff; 61]), keys);
        assert_eq!(scan(b"a", b"b"), [&b"a"[..], b"a\0"]);
        assert_eq!(scan(b"b", b"a"), Vec::<Vec<u8>>::new());
        assert_eq!(scan(b"a", b"a"), Vec::<Vec<u8>>::new());
    }
}

/// A view outlives the state it was taken of.
#[test]
fn views_stay_as_they_are() {
    for place in Place::both() {
        let mut stores = place.open();
        put(&mut *stores.state, &meta(1, 1), &[(b"a", b"1")]);
        let view = stores.state.reader().view();
        put(&mut *stores.state, &meta(1, 2), &[(b"a", b"2")]);
        stores.snapshots.build().expect("built");
        drop(stores);
        assert_eq!(get(&*view.tables, b"a"), Some(vec![b'1']));
        assert_eq!(view.applied, Some(at(1, 1)));
    }
}
