//! Three real nodes with TLS and tokens: what happens under load when certificates are replaced and
//! tokens are revoked; and who gets in nowhere.

use nix::sys::signal::Signal;
use quorate_client::{Client, Error, Options, Tls};
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Quorate, alone, http_get, say, send, wait_until};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::task::JoinHandle;

const START_MAX: Duration = Duration::from_secs(60);
/// How long a change of files may take to be in force.
const RELOAD_MAX: Duration = Duration::from_secs(15);
/// The bound that is promised for a revocation.
const CUT_OFF_MAX: Duration = Duration::from_secs(1);
const ADMIN: &str = "4f5a9d2b7c8e1f304f5a9d2b7c8e1f30";

struct Node {
    child: Child,
    ports: [PortLease; 3],
    log: PathBuf,
}

/// Three nodes, with the certificates that the command line makes.
struct Secured {
    directory: TempDir,
    nodes: Vec<Node>,
}

/// Three ports that are free.
fn leased() -> [PortLease; 3] {
    [(); 3].map(|()| {
        let mut lease = PortLease::take().expect("there is a free port");
        lease.release_socket();
        lease
    })
}

impl Secured {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        std::fs::write(directory.path().join("admin.token"), ADMIN).expect("it can be written");
        let mut secured = Self { directory, nodes: Vec::new() };
        secured.certify("--client ann").await;
        let ports: Vec<[PortLease; 3]> = (0..3).map(|_| leased()).collect();
        let founders: Vec<String> = ports
            .iter()
            .zip(1..)
            .map(|([_, peer, _], id): (&[PortLease; 3], u64)| format!("{id}={}", peer.addr()))
            .collect();
        for (ports, id) in ports.into_iter().zip(1_u64..) {
            secured.spawn(id, ports, &[("initial-cluster", founders.join(","))]);
        }
        let admin = secured.client(ADMIN);
        let up = async || {
            admin.cluster().status().await.is_ok_and(|status| {
                status.nodes.len() == 3 && status.nodes.iter().all(|node| node.healthy)
            })
        };
        wait_until("three nodes are healthy", START_MAX, up).await;
        secured
    }

    /// Starts one more node, with these settings beside the usual ones.
    fn add(&mut self, id: u64, more: &[(&str, String)]) {
        self.spawn(id, leased(), more);
    }

    fn spawn(&mut self, id: u64, ports: [PortLease; 3], more: &[(&str, String)]) {
        let log = self.directory.path().join(format!("node-{id}.log"));
        let [client, peer, http] = ports.each_ref().map(|lease| lease.addr().to_string());
        let file = |name: &str| self.file(name).display().to_string();
        let beside = |name: &str| self.directory.path().join(name).display().to_string();
        let settings = [
            ("data-dir", beside(&format!("data-{id}"))),
            ("client-listen", client),
            ("peer-listen", peer),
            ("http-listen", http),
            ("tls-cert-file", file(&format!("node-{id}.pem"))),
            ("tls-key-file", file(&format!("node-{id}-key.pem"))),
            ("tls-client-ca-file", file("ca.pem")),
            ("tls-peer-cert-file", file(&format!("peer-{id}.pem"))),
            ("tls-peer-key-file", file(&format!("peer-{id}-key.pem"))),
            ("tls-peer-ca-file", file("peer-ca.pem")),
            ("auth-admin-token-file", beside("admin.token")),
        ];
        let mut command = Quorate::bare().command();
        command.arg("serve").arg("--auth-enabled").stdout(Stdio::null());
        let founds = more.iter().any(|(name, _)| *name == "initial-cluster");
        let own = founds.then(|| ("node-id", id.to_string()));
        for (name, text) in settings.iter().chain(more).chain(&own) {
            command.arg(format!("--{name}")).arg(text);
        }
        let written = std::fs::File::create(&log).expect("a file can be made");
        let child = command.stderr(written).spawn().expect("it can be started");
        self.nodes.push(Node { child, ports, log });
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("certs").join(name)
    }

    /// Makes certificates for the nodes, or new ones.
    async fn certify(&self, more: &str) {
        let dir = self.directory.path().join("certs");
        let nodes = "--node 1=127.0.0.1 --node 2=127.0.0.1 --node 3=127.0.0.1";
        let line = format!("certs create --dir {} {nodes} {more}", dir.display());
        Quorate::bare().run(&line).await.expect(0);
    }

    fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.ports[0].addr().to_string()).collect()
    }

    fn options(&self) -> Options {
        Client::builder()
            .endpoints(self.endpoints())
            .tls(Tls::new().ca_file(self.file("ca.pem")))
            .request_timeout(Duration::from_secs(10))
    }

    fn client(&self, token: &str) -> Client {
        self.options().token(token).connect().expect("the options are good")
    }

    /// The command line of the administrator.
    fn quorate(&self) -> Quorate {
        let token = self.directory.path().join("admin.token");
        Quorate::at(&self.endpoints()).with(&BTreeMap::from([
            ("QUORATE_CA_FILE".to_owned(), self.file("ca.pem").display().to_string()),
            ("QUORATE_TOKEN_FILE".to_owned(), token.display().to_string()),
        ]))
    }

    /// A new token with this role.
    async fn token(&self, role: &str) -> (String, String) {
        let line = format!("auth token create for-{role} --role {role} -o json");
        let made = self.quorate().run(&line).await.expect(0).json();
        let text = |name: &str| made[name].as_str().expect("it is a text").to_owned();
        (text("token"), text("token_id"))
    }

    async fn logged(&self, words: &str, times: usize) -> bool {
        self.nodes.iter().all(|node| {
            let log = std::fs::read_to_string(&node.log).unwrap_or_default();
            log.lines().filter(|line| line.contains(words)).count() >= times
        })
    }

    async fn end(mut self) {
        for node in &mut self.nodes {
            send(&node.child, Signal::SIGTERM);
            let ended = tokio::time::timeout(START_MAX, node.child.wait()).await;
            let status = ended.expect("it ends").expect("it can be waited for").code();
            let log = std::fs::read_to_string(&node.log).unwrap_or_default();
            assert_eq!(status, Some(0), "{log}");
            for secret in [ADMIN, "qt_", "PRIVATE KEY"] {
                assert!(!log.contains(secret), "the log tells {secret}:\n{log}");
            }
        }
    }
}

