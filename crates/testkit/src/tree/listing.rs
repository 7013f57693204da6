use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat};
use sha2::{Digest, Sha256};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of the system")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    BlockDevice,
    CharDevice,
    Fifo,
    Socket,
}

/// What was found under one name.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// The low twelve bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Bytes of a file; 0 for everything else.
    pub size: u64,
    /// SHA-256 of a file.
    pub content: Option<[u8; 32]>,
    /// Where a symlink points.
    pub target: Option<Vec<u8>>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Extended attributes, ACLs among them.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of the names that this one is a hard link of, where there are several in the tree.
    pub linked: Option<Vec<u8>>,
    /// Holes of a file that is not empty, beginning and end.
    pub holes: Vec<(u64, u64)>,
    /// Bytes on disk of a file; not compared.
    pub allocated: u64,
}

/// A tree as it lies on a disk: paths below its root, which is the empty path.
#[derive(Clone, PartialEq, Eq)]
pub struct Listing {
    pub(super) entries: BTreeMap<Vec<u8>, Found>,
}

impl Listing {
    /// Looks at everything at and below `root`, which is itself not followed when it is a symlink.
    ///
    /// # Panics
    /// When anything cannot be read.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = rustix::fs::open(parent.unwrap_or(Path::new("/")), DIRECTORY, Mode::empty())
            .unwrap_or_else(|error| panic!("open the parent of {}: {error}", root.display()));
        let name = root.file_name().map_or(b".".as_slice(), std::ffi::OsStr::as_encoded_bytes);
        let mut walk = Walk::default();
        walk.visit(&parent, name, Vec::new());
        walk.listing()
    }

    /// Every path, ascending by byte, without the root.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.keys().map(Vec::as_slice).filter(|path| !path.is_empty())
    }

    /// Everything, ascending by the bytes of the path.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &Found)> {
        self.entries.iter().map(|(path, found)| (path.as_slice(), found))
    }

    /// What lies at that path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Found> {
        self.entries.get(path)
    }

    /// How many there are of that kind, the root included.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.entries.values().filter(|found| found.kind == kind).count()
    }

    /// The same without what is of that kind.
    #[must_use]
    pub fn without(mut self, kind: Kind) -> Self {
        self.entries.retain(|_, found| found.kind != kind);
        self.regrouped()
    }

    /// The same without that path and everything below it.
    #[must_use]
    pub fn without_path(mut self, path: &[u8]) -> Self {
        let below = [path, b"/"].concat();
        self.entries.retain(|other, _| other != path && !other.starts_with(&below));
        self.regrouped()
    }

    /// The same, as if no file had holes.
    #[must_use]
    pub fn without_holes(mut self) -> Self {
        self.entries.values_mut().for_each(|found| found.holes.clear());
        self
    }

    /// The same, as if nothing of that kind had extended attributes.
    #[must_use]
    pub fn without_attributes_of(mut self, kind: Kind) -> Self {
        let same = self.entries.values_mut().filter(|found| found.kind == kind);
        same.for_each(|found| found.attributes.clear());
        self
    }

    /// The same, as if every name of that kind stood for a thing of its own.
    #[must_use]
    pub fn without_links_of(mut self, kind: Kind) -> Self {
        let same = self.entries.values_mut().filter(|found| found.kind == kind);
        same.for_each(|found| found.linked = None);
        self
    }

    /// Groups of hard links whose first or second-last name went away.
    fn regrouped(mut self) -> Self {
        let mut groups: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
        for (path, found) in &self.entries {
            if let Some(first) = &found.linked {
                groups.entry(first.clone()).or_default().push(path.clone());
            }
        }
        for names in groups.values() {
            let first = (names.len() > 1).then(|| names[0].clone());
            for name in names {
                self.entries.get_mut(name).expect("it is there").linked.clone_from(&first);
            }
        }
        self
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

#[derive(Default)]
struct Walk {
    entries: BTreeMap<Vec<u8>, Found>,
    /// Names by device and inode number.
    names: BTreeMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Walk {
    fn visit(&mut self, parent: &OwnedFd, name: &[u8], path: Vec<u8>) {
        let fail = |what: &str, error: &dyn std::fmt::Display| -> ! {
            panic!("{what} {}: {error}", path.escape_ascii())
        };
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|error| fail("stat", &error));
        let mut found = Found::of_stat(&stat);
        found.attributes =
            attributes(parent, name).unwrap_or_else(|error| fail("read the attributes of", &error));
        match found.kind {
            Kind::Symlink => {
                let target = rustix::fs::readlinkat(parent, name, Vec::new())
                    .unwrap_or_else(|error| fail("read the link", &error));
                found.target = Some(target.into_bytes());
            }
            Kind::File => {
                let file = rustix::fs::openat(parent, name, FILE, Mode::empty())
                    .unwrap_or_else(|error| fail("open", &error));
                found.holes = holes(&file, found.size)
                    .unwrap_or_else(|error| fail("look for holes in", &error));
                let (content, len) = hash(file).unwrap_or_else(|error| fail("read", &error));
                assert_eq!(len, found.size, "{} changed meanwhile", path.escape_ascii());
                found.content = Some(content);
            }
            Kind::Directory => {
                let directory = rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
                    .unwrap_or_else(|error| fail("open", &error));
                let names = names(&directory).unwrap_or_else(|error| fail("list", &error));
                for name in names {
                    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    self.visit(&directory, &name, [&path, separator, &name].concat());
                }
            }
            Kind::BlockDevice | Kind::CharDevice | Kind::Fifo | Kind::Socket => {}
        }
        if found.kind != Kind::Directory && stat.st_nlink > 1 {
            self.names.entry((stat.st_dev, stat.st_ino)).or_default().push(path.clone());
        }
        self.entries.insert(path, found);
    }

    fn listing(mut self) -> Listing {
        for mut names in self.names.into_values().filter(|names| names.len() > 1) {
            names.sort();
            for name in &names {
                let found = self.entries.get_mut(name).expect("it was visited");
                found.linked = Some(names[0].clone());
            }
        }
        Listing { entries: self.entries }
    }
}

impl Found {
    fn of_stat(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => panic!("mode {:o} is of no kind", stat.st_mode),
        };
        let is_file = kind == Kind::File;
        let is_device = matches!(kind, Kind::BlockDevice | Kind::CharDevice);
        let number = || (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let nanos = u32::try_from(stat.st_mtime_nsec).expect("below one second");
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, nanos),
            size: if is_file { u64::try_from(stat.st_size).expect("a size") } else { 0 },
            content: None,
            target: None,
            device: is_device.then(number),
            attributes: BTreeMap::new(),
            linked: None,
            holes: Vec::new(),
            allocated: u64::try_from(stat.st_blocks).expect("a number of blocks") * 512,
        }
    }
}

