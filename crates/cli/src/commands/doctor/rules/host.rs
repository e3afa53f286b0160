//! What is to be said of a machine that a node is to run on.

use super::addresses::{self, Place as Address};
use super::disks;
use crate::commands::doctor::finding::{Finding, Severity, Subject};
use crate::commands::doctor::machine::{Configured, Machine};
use crate::commands::doctor::seen::Syncs;
use quorate_server::config::Address as Parsed;
use quorate_server::host::{FileSystem, Kind, Place, Tenant};
use quorate_server::process::OpenFiles;
use std::path::Path;
use std::time::Duration;

/// All that is to be said of a machine.
pub(in crate::commands::doctor) fn of_machine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![config(&machine.config)];
    if let Ok(configured) = &machine.config {
        findings.extend(founders(configured));
        findings.extend(exposed(configured));
        findings.extend(machine.open_files.map(|limit| open_files(limit, configured.files_wanted)));
    }
    match &machine.data {
        None => {}
        Some((path, Err(why))) => findings.push(unusable(path, why)),
        Some((path, Ok(place))) => {
            let node_id = machine.config.as_ref().ok().and_then(|configured| configured.node_id);
            findings.push(tenant(path, place, node_id));
            findings.extend(permissions(path, place));
            findings.extend(owners(path, place));
            findings.extend(place.file_system.as_ref().map(|found| file_system(path, found)));
            findings.push(syncs(path, place));
            let room = |free| disks::judge_room(directory(path), free);
            findings.extend(place.free_bytes.map(room));
        }
    }
    findings
}

fn directory(path: &Path) -> Subject {
    Subject::Directory(path.to_owned())
}

/// What `quorate config check` says.
fn config(config: &Result<Configured, String>) -> Finding {
    match config {
        Err(why) => Finding::new(Severity::Problem, Subject::Config, "CONFIG_WRONG", why)
            .means("quorate serve refuses to start with it")
            .fix("correct it; quorate config check FILE shows what is in force"),
        Ok(Configured { file, .. }) => {
            let of =
                file.as_ref().map_or_else(String::new, |file| format!(" of {}", file.display()));
            let found = format!("the settings{of} are valid");
            Finding::new(Severity::Ok, Subject::Config, "CONFIG_VALID", found)
        }
    }
}

/// The nodes that are to found the cluster.
fn founders(configured: &Configured) -> Vec<Finding> {
    if configured.joins || configured.founders.len() < 2 {
        return Vec::new();
    }
    let founders = configured.founders.iter();
    let places: Vec<Address<'_>> =
        founders.map(|(id, addr)| Address { id: *id, voter: true, peer_addr: addr }).collect();
    let mut findings = addresses::shared_hosts(&places);
    findings.extend(addresses::loopback(&places));
    if places.len().is_multiple_of(2) {
        let found = format!("initial_cluster lists {} nodes, an even number", places.len());
        findings.push(
            Finding::new(Severity::Note, Subject::Config, "EVEN_VOTERS", found)
                .means("it survives no more losses than one node less would")
                .fix("list one more or one less, on each node"),
        );
    }
    findings
}

/// Ports that others reach.
fn exposed(configured: &Configured) -> Option<Finding> {
    let loopback =
        |addr: &&String| addr.parse::<Parsed>().is_ok_and(|address| address.is_loopback());
    let open = configured.listens.iter().find(|addr| !loopback(addr))?;
    Some(addresses::readable(Subject::Config, open))
}

/// What the system lets a process have that is started from here.
fn open_files(limit: OpenFiles, wanted: u64) -> Finding {
    let found =
        format!("a process may have {} files open, and the node wants {wanted}", limit.hard);
    if limit.hard >= wanted {
        return Finding::new(Severity::Ok, Subject::Machine, "OPEN_FILES", found);
    }
    Finding::new(Severity::Warning, Subject::Machine, "OPEN_FILES", found)
        .means(
            "it takes fewer clients than limits.connections_max; a service has a limit of its own",
        )
        .fix("raise it (ulimit -Hn, or LimitNOFILE= of the service), or lower connections_max")
}

