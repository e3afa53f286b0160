//! A disk that fills up: what needs room is refused before anything fails for want of it, what frees
//! room goes on, and when there is room again, so does the node, without a restart.

use super::library::Disks;
use super::{SMALL, Stage};
use quorate_client::{Client, Error};
use quorate_testkit::load::wait_healthy;
use quorate_testkit::process::{LogScan, ProcessCluster};
use quorate_tests::processes::{Quorate, alone, say, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The size of the small disk: what must stay free is 256 MiB.
const DISK_MIB: u64 = 600;
/// What is on it besides the node.
const BALLAST_MIB: u64 = 300;
/// Nothing is refused with more free than this, or done with less.
const FREE_MIN: u64 = 256 << 20;
/// What may be written between two looks at the disk, at most.
const BETWEEN_LOOKS: u64 = 64 << 20;
const SOON: Duration = Duration::from_secs(20);

/// A file system in memory, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where this user may not mount anything.
    fn mount(at: &Path) -> Option<Self> {
        let size = format!("size={DISK_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "quorate-test"]).arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // At the latest when the node is gone, should it still run because the test has failed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn client(cluster: &ProcessCluster) -> Client {
    let client = Client::builder().endpoints(cluster.endpoints()).request_timeout(SOON);
    client.connect().expect("the options are right")
}

fn copy(from: &Path, to: &Path) {
    for file in quorate_tests::processes::files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("below it"));
        fs::create_dir_all(target.parent().expect("it is in a directory")).expect("it is made");
        fs::copy(&file, target).expect("there is room");
    }
}

fn free(at: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(at).expect("the disk tells");
    found.blocks_available() * found.fragment_size()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_refuses_in_time_and_goes_on_with_room() {
    let _alone = alone().await;
    let mut options = ProcessCluster::options(1);
    for argument in SMALL {
        options = options.arg(argument);
    }
    let mut cluster = options.start().await.expect("a node starts");
    cluster.wait_ready().await.expect("it leads");
    let status = cluster.terminate(1).await.expect("it ends");
    assert!(status.success(), "it ended with {status}");
    let (data, aside) = (cluster.data_dir(1), cluster.directory().join("aside"));
    fs::rename(&data, &aside).expect("it can be moved");
    fs::create_dir(&data).expect("it can be made");
    let Some(disk) = SmallDisk::mount(&data) else {
        say("not shown: this user can't mount a small disk");
        return;
    };
    copy(&aside, &data);
    let ballast = data.join("lost+found");
    fs::create_dir(&ballast).expect("it can be made");
    let ballast = ballast.join("ballast");
    fs::write(&ballast, vec![1; usize::try_from(BALLAST_MIB << 20).expect("small")]).expect("room");
    cluster.restart(1).await.expect("it starts");
    cluster.wait_ready().await.expect("it leads");
    let pid = cluster.pid(1);
    let client = client(&cluster);
    let quorate = Quorate::of(&cluster);
    quorate.run("queue push q job").await.expect(0);

    let value = vec![7; 256 << 10];
    let mut written = 0;
    let refusal = loop {
        let before = free(&data);
        match client.kv().set(format!("k{written}"), value.clone()).await {
            Ok(_) => written += 1,
            Err(error) => {
                assert!(before < FREE_MIN + BETWEEN_LOOKS, "{error} with {before} bytes free");
                break error;
            }
        }
    };
    let left = free(&data);
    say(format!("refused after {written} values with {left} bytes free: {refusal}"));
    assert!(left > FREE_MIN - BETWEEN_LOOKS, "only {left} bytes are free");
    let Error::ResourceExhausted { reason, message } = &refusal else { panic!("{refusal:?}") };
    assert_eq!(reason, "DISK_FULL");
    assert!(message.contains(&FREE_MIN.to_string()) && message.contains("bytes free"), "{message}");

    // What needs no room goes on, and what frees some.
    let found = client.kv().get("k0").await.expect("a read").expect("it is there");
    assert_eq!(&found.value[..], &value[..]);
    quorate.run("queue purge q").await.expect(0);
    for key in 0..written {
        client.kv().delete(format!("k{key}")).await.expect("it frees room");
    }
    client.kv().get("k0").await.expect("a read").ok_or(()).expect_err("it is deleted");

    fs::remove_file(&ballast).expect("it is there");
    let (client, value) = (&client, &value);
    wait_until("writes go on", SOON, || async move {
        client.kv().set("again", value.clone()).await.is_ok()
    })
    .await;
    assert_eq!(cluster.pid(1), pid, "it is the same process");
    assert!(cluster.is_running(1).expect("the system tells"));
    let said = cluster.logs().lines_with("No space left").expect("it has a log");
    assert!(said.is_empty(), "something failed for want of room: {said:?}");
    cluster.logs().assert_no_panics();
    let status = cluster.terminate(1).await.expect("it ends");
    assert!(status.success(), "it ended with {status}");
    drop(disk);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_does_not_fit_waits_for_room() {
    let _alone = alone().await;
    let mut stage = Stage::set().await;
    let leader = stage.cluster.leader().await.expect("there is one");
    let id = *stage.cluster.ids().iter().find(|id| **id != leader).expect("there are three");
    stage.leave_behind(id).await;
    stage.disks.say_free(id, Some(1 << 20));
    stage.cluster.restart(id).await.expect("it starts");
    let log = LogScan::new([stage.cluster.log_path(id)]);
    wait_until("it says that it has no room", SOON, || {
        let said = log.lines_with("make room on it").expect("it has a log");
        async move { !said.is_empty() }
    })
    .await;
    let arrived = log.lines_with("a snapshot arrived").expect("it has a log").len();
    stage.load.wait_for(5, SOON).await.expect("the others serve");
    assert_eq!(log.lines_with("a snapshot arrived").expect("it has a log").len(), arrived);
    assert!(stage.cluster.is_running(id).expect("the system tells"), "it only waits");
    stage.disks.say_free(id, None);
    wait_healthy(&mut stage.cluster).await.expect("it catches up");
    stage.finish().await;
}

/// Not a test of its own, but what the other ones take for granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_says_what_is_free() {
    let _alone = alone().await;
    let (disks, options) = Disks::below(ProcessCluster::options(1), 1);
    let mut cluster = options.start().await.expect("a node starts");
    cluster.wait_ready().await.expect("it leads");
    let client = client(&cluster);
    client.kv().set("k", "v").await.expect("there is room");
    disks.say_free(1, Some(FREE_MIN - 1));
    let client = &client;
    wait_until("writes are refused", SOON, || async move {
        let refused = client.kv().set("k", "v").await;
        matches!(refused, Err(Error::ResourceExhausted { message, .. })
            if message.contains(&format!("it has {} bytes", (FREE_MIN - 1) / 4096 * 4096)))
    })
    .await;
    disks.say_free(1, None);
    wait_until("writes go on", SOON, || async move { client.kv().set("k", "v").await.is_ok() })
        .await;
    cluster.logs().assert_no_panics();
}
