//! What is in `deploy/` runs: the command lines of the systemd unit and of the compose file are
//! started as they stand there, only with other paths and ports.

use crate::running::nodes;
use nix::sys::signal::Signal;
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Ended, Quorate, alone, http_get, send, wait_until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixDatagram;
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
    for line in [
        "quorate_build_info{version=",
        "quorate_raft_is_leader 1\n",
        "quorate_ready 1\n",
        "quorate_connections_max{port=\"http\"} ",
        "quorate_disk_free_bytes ",
        "quorate_disk_size_bytes ",
        "quorate_data_directory_bytes{part=",
        "process_start_time_seconds ",
    ] {
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

#[tokio::test]
async fn the_backup_unit_saves_one_and_removes_old_ones_only_then() {
    let _alone = alone().await;
    let unit = read("deploy/quorate-backup.service");
    let (cluster, _) = nodes(1).await;
    let node = cluster.client_addr(cluster.ids()[0]).to_string();
    let state = tempfile::tempdir().expect("a directory can be made");
    let (old, newer) = (state.path().join("old.backup"), state.path().join("newer.backup"));
    for (file, days) in [(&old, 16), (&newer, 3)] {
        std::fs::write(file, "x").expect("a file can be written");
        let at = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        let opened = std::fs::File::options().write(true).open(file).expect("it is there");
        opened.set_modified(at).expect("its time can be set");
    }
    // As systemd reads it: a % is written twice, and what stands in quotes is one word.
    let line = directive(&unit, "ExecStart").replace("%%", "%");
    let line = line.strip_prefix("/bin/sh -ec '").and_then(|line| line.strip_suffix('\''));
    let line = line.expect("it is one command of a shell");
    let bin = Quorate::bare().command().as_std().get_program().to_owned();
    let line = line.replace("/usr/local/bin/quorate", bin.to_str().expect("it is text"));
    assert_eq!(directive(&unit, "StateDirectory"), "quorate-backup");
    let run = async |endpoint: String| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-ec", &line]).env("STATE_DIRECTORY", state.path());
        shell.env("QUORATE_ENDPOINTS", endpoint).stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().await.expect("there is a shell").success()
    };
    let mut nobody = PortLease::take().expect("there is a free port");
    nobody.release_socket();
    assert!(!run(nobody.addr().to_string()).await, "it says that it failed");
    assert!(old.exists(), "what there is stays when no other could be saved");
    assert!(run(node).await);
    assert!(!old.exists() && newer.exists());
    let files = std::fs::read_dir(state.path()).expect("it is there");
    let names = files.map(|file| file.expect("it is there").path());
    let saved: Vec<PathBuf> = names.filter(|path| *path != newer).collect();
    assert_eq!(saved.len(), 1, "{saved:?}");
    let saved = saved[0].to_str().expect("it is text");
    Quorate::bare().run(&format!("backup verify {saved}")).await.expect(0);
}

/// Local addresses in the place of those of a compose file, by port.
#[derive(Default)]
struct Moved(BTreeMap<u16, PortLease>);

impl Moved {
    /// An argument with its addresses moved: `HOST:PORT`, `https://HOST:PORT`, or `ID=HOST:PORT,…`.
    fn argument(&mut self, argument: &str) -> String {
        let parts = argument.split(',').map(|part| {
            let (before, address) = part.split_at(part.rfind(['=', '/']).map_or(0, |at| at + 1));
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            let Some(port) = port else { return part.to_owned() };
            let lease = self.0.entry(port).or_insert_with(|| {
                let mut lease = PortLease::take().expect("there is a free port");
                lease.release_socket();
                lease
            });
            format!("{before}{}", lease.addr())
        });
        parts.collect::<Vec<_>>().join(",")
    }
}

/// A compose file with directories and addresses of this machine in the place of its own.
struct Composed {
    services: Value,
    directory: TempDir,
    moved: Moved,
}

impl Composed {
    /// Reads it, and makes the secret that it wants.
    fn read() -> Self {
        let compose: Value =
            serde_saphyr::from_str(&read("deploy/compose.yaml")).expect("it is YAML");
        let directory = tempfile::tempdir().expect("a directory can be made");
        std::fs::create_dir(directory.path().join("tls")).expect("a directory can be made");
        std::fs::write(directory.path().join("admin-token"), "d0a1f6c2".repeat(8))
            .expect("a file can be written");
        let services = compose["services"].clone();
        Self { services, directory, moved: Moved::default() }
    }

    fn placed(&mut self, word: &str) -> String {
        let path = |name| self.directory.path().join(name).to_string_lossy().into_owned();
        let word = word
            .replace("/etc/quorate/tls", &path("tls"))
            .replace("/run/secrets/admin-token", &path("admin-token"));
        self.moved.argument(&word)
    }

