//! A disk that takes no more: a file size limit stands in for it, which the kernel enforces with
//! an error on the write.

use crate::support::{GROUP, all, append, at, completion, entry, meta, put, tuning};
use bytes::Bytes;
use quorate_state::LogIndex;
use quorate_storage::Stores;
use quorate_storage::log::Synced;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the child works; its absence makes the child's test do nothing.
const DIR: &str = "QUORATE_STORAGE_FULL_DIR";
const LEN_MAX: usize = 50_000;

/// What runs under the limit.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut stores = Stores::open(Path::new(&dir), GROUP, &tuning()).expect("it opens");
    let log = &*stores.log;
    let mut acknowledged = 0;
    let error = loop {
        let (done, result) = completion();
        if let Err(error) = log.append(vec![entry(at(1, acknowledged), LEN_MAX)], done) {
            break error.to_string();
        }
        if let Err(error) = result.recv().expect("it is completed") {
            break error;
        }
        acknowledged += 1;
    };
    assert!(error.contains("File too large"), "{error}");
    assert!(matches!(&*log.synced().borrow(), Synced::Failed(reason) if reason.contains("File")));
    // Nothing is taken any more, and nobody waits for what never comes.
    let next = log.bounds().last.map_or(0, |last| last.index.0 + 1);
    let (done, result) = completion();
    log.append(vec![entry(at(1, next), 10)], done).expect_err("it has failed");
    result.recv().expect_err("it was dropped");
    let (done, _) = completion();
    log.save_vote(Bytes::from_static(b"vote"), done).expect_err("it has failed");
    log.save_committed(Some(at(1, 0))).expect_err("it has failed");
    // Reads go on.
    assert_eq!(log.read(LogIndex(0), LogIndex(1), 0).expect("readable").len(), 1);
    put(&mut *stores.state, &meta(1, 0), &[(b"a", b"1")]);
    let _ = std::io::stdout().write_all(format!("@{acknowledged}\n").as_bytes());
}

#[test]
fn a_full_disk_fails_writes_and_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let test = std::env::current_exe().expect("this test");
    // Without the trap the kernel would kill the process instead. 8 192 blocks are 4 MiB (8 MiB
    // where the shell counts in KiB).
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 8192; exec \"$0\" full_disk::child --exact --nocapture",
        ])
        .arg(test)
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let (_, acknowledged) = said.split_once('@').expect("it says how far it came");
    let acknowledged = acknowledged.split_once('\n').map_or(acknowledged, |(number, _)| number);
    let acknowledged: usize = acknowledged.parse().expect("a number");
    assert!(acknowledged > 50, "only {acknowledged} entries fitted");

    // There is room again.
    let stores = Stores::open(dir.path(), GROUP, &tuning()).expect("it opens");
    let found = all(&*stores.log);
    assert!(found.len() >= acknowledged, "{} of {acknowledged} are there", found.len());
    let next = found.len() as u64;
    append(&*stores.log, vec![entry(at(2, next), LEN_MAX)]);
}
