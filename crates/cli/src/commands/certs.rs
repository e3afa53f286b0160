//! `quorate certs create`: authorities and certificates for a cluster that has no PKI of its own.
//!
//! Two authorities, because whoever has a certificate of the nodes' own one is taken for a node: `ca`
//! signs what the client ports and clients show, `peer-ca` what nodes show each other.

use crate::exit::Failure;
use crate::output::{Output, table};
use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use quorate_tls::issue::{Authority, Issued, Kind};
use serde_json::json;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// `quorate certs …`
#[derive(Debug, Args)]
pub(crate) struct Certs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make authorities, and certificates of nodes and clients that they sign
    ///
    /// In a directory that has authorities from an earlier run those sign, so that a node or a client
    /// is added, or its certificate made anew, at any time. Keep ca-key.pem and peer-ca-key.pem where
    /// no node and no client is; each node needs only its own files, ca.pem and peer-ca.pem.
    Create(Create),
}

/// The longest that anything is made for: a century.
const DAYS_MAX: i64 = 36_525;

#[derive(Debug, Args)]
struct Create {
    /// Where the files are, and go; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "quorate-certs")]
    dir: PathBuf,
    /// A node, and the host names and addresses under which clients and other nodes reach it; may be
    /// repeated
    #[arg(long = "node", value_name = "ID=HOST,…", value_parser = parse_node)]
    nodes: Vec<Node>,
    /// A client, by the name that roles are given to; may be repeated
    #[arg(long = "client", value_name = "NAME", value_parser = parse_client)]
    clients: Vec<String>,
    /// For how long certificates hold, in days
    #[arg(long, value_name = "DAYS", default_value_t = 825,
          value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    days: u32,
    /// For how long new authorities hold, in days
    #[arg(long, value_name = "DAYS", default_value_t = 3650,
          value_parser = clap::value_parser!(u32).range(1..=DAYS_MAX))]
    ca_days: u32,
    /// Replace certificates that are there; without it they stay, and the command fails
    #[arg(long)]
    renew: bool,
}

#[derive(Clone, Debug)]
struct Node {
    id: u64,
    hosts: Vec<String>,
}

fn parse_node(text: &str) -> Result<Node, String> {
    let wrong = "write it as ID=HOST,…, such as 1=node-1.example,10.0.0.1";
    let (id, hosts) = text.split_once('=').ok_or(wrong)?;
    let id = id.trim().parse().ok().filter(|id| *id > 0).ok_or(wrong)?;
    let hosts: Vec<String> = hosts.split(',').map(|host| host.trim().to_owned()).collect();
    match hosts.iter().find(|host| host.is_empty() || host.contains([':', '/']) && !is_ip(host)) {
        Some(host) => Err(format!("{host:?} is no host name or address without a port; {wrong}")),
        None => Ok(Node { id, hosts }),
    }
}

fn is_ip(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

fn parse_client(text: &str) -> Result<String, String> {
    let usable = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(usable) || text.starts_with('.') {
        return Err("a client's name has 1 to 64 letters, digits, and - _ . @".to_owned());
    }
    Ok(text.to_owned())
}

impl Certs {
    pub(crate) fn run(self, output: Output) -> Result<(), Failure> {
        let Command::Create(create) = self.command;
        let made = create.make()?;
        output.done(
            || {
                let files: Vec<_> =
                    made.iter().map(|(file, what)| json!({ "file": file, "what": what })).collect();
                json!({ "files": files })
            },
            || {
                let rows: Vec<_> =
                    made.iter().map(|(file, what)| vec![file.clone(), what.clone()]).collect();
                table(&["FILE", "WHAT"], &rows)
            },
        )
    }
}

/// A file, and what it is.
type Made = (String, String);

impl Create {
    fn make(&self) -> Result<Vec<Made>, Failure> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .with_context(|| format!("can't make the directory {}", self.dir.display()))?;
        let mut files = Files { dir: &self.dir, renew: self.renew, made: Vec::new() };
        // What must not be is found before anything is written.
        for name in self.names() {
            files.must_be_free(&name)?;
        }
        let clients = files.authority("ca", "clients", "Quorate CA", self.ca_days)?;
        let peers = files.authority(
            "peer-ca",
            "nodes among themselves",
            "Quorate peer CA",
            self.ca_days,
        )?;
        for Node { id, hosts } in &self.nodes {
            let name = format!("node-{id}");
            let issue = |authority: &Authority, kind| {
                authority
                    .issue(&name, kind, hosts, self.days)
                    .map_err(|error| Failure::Usage(error.to_string()))
            };
            files.pair(
                &name,
                &issue(&clients, Kind::Server)?,
                &format!("node {id}, to clients"),
            )?;
            let peer = issue(&peers, Kind::Peer)?;
            files.pair(&format!("peer-{id}"), &peer, &format!("node {id}, to other nodes"))?;
        }
        for name in &self.clients {
            let issued = clients.issue(name, Kind::Client, &[], self.days);
            let issued = issued.map_err(|error| Failure::Usage(error.to_string()))?;
            files.pair(&format!("client-{name}"), &issued, &format!("client {name}"))?;
        }
        Ok(files.made)
    }

    fn names(&self) -> Vec<String> {
        let nodes = self
            .nodes
            .iter()
            .flat_map(|Node { id, .. }| [format!("node-{id}"), format!("peer-{id}")]);
        nodes.chain(self.clients.iter().map(|name| format!("client-{name}"))).collect()
    }
}

