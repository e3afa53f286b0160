//! What is in `deploy/` runs: the command lines of the systemd unit and of the compose file are
//! started as they stand there, only with other paths and ports.

use nix::sys::signal::Signal;
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Ended, Quorate, alone, http_get, send, wait_until};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::{TcpStream, UnixDatagram};
use tokio::process::{Child, Command};
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const START_MAX: Duration = Duration::from_secs(60);
/// What README and unit promise.
const END_MAX: Duration = Duration::from_secs(30);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is below the root")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What a unit says of a directive, once.
fn directive<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut said = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = said.next().unwrap_or_else(|| panic!("the unit says nothing of {name}"));
    assert_eq!(said.next(), None, "{name} is there twice");
    value
}

/// The JSON arrays of strings that follow a key in a YAML file.
fn arrays(yaml: &str, key: &str) -> Vec<Vec<String>> {
    let begin = format!("{key}: [");
    let found = yaml.match_indices(&begin).map(|(at, _)| &yaml[at + begin.len() - 1..]);
    found
        .map(|rest| {
            let end = rest.find(']').expect("an array has an end");
            serde_json::from_str(&rest[..=end]).expect("it is an array of strings")
        })
        .collect()
}

/// The status of a process that is asked to end, once it has.
async fn terminated(mut child: Child) -> Option<i32> {
    send(&child, Signal::SIGTERM);
    let ended = tokio::time::timeout(END_MAX, child.wait()).await;
    ended.expect("it ends in time").expect("its end can be waited for").code()
}

/// A notification of a service to its manager.
async fn told(manager: &UnixDatagram, within: Duration) -> String {
    let mut words = [0; 1024];
    let received = tokio::time::timeout(within, manager.recv(&mut words)).await;
    let length = received.expect("it tells in time").expect("it can be heard");
    String::from_utf8_lossy(&words[..length]).into_owned()
}

#[tokio::test]
async fn the_unit_starts_a_node_that_says_when_it_serves_and_ends_when_asked() {
    let _alone = alone().await;
    let unit = read("deploy/quorate.service");
    let directory = tempfile::tempdir().expect("a directory can be made");
    let [client, peer, http] = [(); 3].map(|()| {
        let mut lease = PortLease::take().expect("there is a free port");
        lease.release_socket();
        lease
    });
    let mut words = directive(&unit, "ExecStart").split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/quorate"), "the binary is somewhere else");
    // The state directory, as systemd makes it, and the example of a config, as it is installed.
    assert_eq!(directive(&unit, "StateDirectory"), "quorate");
    let data = directory.path().join("state");
    let replaced = |word: &str| match word {
        "/var/lib/quorate" => data.clone(),
        "/etc/quorate/quorate.toml" => root().join("deploy/quorate.toml"),
        other => PathBuf::from(other),
    };
    let arguments: Vec<PathBuf> = words.map(replaced).collect();
    assert!(arguments.contains(&data), "its data are not in the unit's state directory");

    assert_eq!(directive(&unit, "Type"), "notify");
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).expect("a socket can be bound");
    let mut node = Quorate::bare().command();
    node.args(&arguments).env("NOTIFY_SOCKET", &socket).stdout(Stdio::null());
    for (variable, lease) in
        [("CLIENT_LISTEN", &client), ("PEER_LISTEN", &peer), ("HTTP_LISTEN", &http)]
    {
        node.env(format!("QUORATE_{variable}"), lease.addr().to_string());
    }
    let node = node.stderr(Stdio::null()).spawn().expect("it can be started");
    let ready = told(&manager, START_MAX).await;
    assert!(ready.starts_with("READY=1\n"), "{ready:?}");

    // Said to serve, so it does.
    let http = http.addr();
    assert_eq!(http_get(http, "/livez").await.0, 200);
    wait_until("it is ready", START_MAX, async || http_get(http, "/readyz").await.0 == 200).await;
    let (status, page) = http_get(http, "/metrics").await;
    assert_eq!(status, 200);
    for line in ["quorate_build_info{version=", "quorate_raft_is_leader 1\n"] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", client.addr()));
    let channel = endpoint.expect("it is a URL").connect().await.expect("its client port is open");
    let mut health = HealthClient::new(channel);
    let answer = health.check(HealthCheckRequest::default()).await.expect("it answers");
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    let quorate = Quorate::at(&[client.addr().to_string()]);
    quorate.run("kv set greeting hello").await.expect(0);

    let patience: u64 = directive(&unit, "TimeoutStopSec").parse().expect("seconds");
    assert!(Duration::from_secs(patience) > END_MAX, "it would be killed while it stops");
    assert_eq!(terminated(node).await, Some(0));
    let stopping = told(&manager, START_MAX).await;
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping:?}");
    assert!(data.is_dir());
}

