//! What a data directory, and the disk it lies on, are like: looked at and measured, not judged.
//!
//! Nothing here takes the directory's lock or changes what is in it, so it may be asked while a node
//! runs there.

mod file_system;
mod trial;

pub use file_system::{FileSystem, Kind};
pub use quorate_state::NodeId;
pub use trial::Syncs;

use quorate_storage::identity;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Names in a data directory that are looked at: far more than one ever has.
const NAMES_MAX: usize = 1_000;

/// What a data directory is like.
#[derive(Debug)]
pub struct Place {
    /// The data directory; while it does not exist, the nearest directory above it that does. The
    /// rest is about this one.
    pub looked_at: PathBuf,
    /// Whether the data directory exists.
    pub exists: bool,
    /// Whose data it holds; none: nobody's yet. As a text: why that can't be told, with a way out.
    pub tenant: Result<Option<Tenant>, String>,
    /// The permissions, as chmod takes them.
    pub mode: u32,
    /// The user it belongs to.
    pub owner: u32,
    /// A file in it that belongs to another user than the directory.
    pub foreign: Option<(PathBuf, u32)>,
    /// The file system it lies on; none when the system does not tell.
    pub file_system: Option<FileSystem>,
    /// Bytes that may still be written there; none when the system does not tell.
    pub free_bytes: Option<u64>,
    /// How long syncs take there, or why nothing could be written.
    pub syncs: Result<Syncs, String>,
}

/// The node whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its id; 0: a cluster that it is to join has not given it one yet.
    pub node_id: NodeId,
    /// Its cluster, once it is part of one.
    pub cluster_id: Option<String>,
    /// It was removed from that cluster.
    pub left: bool,
}

/// Looks at a data directory and tries its disk, for 3 s at most unless a single sync takes longer.
///
/// # Errors
/// When neither it nor any directory above it can be looked at.
pub fn look(data_dir: &Path) -> io::Result<Place> {
    let (looked_at, metadata, exists) = nearest(data_dir)?;
    let tenant = if exists { tenant(&looked_at) } else { Ok(None) };
    let foreign = if exists { foreign(&looked_at, metadata.uid()) } else { None };
    Ok(Place {
        exists,
        tenant,
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        foreign,
        file_system: FileSystem::of(&looked_at),
        free_bytes: quorate_storage::available_bytes(&looked_at).ok(),
        syncs: trial::run(&looked_at).map_err(|error| error.to_string()),
        looked_at,
    })
}

/// The directory, or the nearest one above it that exists.
fn nearest(data_dir: &Path) -> io::Result<(PathBuf, Metadata, bool)> {
    let absolute = std::path::absolute(data_dir)?;
    for (above, path) in absolute.ancestors().enumerate() {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Ok((path.to_owned(), metadata, above == 0));
            }
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("{} is no directory", path.display()),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("can't look at {}: {error}", path.display()),
                ));
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn tenant(path: &Path) -> Result<Option<Tenant>, String> {
    let identity = identity::peek(path).map_err(|error| error.to_string())?;
    Ok(identity.map(|identity| Tenant {
        node_id: identity.node_id,
        cluster_id: identity.cluster_id,
        left: identity.left,
    }))
}

/// The first file that is found to belong to somebody else.
fn foreign(path: &Path, owner: u32) -> Option<(PathBuf, u32)> {
    let entries = std::fs::read_dir(path).ok()?.take(NAMES_MAX).flatten();
    let mut owned = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.uid())));
    owned.find(|(_, uid)| *uid != owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_storage::identity::{Directory, Opener};

    #[test]
    fn a_directory_is_looked_at_beside_the_node_that_runs_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let above = look(&path).unwrap();
        assert_eq!((above.exists, above.looked_at.as_path()), (false, dir.path()));
        assert_eq!(above.tenant, Ok(None));
        assert!(!path.exists(), "to look makes nothing");

        let mut open = Directory::open(&path, Opener::Node(NodeId(2))).unwrap();
        open.set_cluster("c-1").unwrap();
        let names = || std::fs::read_dir(&path).unwrap().count();
        let before = names();
        let place = look(&path).unwrap();
        let tenant = Tenant { node_id: NodeId(2), cluster_id: Some("c-1".to_owned()), left: false };
        assert_eq!(place.tenant, Ok(Some(tenant)));
        assert_eq!((place.exists, &place.looked_at, place.foreign), (true, &path, None));
        assert!(place.free_bytes.is_some() && place.file_system.is_some());
        let syncs = place.syncs.unwrap();
        assert!(syncs.count > 0 && syncs.p50 <= syncs.p99, "{syncs:?}");
        assert_eq!(names(), before, "the trial leaves nothing behind");
        drop(open);
        Directory::open(&path, Opener::Node(NodeId(2))).unwrap();
    }

    #[test]
    fn what_is_no_directory_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let below = file.path().join("data");
        for path in [file.path(), &below] {
            let error = look(path).unwrap_err().to_string();
            assert!(error.contains(&file.path().display().to_string()), "{error}");
        }
        // A directory of something else is looked at, and its tenant is a stranger.
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        let place = look(dir.path()).unwrap();
        assert!(place.tenant.unwrap_err().contains("Cargo.toml"));
    }
}
