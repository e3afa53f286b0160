//! The state machine's own suites, on the tables of both state stores.

use crate::support::{Place, at, meta, put, rows};
use quorate_state::testing::{Tables, conformance, golden};
use quorate_state::{Read, Txn};
use quorate_storage::Stores;

/// Tables of a state store under test. Each commit is one entry further.
struct Stored {
    place: Place,
    stores: Option<Stores>,
    index: u64,
    /// Comes back by a snapshot and by a restart in turn.
    by_snapshot: bool,
}

impl Stored {
    fn new(place: Place) -> Self {
        let stores = place.open();
        Self { place, stores: Some(stores), index: 0, by_snapshot: false }
    }

    fn stores(&mut self) -> &mut Stores {
        self.stores.as_mut().expect("it is open")
    }
}

impl Tables for Stored {
    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Txn) -> bool) {
        let index = self.index;
        let mut txn = self.stores().state.begin();
        if work(txn.as_txn()) {
            txn.commit(&meta(1, index)).expect("committed");
            self.index += 1;
        }
    }

    fn view(&self, work: &mut dyn FnMut(&dyn Read)) {
        let stores = self.stores.as_ref().expect("it is open");
        work(&*stores.state.reader().view().tables);
    }

    fn reopen(&mut self) {
        self.by_snapshot = !self.by_snapshot;
        let index = self.index;
        self.index += 1;
        if self.by_snapshot {
            let stores = self.stores();
            put(&mut *stores.state, &meta(1, index), &[]);
            let snapshot = stores.snapshots.build().expect("built");
            // What is written behind the snapshot must be gone after it.
            put(&mut *stores.state, &meta(1, index + 1), &[(b"behind", b"it")]);
            stores.state.install(snapshot).expect("installed");
        } else {
            // There is no log here, and a state without one would be refused.
            let stores = self.stores();
            put(&mut *stores.state, &meta(1, index), &[]);
            stores.log.purge(at(1, index)).expect("purged");
            drop(self.stores.take());
            self.stores = Some(self.place.open());
        }
        assert!(
            rows(&*self.stores().state.reader().view().tables)
                .iter()
                .all(|(key, _)| key != b"behind")
        );
    }
}

#[test]
fn tables_conform() {
    let seed = crate::support::seed("tables_conform");
    conformance::run(|| Stored::new(Place::rocks()), seed);
    conformance::run(|| Stored::new(Place::both().into_iter().nth(1).expect("memory")), seed);
}

#[test]
fn golden_scripts_give_the_same_on_every_store() {
    for area in golden::AREAS {
        golden::run_area(area, || Stored::new(Place::rocks()));
        golden::run_area(area, || Stored::new(Place::both().into_iter().nth(1).expect("memory")));
    }
}
