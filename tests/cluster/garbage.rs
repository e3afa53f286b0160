//! Bytes that no client of ours sends, on each port of a node.

use quorate_testkit::process::ProcessCluster;
use quorate_tests::processes::{Quorate, alone, say, seed};
use rand::rngs::SmallRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const RANDOM_ROUNDS: usize = 30;
const RANDOM_BYTES_MAX: usize = 20_000;
/// Connections left open at once, half way through their first words.
const LEFT_OPEN: usize = 50;
const WAIT: Duration = Duration::from_millis(200);

/// What comes of bytes that were sent.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    /// The other side hung up, which is the right answer to garbage. It need not be the first: an
    /// HTTP/2 server begins by itself, whatever comes.
    hung_up: bool,
}

/// Sends bytes, and answers what comes back before the other side hangs up or is silent for a while.
async fn send(addr: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.expect("the port is open");
    // A node may have hung up by now.
    let _ = stream.write_all(bytes).await;
    let mut answer = Answer::default();
    while let Ok(read) = tokio::time::timeout(WAIT, stream.read_buf(&mut answer.bytes)).await {
        if !read.is_ok_and(|length| length > 0) {
            answer.hung_up = true;
            break;
        }
    }
    answer
}

/// Asks for a page of the HTTP port, which must be there.
async fn assert_ok(addr: SocketAddr, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = send(addr, request.as_bytes()).await.bytes;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {:?}", String::from_utf8_lossy(&answer));
}

/// A TLS client hello, as a client sends it that takes the port for one with TLS.
fn tls_hello(rng: &mut SmallRng) -> Vec<u8> {
    let mut body = vec![0x01, 0x00, 0x00, 0xf4, 0x03, 0x03];
    body.extend((0..242).map(|_| rng.random::<u8>()));
    let mut hello = vec![0x16, 0x03, 0x01, 0x00, 0xf8];
    hello.extend(body);
    hello
}

/// HTTP/2 frames with true headers and nonsense in them.
fn frames(rng: &mut SmallRng) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    for _ in 0..rng.random_range(1..40) {
        let length = rng.random_range(0..300_u16);
        let [high, low] = length.to_be_bytes();
        let (kind, flags, stream) = (rng.random_range(0..12), rng.random(), rng.random_range(0..9));
        bytes.extend([0, high, low, kind, flags, 0, 0, 0, stream]);
        bytes.extend((0..length).map(|_| rng.random::<u8>()));
    }
    bytes
}

#[tokio::test]
async fn garbage_on_every_port_harms_nobody() {
    let _alone = alone().await;
    let seed = seed("cluster", "garbage::garbage_on_every_port_harms_nobody");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cluster = ProcessCluster::start(3).await.expect("three nodes start");
    let leader = cluster.wait_ready().await.expect("a leader is elected");
    let quorate = Quorate::of(&cluster);
    quorate.run("kv set kept v").await.expect(0);
    let term = cluster.status(leader).await.expect("it answers").term;

    let mut open = Vec::new();
    for addr in [cluster.client_addr(leader), cluster.peer_addr(leader), cluster.http_addr(leader)]
    {
        let (mut answered, mut hung_up) = (0, 0);
        let mut texts: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            b"POST /quorate.v1.KvService/Set HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"
                .to_vec(),
            b"*1\r\n$4\r\nPING\r\n".to_vec(),
            b"\0".repeat(10_000),
            b"\xff".repeat(10_000),
            b"A".repeat(1 << 20),
            [PREFACE, &b"\xff".repeat(1_000)].concat(),
            // A frame that says it is 16 MiB long.
            [PREFACE, b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"].concat(),
        ];
        for _ in 0..RANDOM_ROUNDS {
            let mut bytes = vec![0; rng.random_range(1..RANDOM_BYTES_MAX)];
            rng.fill_bytes(&mut bytes);
            texts.push(bytes);
            texts.push(frames(&mut rng));
            texts.push(tls_hello(&mut rng));
        }
        for text in &texts {
            let answer = send(addr, text).await;
            answered += usize::from(!answer.bytes.is_empty());
            hung_up += usize::from(answer.hung_up);
        }
        say(format!(
            "{addr}: {} kinds of garbage, {answered} were answered, at {hung_up} it hung up",
            texts.len()
        ));
        // It may wait for the rest of a few.
        assert!(hung_up > texts.len() / 2, "{addr} kept too many connections with garbage");
        for nth in 0..LEFT_OPEN {
            let mut stream = TcpStream::connect(addr).await.expect("the port is open");
            let cut = PREFACE.len() * nth / LEFT_OPEN;
            stream.write_all(&PREFACE[..cut]).await.expect("it is connected");
            open.push(stream);
        }
    }

    // With all those still open, the node serves as before, on each port.
    let at_leader = Quorate::at(&[cluster.client_addr(leader).to_string()]);
    assert_eq!(at_leader.run("kv get kept").await.expect(0).stdout, b"v");
    at_leader.run("kv set kept w").await.expect(0);
    for path in ["/livez", "/readyz"] {
        assert_ok(cluster.http_addr(leader), path).await;
    }
    for id in cluster.ids() {
        assert!(cluster.is_running(id).expect("it can be told"));
        let status = cluster.status(id).await.expect("it answers");
        assert_eq!((status.leader_id, status.term), (Some(leader), term), "an election happened");
    }
    drop(open);
    cluster.wait_same_state().await.expect("all nodes have the same state");
    cluster.logs().assert_no_panics();
}
