//! The commands of the documents do what they show: those of a page are run one after the other, in an
//! empty directory, on a new `quorate dev --nodes 3`; what a terminal shows (`console`), each on another new
//! one, because its numbers are compared. Where a page says `127.0.0.1:8811` that is node 1
//! here, too, on another port; a process id (`PID`) is that of the leader.

use super::blocks::Block;
use super::pages::{Page, pages, planted};
use super::script::{alike, programs, said, script};
use nix::sys::signal::Signal;
use quorate_testkit::process::PortLease;
use quorate_tests::processes::{Quorate, alone, say, send};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// How long a cluster may take to start, and to stop.
const CLUSTER_MAX: Duration = Duration::from_secs(90);
/// How long the commands of a block may take.
const BLOCK_MAX: Duration = Duration::from_secs(120);
/// Ports of the pages: 8811 to 8849.
const PORTS: std::ops::Range<u16> = 8811..8850;
/// What a program of a reader's own does: it reads what it is given, and prints something.
const PROGRAM: &str = "#!/bin/sh\ncat >/dev/null\necho done\n";

/// A `quorate dev` with the directory of a page.
struct World {
    dev: Child,
    /// Reads on, so that nobody waits for it.
    log: JoinHandle<()>,
    directory: tempfile::TempDir,
    base_port: u16,
    leader_pid: String,
    _ports: Vec<PortLease>,
}

async fn line(from: &mut Lines<BufReader<impl AsyncRead + Unpin>>) -> String {
    let line = from.next_line().await.expect("it can be read");
    line.expect("it says more")
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        std::fs::create_dir(directory.path().join("page")).expect("another one in it, too");
        let length = u16::try_from(PORTS.len()).expect("few");
        let mut ports = PortLease::take_row(length).expect("there are free ports in a row");
        ports.iter_mut().for_each(PortLease::release_socket);
        let base_port = ports[0].addr().port();
        let mut command = Quorate::bare().command();
        command.args(["dev", "--nodes", "3", "--base-port", &base_port.to_string()]);
        command.arg("--data-dir").arg(directory.path().join("data"));
        let mut dev = command.spawn().expect("quorate can be started");
        let stdout = dev.stdout.take().expect("it is piped");
        let stderr = dev.stderr.take().expect("it is piped");
        let mut noted = BufReader::new(stderr).lines();
        let (mut pids, mut leader) = (Vec::new(), None);
        let read = async {
            while leader.is_none() {
                let line = line(&mut noted).await;
                let last = |text: &str| text.rsplit(' ').next().unwrap_or_default().to_owned();
                if let Some((node, _)) = line.split_once(" leads;") {
                    leader = Some(last(node));
                } else if let Some((node, rest)) = line.split_once(": pid ") {
                    let pid = rest.split(',').next().unwrap_or_default();
                    pids.push((last(node), pid.to_owned()));
                }
            }
            line(&mut BufReader::new(stdout).lines()).await
        };
        let endpoints = tokio::time::timeout(CLUSTER_MAX, read).await.expect("it starts in time");
        assert!(endpoints.starts_with("QUORATE_ENDPOINTS="), "{endpoints}");
        let leader = leader.expect("it was named");
        let pid = pids.into_iter().find(|(id, _)| *id == leader).expect("it has a pid").1;
        let log = tokio::spawn(async move { while let Ok(Some(_)) = noted.next_line().await {} });
        Self { dev, log, directory, base_port, leader_pid: pid, _ports: ports }
    }

    /// The text of a block for this world.
    fn here(&self, text: &str) -> String {
        let mut here = text.replace("kill -9 PID", &format!("kill -9 {}", self.leader_pid));
        for port in PORTS {
            let ours = self.base_port + (port - PORTS.start);
            here = here.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{ours}"));
        }
        here
    }

    /// A shell in the directory of the page.
    async fn shell(&self, script: &str) -> (bool, String) {
        let quorate = Quorate::bare().command();
        let program = Path::new(quorate.as_std().get_program()).to_owned();
        let path = program.parent().expect("it has a directory");
        let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                shell.env_remove(name);
            }
        }
        let nodes: Vec<_> =
            (0..3).map(|node| format!("127.0.0.1:{}", self.base_port + 10 * node)).collect();
        // A node on its own, as `quorate serve` is, takes what is left of the ports.
        let alone = |at: u16| format!("127.0.0.1:{}", self.base_port + 36 + at);
        let script = format!("[ ! -e .environment ] || . ./.environment\n{script}");
        shell.args(["-c", &script]).env("PATH", path).env("QUORATE_ENDPOINTS", nodes.join(","));
        for (at, name) in (0..).zip(["CLIENT", "PEER", "HTTP"]) {
            shell.env(format!("QUORATE_{name}_LISTEN"), alone(at));
        }
        shell.env("HOME", self.directory.path()).current_dir(self.directory.path().join("page"));
        shell.stdin(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(BLOCK_MAX, shell.output()).await;
        let Ok(ended) = ended else { return (false, format!("not done in {BLOCK_MAX:?}")) };
        let ended = ended.expect("there is a shell");
        let said = [&ended.stdout[..], &ended.stderr[..]].concat();
        (ended.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs a block; what is wrong with it, if something is.
    async fn run(&self, block: &Block) -> Option<String> {
        for program in programs(&block.text) {
            let file = self.directory.path().join("page").join(program);
            std::fs::write(&file, PROGRAM).expect("it can be written");
            let runs = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&file, runs).expect("it is ours");
        }
        let text = self.here(&block.text);
        if block.language == "sh" {
            let (passed, output) = self.shell(&script(&text)).await;
            return (!passed).then_some(output);
        }
        // One shell for all commands, so that `$?` is that of the one before.
        let (all, mark) = (said(&text), "--- the next command ---");
        let mut script = String::from("exec 2>&1\n");
        for said in &all {
            script += &format!("{}\nbecame=$?; echo '{mark}'; (exit $became)\n", said.command);
        }
        let (_, output) = self.shell(&script).await;
        let outputs: Vec<_> = output.split(&format!("{mark}\n")).collect();
        let differs =
            all.iter().zip(&outputs).find(|(said, now)| alike(&said.output) != alike(now));
        differs.map(|(said, now)| format!("$ {}\n{now}but it shows\n{}", said.command, said.output))
    }

    async fn stop(mut self) {
        send(&self.dev, Signal::SIGTERM);
        let ended = tokio::time::timeout(CLUSTER_MAX, self.dev.wait()).await;
        ended.expect("it stops in time").expect("its end can be waited for");
        self.log.abort();
    }
}

