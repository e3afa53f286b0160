//! What users' own tests do to a cluster of processes: from Rust, and by HTTP from anywhere.

use nix::sys::signal::Signal;
use quorate_client::{Client, Error, Routing};
use quorate_testkit::ProcessCluster;
use quorate_tests::processes::{Quorate, alone, send};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout};

const START_MAX: Duration = Duration::from_secs(60);
/// How long a call may take: as long as it waits itself, and more.
const CALL_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn processes_are_cut_off_from_each_other_and_healed() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::options(3).test_control().start().await.unwrap();
    let old = cluster.wait_ready().await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).connect().unwrap();
    client.kv().set("a", "1").await.unwrap();

    cluster.partition(&[old]).await.unwrap();
    // The others follow a new one; the old one can't have anything acknowledged.
    client.kv().set("a", "2").await.unwrap();
    let new = cluster.leader().await.unwrap();
    assert_ne!(new, old);
    let alone = Client::builder()
        .endpoints([cluster.client_addr(old).to_string()])
        .routing(Routing::Endpoints)
        .request_timeout(Duration::from_secs(1))
        .connect()
        .unwrap();
    let refused = alone.kv().set("a", "3").await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable { .. } | Error::Indeterminate { .. }));

    // One that starts meanwhile begins on its side.
    cluster.restart(old).await.unwrap();
    assert!(alone.kv().get("a").await.is_err(), "it reached the others");
    cluster.heal().await.unwrap();
    cluster.wait_ready().await.unwrap();
    let killed = cluster.kill_leader().await.unwrap();
    client.kv().set("a", "4").await.unwrap();
    cluster.restart(killed).await.unwrap();
    cluster.wait_same_state().await.unwrap();
}

#[tokio::test]
async fn cutting_needs_to_be_asked_for() {
    let _alone = alone().await;
    let mut cluster = ProcessCluster::options(1).start().await.unwrap();
    let refused = cluster.partition(&[1]).await.unwrap_err().to_string();
    assert!(refused.contains("Options::test_control"), "{refused}");
    std::fs::remove_dir_all(cluster.directory()).unwrap();
}

/// `quorate dev --test-control`, and the URL it has printed.
struct Dev {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    endpoints: Vec<String>,
    address: String,
    path: String,
}

impl Dev {
    async fn start() -> Self {
        let mut command = Quorate::bare().command();
        command.args(["dev", "--nodes", "3", "--base-port", "0", "--test-control"]);
        command.stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("quorate can be started");
        let stdout = child.stdout.take().expect("it is piped");
        let mut stdout = BufReader::new(stdout).lines();
        let mut after = async |name: &str| {
            let line = tokio::time::timeout(START_MAX, stdout.next_line()).await;
            let line = line.expect("it starts in time").expect("stdout can be read");
            let line = line.expect("it starts");
            line.strip_prefix(name).unwrap_or_else(|| panic!("{name} it is not: {line}")).to_owned()
        };
        let endpoints = after("QUORATE_ENDPOINTS=").await;
        let url = after("QUORATE_TEST_CONTROL=http://").await;
        let (address, path) = url.split_once('/').expect("the URL has a path");
        let endpoints = endpoints.split(',').map(str::to_owned).collect();
        Self { child, stdout, endpoints, address: address.to_owned(), path: format!("/{path}") }
    }

    /// The status and the text of the answer.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let asked = async {
            let mut connection = TcpStream::connect(&self.address).await?;
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                self.address
            );
            connection.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(CALL_MAX, asked).await;
        let answer = answer.expect("it answers in time").expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).expect("a head has a status");
        (status.parse().expect("a status is a number"), body.to_owned())
    }

    async fn call(&self, call: &str) -> (u16, Value) {
        let method = if call == "/status" { "GET" } else { "POST" };
        let (status, body) = self.ask(method, &format!("{}{call}", self.path)).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {body}")))
    }

    async fn done(&self, call: &str) -> Value {
        let (status, body) = self.call(call).await;
        assert_eq!(status, 200, "{call}: {body}");
        body
    }
}

