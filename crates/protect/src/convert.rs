//! Entries of the sockets and nodes of the repository: the same things in two words.

use alidade_model::{Entry, Kind, Metadata, Time, Version, Xattr};
use alidade_repository::{Node, NodeHead, NodeKind};

// Go's `fs.FileMode` bits, as the format stores them.
const GO_DIR: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;
const GO_DEVICE: u32 = 1 << 26;
const GO_FIFO: u32 = 1 << 25;
const GO_SOCKET: u32 = 1 << 24;
const GO_SETUID: u32 = 1 << 23;
const GO_SETGID: u32 = 1 << 22;
const GO_CHAR_DEVICE: u32 = 1 << 21;
const GO_STICKY: u32 = 1 << 20;

/// The key of `generic_attributes` under which a version that is not a stat tuple is kept.
const MARKER: &str = "alidade.version";

/// Seconds since 1970 that the format's times hold: the years 1 to 9999.
const TIMES: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// The node of an entry, without content and subtree, and the names of the extended attributes that the
/// format cannot hold: those that are not text.
pub(crate) fn node_of(entry: &Entry) -> (Node, Vec<Vec<u8>>) {
    let meta = &entry.metadata;
    let mut node = Node::new(entry.name.clone(), kind_of(meta.kind));
    node.mode = go_mode(meta.kind, meta.mode);
    node.mtime = meta.mtime;
    node.atime = meta.atime;
    node.ctime = meta.ctime;
    node.uid = meta.uid;
    node.gid = meta.gid;
    node.user.clone_from(&meta.user);
    node.group.clone_from(&meta.group);
    node.inode = meta.inode;
    node.device_id = meta.device;
    node.size = meta.size;
    node.links = meta.links;
    node.link_target.clone_from(&meta.link_target);
    node.device = meta.rdev;
    let mut lost = Vec::new();
    for xattr in &meta.xattrs {
        match std::str::from_utf8(&xattr.name) {
            Ok(name) => node.xattrs.push((name.to_owned(), xattr.value.clone())),
            Err(_) => lost.push(xattr.name.clone()),
        }
    }
    if let Version::Marker(marker) = &entry.version {
        let hex: String = marker.iter().map(|byte| format!("{byte:02x}")).collect();
        node.generic.push((MARKER.to_owned(), format!("\"{hex}\"")));
    }
    (node, lost)
}

/// Appends the head of an entry's node to `out`. `None` when the node does not say all of the entry, or
/// says it so that it would not read back: then it can be compared with no stored one.
pub(crate) fn head_of(entry: &Entry, out: &mut Vec<u8>) -> Option<()> {
    let meta = &entry.metadata;
    let reads_back = |time: Time| TIMES.contains(&time.seconds) && time.nanos < 1_000_000_000;
    if ![meta.mtime, meta.atime, meta.ctime].into_iter().all(reads_back) {
        return None;
    }
    if !meta.xattrs.is_empty() || matches!(entry.version, Version::Marker(_)) {
        let (node, lost) = node_of(entry);
        return lost.is_empty().then(|| NodeHead::from(&node).encode(out));
    }
    let head = NodeHead {
        name: &entry.name,
        kind: word_of(meta.kind),
        mode: go_mode(meta.kind, meta.mode),
        mtime: meta.mtime,
        atime: meta.atime,
        ctime: meta.ctime,
        uid: meta.uid,
        gid: meta.gid,
        user: &meta.user,
        group: &meta.group,
        inode: meta.inode,
        device_id: meta.device,
        size: meta.size,
        links: meta.links,
        link_target: &meta.link_target,
        xattrs: &[],
        generic: &[],
        device: meta.rdev,
    };
    head.encode(out);
    Some(())
}

/// What the node of an entry says about the version of its content: [`version_of`] of that node.
pub(crate) fn stored_version(entry: &Entry) -> Version {
    let meta = &entry.metadata;
    match &entry.version {
        marker @ Version::Marker(_) => marker.clone(),
        Version::Stat { .. } | Version::Unknown => Version::Stat {
            size: meta.size,
            mtime: meta.mtime,
            ctime: meta.ctime,
            inode: (meta.inode != 0).then_some(meta.inode),
        },
    }
}

/// The entry of a node; `None` for a kind of node that no entry stands for.
pub(crate) fn entry_of(node: &Node) -> Option<Entry> {
    let kind = match &node.kind {
        NodeKind::File => Kind::File,
        NodeKind::Dir => Kind::Directory,
        NodeKind::Symlink => Kind::Symlink,
        NodeKind::Dev => Kind::BlockDevice,
        NodeKind::CharDev => Kind::CharDevice,
        NodeKind::Fifo => Kind::Fifo,
        NodeKind::Socket => Kind::Socket,
        NodeKind::Other(_) => return None,
    };
    let mut xattrs: Vec<Xattr> = node
        .xattrs
        .iter()
        .map(|(name, value)| Xattr { name: name.clone().into_bytes(), value: value.clone() })
        .collect();
    xattrs.sort();
    Some(Entry {
        name: node.name.clone(),
        version: version_of(node),
        metadata: Metadata {
            kind,
            mode: posix_mode(node.mode),
            uid: node.uid,
            gid: node.gid,
            user: node.user.clone(),
            group: node.group.clone(),
            mtime: node.mtime,
            atime: node.atime,
            ctime: node.ctime,
            size: if kind == Kind::File { node.size } else { 0 },
            inode: node.inode,
            device: node.device_id,
            links: node.links,
            rdev: node.device,
            link_target: node.link_target.clone(),
            xattrs,
        },
    })
}