#[tokio::test]
async fn the_unit_has_room_for_as_many_clients_as_the_config_allows() {
    let unit = read("deploy/quorate.service");
    let files: u64 = directive(&unit, "LimitNOFILE").parse().expect("a number");
    let checked = Quorate::bare().run("config check -o json").await.expect(0).json();
    let clients = &checked["settings"]["limits.connections_max"]["value"];
    let clients: u64 = clients.as_str().expect("it is a text").parse().expect("a number");
    assert!(files >= clients + 2_048, "{files} files for {clients} clients");
}

/// Local addresses in the place of those of a compose file, by port.
#[derive(Default)]
struct Moved(BTreeMap<u16, PortLease>);

impl Moved {
    /// An argument with its addresses moved: `HOST:PORT`, or `ID=HOST:PORT,…`.
    fn argument(&mut self, argument: &str) -> String {
        let parts = argument.split(',').map(|part| {
            let (prefix, address) = part.split_once('=').unwrap_or(("", part));
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            let Some(port) = port else { return part.to_owned() };
            let lease = self.0.entry(port).or_insert_with(|| {
                let mut lease = PortLease::take().expect("there is a free port");
                lease.release_socket();
                lease
            });
            let equals = if prefix.is_empty() { "" } else { "=" };
            format!("{prefix}{equals}{}", lease.addr())
        });
        parts.collect::<Vec<_>>().join(",")
    }

    fn arguments(&mut self, arguments: &[String]) -> Vec<String> {
        arguments.iter().map(|argument| self.argument(argument)).collect()
    }
}

/// `quorate config check` with the arguments of a `quorate serve`.
async fn checked(serve: &[String]) -> Ended {
    assert_eq!(serve.first().map(String::as_str), Some("serve"));
    let check = ["config", "check"].into_iter().chain(serve[1..].iter().map(String::as_str));
    Quorate::bare().run_with(&check.map(OsString::from).collect::<Vec<_>>(), None).await
}

#[tokio::test]
async fn the_commands_of_the_compose_file_are_three_nodes_of_one_cluster() {
    let _alone = alone().await;
    let compose = read("deploy/compose.yaml");
    let (commands, healthchecks) = (arrays(&compose, "command"), arrays(&compose, "test"));
    assert_eq!((commands.len(), healthchecks.len()), (3, 3));
    let directory = tempfile::tempdir().expect("a directory can be made");
    let mut moved = Moved::default();
    let mut nodes = Vec::new();
    for (command, name) in commands.iter().zip(["node-1", "node-2", "node-3"]) {
        checked(command).await.expect(0);
        // What its head says: without this word no node listens where others reach it.
        let secure: Vec<_> = command.iter().filter(|word| *word != "--insecure").cloned().collect();
        checked(&secure).await.expect(2).expect_stderr("--insecure");

        let mut node: Command = Quorate::bare().command();
        node.args(moved.arguments(command)).stdout(Stdio::null()).stderr(Stdio::null());
        node.env("QUORATE_DATA_DIR", directory.path().join(name));
        nodes.push(node.spawn().expect("it can be started"));
    }
    for healthcheck in healthchecks {
        let healthcheck = moved.arguments(&healthcheck);
        assert_eq!(healthcheck[..2], ["CMD", "quorate"]);
        let asked: Vec<OsString> = healthcheck[2..].iter().map(OsString::from).collect();
        let client = moved.0.values().map(PortLease::addr);
        let client = client.into_iter().find(|addr| healthcheck.contains(&addr.to_string()));
        let client = client.expect("it asks one of the nodes");
        let open = async || TcpStream::connect(client).await.is_ok();
        wait_until("it takes clients", START_MAX, open).await;
        Quorate::bare().run_with(&asked, None).await.expect(0);
    }
    let clients = [8811, 8821, 8831].map(|port| moved.0[&port].addr().to_string());
    Quorate::at(&clients[..1]).run("kv set greeting hello").await.expect(0);
    let through_another = Quorate::at(&clients[2..]).run("kv get greeting").await.expect(0);
    assert_eq!(through_another.stdout, b"hello");
    // Clients are told addresses that they can go to.
    let members = Quorate::at(&clients).run("cluster members -o json").await.expect(0).json();
    let members = members["members"].as_array().expect("members are a list");
    let told: Vec<_> = members.iter().map(|member| member["client_addr"].as_str()).collect();
    assert_eq!(told, clients.each_ref().map(|client| Some(client.as_str())));
    for node in nodes {
        assert_eq!(terminated(node).await, Some(0));
    }
}

#[tokio::test]
async fn the_configs_in_the_handbook_are_valid() {
    let handbook = read("docs/operations.md");
    let blocks: Vec<&str> = handbook.split("```toml\n").skip(1).collect();
    assert!(!blocks.is_empty(), "the handbook shows no config");
    let directory = tempfile::tempdir().expect("a directory can be made");
    for block in blocks {
        let (config, _) = block.split_once("```").expect("a block has an end");
        let path = directory.path().join("quorate.toml");
        std::fs::write(&path, config).expect("a file can be written");
        let check = ["config".into(), "check".into(), path.into_os_string()];
        Quorate::bare().run_with(&check, None).await.expect(0);
    }
}