fn unusable(path: &Path, why: &str) -> Finding {
    Finding::new(Severity::Problem, directory(path), "DIRECTORY_UNUSABLE", why)
        .means("no node can start there")
        .fix("see that the path is right, and that the user of the node may go there")
}

/// Whose data it holds.
fn tenant(path: &Path, place: &Place, node_id: Option<u64>) -> Finding {
    let finding =
        |severity, code, found: String| Finding::new(severity, directory(path), code, found);
    match &place.tenant {
        Err(why) => unusable(path, why),
        Ok(None) if !place.exists => finding(
            Severity::Note,
            "DIRECTORY_NEW",
            format!("it does not exist; {} was looked at instead", place.looked_at.display()),
        )
        .means("quorate serve makes it, and begins as a new node"),
        Ok(None) => finding(Severity::Ok, "DIRECTORY_EMPTY", "it is nobody's yet".to_owned()),
        Ok(Some(Tenant { node_id: own, left: true, .. })) => finding(
            Severity::Problem,
            "NODE_LEFT",
            format!("it was that of node {own}, which was removed from its cluster"),
        )
        .means("it is of no use any more, and no node starts there")
        .fix("quorate cluster add, then quorate serve --join with an empty directory"),
        Ok(Some(Tenant { node_id: own, .. })) if node_id.is_some_and(|id| id != own.0) => finding(
            Severity::Problem,
            "NODE_ID_DIFFERS",
            format!(
                "it belongs to node {own}, and the configuration says node {}",
                node_id.unwrap_or(0)
            ),
        )
        .means("quorate serve refuses to start with it")
        .fix(format!("set node_id = {own}, or give the right data_dir")),
        Ok(Some(Tenant { node_id: own, cluster_id, .. })) => {
            let of = match cluster_id {
                Some(cluster) => format!("of cluster {cluster}"),
                None => "which is part of no cluster yet".to_owned(),
            };
            finding(Severity::Ok, "DIRECTORY_OWNED", format!("it belongs to node {own}, {of}"))
        }
    }
}

/// Who else on the machine may look into it.
fn permissions(path: &Path, place: &Place) -> Option<Finding> {
    if !place.exists {
        return None;
    }
    let found = format!("its permissions are {:o}", place.mode);
    let fix = format!("chmod 700 {}", path.display());
    match place.mode {
        mode if mode & 0o002 != 0 => Some(
            Finding::new(Severity::Warning, directory(path), "WRITABLE_BY_ALL", found)
                .means("any user of this machine can replace what is in it")
                .fix(fix),
        ),
        mode if mode & 0o005 != 0 => Some(
            Finding::new(Severity::Note, directory(path), "READABLE_BY_ALL", found)
                .means("any user of this machine can look into it")
                .fix(fix),
        ),
        _ => None,
    }
}

/// Whether all in it belongs to one user.
fn owners(path: &Path, place: &Place) -> Option<Finding> {
    let (file, user) = place.foreign.as_ref()?;
    let owner = place.owner;
    let found =
        format!("{} belongs to user {user}, and the directory to user {owner}", file.display());
    Some(
        Finding::new(Severity::Warning, directory(path), "OWNERS_DIFFER", found)
            .means("a node that was started as another user once can't open its files as this one")
            .fix(format!("with the node stopped: chown -R {owner} {}", path.display())),
    )
}

