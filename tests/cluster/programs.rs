//! The two programs among the client's examples, while the leader is killed.

use crate::running::{PATIENCE, nodes};
use quorate_client::Client;
use quorate_tests::processes::{alone, http_get, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};

/// An example that runs; killed when it is dropped.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(name: &str, argument: &str, endpoints: &[String]) -> Self {
        let mut command = Command::new(example(name));
        command.arg(argument).env("QUORATE_ENDPOINTS", endpoints.join(","));
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the example can be started");
        let stdout = child.stdout.take().expect("it is piped");
        Self { child, lines: BufReader::new(stdout).lines() }
    }

    /// The rest of the next line that begins so.
    async fn says(&mut self, beginning: &str) -> String {
        let said = async {
            loop {
                let line = self.lines.next_line().await.expect("it can be read");
                let line = line.expect("the program goes on");
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.to_owned();
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, said).await;
        waited.unwrap_or_else(|_| panic!("the program does not say {beginning:?}"))
    }
}

/// A program among the examples, which `cargo test` builds beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    let target = test.parent().and_then(|deps| deps.parent()).expect("it is in target/…/deps");
    let program = target.join("examples").join(name);
    assert!(
        program.is_file(),
        "{} is not built: cargo build --release --examples",
        program.display()
    );
    program
}

/// Hands a text in, as the form does.
async fn hand_in(addr: SocketAddr, text: &str) -> u16 {
    let mut stream = TcpStream::connect(addr).await.expect("the program listens");
    let body = format!("text={}", text.replace(' ', "+"));
    let request = format!(
        "POST /jobs HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_runner_has_one_result_for_each_text_though_the_leader_and_a_worker_are_killed() {
    const TEXTS: usize = 30;
    let _alone = alone().await;
    let (mut cluster, _) = nodes(3).await;
    let endpoints = cluster.endpoints();
    let mut first = Program::start("job_runner", "127.0.0.1:0", &endpoints);
    let addr = first.says("listening on http://").await.parse().expect("it is an address");
    let mut second = Program::start("job_runner", "127.0.0.1:0", &endpoints);
    second.says("listening on http://").await;
    let (status, page) = http_get(addr, "/").await;
    assert!(status == 200 && page.contains("How many words?"), "{status}: {page}");

    for words in 1..=TEXTS {
        if words == TEXTS / 2 {
            let leader = cluster.wait_ready().await.expect("one leads");
            cluster.kill(leader).await.expect("it runs");
        }
        if words == TEXTS * 2 / 3 {
            second.child.kill().await.expect("it runs");
        }
        assert_eq!(hand_in(addr, &vec!["word"; words].join(" ")).await, 303);
    }
    let seen = async || -> Value {
        let (status, text) = http_get(addr, "/jobs").await;
        if status == 200 { serde_json::from_str(&text).expect("it is JSON") } else { Value::Null }
    };
    // Jobs of the worker that was killed come back with its session.
    wait_until("all texts are counted", 3 * PATIENCE, async || seen().await["count"] == TEXTS)
        .await;
    let seen = seen().await;
    assert_eq!(seen["waiting"], Value::Array(Vec::new()));
    let mut counts: Vec<usize> = seen["done"]
        .as_array()
        .expect("it is a list")
        .iter()
        .map(|one| one["words"].as_str().expect("it is a text").parse().expect("a number"))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=TEXTS).collect::<Vec<_>>());
    first.child.kill().await.expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheduler_has_one_job_for_each_tick_though_the_leader_and_the_one_that_leads_are_killed()
 {
    let _alone = alone().await;
    let (mut cluster, _) = nodes(3).await;
    let endpoints = cluster.endpoints();
    let mut first = Program::start("scheduler", "50ms", &endpoints);
    first.says("leading").await;
    let mut second = Program::start("scheduler", "50ms", &endpoints);
    second.says("standing by").await;
    first.says("tick 10").await;

    let leader = cluster.wait_ready().await.expect("one leads");
    cluster.kill(leader).await.expect("it runs");
    let before: u64 = first.says("tick ").await.parse().expect("it is a number");
    first.says(&format!("tick {}", before + 10)).await;
    cluster.restart(leader).await.expect("it can be started");

    first.child.kill().await.expect("it runs");
    second.says("leading").await;
    let after: u64 = second.says("tick ").await.parse().expect("it is a number");
    assert!(after > before + 10, "the second began at {after}, though {} was reached", before + 10);
    second.says(&format!("tick {}", after + 10)).await;
    second.child.kill().await.expect("it runs");

    let client = Client::builder().endpoints(endpoints).request_timeout(PATIENCE);
    let client = client.connect().expect("the options are right");
    let last =
        client.kv().get("example/ticks").await.expect("it is answered").expect("it is there");
    let last: u64 = String::from_utf8_lossy(&last.value).parse().expect("it is a number");
    let mut ticks = BTreeMap::<u64, u32>::new();
    loop {
        let pull = client.queue().pull("example/due").count(128).wait(Duration::ZERO);
        let jobs = pull.await.expect("it is answered");
        if jobs.is_empty() {
            break;
        }
        for job in jobs {
            let number = String::from_utf8_lossy(job.payload()).parse().expect("it is a number");
            *ticks.entry(number).or_default() += 1;
            job.ack().await.expect("it is ours");
        }
    }
    let expected: BTreeMap<u64, u32> = (1..=last).map(|number| (number, 1)).collect();
    assert_eq!(ticks, expected, "each tick has one job");
    client.close().await.expect("it is answered");
}
