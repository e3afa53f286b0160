//! Whose directory it is: one node's, of one cluster, used by one process at a time.

use crate::Error;
use crate::files::{create_dir_durable, io_error, names_in};
use quorate_state::NodeId;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

mod content;

pub use content::Identity;
use content::{IDENTITY, read, write};
#[cfg(feature = "fuzzing")]
pub(crate) use content::{encode, parse};

/// Name of the lock file.
const LOCK: &str = "LOCK";
/// How the names of files begin with which a directory's disk is tried; one that is left over keeps
/// no node from starting.
pub const TRIAL: &str = ".trial-";

/// Who opens a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// This node: the directory of another one is refused.
    Node(NodeId),
    /// Whichever node it belongs to; a new one becomes this node's.
    Whoever(NodeId),
    /// Whichever node it belongs to; a new one is to join a cluster, which says its id.
    Joiner,
}

/// A node's data directory, locked against other processes for as long as this lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    identity: Identity,
    /// Holds the lock.
    _lock: File,
}

/// An empty directory that is to become a node's, locked. It has no identity until
/// [`Empty::become_node`], so that what a crash leaves of it is no node's directory.
#[derive(Debug)]
pub struct Empty {
    path: PathBuf,
    lock: File,
}

impl Empty {
    /// Takes a directory that is missing or empty.
    ///
    /// # Errors
    /// When something is in it, another process uses it, or the device fails.
    pub fn take(path: &Path) -> Result<Self, Error> {
        create_dir_durable(path)?;
        let lock = lock(path)?;
        if let Some(identity) = read(path)? {
            return Err(Error::Identity(format!(
                "directory {} is that of node {} already; choose an empty one",
                path.display(),
                identity.node_id
            )));
        }
        check_empty(path)?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it the directory of a node that belongs to a cluster; durable when it returns.
    ///
    /// # Errors
    /// When the device fails.
    pub fn become_node(
        self,
        node_id: NodeId,
        uuid: Uuid,
        cluster_id: &str,
    ) -> Result<Directory, Error> {
        let Self { path, lock } = self;
        let cluster_id = Some(cluster_id.to_owned());
        let identity = Identity { cluster_id, ..Identity::new(node_id, uuid) };
        write(&path, &identity)?;
        Ok(Directory { path, identity, _lock: lock })
    }
}

impl Directory {
    /// Opens the directory of a node. One that is missing or empty becomes the node's own, with
    /// a new random uuid.
    ///
    /// # Errors
    /// When it belongs to another node, or to one that was removed from its cluster, is in use by
    /// another process, was written by another version, holds something else, or can't be read.
    pub fn open(path: &Path, opener: Opener) -> Result<Self, Error> {
        create_dir_durable(path)?;
        let lock = lock(path)?;
        let identity = match read(path)? {
            Some(identity) => identity,
            None => {
                check_empty(path)?;
                let (node_id, joins) = match opener {
                    Opener::Node(node_id) | Opener::Whoever(node_id) => (node_id, false),
                    Opener::Joiner => (NodeId(0), true),
                };
                let identity = Identity { joins, ..Identity::new(node_id, Uuid::new_v4()) };
                write(path, &identity)?;
                identity
            }
        };
        let cluster = identity.cluster_id.as_deref();
        let cluster = cluster.map_or_else(String::new, |id| format!(" of cluster {id}"));
        if identity.left {
            return Err(Error::Left(format!(
                "directory {} was that of node {}{cluster}, which was removed, and is of no use any \
                 more. To have a node here again, start it with an empty directory and --join",
                path.display(),
                identity.node_id
            )));
        }
        if let Opener::Node(node_id) = opener
            && identity.node_id == NodeId(0)
        {
            return Err(Error::Identity(format!(
                "directory {} was made to join a cluster, which has not given it a node id yet: start \
                 it with --join and without --node-id, or give node {node_id} a directory of its own",
                path.display()
            )));
        }
        if let Opener::Node(node_id) = opener
            && identity.node_id != node_id
        {
            return Err(Error::Identity(format!(
                "directory {} belongs to node {}{cluster}, not to node {node_id}: start this node \
                 with --node-id {}, or give it a directory of its own",
                path.display(),
                identity.node_id,
                identity.node_id
            )));
        }
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Opens a directory that is some node's already; nothing is changed.
    ///
    /// # Errors
    /// When it is no node's, in use by another process, written by another version, or can't be
    /// read.
    pub fn open_existing(path: &Path) -> Result<Self, Error> {
        let nobodys = || {
            let path = path.display();
            Error::Identity(format!("directory {path} is no node's: it has no {IDENTITY}"))
        };
        // Before the lock, which would leave a file in a directory that is somebody else's.
        read(path)?.ok_or_else(nobodys)?;
        let lock = lock(path)?;
        let identity = read(path)?.ok_or_else(nobodys)?;
        Ok(Self { path: path.to_owned(), identity, _lock: lock })
    }

    /// Who it belongs to.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the node has never been part of a cluster. It stays so until
    /// [`Directory::set_cluster`], which comes before the first write to the log.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.identity.cluster_id.is_none()
    }

