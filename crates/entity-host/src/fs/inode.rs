//! Which file systems keep the inode number of a file for its life.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;
use rustix::io::Result;

/// File systems whose inode numbers may be others after a remount, a lookup or a server's restart,
/// so that an unchanged file may show a new one: their magic number, their name, and why.
const UNSTABLE: [(u64, &str, &str); 11] = [
    (0x6573_5546, "fuse", "numbers are given out by the daemon, often per lookup"),
    (0x4d44, "vfat", "files have none on disk; numbers are given out in memory"),
    (0x2011_bab0, "exfat", "files have none on disk; numbers are given out in memory"),
    (0x517b, "smbfs", "numbers may be made by the client"),
    (0xff53_4d42, "cifs", "numbers may be made by the client"),
    (0xfe53_4d42, "smb2", "numbers may be made by the client"),
    (0x0102_1997, "9p", "numbers are made from the server's, of several file systems"),
    (0x794c_7630, "overlay", "a copy-up or another layering gives a file another number"),
    (0x7375_7245, "coda", "numbers are hashes, given out by the client"),
    (0x786f_4256, "vboxsf", "numbers are given out in memory"),
    (0xbacb_acbc, "vmhgfs", "numbers are given out in memory"),
];

/// True when equal inode numbers mean an equal file on a file system of that magic number.
pub(crate) fn is_stable(magic: u64) -> bool {
    UNSTABLE.iter().all(|(unstable, _, _)| *unstable != magic)
}

/// The same, for the file system that an open file or directory lies on.
pub(crate) fn keeps_inodes(fd: impl AsFd) -> Result<bool> {
    // The kernel's type is a signed word; the magic numbers are 32 bits of it.
    let magic = u64::try_from(fstatfs(fd)?.f_type & 0xffff_ffff).unwrap_or(0);
    Ok(is_stable(magic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_numbers_count_only_where_the_file_system_keeps_them() {
        let stable = [
            (0xef53, "ext4"),
            (0x5846_5342, "xfs"),
            (0x9123_683e, "btrfs"),
            (0x0102_1994, "tmpfs"),
            (0x2fc1_2fc1, "zfs"),
            (0x6969, "nfs"),
            (0x7366_746e, "ntfs3"),
        ];
        for (magic, name) in stable {
            assert!(is_stable(magic), "{name}");
        }
        for (magic, name, reason) in UNSTABLE {
            assert!(!is_stable(magic), "{name}: {reason}");
        }
    }
}