/// Whether what is written there stays there.
fn file_system(path: &Path, found: &FileSystem) -> Finding {
    let FileSystem { name, kind } = found;
    let (severity, code, means) = match kind {
        Kind::Local => {
            let found = format!("it lies on {name}");
            return Finding::new(Severity::Ok, directory(path), "FILE_SYSTEM", found);
        }
        Kind::Memory => (
            Severity::Problem,
            "IN_MEMORY",
            "it is gone when the machine restarts, and acknowledged writes with it",
        ),
        Kind::Network => (
            Severity::Warning,
            "ON_NETWORK",
            "syncs wait for another machine and may not be honest, locks may not hold, and nodes that \
             share it die together",
        ),
        Kind::UserSpace => (
            Severity::Warning,
            "IN_USER_SPACE",
            "whether a sync reaches a disk is up to the program that serves it",
        ),
        Kind::Layer => (
            Severity::Warning,
            "IN_CONTAINER",
            "it is the container's own layer, and gone with the container",
        ),
        Kind::Unknown => (
            Severity::Note,
            "FILE_SYSTEM_UNKNOWN",
            "whether its syncs are honest is not known here",
        ),
    };
    Finding::new(severity, directory(path), code, format!("it lies on {name}"))
        .means(means)
        .fix("put it on a local file system such as ext4 or xfs; in a container, on a volume")
}