    /// Takes the id that a cluster has given the node; durable when it returns.
    ///
    /// # Errors
    /// When it has another one, or the device fails.
    pub fn set_node(&mut self, node_id: NodeId, cluster_id: &str) -> Result<(), Error> {
        match self.identity.node_id {
            known if known == node_id => Ok(()),
            NodeId(0) => self.replace(Identity {
                node_id,
                joining: Some(cluster_id.to_owned()),
                ..self.identity.clone()
            }),
            known => Err(Error::Identity(format!(
                "directory {} belongs to node {known}, and the cluster calls it node {node_id}: give \
                 the node an empty directory to join another cluster",
                self.path.display()
            ))),
        }
    }

    /// The node was removed from its cluster; durable when it returns.
    ///
    /// # Errors
    /// When the device fails.
    pub fn set_left(&mut self) -> Result<(), Error> {
        self.replace(Identity { left: true, ..self.identity.clone() })
    }

    fn replace(&mut self, identity: Identity) -> Result<(), Error> {
        write(&self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Makes the node part of a cluster, for good; durable when it returns.
    ///
    /// # Errors
    /// When it is part of another one, or the device fails.
    pub fn set_cluster(&mut self, cluster_id: &str) -> Result<(), Error> {
        match self.identity.cluster_id.as_deref() {
            Some(known) if known == cluster_id => Ok(()),
            Some(known) => Err(Error::Identity(format!(
                "directory {} belongs to cluster {known}, not to cluster {cluster_id}: give the \
                 node an empty directory to become part of another cluster",
                self.path.display()
            ))),
            None => self.replace(Identity {
                cluster_id: Some(cluster_id.to_owned()),
                ..self.identity.clone()
            }),
        }
    }
}

/// Whose directory it is; none when it is nobody's yet. Takes no lock, so it may be asked while a
/// node runs on it, and changes nothing.
///
/// # Errors
/// When it is missing, was written by another version, holds something else, or can't be read.
pub fn peek(path: &Path) -> Result<Option<Identity>, Error> {
    match read(path)? {
        Some(identity) => Ok(Some(identity)),
        None => check_empty(path).map(|()| None),
    }
}

/// Takes the lock, and leaves this process's id in the file for the message of the next one.
fn lock(path: &Path) -> Result<File, Error> {
    let lock_path = path.join(LOCK);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        // Not before it is locked: it tells who holds it.
        .truncate(false)
        .open(&lock_path)
        .map_err(|error| io_error("open", &lock_path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&file).take(20).read_to_string(&mut holder);
            let holder = match holder.trim().parse::<u32>() {
                Ok(pid) => format!("process {pid}"),
                Err(_) => String::from("another process"),
            };
            return Err(Error::Identity(format!(
                "directory {} is in use by {holder}: stop it, or give this node a directory of \
                 its own",
                path.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &lock_path, &error)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .map_err(|error| io_error("write", &lock_path, &error))?;
    Ok(file)
}

/// A directory without an identity must hold nothing that a first start does not leave.
fn check_empty(path: &Path) -> Result<(), Error> {
    let unfinished = format!("{IDENTITY}.tmp");
    let ours = [LOCK, unfinished.as_str(), "lost+found"];
    let is_ours = |name: &str| ours.contains(&name) || name.starts_with(TRIAL);
    match names_in(path)?.iter().find(|name| !is_ours(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Identity(format!(
            "directory {} holds {name:?} but no {IDENTITY}: it is no data directory of Quorate, \
             or has lost its identity; choose an empty directory",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_looked_at_while_it_is_in_use_and_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(peek(dir.path()).expect("it is empty"), None);
        assert_eq!(names_in(dir.path()).expect("readable"), Vec::<String>::new());
        // What a trial of the disk left over is nobody's.
        let left_over = dir.path().join(format!("{TRIAL}abc"));
        std::fs::write(&left_over, "x").expect("written");
        assert_eq!(peek(dir.path()).expect("it is as good as empty"), None);
        let open = Directory::open(dir.path(), Opener::Node(NodeId(2))).expect("opened");
        let seen = peek(dir.path()).expect("readable").expect("it is somebody's");
        assert_eq!(&seen, open.identity());
        drop(open);
        std::fs::remove_file(dir.path().join(IDENTITY)).expect("removed");
        std::fs::write(dir.path().join("CURRENT"), "x").expect("written");
        let error = peek(dir.path()).expect_err("it is something else's").to_string();
        assert!(error.contains("CURRENT"), "{error}");
        peek(&dir.path().join("none")).expect_err("it is not there");
    }
}