#[tokio::test]
async fn a_test_in_any_language_fails_the_leader_over() {
    let _alone = alone().await;
    let mut dev = Dev::start().await;
    let client = Client::builder().endpoints(dev.endpoints.clone()).connect().unwrap();
    let kv = client.kv();
    kv.set("a", "1").await.unwrap();

    // Kill the leader: it is gone when that is answered, and the next one serves.
    let killed = dev.done("/kill-leader").await["node"].as_u64().unwrap();
    let status = dev.done("/status").await;
    let node = &status["nodes"][usize::try_from(killed).unwrap() - 1];
    assert_eq!((&node["running"], &node["id"]), (&json!(false), &json!(killed)));
    kv.set("a", "2").await.unwrap();
    let healthy = dev.done("/await-healthy").await;
    let leader = healthy["leader"].as_u64().unwrap();
    assert_ne!(leader, killed);
    assert_eq!(healthy["nodes"].as_array().map(Vec::len), Some(2));
    let (status, why) = dev.call(&format!("/kill/{killed}")).await;
    assert_eq!((status, why), (409, json!({ "error": format!("node {killed} does not run") })));
    dev.done(&format!("/restart/{killed}")).await;
    dev.done("/await-healthy/60").await;

    // Cut the leader off: another one is elected, and it is no healthy cluster until that is mended.
    let old = dev.done("/status").await["leader"].as_u64().unwrap();
    dev.done(&format!("/partition/{old}")).await;
    kv.set("a", "3").await.unwrap();
    let status = dev.done("/status").await;
    assert_ne!(status["leader"].as_u64(), Some(old), "{status}");
    let cut_off = &status["nodes"][usize::try_from(old).unwrap() - 1]["cut_off"];
    assert_eq!(cut_off.as_array().map(Vec::len), Some(2), "{status}");
    let (status, why) = dev.call("/await-healthy/1").await;
    assert_eq!(status, 504, "{why}");
    dev.done("/heal").await;
    dev.done("/await-healthy").await;

    // Stop the leader where it is.
    let paused = dev.done("/status").await["leader"].as_u64().unwrap();
    dev.done(&format!("/pause/{paused}")).await;
    kv.set("a", "4").await.unwrap();
    dev.done(&format!("/resume/{paused}")).await;
    dev.done("/await-healthy").await;
    assert_eq!(kv.get("a").await.unwrap().unwrap().value, "4");

    dev.done("/stop").await;
    let ended = tokio::time::timeout(CALL_MAX, dev.child.wait()).await;
    assert_eq!(ended.expect("it ends in time").unwrap().code(), Some(0));
    assert_eq!(dev.stdout.next_line().await.unwrap(), None, "it said more");
}

#[tokio::test]
async fn test_control_refuses_what_it_should_and_says_why() {
    let _alone = alone().await;
    let mut dev = Dev::start().await;
    // Without its path it is nothing, also for what begins alike.
    for path in ["/", "/status", "/0123456789abcdef0123456789abcdef/status"] {
        assert_eq!(dev.ask("GET", path).await, (404, String::new()), "{path}");
    }
    let secret = dev.path.trim_start_matches('/');
    assert!(secret.len() == 32 && secret.chars().all(|c| c.is_ascii_hexdigit()), "{secret}");
    for (call, status, part) in [
        ("/kill/9", 404, "nodes 1 to 3"),
        ("/kill/x", 400, "no node id"),
        ("/partition/1,9", 404, "nodes 1 to 3"),
        ("/partition/", 400, "no node id"),
        ("/await-healthy/0", 400, "1 to 600"),
        ("/explode", 404, "/kill-leader"),
    ] {
        let (answered, why) = dev.call(call).await;
        assert_eq!(answered, status, "{call}: {why}");
        assert!(why["error"].as_str().unwrap().contains(part), "{call}: {why}");
    }
    let (status, why) = dev.ask("GET", &format!("{}/heal", dev.path)).await;
    assert_eq!(status, 405, "{why}");
    assert!(why.contains("POST"), "{why}");
    send(&dev.child, Signal::SIGTERM);
    let ended = tokio::time::timeout(CALL_MAX, dev.child.wait()).await;
    assert_eq!(ended.expect("it ends in time").unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_node_that_other_machines_reach_takes_no_commands() {
    let directory = tempfile::tempdir().unwrap();
    let line = format!(
        "serve --test-control --insecure --data-dir {} --client-listen 0.0.0.0:0 \
         --client-advertise 127.0.0.1:1",
        directory.path().display()
    );
    let ended = Quorate::bare().run(&line).await.expect(1);
    ended.expect_stderr("--test-control");
}
