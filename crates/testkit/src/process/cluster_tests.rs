//! The process cluster, with a stand-in for the broker.

use super::fake_node;
use super::{Options, ProcessCluster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Where the stand-in is, and how to start three of it.
fn fakes() -> (TempDir, Options) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("fake-quorate");
    fake_node::write_program(&program);
    let options = ProcessCluster::options(3).binary(program);
    (directory, options)
}

fn process_exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// For a directory that was kept on purpose.
fn assert_kept(directory: &Path) {
    assert!(directory.join("node-1.log").is_file(), "{} was not kept", directory.display());
    fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back_where_it_was() {
    let (_program, options) = fakes();
    let mut cluster = options.start().await.unwrap();
    assert_eq!(cluster.ids(), [1, 2, 3]);
    assert_eq!(cluster.wait_ready().await.unwrap(), 1);
    assert_eq!(cluster.leader().await.unwrap(), 1);
    let (endpoints, old_pid) = (cluster.endpoints(), cluster.pid(1));

    cluster.kill(1).await.unwrap();
    assert!(!cluster.is_running(1).unwrap());
    assert_eq!(cluster.live_ids(), [2, 3]);
    assert_eq!(cluster.wait_ready().await.unwrap(), 2);
    assert!(cluster.status(1).await.is_err());

    cluster.restart(1).await.unwrap();
    assert_eq!(cluster.wait_ready().await.unwrap(), 1);
    assert_eq!(cluster.leader().await.unwrap(), 1);
    assert_eq!(cluster.endpoints(), endpoints);
    assert_ne!(cluster.pid(1), old_pid);
    assert_eq!(cluster.wait_same_state().await.unwrap().applied, Some(7));
    assert!(cluster.data_dir(1).is_dir());
}

#[tokio::test]
async fn a_paused_node_answers_nobody_until_it_goes_on() {
    let (_program, options) = fakes();
    let mut cluster = options.start().await.unwrap();
    cluster.pause(2).await.unwrap();
    assert!(cluster.is_running(2).unwrap());
    assert_eq!(cluster.live_ids(), [1, 3]);
    let answer = tokio::time::timeout(Duration::from_millis(300), cluster.status(2)).await;
    assert!(!matches!(answer, Ok(Ok(_))), "a paused node answered");

    cluster.resume(2).unwrap();
    assert!(cluster.status(2).await.is_ok());
    assert_eq!(cluster.live_ids(), [1, 2, 3]);

    cluster.pause(2).await.unwrap();
    cluster.kill(2).await.unwrap();
    cluster.restart(2).await.unwrap();
    assert_eq!(cluster.live_ids(), [1, 2, 3]);
}

#[tokio::test]
async fn a_terminated_node_ends_by_its_own_rules() {
    let (_program, options) = fakes();
    let mut cluster = options.start().await.unwrap();
    assert_eq!(cluster.terminate(3).await.unwrap().code(), Some(0));
    assert_eq!(cluster.live_ids(), [1, 2]);
    let ended = cluster.terminate_all().await.unwrap();
    let ended: Vec<_> = ended.into_iter().map(|(id, status)| (id, status.code())).collect();
    assert_eq!(ended, [(1, Some(0)), (2, Some(0))]);
    assert!(cluster.live_ids().is_empty());
}

#[tokio::test]
async fn all_nodes_die_and_return_together() {
    let (_program, options) = fakes();
    let mut cluster = options.start().await.unwrap();
    let pids: Vec<_> = cluster.ids().into_iter().filter_map(|id| cluster.pid(id)).collect();
    cluster.kill_all().await.unwrap();
    assert!(cluster.live_ids().is_empty());
    assert!(!pids.iter().any(|pid| process_exists(*pid)));
    cluster.restart_all().await.unwrap();
    assert_eq!(cluster.wait_ready().await.unwrap(), 1);
}

#[tokio::test]
async fn nothing_is_left_after_success() {
    let (_program, options) = fakes();
    let cluster = options.start().await.unwrap();
    let directory = cluster.directory().to_owned();
    let pids: Vec<_> = cluster.ids().into_iter().filter_map(|id| cluster.pid(id)).collect();
    assert!(pids.len() == 3 && pids.iter().all(|pid| process_exists(*pid)));
    drop(cluster);
    assert!(!pids.iter().any(|pid| process_exists(*pid)));
    assert!(!directory.exists());
}

#[tokio::test]
async fn logs_are_kept_after_failure() {
    let (_program, options) = fakes();
    // The test panics.
    let cluster = options.clone().start().await.unwrap();
    let directory = cluster.directory().to_owned();
    let failure = catch_unwind(AssertUnwindSafe(|| {
        let _cluster = cluster;
        panic!("the test failed");
    }));
    assert!(failure.is_err());
    assert_kept(&directory);

    // The test says so.
    let cluster = options.start().await.unwrap();
    let directory = cluster.directory().to_owned();
    cluster.mark_failed();
    drop(cluster);
    assert_kept(&directory);
}

#[tokio::test]
async fn a_node_that_ends_by_itself_fails_the_test() {
    let (_program, options) = fakes();
    let mut cluster = options.start().await.unwrap();
    let directory = cluster.directory().to_owned();
    let pid = Pid::from_raw(cluster.pid(2).unwrap().try_into().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
    let error = loop {
        // The signal may take effect a moment later than it was sent.
        if let Err(error) = cluster.wait_ready().await {
            break error.to_string();
        }
    };
    assert!(error.contains("node 2 ended by itself"), "{error}");
    drop(cluster);
    assert_kept(&directory);
}

/// Makes a node end by its own rules, behind the back of its cluster.
async fn end_unnoticed(cluster: &ProcessCluster, id: u64) {
    let pid = cluster.pid(id).unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGTERM).unwrap();
    // Until somebody waits for it, it is a zombie.
    let stat = format!("/proc/{pid}/stat");
    while !fs::read_to_string(&stat).unwrap().rsplit(')').next().unwrap().starts_with(" Z") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_node_that_had_ended_by_itself_was_not_killed() {
    let (_program, options) = fakes();
    for way in ["kill", "kill_all", "restart"] {
        let mut cluster = options.clone().start().await.unwrap();
        let directory = cluster.directory().to_owned();
        end_unnoticed(&cluster, 2).await;
        let ended = match way {
            "kill" => cluster.kill(2).await.map(drop),
            "kill_all" => cluster.kill_all().await,
            _ => cluster.restart(2).await,
        };
        let error = ended.unwrap_err().to_string();
        assert!(error.contains("node 2 ended by itself"), "{way}: {error}");
        drop(cluster);
        assert_kept(&directory);
    }
}

#[tokio::test]
async fn a_node_that_panicked_fails_the_test_unless_that_was_wanted() {
    let (_program, options) = fakes();
    let options = options.node_env(2, fake_node::PANIC, "1");
    let cluster = options.clone().start().await.unwrap();
    let directory = cluster.directory().to_owned();
    let failure = catch_unwind(AssertUnwindSafe(|| drop(cluster))).unwrap_err();
    let text = failure.downcast::<String>().unwrap();
    assert!(text.contains("a node panicked") && text.contains("node-2.log"), "{text}");
    assert_kept(&directory);

    let cluster = options.allow_panics().start().await.unwrap();
    let directory = cluster.directory().to_owned();
    drop(cluster);
    assert!(!directory.exists());
}

#[tokio::test]
async fn nodes_whose_states_differ_are_told_apart() {
    let (_program, options) = fakes();
    let mut cluster = options.node_env(2, fake_node::CHECKSUM, "9").start().await.unwrap();
    let directory = cluster.directory().to_owned();
    let error = cluster.wait_same_state().await.unwrap_err().to_string();
    assert!(error.contains("nodes 1 and 2 differ"), "{error}");
    drop(cluster);
    assert_kept(&directory);
}

#[tokio::test]
async fn a_node_that_is_down_has_no_state_to_compare() {
    let (_program, options) = fakes();
    let mut cluster = options.start().await.unwrap();
    let directory = cluster.directory().to_owned();
    cluster.kill(3).await.unwrap();
    let error = cluster.wait_same_state().await.unwrap_err().to_string();
    assert!(error.contains("node 3 is down"), "{error}");
    drop(cluster);
    assert_kept(&directory);
}

#[tokio::test]
async fn a_taken_port_is_answered_with_other_ports() {
    let (program, options) = fakes();
    let taken = program.path().join("taken");
    fs::write(&taken, "").unwrap();
    let options = options.env(fake_node::PORT_TAKEN, &taken).node_arg(1, "--extra");
    let mut cluster = options.start().await.unwrap();
    assert!(!taken.exists(), "the first start did not fail");
    assert_eq!(cluster.wait_ready().await.unwrap(), 1);
    let log = fs::read_to_string(cluster.log_path(1)).unwrap();
    assert!(log.starts_with("=== start of ") && log.contains("\"--extra\""), "{log}");
}

#[tokio::test]
async fn a_node_that_refuses_to_start_can_be_watched_doing_it() {
    let (_program, options) = fakes();
    let mut cluster = options.allow_panics().start().await.unwrap();
    cluster.kill(1).await.unwrap();
    // A directory where the data should be is fine; a file is not.
    fs::remove_dir_all(cluster.data_dir(1)).unwrap();
    fs::write(cluster.data_dir(1), "").unwrap();
    cluster.spawn(1).unwrap();
    let status = cluster.wait_exit(1).await.unwrap();
    assert!(!status.success() && status.signal().is_none(), "{status}");
}

#[tokio::test]
async fn a_missing_program_is_an_error() {
    let options = ProcessCluster::options(1).binary(PathBuf::from("/nowhere/quorate"));
    let error = format!("{:#}", options.start().await.err().unwrap());
    assert!(error.contains("no program at /nowhere/quorate"), "{error}");
}