/// Writers through one client, until they are stopped or one fails.
struct Load {
    going: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Option<(Instant, Error)>>>,
}

impl Load {
    fn start(client: &Client, prefix: &'static str) -> Self {
        let (going, done) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
        let writers = (0..4)
            .map(|writer| {
                let (client, going, done) = (client.clone(), Arc::clone(&going), Arc::clone(&done));
                tokio::spawn(async move {
                    while going.load(Ordering::Relaxed) {
                        let written = client.kv().set(format!("{prefix}{writer}"), "x").await;
                        if let Err(error) = written {
                            return Some((Instant::now(), error));
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    None
                })
            })
            .collect();
        Self { going, done, writers }
    }

    async fn some_more(&self) {
        let had = self.done.load(Ordering::Relaxed);
        let more = async || self.done.load(Ordering::Relaxed) > had + 50;
        wait_until("writes go on", START_MAX, more).await;
    }

    /// What failed, when.
    async fn stop(self) -> Vec<Option<(Instant, Error)>> {
        self.going.store(false, Ordering::Relaxed);
        self.failed().await
    }

    async fn failed(self) -> Vec<Option<(Instant, Error)>> {
        let mut failed = Vec::new();
        for writer in self.writers {
            failed.push(writer.await.expect("it does not panic"));
        }
        failed
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_replaced_under_load_and_no_connection_is_dropped() {
    let _alone = alone().await;
    let secured = Secured::start().await;
    let load = Load::start(&secured.client(ADMIN), "k");
    load.some_more().await;
    let counted = |text: &str| -> u64 {
        let line =
            text.lines().find(|line| line.starts_with("quorate_connections{port=\"client\"}"));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("it is not counted:\n{text}"))
    };
    let before = counted(&metrics(&secured).await);

    // One by file, as it is found; the next at once, when told.
    secured.certify("--renew").await;
    let words = "files have changed, and are in force";
    // Client port, HTTP port, peer port, and calls to other nodes.
    wait_until("all nodes have read them", RELOAD_MAX, || secured.logged(words, 4)).await;
    load.some_more().await;
    let fresh = shown(&secured).await;
    let left_days = days_left(&metrics(&secured).await);
    assert!(left_days.iter().all(|days| *days > 21.0), "{left_days:?}");
    secured.certify("--renew --days 20").await;
    let begun = Instant::now();
    for node in &secured.nodes {
        send(&node.child, Signal::SIGHUP);
    }
    wait_until("all nodes have read them", RELOAD_MAX, || secured.logged(words, 8)).await;
    say(format!("told to look, all had read {:?} later", begun.elapsed()));
    assert_ne!(shown(&secured).await, fresh, "a new connection is shown the old certificate");
    let left_days = days_left(&metrics(&secured).await);
    assert!(left_days.iter().all(|days| (19.0..21.0).contains(days)), "{left_days:?}");

    // Half of a pair is not taken, and said once.
    let old = std::fs::read(secured.file("node-1.pem")).expect("it is there");
    std::fs::copy(secured.file("node-2.pem"), secured.file("node-1.pem"))
        .expect("it can be copied");
    let complains = async || {
        let log = std::fs::read_to_string(&secured.nodes[0].log).unwrap_or_default();
        log.contains("is not the certificate of the key in")
    };
    wait_until("it says what is wrong", RELOAD_MAX, complains).await;
    std::fs::write(secured.file("node-1.pem"), old).expect("it can be written");

    load.some_more().await;
    let after = counted(&metrics(&secured).await);
    assert_eq!(after, before, "connections were dropped and made anew");
    let failed = load.stop().await;
    assert!(failed.iter().all(Option::is_none), "{failed:?}");
    secured.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_cut_off_within_a_second_and_no_other() {
    let _alone = alone().await;
    let secured = Secured::start().await;
    let quorate = secured.quorate();
    quorate.run("auth role put writer --allow kv:write,read:*").await.expect(0);
    let ((going, going_id), (staying, _)) =
        (secured.token("writer").await, secured.token("writer").await);
    let (gone, stays) = (secured.client(&going), secured.client(&staying));
    let mut watch = gone.kv().watch("*").start().await.expect("it may");
    let (cut, kept) = (Load::start(&gone, "gone"), Load::start(&stays, "stays"));
    cut.some_more().await;

    let admin = secured.client(ADMIN);
    assert!(admin.auth().revoke_token(going_id).await.expect("it can be"));
    let revoked = Instant::now();
    for failed in cut.failed().await {
        let (at, error) = failed.expect("it goes on only while it may");
        // Of one that was on its way when its stream ended nobody knows the fate.
        let told = matches!(&error, Error::Denied { reason, .. } if reason == "UNAUTHENTICATED")
            || matches!(error, Error::Indeterminate { .. });
        assert!(told, "{error:?}");
        let after = at.saturating_duration_since(revoked);
        say(format!("cut off {after:?} after the revocation was acknowledged"));
        assert!(after < CUT_OFF_MAX, "{after:?}");
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match watch.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("it ended without a word"),
            }
        }
    });
    let error = ended.await.expect("the watch ends");
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    let refused = gone.kv().get("k").await.expect_err("it may not");
    assert!(matches!(refused, Error::Denied { .. }), "{refused:?}");

    kept.some_more().await;
    let failed = kept.stop().await;
    assert!(failed.iter().all(Option::is_none), "{failed:?}");
    secured.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_or_speaks_plainly_gets_in_nowhere() {
    let _alone = alone().await;
    let secured = Secured::start().await;
    let refused = secured.options().connect().expect("the options are good").kv().get("k").await;
    let error = refused.expect_err("nothing was shown");
    assert!(
        matches!(&error, Error::Denied { reason, .. } if reason == "UNAUTHENTICATED"),
        "{error:?}"
    );

    // A client believes nobody but the authority that it was given.
    let other = Tls::new().ca_file(secured.file("peer-ca.pem"));
    let options = secured.options().tls(other).request_timeout(Duration::from_secs(1));
    let error = options.token(ADMIN).connect().expect("they are good").kv().get("k").await;
    let error = error.expect_err("it is another authority");
    assert!(error.message().contains("UnknownIssuer"), "{error:?}");

    // A certificate stands for its name; the roles follow from that.
    let ann = Tls::new()
        .ca_file(secured.file("ca.pem"))
        .identity_files(secured.file("client-ann.pem"), secured.file("client-ann-key.pem"));
    let ann = secured.options().tls(ann).connect().expect("the options are good");
    let error = ann.kv().get("k").await.expect_err("she has no role yet");
    assert!(matches!(&error, Error::Denied { reason, .. } if reason == "FORBIDDEN"), "{error:?}");
    let quorate = secured.quorate();
    quorate.run("auth role put reader --allow kv:read:*").await.expect(0);
    quorate.run("auth subject put ann --role reader").await.expect(0);
    let may = async || ann.kv().get("k").await.is_ok();
    wait_until("she may read on every node", START_MAX, may).await;

    // A certificate of clients is none of a node; nor is no certificate, nor plain words.
    for node in &secured.nodes {
        let [client, peer, http] = node.ports.each_ref().map(PortLease::addr);
        for port in [client, peer, http] {
            let mut plain = TcpStream::connect(port).await.expect("it listens");
            plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("it takes bytes");
            let mut answer = Vec::new();
            // An alert of TLS, or the end.
            let _ = plain.read_to_end(&mut answer).await;
            assert!(answer.is_empty() || answer[0] == 0x15, "{port}: {answer:?}");
        }
        assert_eq!(http_get(http, "/livez").await.0, 0);
        let ann = Tls::new()
            .ca_file(secured.file("peer-ca.pem"))
            .identity_files(secured.file("client-ann.pem"), secured.file("client-ann-key.pem"));
        let options = Client::builder().endpoints([peer.to_string()]).tls(ann);
        let client = options.request_timeout(Duration::from_secs(1)).connect().expect("good");
        let error = client.cluster().status().await.expect_err("it is for nodes");
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    }
    secured.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_a_cluster_with_tls_and_tokens() {
    let _alone = alone().await;
    let mut secured = Secured::start().await;
    let quorate = secured.quorate();
    let line = format!(
        "certs create --dir {} --node 4=127.0.0.1",
        secured.directory.path().join("certs").display()
    );
    quorate.run(&line).await.expect(0);
    let token = quorate.run("cluster add -o json").await.expect(0).json();
    let token = token["token"].as_str().expect("it prints a token").to_owned();
    let endpoints = secured.endpoints();
    let join = |token: &str| {
        let ca = secured.file("ca.pem").display().to_string();
        [("join", endpoints.join(",")), ("join-token", token.to_owned()), ("join-ca-file", ca)]
    };
    let (join_without, join) = (join("0123456789abcdef0123456789abcdef"), join(&token));
    secured.add(4, &join_without);
    let refused = tokio::time::timeout(START_MAX, secured.nodes[3].child.wait()).await;
    assert_ne!(refused.expect("it is refused").expect("it ends").code(), Some(0));
    secured.nodes.pop();
    secured.add(4, &join);
    let admin = secured.client(ADMIN);
    let votes = async || {
        let members = admin.cluster().members().await;
        members.is_ok_and(|of| of.members.iter().filter(|member| member.voter).count() == 4)
    };
    wait_until("the fourth node votes", START_MAX, votes).await;
    secured.end().await;
}

/// How long the certificates of the three ports hold, as a page of metrics says.
fn days_left(page: &str) -> [f64; 3] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    ["client", "peer", "http"].map(|port| {
        let name = format!("quorate_tls_certificate_expires_timestamp_seconds{{port=\"{port}\"}} ");
        let ends = page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok());
        let ends = ends.unwrap_or_else(|| panic!("{name}is not in\n{page}"));
        (ends - now.as_secs_f64()) / 86_400.0
    })
}

/// The metrics of the first node, all three together: where the writers' connections are is not said.
async fn metrics(secured: &Secured) -> String {
    let http = secured.nodes[leader(secured).await].ports[2].addr();
    let ca = secured.file("ca.pem");
    let asked = tokio::process::Command::new("curl")
        .args(["--silent", "--fail", "--cacert"])
        .arg(ca)
        .args(["-H", &format!("authorization: Bearer {ADMIN}")])
        .arg(format!("https://{http}/metrics"))
        .output()
        .await
        .expect("there is curl");
    assert!(asked.status.success(), "{asked:?}");
    String::from_utf8(asked.stdout).expect("it is text")
}

/// The place of the leader among the nodes.
async fn leader(secured: &Secured) -> usize {
    let status = secured.client(ADMIN).cluster().status().await.expect("a node answers");
    usize::try_from(status.leader_id.expect("it has one") - 1).expect("it is small")
}

/// The certificate that the first node shows on a new connection.
async fn shown(secured: &Secured) -> Vec<u8> {
    let addr = secured.nodes[0].ports[0].addr().to_string();
    let asked = tokio::process::Command::new("openssl")
        .args(["s_client", "-connect", &addr, "-showcerts"])
        .stdin(Stdio::null())
        .output()
        .await
        .expect("there is openssl");
    let text = String::from_utf8_lossy(&asked.stdout).into_owned();
    let from = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{text}"));
    let to = text[from..].find("-----END").expect("it ends");
    text.as_bytes()[from..from + to].to_vec()
}