/// The directory, and what was written there.
struct Files<'a> {
    dir: &'a Path,
    renew: bool,
    made: Vec<Made>,
}

impl Files<'_> {
    fn must_be_free(&self, name: &str) -> Result<(), Failure> {
        let there = [format!("{name}.pem"), format!("{name}-key.pem")]
            .into_iter()
            .map(|file| self.dir.join(file))
            .find(|path| path.exists());
        match there {
            Some(path) if !self.renew => Err(Failure::Usage(format!(
                "{} is there already; --renew replaces it",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// The authority of this name: the one that is there, or a new one.
    fn authority(
        &mut self,
        name: &str,
        whose: &str,
        title: &str,
        days: u32,
    ) -> Result<Authority, Failure> {
        let (cert, key) =
            (self.dir.join(format!("{name}.pem")), self.dir.join(format!("{name}-key.pem")));
        match (cert.exists(), key.exists()) {
            (true, true) => {
                let read = |path: &Path| {
                    std::fs::read_to_string(path)
                        .with_context(|| format!("can't read {}", path.display()))
                };
                Authority::open(&read(&cert)?, &read(&key)?)
                    .map_err(|error| anyhow!("{}: {error}", cert.display()).into())
            }
            (false, false) => {
                let authority = Authority::create(title, days).map_err(anyhow::Error::new)?;
                let issued = Issued { cert: authority.cert().to_owned(), key: authority.key() };
                self.pair(name, &issued, &format!("authority of {whose}"))?;
                Ok(authority)
            }
            (here, _) => Err(Failure::Usage(format!(
                "{} is there, and {} is not: an authority needs both; put the other one back, or move \
                 this one away to begin anew",
                if here { &cert } else { &key }.display(),
                if here { &key } else { &cert }.display(),
            ))),
        }
    }

    /// Writes the key, then its certificate, each as a whole: a node may read them at any moment.
    fn pair(&mut self, name: &str, issued: &Issued, what: &str) -> Result<(), Failure> {
        self.write(&format!("{name}-key.pem"), &issued.key, 0o600)?;
        self.write(&format!("{name}.pem"), &issued.cert, 0o644)?;
        self.made
            .push((self.dir.join(format!("{name}.pem")).display().to_string(), what.to_owned()));
        let key = self.dir.join(format!("{name}-key.pem"));
        self.made.push((key.display().to_string(), format!("its key: a secret of {what}")));
        Ok(())
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> Result<(), Failure> {
        let (path, part) = (self.dir.join(name), self.dir.join(format!("{name}.part")));
        let write = || -> std::io::Result<()> {
            // One that an earlier run left behind would keep its own mode.
            match std::fs::remove_file(&part) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            File::open(self.dir)?.sync_all()
        };
        Ok(write().with_context(|| format!("can't write {}", path.display()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(dir: &Path, nodes: &[&str], renew: bool) -> Result<Vec<Made>, Failure> {
        let nodes = nodes.iter().map(|node| parse_node(node).unwrap()).collect();
        let clients = Vec::new();
        Create { dir: dir.to_owned(), nodes, clients, days: 30, ca_days: 60, renew }.make()
    }

    #[test]
    fn what_is_there_stays_unless_it_is_to_be_renewed_and_the_authority_stays_always() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(create(dir.path(), &["1=127.0.0.1"], false).unwrap().len(), 8);
        let (ca, node) = (read("ca.pem"), read("node-1.pem"));
        let refused = create(dir.path(), &["2=b", "1=a"], false).map(drop);
        assert!(matches!(refused, Err(Failure::Usage(why)) if why.contains("node-1.pem")));
        assert!(!dir.path().join("node-2.pem").exists(), "half of it was done");
        create(dir.path(), &["2=node-2.example,::1"], false).unwrap();
        create(dir.path(), &["1=127.0.0.1"], true).unwrap();
        assert_eq!(read("ca.pem"), ca);
        assert_ne!(read("node-1.pem"), node);
        std::fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
        let refused = create(dir.path(), &["3=c"], false).map(drop);
        assert!(matches!(refused, Err(Failure::Usage(why)) if why.contains("ca-key.pem")));
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        for (file, _) in create(dir.path(), &["1=127.0.0.1"], false).unwrap() {
            let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077 == 0, file.contains("-key"), "{file} has mode {mode:o}");
        }
    }

    #[test]
    fn nodes_and_clients_that_can_not_be_are_refused() {
        for wrong in ["1", "0=a", "x=a", "1=", "1=a,", "1=a:8811", "1=http://a"] {
            assert!(parse_node(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_node("7=a.b, 10.0.0.1,::1").unwrap().hosts, ["a.b", "10.0.0.1", "::1"]);
        for wrong in ["", "a/b", "..", "a b"] {
            assert!(parse_client(wrong).is_err(), "{wrong}");
        }
    }
}