    /// The words of a list of a service.
    fn words(&mut self, service: &str, list: &str) -> Vec<String> {
        let list = self.services[service].pointer(list).expect("the service has the list").clone();
        let list: Vec<String> = serde_json::from_value(list).expect("it is a list of texts");
        list.iter().map(|word| self.placed(word)).collect()
    }

    /// The variables of a service.
    fn variables(&mut self, service: &str) -> BTreeMap<String, String> {
        let variables = self.services[service]["environment"].clone();
        let variables: BTreeMap<String, String> =
            serde_json::from_value(variables).expect("they are texts");
        variables.into_iter().map(|(name, text)| (name, self.placed(&text))).collect()
    }

    /// Has the service for it make certificates, as its script says.
    async fn certify(&self) -> bool {
        let script = self.services["certificates"]["command"][0].as_str();
        let directory = self.directory.path().join("tls");
        let script = script
            .expect("it is a script")
            .replace("/etc/quorate/tls", &directory.to_string_lossy());
        let quorate = Quorate::bare().command();
        let program = Path::new(quorate.as_std().get_program()).parent();
        let program = program.expect("the binary is in a directory").display();
        let path = format!("{program}:{}", std::env::var("PATH").unwrap_or_default());
        let shell = Command::new("sh").args(["-euc", &script]).env("PATH", path).status().await;
        shell.expect("there is a shell").success()
    }
}

/// `quorate config check` with the arguments of a `quorate serve` and these variables.
async fn checked(serve: &[String], variables: &BTreeMap<String, String>) -> Ended {
    assert_eq!(serve.first().map(String::as_str), Some("serve"));
    let check = ["config", "check"].into_iter().chain(serve[1..].iter().map(String::as_str));
    let check: Vec<OsString> = check.map(OsString::from).collect();
    Quorate::bare().with(variables).run_with(&check, None).await
}

#[tokio::test]
async fn the_services_of_the_compose_file_are_three_nodes_of_one_cluster() {
    let _alone = alone().await;
    let mut composed = Composed::read();
    assert!(composed.certify().await, "it makes certificates");
    assert!(composed.certify().await, "the second time they are there");
    let mut nodes = Vec::new();
    let names = ["node-1", "node-2", "node-3"];
    for name in names {
        // As they stand there, and beyond loopback.
        let listed = composed.services[name]["command"].clone();
        let listed: Vec<String> = serde_json::from_value(listed).expect("it is a list of texts");
        let tls = composed.directory.path().join("tls").to_string_lossy().into_owned();
        let listed: Vec<_> =
            listed.iter().map(|word| word.replace("/etc/quorate/tls", &tls)).collect();
        let variables = composed.variables(name);
        checked(&listed, &variables).await.expect(0);
        // Without authentication no node listens where others reach it.
        let mut open = variables.clone();
        open.retain(|name, _| !name.starts_with("QUORATE_AUTH_"));
        checked(&listed, &open).await.expect(2);

        let mut node: Command = Quorate::bare().with(&variables).command();
        node.args(composed.words(name, "/command")).stdout(Stdio::null()).stderr(Stdio::null());
        node.env("QUORATE_DATA_DIR", composed.directory.path().join(name));
        nodes.push(node.spawn().expect("it can be started"));
    }
    for name in names {
        let healthcheck = composed.words(name, "/healthcheck/test");
        assert_eq!(healthcheck[..2], ["CMD", "quorate"]);
        let asked: Vec<OsString> = healthcheck[2..].iter().map(OsString::from).collect();
        let healthy = async || Quorate::bare().run_with(&asked, None).await.status == Some(0);
        wait_until("it is healthy", START_MAX, healthy).await;
    }
    let clients = [8811, 8821, 8831].map(|port| composed.moved.0[&port].addr().to_string());
    // With what the environment of a node's container has for commands that are run in it.
    let mut at = composed.variables("node-1");
    at.retain(|name, _| ["QUORATE_CA_FILE", "QUORATE_TOKEN_FILE"].contains(&name.as_str()));
    assert_eq!(at.len(), 2);
    let through = |clients: &[String]| Quorate::at(clients).with(&at);
    through(&clients[..1]).run("kv set greeting hello").await.expect(0);
    let through_another = through(&clients[2..]).run("kv get greeting").await.expect(0);
    assert_eq!(through_another.stdout, b"hello");
    // Clients are told addresses that they can go to.
    let members = through(&clients).run("cluster members -o json").await.expect(0).json();
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
        // It names files of another machine.
        let check = ["config".into(), "check".into(), "--skip-files".into(), path.into_os_string()];
        Quorate::bare().run_with(&check, None).await.expect(0);
    }
}