/// What a stored node says about the version of its content.
pub(crate) fn version_of(node: &Node) -> Version {
    let marker = node.generic.iter().find(|(key, _)| key == MARKER).map(|(_, value)| value);
    match marker.map(|value| unhex(value.trim_matches('"'))) {
        Some(Some(marker)) => Version::Marker(marker),
        Some(None) => Version::Unknown,
        None => Version::Stat {
            size: node.size,
            mtime: node.mtime,
            ctime: node.ctime,
            inode: (node.inode != 0).then_some(node.inode),
        },
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()).collect()
}

fn kind_of(kind: Kind) -> NodeKind {
    match kind {
        Kind::File => NodeKind::File,
        Kind::Directory => NodeKind::Dir,
        Kind::Symlink => NodeKind::Symlink,
        Kind::BlockDevice => NodeKind::Dev,
        Kind::CharDevice => NodeKind::CharDev,
        Kind::Fifo => NodeKind::Fifo,
        Kind::Socket => NodeKind::Socket,
    }
}

fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "symlink",
        Kind::BlockDevice => "dev",
        Kind::CharDevice => "chardev",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn go_mode(kind: Kind, mode: u32) -> u32 {
    let of_kind = match kind {
        Kind::File => 0,
        Kind::Directory => GO_DIR,
        Kind::Symlink => GO_SYMLINK,
        Kind::BlockDevice => GO_DEVICE,
        Kind::CharDevice => GO_DEVICE | GO_CHAR_DEVICE,
        Kind::Fifo => GO_FIFO,
        Kind::Socket => GO_SOCKET,
    };
    let bit = |posix: u32, go: u32| if mode & posix != 0 { go } else { 0 };
    of_kind
        | mode & 0o777
        | bit(0o4000, GO_SETUID)
        | bit(0o2000, GO_SETGID)
        | bit(0o1000, GO_STICKY)
}

fn posix_mode(go: u32) -> u32 {
    let bit = |flag: u32, posix: u32| if go & flag != 0 { posix } else { 0 };
    go & 0o777 | bit(GO_SETUID, 0o4000) | bit(GO_SETGID, 0o2000) | bit(GO_STICKY, 0o1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_mode_survives_the_node_form() {
        for kind in [
            Kind::File,
            Kind::Directory,
            Kind::Symlink,
            Kind::BlockDevice,
            Kind::CharDevice,
            Kind::Fifo,
            Kind::Socket,
        ] {
            for mode in [0, 0o644, 0o7777, 0o4755, 0o2070, 0o1001] {
                let mut metadata = Metadata::of(kind, mode);
                metadata.mtime = Time::new(-5, 7);
                metadata.inode = 9;
                if mode != 0o644 {
                    metadata.xattrs = vec![Xattr { name: b"user.a".to_vec(), value: vec![0, 255] }];
                }
                let version = Version::Stat {
                    size: 0,
                    mtime: metadata.mtime,
                    ctime: metadata.ctime,
                    inode: Some(9),
                };
                let entry = Entry { name: vec![0xff, b'a'], metadata, version };
                let (node, lost) = node_of(&entry);
                assert!(lost.is_empty());
                let (mut head, mut same) = (Vec::new(), Vec::new());
                NodeHead::from(&node).encode(&mut head);
                assert_eq!(head_of(&entry, &mut same), Some(()));
                assert_eq!(head, same);
                assert_eq!(stored_version(&entry), version_of(&node));
                assert_eq!(entry_of(&node), Some(entry));
            }
        }
    }

    #[test]
    fn a_marker_survives_and_an_attribute_name_that_is_no_text_is_reported() {
        let mut metadata = Metadata::of(Kind::File, 0o600);
        metadata.xattrs = vec![Xattr { name: vec![b'u', 0xfe], value: vec![] }];
        let entry =
            Entry { name: b"k".to_vec(), metadata, version: Version::Marker(vec![1, 0xab]) };
        let (node, lost) = node_of(&entry);
        assert_eq!(lost, vec![vec![b'u', 0xfe]]);
        assert_eq!(head_of(&entry, &mut Vec::new()), None);
        assert_eq!(stored_version(&entry), version_of(&node));
        assert_eq!(version_of(&node), Version::Marker(vec![1, 0xab]));
    }
}
