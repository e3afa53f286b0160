//! What the machine relies on in any tables, checked on whichever are given.

use super::{Rng, Tables, read};
use crate::{Read, Txn};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Runs the whole suite, each check on tables of its own; the random one with `seed`
/// (see [`super::seed`]).
///
/// # Panics
/// When the tables do not conform, with the seed where it matters.
pub fn run<T: Tables>(mut make: impl FnMut() -> T, seed: u64) {
    absent_rows(&mut make());
    reads_see_own_writes(&mut make());
    dropped_transactions_leave_nothing(&mut make());
    views_see_committed_rows_only(&mut make());
    scans_are_ordered_and_half_open(&mut make());
    scans_see_own_writes_and_deletes(&mut make());
    scans_stop_when_told(&mut make());
    any_bytes_are_keys_and_values(&mut make());
    large_values(&mut make());
    committed_rows_survive_reopening(&mut make());
    random_model(&mut make(), seed, 2_000);
}

fn commit(tables: &mut dyn Tables, mut work: impl FnMut(&mut dyn Txn)) {
    tables.transact(&mut |txn| {
        work(txn);
        true
    });
}

fn get(tables: &(impl Read + ?Sized), key: &[u8]) -> Option<Vec<u8>> {
    tables.get(key).expect("get works")
}

fn scan(tables: &(impl Read + ?Sized), from: &[u8], to: &[u8]) -> Rows {
    let mut rows = Rows::new();
    tables
        .scan(from, to, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .expect("scan works");
    rows
}

fn keys(rows: &Rows) -> Vec<&[u8]> {
    rows.iter().map(|(key, _)| &key[..]).collect()
}

fn absent_rows(tables: &mut dyn Tables) {
    commit(tables, |txn| {
        assert_eq!(get(txn, b"a"), None);
        txn.delete(b"a");
        assert_eq!(get(txn, b"a"), None);
        assert_eq!(scan(txn, b"", b"\xff"), []);
    });
    assert_eq!(read(tables, |view| get(view, b"a")), None);
}

fn reads_see_own_writes(tables: &mut dyn Tables) {
    commit(tables, |txn| {
        txn.put(b"a", b"1");
        assert_eq!(get(txn, b"a").as_deref(), Some(&b"1"[..]));
        txn.put(b"a", b"2");
        assert_eq!(get(txn, b"a").as_deref(), Some(&b"2"[..]));
        txn.delete(b"a");
        assert_eq!(get(txn, b"a"), None);
        txn.put(b"a", b"3");
    });
    commit(tables, |txn| {
        assert_eq!(get(txn, b"a").as_deref(), Some(&b"3"[..]), "over what is committed");
        txn.delete(b"a");
        assert_eq!(get(txn, b"a"), None, "a delete hides what is committed");
    });
    assert_eq!(read(tables, |view| get(view, b"a")), None);
}

fn dropped_transactions_leave_nothing(tables: &mut dyn Tables) {
    commit(tables, |txn| txn.put(b"kept", b"1"));
    tables.transact(&mut |txn| {
        txn.put(b"new", b"1");
        txn.put(b"kept", b"2");
        txn.delete(b"kept");
        false
    });
    let rows = read(tables, |view| scan(view, b"", b"\xff"));
    assert_eq!(rows, [(b"kept".to_vec(), b"1".to_vec())]);
}

fn views_see_committed_rows_only(tables: &mut dyn Tables) {
    commit(tables, |txn| {
        txn.put(b"a", b"1");
        txn.put(b"b", b"1");
    });
    let rows = read(tables, |view| scan(view, b"", b"\xff"));
    assert_eq!(keys(&rows), [&b"a"[..], b"b"]);
    commit(tables, |txn| txn.delete(b"a"));
    assert_eq!(read(tables, |view| get(view, b"a")), None);
    assert!(read(tables, |view| get(view, b"b")).is_some());
}

fn scans_are_ordered_and_half_open(tables: &mut dyn Tables) {
    let all: [&[u8]; 8] = [b"a", b"a\x00", b"a\x00\x00", b"a\x01", b"aa", b"a\xff", b"b", b"\xff"];
    commit(tables, |txn| {
        // Not in their order.
        for key in all.iter().rev() {
            txn.put(key, b"");
        }
        check_ranges(txn, &all);
    });
    tables.view(&mut |view| check_ranges(view, &all));
}

fn check_ranges(tables: &(impl Read + ?Sized), all: &[&[u8]]) {
    let bounds: Vec<&[u8]> =
        [&b""[..], b"a\x00\x01", b"\xff\xff"].into_iter().chain(all.iter().copied()).collect();
    for from in &bounds {
        for to in &bounds {
            let expected: Vec<&[u8]> =
                all.iter().copied().filter(|key| from <= key && key < to).collect();
            assert_eq!(keys(&scan(tables, from, to)), expected, "from {from:02x?} to {to:02x?}");
        }
    }
}

fn scans_see_own_writes_and_deletes(tables: &mut dyn Tables) {
    commit(tables, |txn| {
        for key in [b"a", b"c", b"e"] {
            txn.put(key, b"old");
        }
    });
    commit(tables, |txn| {
        txn.put(b"b", b"new");
        txn.put(b"c", b"new");
        txn.delete(b"e");
        txn.put(b"f", b"new");
        txn.delete(b"f");
        let rows = scan(txn, b"a", b"z");
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"old"), (b"b", b"new"), (b"c", b"new")];
        let expected: Rows = expected.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        assert_eq!(rows, expected);
    });
}

