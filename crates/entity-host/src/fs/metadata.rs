//! What the system says about an entry, in the words of the model.

use std::os::fd::AsFd;

use alidade_model::{Kind, Metadata, Sabotage, Time, Version};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev, statx};
use rustix::io::Result;

use super::owners::Owners;

/// Looks at a name in a directory, not at what a symbolic link there points to.
pub(crate) fn look_at(dir: impl AsFd, name: &[u8]) -> Result<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::BASIC_STATS)
}

/// Looks at what a descriptor stands for.
pub(crate) fn look(fd: impl AsFd) -> Result<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// What it is; `None` for what no tree can hold.
pub(crate) fn kind_of(stat: &Statx) -> Option<Kind> {
    match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Socket => Some(Kind::Socket),
        FileType::Unknown => None,
    }
}

/// The number of the file system an entry lies on, as `st_dev` has it.
pub(crate) fn device_of(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// A file system and an inode on it.
pub(crate) fn identity_of(stat: &Statx) -> (u64, u64) {
    (device_of(stat), stat.stx_ino)
}

/// The metadata without link target and extended attributes, which take calls of their own.
///
/// The access time is that of the last change of the content: reading it is our own doing, and
/// would make every snapshot differ from the one before.
pub(crate) fn metadata_of(stat: &Statx, kind: Kind, owners: &Owners) -> Metadata {
    let is_device = matches!(kind, Kind::BlockDevice | Kind::CharDevice);
    Metadata {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        user: owners.user(stat.stx_uid),
        group: owners.group(stat.stx_gid),
        mtime: time_of(stat.stx_mtime),
        atime: time_of(stat.stx_mtime),
        ctime: time_of(stat.stx_ctime),
        size: if kind == Kind::File { stat.stx_size } else { 0 },
        inode: stat.stx_ino,
        device: device_of(stat),
        links: u64::from(stat.stx_nlink),
        rdev: if is_device { makedev(stat.stx_rdev_major, stat.stx_rdev_minor) } else { 0 },
        link_target: Vec::new(),
        xattrs: Vec::new(),
    }
}

/// What the system says about a file's content without reading it.
pub(crate) fn version_of(metadata: &Metadata, keeps_inodes: bool) -> Version {
    match metadata.kind {
        Kind::File => Version::Stat {
            size: metadata.size,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
            inode: keeps_inodes.then_some(metadata.inode),
        },
        Kind::Directory
        | Kind::Symlink
        | Kind::BlockDevice
        | Kind::CharDevice
        | Kind::Fifo
        | Kind::Socket => Version::Unknown,
    }
}

/// A time of the system.
pub(crate) fn time_of(time: StatxTimestamp) -> Time {
    let nanos = if Sabotage::LoseNanoseconds.is_on() { 0 } else { time.tv_nsec };
    Time::new(time.tv_sec, nanos)
}