/// Runs the commands of a page: how many blocks, and what is wrong.
async fn run(page: &Page) -> (usize, Vec<String>) {
    let blocks = page.blocks();
    let commands = |block: &&Block| ["sh", "console"].contains(&block.language.as_str());
    let blocks: Vec<_> =
        blocks.iter().filter(commands).filter(|block| block.mark.is_none()).collect();
    if blocks.is_empty() {
        return (0, Vec::new());
    }
    let count = blocks.len();
    let (consoles, commands): (Vec<&Block>, Vec<&Block>) =
        blocks.into_iter().partition(|block| block.language == "console");
    let mut worlds: Vec<Vec<&Block>> = consoles.into_iter().map(|block| vec![block]).collect();
    worlds.push(commands);
    let mut breaches = Vec::new();
    for of_one in worlds.iter().filter(|blocks| !blocks.is_empty()) {
        let world = World::start().await;
        for block in of_one {
            let wrong = world.run(block).await;
            breaches.extend(wrong.map(|wrong| format!("{}: {wrong}", page.place(block))));
        }
        world.stop().await;
    }
    (count, breaches)
}

/// `QUORATE_PAGE=docs/cache.md` runs one page only.
#[tokio::test]
async fn commands_do_what_the_documents_show() {
    let _alone = alone().await;
    let only = std::env::var("QUORATE_PAGE").ok();
    let (mut count, mut breaches) = (0, Vec::new());
    for page in pages() {
        if only.as_ref().is_some_and(|only| *only != page.path) {
            continue;
        }
        let (ran, wrong) = run(&page).await;
        if ran > 0 {
            say(format!("{}: {ran} blocks", page.path));
        }
        count += ran;
        breaches.extend(wrong);
    }
    assert!(breaches.is_empty(), "{} of {count} blocks:\n{}", breaches.len(), breaches.join("\n"));
    assert!(only.is_some() || count >= 20, "so few show little: {count}");
}

#[tokio::test]
async fn planted_commands_fail() {
    let _alone = alone().await;
    let page = planted(
        "```sh\nquorate dev --nodes 3\nquorate kv set a b\nquorate kv set a c --if-absent  # exit code 4\n```\n\
         ```sh\nquorate kv set a c --if-absent   # exit code 4 when it is there\n```\n\
         ```sh\nquorate kv get a   # exit code 3\n```\n\
         ```sh\nquorate kv watch --all-of-it\nquorate kv get a\n```\n\
         ```sh\nquorate kv watch 'a*'\nexport KEPT=a\n```\n\
         ```sh\n[ $(quorate kv get $KEPT) = c ]\n```\n\
         ```console\n$ quorate kv incr n\n1\n$ quorate kv get other\nquorate: it is there\n```\n\
         <!-- not run: it would fail, and that is the point -->\n```sh\nfalse\n```\n",
    );
    let (count, breaches) = run(&page).await;
    assert_eq!(count, 7);
    let lines =
        ["planted.md:23:", "planted.md:6:", "planted.md:9:", "planted.md:12:", "planted.md:20:"];
    assert_eq!(breaches.len(), lines.len(), "{breaches:#?}");
    assert!(
        breaches.iter().zip(lines).all(|(breach, line)| breach.contains(line)),
        "{breaches:#?}"
    );
}