fn names(directory: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// The path by which calls that know no directory handles reach a name in a directory.
pub(super) fn by_handle(directory: &OwnedFd, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat()
}

fn attributes(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = by_handle(parent, name);
    let mut list = vec![0; rustix::fs::llistxattr_query(path.as_slice())?];
    let len = rustix::fs::llistxattr(path.as_slice(), list.as_mut_slice())?;
    let mut attributes = BTreeMap::new();
    for attribute in list[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let len = rustix::fs::lgetxattr_query(path.as_slice(), attribute)?;
        let mut value = vec![0; len];
        if len > 0 {
            rustix::fs::lgetxattr(path.as_slice(), attribute, value.as_mut_slice())?;
        }
        attributes.insert(attribute.to_vec(), value);
    }
    Ok(attributes)
}

fn holes(file: &OwnedFd, size: u64) -> rustix::io::Result<Vec<(u64, u64)>> {
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size {
        let hole = rustix::fs::seek(file, SeekFrom::Hole(at))?;
        if hole >= size {
            break;
        }
        at = match rustix::fs::seek(file, SeekFrom::Data(hole)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => size,
            Err(error) => return Err(error),
        };
        holes.push((hole, at));
    }
    rustix::fs::seek(file, SeekFrom::Start(0))?;
    Ok(holes)
}

fn hash(file: OwnedFd) -> std::io::Result<([u8; 32], u64)> {
    let mut file = std::fs::File::from(file);
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let len = file.read(&mut piece)?;
        if len == 0 {
            return Ok((hash.finalize().into(), total));
        }
        hash.update(&piece[..len]);
        total += len as u64;
    }
}
