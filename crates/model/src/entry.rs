use crate::Time;

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Bytes.
    File,
    /// Holds other entries.
    Directory,
    /// Names another path.
    Symlink,
    /// A block device node.
    BlockDevice,
    /// A character device node.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}

impl Kind {
    /// The word for it, singular, as printed and as hashed into the content digest.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::BlockDevice => "block device",
            Self::CharDevice => "character device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// An extended attribute. POSIX ACLs and file capabilities travel as such.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xattr {
    /// The name with its name space, such as `user.comment`.
    pub name: Vec<u8>,
    /// The value, possibly empty.
    pub value: Vec<u8>,
}

/// Everything an entry is besides its name and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// The low twelve bits of the POSIX mode: permissions, set-id, sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The owner's name at the source; empty when unknown.
    pub user: String,
    /// The group's name at the source; empty when unknown.
    pub group: String,
    /// Last change of the content.
    pub mtime: Time,
    /// Last access.
    pub atime: Time,
    /// Last change of the entry itself.
    pub ctime: Time,
    /// Bytes of content; 0 for everything but files.
    pub size: u64,
    /// Inode number, 0 when the source has none.
    pub inode: u64,
    /// Number of the file system the entry lies on, 0 when the source has none.
    pub device: u64,
    /// How many names the inode has.
    pub links: u64,
    /// Device number of a device node, else 0.
    pub rdev: u64,
    /// Where a symlink points, else empty.
    pub link_target: Vec<u8>,
    /// Extended attributes, ascending by name.
    pub xattrs: Vec<Xattr>,
}

impl Metadata {
    /// Metadata of that kind with everything else empty: for entries that no source describes.
    #[must_use]
    pub fn of(kind: Kind, mode: u32) -> Self {
        Self {
            kind,
            mode,
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            mtime: Time::default(),
            atime: Time::default(),
            ctime: Time::default(),
            size: 0,
            inode: 0,
            device: 0,
            links: 1,
            rdev: 0,
            link_target: Vec::new(),
            xattrs: Vec::new(),
        }
    }

    /// True when other names may share this inode.
    #[must_use]
    pub fn is_hard_linked(&self) -> bool {
        self.kind != Kind::Directory && self.links > 1 && self.inode != 0
    }
}

/// What a source says about an entry's content without reading it.
///
/// Two equal versions of one entry have the same content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// The source cannot say; the content must be read.
    Unknown,
    /// A POSIX file's size, times and inode.
    Stat {
        /// Bytes of content.
        size: u64,
        /// Last change of the content.
        mtime: Time,
        /// Last change of the inode.
        ctime: Time,
        /// The inode number, or `None` where the file system does not keep it stable.
        inode: Option<u64>,
    },
    /// An opaque marker: an etag, a resource version.
    Marker(Vec<u8>),
}

impl Version {
    /// True when both are known and speak of the same content.
    ///
    /// An inode number that one side does not vouch for is not compared.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Stat { size: s1, mtime: m1, ctime: c1, inode: i1 },
                Self::Stat { size: s2, mtime: m2, ctime: c2, inode: i2 },
            ) => {
                let inode = i1.is_none() || i2.is_none() || i1 == i2;
                s1 == s2 && m1 == m2 && c1 == c2 && inode
            }
            (Self::Marker(a), Self::Marker(b)) => a == b,
            (Self::Unknown | Self::Stat { .. } | Self::Marker(_), _) => false,
        }
    }
}

/// One name in a tree and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A single path component, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub metadata: Metadata,
    /// What the source says about its content.
    pub version: Version,
}

/// A range of a file that has no storage and reads as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hole {
    /// Offset in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(inode: Option<u64>) -> Version {
        Version::Stat { size: 1, mtime: Time::new(2, 3), ctime: Time::new(4, 5), inode }
    }

    #[test]
    fn an_inode_number_counts_only_where_both_sides_vouch_for_it() {
        assert!(stat(Some(7)).matches(&stat(Some(7))));
        assert!(!stat(Some(7)).matches(&stat(Some(8))));
        assert!(stat(None).matches(&stat(Some(8))));
    }

    #[test]
    fn an_unknown_version_matches_nothing_not_even_itself() {
        assert!(!Version::Unknown.matches(&Version::Unknown));
        assert!(!Version::Unknown.matches(&stat(None)));
        assert!(Version::Marker(vec![1]).matches(&Version::Marker(vec![1])));
    }
}