/// How fast the disk syncs, just now.
fn syncs(path: &Path, place: &Place) -> Finding {
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    match &place.syncs {
        Ok(syncs) => {
            let count = syncs.count as u64;
            let (p50_us, p99_us) = (micros(syncs.p50), micros(syncs.p99));
            disks::judge_syncs(directory(path), Syncs { count, p50_us, p99_us })
        }
        Err(why) => {
            let found = format!("nothing can be written to {}: {why}", place.looked_at.display());
            Finding::new(Severity::Problem, directory(path), "NOT_WRITABLE", found)
                .means("a node that runs as this user can't either; how fast it syncs is not known")
                .fix("run this as the user of the node; if it was that one, give it the directory (chown)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::worse;
    use super::*;
    use quorate_server::host;
    use std::path::PathBuf;

    fn place() -> Place {
        let millis = Duration::from_millis;
        Place {
            looked_at: PathBuf::from("/data"),
            exists: true,
            tenant: Ok(None),
            mode: 0o700,
            owner: 7,
            foreign: None,
            file_system: Some(FileSystem { name: "ext4".to_owned(), kind: Kind::Local }),
            free_bytes: Some(1 << 40),
            syncs: Ok(host::Syncs { count: 200, p50: millis(1), p99: millis(2) }),
        }
    }

    fn configured() -> Configured {
        Configured {
            file: Some(PathBuf::from("quorate.toml")),
            node_id: None,
            joins: false,
            listens: vec!["127.0.0.1:8811".to_owned()],
            founders: vec![(1, "127.0.0.1:8812".to_owned())],
            files_wanted: 12_048,
        }
    }

    fn machine(config: Configured, place: Place) -> Machine {
        Machine {
            config: Ok(config),
            data: Some((PathBuf::from("/data"), Ok(place))),
            open_files: Some(OpenFiles { soft: 1_024, hard: 12_048 }),
        }
    }

    fn of(change: impl FnOnce(&mut Configured, &mut Place)) -> Vec<String> {
        let (mut config, mut place) = (configured(), place());
        change(&mut config, &mut place);
        worse(&of_machine(&machine(config, place)))
    }

    fn severity(change: impl FnOnce(&mut Configured, &mut Place)) -> Severity {
        let (mut config, mut place) = (configured(), place());
        change(&mut config, &mut place);
        let findings = of_machine(&machine(config, place));
        findings.iter().map(|finding| finding.severity).max().expect("there are some")
    }

    #[test]
    fn of_a_fit_machine_all_is_fine() {
        assert_eq!(of(|_, _| {}), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_configuration_is_said_and_the_rest_is_looked_at() {
        let mut machine = machine(configured(), place());
        machine.config = Err("node_id: no number".to_owned());
        let found = of_machine(&machine);
        assert_eq!(worse(&found), ["CONFIG_WRONG config"]);
        assert!(found.iter().any(|finding| finding.code == "FSYNC_FAST"), "{found:?}");
        machine.data = None;
        assert_eq!(of_machine(&machine).len(), 1);
    }

    #[test]
    fn a_directory_is_somebodys() {
        let tenant = |node_id, left| {
            let cluster_id = Some("c".to_owned());
            Ok(Some(Tenant { node_id: host::NodeId(node_id), cluster_id, left }))
        };
        let data = "directory /data";
        assert_eq!(of(|_, place| place.tenant = tenant(2, false)), Vec::<String>::new());
        let left = of(|_, place| place.tenant = tenant(2, true));
        assert_eq!(left, [format!("NODE_LEFT {data}")]);
        let other = of(|config, place| {
            (config.node_id, place.tenant) = (Some(1), tenant(2, false));
        });
        assert_eq!(other, [format!("NODE_ID_DIFFERS {data}")]);
        let same = of(|config, place| {
            (config.node_id, place.tenant) = (Some(2), tenant(2, false));
        });
        assert_eq!(same, Vec::<String>::new());
        let foreign = of(|_, place| place.tenant = Err("it holds Cargo.toml".to_owned()));
        assert_eq!(foreign, [format!("DIRECTORY_UNUSABLE {data}")]);
        assert_eq!(of(|_, place| place.exists = false), [format!("DIRECTORY_NEW {data}")]);
    }

    #[test]
    fn who_may_look_into_it_is_judged_by_its_mode() {
        let of = |mode| {
            permissions(Path::new("/data"), &Place { mode, ..place() }).map(|finding| finding.code)
        };
        assert_eq!(of(0o700), None);
        assert_eq!(of(0o770), None);
        assert_eq!(of(0o755), Some("READABLE_BY_ALL"));
        assert_eq!(of(0o701), Some("READABLE_BY_ALL"));
        assert_eq!(of(0o777), Some("WRITABLE_BY_ALL"));
        assert_eq!(severity(|_, place| place.mode = 0o755), Severity::Note);
        assert_eq!(severity(|_, place| place.mode = 0o702), Severity::Warning);
        let foreign = Some((PathBuf::from("/data/LOCK"), 0));
        assert_eq!(severity(|_, place| place.foreign = foreign), Severity::Warning);
    }

    #[test]
    fn file_systems_that_lose_data_are_worse_than_those_that_may() {
        let of = |kind| {
            let name = "x".to_owned();
            severity(|_, place| place.file_system = Some(FileSystem { name, kind }))
        };
        assert_eq!(of(Kind::Local), Severity::Ok);
        assert_eq!(of(Kind::Unknown), Severity::Note);
        for kind in [Kind::Network, Kind::UserSpace, Kind::Layer] {
            assert_eq!(of(kind), Severity::Warning, "{kind:?}");
        }
        assert_eq!(of(Kind::Memory), Severity::Problem);
    }

    #[test]
    fn a_disk_that_takes_nothing_has_no_speed() {
        let found = of(|_, place| place.syncs = Err("Permission denied".to_owned()));
        assert_eq!(found, ["NOT_WRITABLE directory /data"]);
        assert_eq!(severity(|_, place| place.free_bytes = Some(1 << 20)), Severity::Problem);
    }

    #[test]
    fn files_are_counted_by_what_a_node_can_raise_the_limit_to() {
        assert_eq!(of(|config, _| config.files_wanted = 12_048), Vec::<String>::new());
        assert_eq!(of(|config, _| config.files_wanted = 12_049), ["OPEN_FILES machine"]);
    }

    #[test]
    fn a_list_of_founders_is_judged_as_the_cluster_will_be() {
        let list = |addresses: &[&str]| {
            let founders = (1..).zip(addresses).map(|(id, addr)| (id, (*addr).to_owned()));
            let founders: Vec<_> = founders.collect();
            of(move |config, _| config.founders = founders)
        };
        assert_eq!(list(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]), Vec::<String>::new());
        assert_eq!(
            list(&["10.0.0.1:1", "10.0.0.1:2", "127.0.0.1:1", "10.0.0.3:1"]),
            ["SHARED_MACHINE cluster", "LOOPBACK_ADDRESS node 3", "EVEN_VOTERS config"]
        );
        let open = vec!["127.0.0.1:1".to_owned(), "0.0.0.0:1".to_owned()];
        assert_eq!(of(|config, _| config.listens = open), ["NO_TLS config"]);
    }
}
