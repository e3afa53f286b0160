//! A log that nobody reads: requests don't wait for it, and neither does the end of the node.

use nix::sys::signal::Signal;
use quorate_client::Client;
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Quorate, alone, http_get, say, send, wait_until};
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(60);
const END_MAX: Duration = Duration::from_secs(30);
/// Requests, each with lines by the dozen: far more than the pipe and the buffer before it take.
const REQUESTS: u32 = 2_000;
/// At most for one of them: any wait for the log would be for ever.
const REQUEST_MAX: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    let _alone = alone().await;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let [client, peer, http] = [(); 3].map(|()| {
        let mut lease = PortLease::take().expect("there is a free port");
        lease.release_socket();
        lease
    });
    let mut node = Quorate::bare().command();
    // One pipe for all it says, as a service manager has it. It is full soon, and stays so.
    let (_unread, says) = std::io::pipe().expect("a pipe can be made");
    node.stdout(says.try_clone().expect("it has a second end")).stderr(says);
    node.current_dir(directory.path()).args(["serve", "--log-level", "trace"]);
    node.args(["--client-listen", &client.addr().to_string()]);
    node.args(["--peer-listen", &peer.addr().to_string()]);
    node.args(["--http-listen", &http.addr().to_string()]);
    let mut node = node.spawn().expect("it can be started");
    let ready = async || http_get(http.addr(), "/readyz").await.0 == 200;
    wait_until("it is ready", START_MAX, ready).await;

    let client = Client::builder().endpoints([client.addr().to_string()]).connect();
    let kv = client.expect("the options are fine").kv();
    let mut slowest = Duration::ZERO;
    for expected in 1..=REQUESTS {
        let begun = Instant::now();
        let value = kv.increment("n", 1).await.expect("it is answered").value;
        assert_eq!(value, i64::from(expected));
        slowest = slowest.max(begun.elapsed());
    }
    say(format!("{REQUESTS} requests; the slowest took {} ms", slowest.as_millis()));
    assert!(slowest < REQUEST_MAX, "one took {slowest:?}");
    let (_, page) = http_get(http.addr(), "/metrics").await;
    let dropped = page.lines().find(|line| line.starts_with("quorate_log_lines_dropped_total "));
    say(dropped.unwrap_or("no line was dropped"));
    assert!(dropped.is_some_and(|line| !line.ends_with(" 0")), "nothing was dropped: no proof");

    send(&node, Signal::SIGTERM);
    let ended = tokio::time::timeout(END_MAX, node.wait()).await;
    let ended = ended.expect("it ends in time").expect("its end can be waited for");
    assert_eq!(ended.code(), Some(0), "it ended with {ended}");
}
