//! `quorate serve` alone: a broker of one node, without a word of configuration.

use nix::sys::signal::Signal;
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Quorate, alone, send};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

const START_MAX: Duration = Duration::from_secs(60);

/// Starts a node in a directory; answers it with the line it prints.
async fn serve(directory: &Path, lease: &PortLease) -> (Child, String) {
    let mut command = Quorate::bare().command();
    let peer = lease.addr().to_string();
    command.current_dir(directory).arg("serve").args(["--peer-listen", &peer]);
    // Any free ones, because the usual ones may be somebody's on this machine.
    command.args(["--client-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    command.stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("quorate can be started");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    let read = tokio::time::timeout(START_MAX, stdout.read_line(&mut line)).await;
    read.expect("it starts in time").expect("stdout can be read");
    (child, line)
}

fn client_address(line: &str) -> String {
    let rest = line.split_once("client ").expect("it names its ports").1;
    rest.split(',').next().expect("a split has a first part").trim().to_owned()
}

#[tokio::test]
async fn serve_alone_is_a_broker_that_keeps_its_data() {
    let _alone = alone().await;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut lease = PortLease::take().expect("there is a free port");
    lease.release_socket();
    for round in 1..=2 {
        let (mut child, line) = serve(directory.path(), &lease).await;
        let quorate = Quorate::at(&[client_address(&line)]);
        let count = quorate.run("kv incr starts").await.expect(0).text();
        assert_eq!(count.trim_end(), round.to_string());
        let status = quorate.run("cluster status -o json").await.expect(0).json();
        assert_eq!(
            (&status["leader_id"], &status["nodes"][0]["role"]),
            (&1.into(), &"leader".into())
        );
        assert!(directory.path().join("quorate-data").is_dir());

        send(&child, Signal::SIGTERM);
        let ended = tokio::time::timeout(START_MAX, child.wait()).await;
        let ended = ended.expect("it ends in time").expect("its end can be waited for");
        assert_eq!(ended.code(), Some(0), "it ended with {ended}");
    }
}