fn scans_stop_when_told(tables: &mut dyn Tables) {
    commit(tables, |txn| {
        for key in [b"a", b"b", b"c"] {
            txn.put(key, b"");
        }
        let mut visited = 0;
        txn.scan(b"", b"\xff", &mut |key, _| {
            visited += 1;
            if key == b"b" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("scan works");
        assert_eq!(visited, 2);
    });
}

fn any_bytes_are_keys_and_values(tables: &mut dyn Tables) {
    let bytes: [&[u8]; 5] = [b"\x00", b"\x00\x00", b"\xff", b"\xff\xff", b"\x00\xff\n\r%{}"];
    commit(tables, |txn| {
        for key in bytes {
            txn.put(key, key);
        }
        txn.put(b"empty", b"");
    });
    for key in bytes {
        assert_eq!(read(tables, |view| get(view, key)).as_deref(), Some(key));
    }
    assert_eq!(read(tables, |view| get(view, b"empty")), Some(Vec::new()), "present and empty");
}

fn large_values(tables: &mut dyn Tables) {
    let value = vec![7; (1 << 20) + 4096];
    commit(tables, |txn| txn.put(b"large", &value));
    assert_eq!(read(tables, |view| get(view, b"large")).as_ref(), Some(&value));
}

fn committed_rows_survive_reopening(tables: &mut dyn Tables) {
    commit(tables, |txn| {
        txn.put(b"a", b"1");
        txn.put(b"b", b"1");
    });
    tables.transact(&mut |txn| {
        txn.put(b"c", b"dropped");
        false
    });
    tables.reopen();
    commit(tables, |txn| txn.delete(b"b"));
    tables.reopen();
    let rows = read(tables, |view| scan(view, b"", b"\xff"));
    assert_eq!(rows, [(b"a".to_vec(), b"1".to_vec())]);
}

/// Random transactions, some dropped, some reopenings; after each step everything is compared with
/// a map.
fn random_model(tables: &mut dyn Tables, seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for step in 0..steps {
        let mut changed = model.clone();
        let keep = !rng.one_in(5);
        tables.transact(&mut |txn| {
            for _ in 0..rng.below(20) {
                random_change(txn, &mut changed, &mut rng);
            }
            let (from, to) = (random_key(&mut rng), random_key(&mut rng));
            assert_eq!(
                scan(txn, &from, &to),
                range(&changed, &from, &to),
                "seed {seed} step {step}"
            );
            keep
        });
        if keep {
            model = changed;
        }
        if rng.one_in(50) {
            tables.reopen();
        }
        let (from, to) = (random_key(&mut rng), random_key(&mut rng));
        let found = read(tables, |view| scan(view, &from, &to));
        assert_eq!(found, range(&model, &from, &to), "seed {seed} step {step}");
        let key = random_key(&mut rng);
        let found = read(tables, |view| get(view, &key));
        assert_eq!(found.as_ref(), model.get(&key), "seed {seed} step {step}");
    }
    let all = read(tables, |view| scan(view, b"", &[0xff; 8]));
    assert_eq!(all, model.into_iter().collect::<Rows>(), "seed {seed} at the end");
}

fn random_change(txn: &mut dyn Txn, model: &mut BTreeMap<Vec<u8>, Vec<u8>>, rng: &mut Rng) {
    let key = random_key(rng);
    if rng.one_in(3) {
        txn.delete(&key);
        model.remove(&key);
    } else {
        let value = rng.next_u64().to_be_bytes()[..rng.index(9)].to_vec();
        txn.put(&key, &value);
        model.insert(key, value);
    }
}

/// One to three bytes out of few, so that keys collide and are prefixes of each other.
fn random_key(rng: &mut Rng) -> Vec<u8> {
    const BYTES: [u8; 8] = [0, 1, b'a', b'b', b'c', b'z', 0xfe, 0xff];
    (0..=rng.index(3)).map(|_| BYTES[rng.index(BYTES.len())]).collect()
}

fn range(model: &BTreeMap<Vec<u8>, Vec<u8>>, from: &[u8], to: &[u8]) -> Rows {
    let within = model.iter().filter(|(key, _)| from <= &key[..] && &key[..] < to);
    within.map(|(key, value)| (key.clone(), value.clone())).collect()
}
