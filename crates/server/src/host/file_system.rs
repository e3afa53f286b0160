//! What kind of file system a directory lies on.

use nix::sys::statfs::{self, FsType, statfs};
use std::path::Path;

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// What it is called; its number when that is not known here.
    pub name: String,
    /// What it means for what is written there.
    pub kind: Kind,
}

/// What a file system means for what is written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On a disk of this machine, or what looks like one.
    Local,
    /// In memory: gone with the machine.
    Memory,
    /// On another machine.
    Network,
    /// Served by a program of this machine, which may keep it anywhere.
    UserSpace,
    /// The writable layer of a container: gone with it.
    Layer,
    /// Not known here.
    Unknown,
}

/// Names and kinds by number; those without a name in nix are from statfs(2).
const KNOWN: &[(FsType, &str, Kind)] = &[
    (statfs::EXT4_SUPER_MAGIC, "ext4", Kind::Local),
    (statfs::XFS_SUPER_MAGIC, "xfs", Kind::Local),
    (statfs::BTRFS_SUPER_MAGIC, "btrfs", Kind::Local),
    (statfs::F2FS_SUPER_MAGIC, "f2fs", Kind::Local),
    (FsType(0x2fc1_2fc1), "zfs", Kind::Local),
    (FsType(0xca45_1a4e), "bcachefs", Kind::Local),
    (statfs::TMPFS_MAGIC, "tmpfs", Kind::Memory),
    (FsType(0x8584_58f6), "ramfs", Kind::Memory),
    (statfs::HUGETLBFS_MAGIC, "hugetlbfs", Kind::Memory),
    (statfs::NFS_SUPER_MAGIC, "nfs", Kind::Network),
    (statfs::SMB_SUPER_MAGIC, "smb", Kind::Network),
    (FsType(0xfe53_4d42), "smb2", Kind::Network),
    (FsType(0xff53_4d42), "cifs", Kind::Network),
    (FsType(0x00c3_6400), "ceph", Kind::Network),
    (FsType(0x0102_1997), "9p", Kind::Network),
    (FsType(0x0bd0_0bd0), "lustre", Kind::Network),
    (FsType(0x4750_4653), "gpfs", Kind::Network),
    (statfs::AFS_SUPER_MAGIC, "afs", Kind::Network),
    (statfs::CODA_SUPER_MAGIC, "coda", Kind::Network),
    (statfs::OCFS2_SUPER_MAGIC, "ocfs2", Kind::Network),
    (FsType(0x0116_1970), "gfs2", Kind::Network),
    (statfs::FUSE_SUPER_MAGIC, "fuse", Kind::UserSpace),
    (statfs::OVERLAYFS_SUPER_MAGIC, "overlay", Kind::Layer),
];

impl FileSystem {
    /// The one that a directory lies on; none when the system does not tell.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Some(Self::numbered(statfs(path).ok()?.filesystem_type()))
    }

    fn numbered(number: FsType) -> Self {
        let known = KNOWN.iter().find(|(known, ..)| *known == number);
        match known {
            Some((_, name, kind)) => Self { name: (*name).to_owned(), kind: *kind },
            None => Self { name: format!("{:#x}", number.0), kind: Kind::Unknown },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_by_their_numbers() {
        let kind = |number| FileSystem::numbered(number).kind;
        assert_eq!(kind(statfs::TMPFS_MAGIC), Kind::Memory);
        assert_eq!(kind(FsType(0xff53_4d42)), Kind::Network);
        let strange = FileSystem::numbered(FsType(0x1234));
        assert_eq!((strange.name.as_str(), strange.kind), ("0x1234", Kind::Unknown));
        // A number stands for one file system.
        for (at, (number, name, _)) in KNOWN.iter().enumerate() {
            let first = KNOWN.iter().position(|(other, ..)| other == number);
            assert_eq!(first, Some(at), "{name}");
        }
    }

    #[test]
    fn where_nothing_is_there_is_no_file_system() {
        assert_eq!(FileSystem::of(Path::new("/no/such/directory")), None);
    }
}
