//! The state machine's own suites, on the tables of both state stores.

use crate::support::{Place, at, meta, put, rows};
use quorate_state::testing::{Tables, conformance, golden};
use quorate_state::{Read, Txn};
use quorate_storage::Stores;
use quorate_storage::memory::{DiskModel, MemoryDisk};
use std::cell::RefCell;

/// A state store under test. Each commit is one entry further.
struct Opened {
    place: Place,
    stores: Option<Stores>,
    index: u64,
    /// How often it was asked to come back.
    reopened: u64,
    /// A real disk is slow to come back from, so it does so only each time in so many.
    reopens_one_in: u64,
}

impl Opened {
    fn new(place: Place, reopens_one_in: u64) -> Self {
        let stores = Some(place.open());
        Self { place, stores, index: 0, reopened: 0, reopens_one_in }
    }

    fn stores(&mut self) -> &mut Stores {
        self.stores.as_mut().expect("it is open")
    }

    fn rows(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let stores = self.stores.as_ref().expect("it is open");
        rows(&*stores.state.reader().view().tables)
    }

    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Txn) -> bool) {
        let index = self.index;
        let mut txn = self.stores().state.begin();
        if work(txn.as_txn()) {
            txn.commit(&meta(1, index)).expect("committed");
            self.index += 1;
        }
    }

    /// By a snapshot and by a restart in turn.
    fn reopen(&mut self) {
        self.reopened += 1;
        if !self.reopened.is_multiple_of(self.reopens_one_in) {
            return;
        }
        let before = self.rows();
        let index = self.index;
        self.index += 1;
        let by_snapshot = (self.reopened / self.reopens_one_in).is_multiple_of(2);
        let stores = self.stores();
        put(&mut *stores.state, &meta(1, index), &[]);
        if by_snapshot {
            let snapshot = stores.snapshots.build().expect("built");
            // What is written behind the snapshot must be gone after it.
            put(&mut *stores.state, &meta(1, index + 1), &[(b"behind", b"it")]);
            stores.state.install(snapshot).expect("installed");
        } else {
            // A state without its log would be refused.
            stores.log.purge(at(1, index)).expect("purged");
            drop(self.stores.take());
            self.stores = Some(self.place.open());
        }
        assert_eq!(self.rows(), before);
    }
}

/// Tables that are lent to one script after the other, emptied: a store that is opened anew for
/// each waits for the disk most of the time.
struct Lent<'a> {
    opened: Option<Opened>,
    home: &'a RefCell<Option<Opened>>,
}

impl<'a> Lent<'a> {
    fn new(home: &'a RefCell<Option<Opened>>) -> Self {
        let mut opened = home.borrow_mut().take().expect("the script before gave it back");
        let old = opened.rows();
        opened.transact(&mut |txn| {
            old.iter().for_each(|(key, _)| txn.delete(key));
            true
        });
        Self { opened: Some(opened), home }
    }

    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("it is given back in the end")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.home.replace(self.opened.take());
    }
}

impl Tables for Lent<'_> {
    fn transact(&mut self, work: &mut dyn FnMut(&mut dyn Txn) -> bool) {
        self.opened().transact(work);
    }

    fn view(&self, work: &mut dyn FnMut(&dyn Read)) {
        let stores = self.opened.as_ref().and_then(|opened| opened.stores.as_ref());
        work(&*stores.expect("it is open").state.reader().view().tables);
    }

    fn reopen(&mut self) {
        self.opened().reopen();
    }
}

/// Both kinds, open.
fn both() -> [RefCell<Option<Opened>>; 2] {
    let memory = Place::Memory(MemoryDisk::new(DiskModel::immediate()));
    [Opened::new(Place::rocks(), 10), Opened::new(memory, 1)]
        .map(|opened| RefCell::new(Some(opened)))
}

#[test]
fn tables_conform() {
    let seed = crate::support::seed("tables_conform");
    for home in both() {
        // The suite itself asks to reopen only a few times.
        home.borrow_mut().as_mut().expect("it is at home").reopens_one_in = 1;
        conformance::run(|| Lent::new(&home), seed);
    }
}

fn golden_scripts(area: &str) {
    for home in both() {
        golden::run_area(area, || Lent::new(&home));
        let home = home.borrow();
        let opened = home.as_ref().expect("it is at home");
        assert!(opened.reopened >= opened.reopens_one_in, "it never came back from the disk");
    }
}

#[test]
fn golden_scripts_of_the_clocks() {
    golden_scripts("clock");
}

#[test]
fn cluster_scripts() {
    golden_scripts("cluster");
}

#[test]
fn access_scripts() {
    golden_scripts("access");
}

#[test]
fn golden_scripts_of_repeated_requests() {
    golden_scripts("dedupe");
}

#[test]
fn golden_scripts_of_the_history() {
    golden_scripts("history");
}

#[test]
fn golden_scripts_of_key_value() {
    golden_scripts("kv");
}

#[test]
fn golden_scripts_of_locks() {
    golden_scripts("lock");
}

#[test]
fn golden_scripts_of_sessions() {
    golden_scripts("session");
}

#[test]
fn golden_scripts_of_the_cache() {
    golden_scripts("cache");
}

#[test]
fn queue_scripts() {
    golden_scripts("queue");
}

#[test]
fn no_area_of_golden_scripts_is_left_out() {
    let areas = [
        "access", "cache", "clock", "cluster", "dedupe", "history", "kv", "lock", "queue",
        "session",
    ];
    assert_eq!(golden::AREAS, areas);
}
