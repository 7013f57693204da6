use std::collections::BTreeMap;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev,
};
use rustix::io::Errno;

use super::content::Content;
use super::listing::by_handle;

/// What a tree shall be.
///
/// Every plan can be built: what makes no sense (a second thing of the same name, a hard link to a
/// directory) is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The root directory's metadata.
    pub root: Dress,
    /// What is in it, in the order in which it is made.
    pub things: Vec<Thing>,
}

/// One name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// In which directory: counted in the order in which they are made, the root is 0; modulo their
    /// number.
    pub parent: usize,
    /// 1 to 255 bytes, neither `/` nor NUL among them.
    pub name: Vec<u8>,
    /// What it is.
    pub make: Make,
    /// Its metadata; a hard link has that of what it links.
    pub dress: Dress,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the system")]
pub enum Make {
    Directory,
    File(Content),
    /// A further name of something made before that is no directory: counted, modulo their number.
    HardLink(usize),
    Symlink(Vec<u8>),
    /// Major and minor number.
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

/// Metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dress {
    /// The low twelve bits; a symlink has its own.
    pub mode: u32,
    /// Owner; `None` leaves who built it.
    pub owner: Option<(u32, u32)>,
    /// Last modification: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes. Those that the kind or the system does not take are left out.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Who else may do what.
    pub acl: Option<Acl>,
}

/// A POSIX ACL with one more user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The user, and what that one may do (three bits).
    pub user: (u32, u16),
    /// The group, and what it may do.
    pub group: (u32, u16),
    /// True for the ACL that new entries of a directory get.
    pub default: bool,
}

impl Acl {
    /// The text of it as the kernel keeps it in an extended attribute.
    fn attribute(self, mode: u32) -> (&'static [u8], Vec<u8>) {
        const ANYBODY: u32 = u32::MAX;
        let bits = |shift: u32| u16::try_from(mode >> shift & 7).expect("three bits");
        let rows: [(u16, u16, u32); 6] = [
            (0x01, bits(6), ANYBODY),
            (0x02, self.user.1 & 7, self.user.0),
            (0x04, bits(3), ANYBODY),
            (0x08, self.group.1 & 7, self.group.0),
            (0x10, 7, ANYBODY),
            (0x20, bits(0), ANYBODY),
        ];
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, allowed, id) in rows {
            value.extend(tag.to_le_bytes());
            value.extend(allowed.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        let name: &[u8] =
            if self.default { b"system.posix_acl_default" } else { b"system.posix_acl_access" };
        (name, value)
    }
}

impl Default for Dress {
    fn default() -> Self {
        let mtime = (1_700_000_000, 123_456_789);
        Self { mode: 0o755, owner: None, mtime, attributes: Vec::new(), acl: None }
    }
}

impl Plan {
    /// A tree of directories, each in the one before, with a file in the last.
    ///
    /// With 20 names of 255 bytes its paths are longer than the system takes in one call.
    #[must_use]
    pub fn deep(names: &[Vec<u8>], content: Content) -> Self {
        let thing = |(parent, name): (usize, &Vec<u8>)| Thing {
            parent,
            name: name.clone(),
            make: Make::Directory,
            dress: Dress::default(),
        };
        let mut things: Vec<Thing> = names.iter().enumerate().map(thing).collect();
        let dress = Dress { mode: 0o644, ..Dress::default() };
        let make = Make::File(content);
        things.push(Thing { parent: names.len(), name: b"last".to_vec(), make, dress });
        Self { root: Dress::default(), things }
    }

    /// Makes it at `root`, which is not there yet.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn build(&self, root: &Path) {
        std::fs::create_dir(root).unwrap_or_else(|e| panic!("create {}: {e}", root.display()));
        let root_handle = rustix::fs::open(root, DIRECTORY, Mode::empty())
            .unwrap_or_else(|e| panic!("open {}: {e}", root.display()));
        let mut site = Site::new(root_handle);
        for thing in &self.things {
            site.make(thing);
        }
        site.dress(&self.root);
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);

/// A tree while it is built.
struct Site<'a> {
    directories: Vec<OwnedFd>,
    /// Directory, name and plan of everything but hard links, in the order in which it was made.
    made: Vec<(usize, &'a Thing)>,
    /// Places in `made` of what is no directory.
    linkable: Vec<usize>,
    /// Handles of directories by their place in `made`.
    handles: BTreeMap<usize, usize>,
}

impl<'a> Site<'a> {
    fn new(root: OwnedFd) -> Self {
        Self {
            directories: vec![root],
            made: Vec::new(),
            linkable: Vec::new(),
            handles: BTreeMap::new(),
        }
    }

    fn make(&mut self, thing: &'a Thing) {
        let parent = thing.parent % self.directories.len();
        match self.create(parent, thing) {
            Ok(true) => {}
            Ok(false) => return,
            // The name is taken.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return,
            Err(error) => panic!("make {thing:?}: {error}"),
        }
        if thing.make == Make::Directory {
            let handle = rustix::fs::openat(
                &self.directories[parent],
                thing.name.as_slice(),
                DIRECTORY,
                Mode::empty(),
            )
            .expect("a new directory opens");
            self.handles.insert(self.made.len(), self.directories.len());
            self.directories.push(handle);
        } else if !matches!(thing.make, Make::HardLink(_)) {
            self.linkable.push(self.made.len());
        }
        if !matches!(thing.make, Make::HardLink(_)) {
            self.made.push((parent, thing));
        }
    }

    /// False when it makes no sense here.
    fn create(&self, parent: usize, thing: &Thing) -> std::io::Result<bool> {
        let directory = &self.directories[parent];
        let name = thing.name.as_slice();
        let mode = Mode::RUSR | Mode::WUSR;
        let node = |kind: FileType, major: u32, minor: u32| {
            rustix::fs::mknodat(directory, name, kind, mode, makedev(major, minor))
        };
        match &thing.make {
            Make::Directory => rustix::fs::mkdirat(directory, name, Mode::RWXU)?,
            Make::File(content) => {
                content.write(rustix::fs::openat(directory, name, NEW_FILE, mode)?)?;
            }
            Make::HardLink(to) => {
                let Some(to) = to.checked_rem(self.linkable.len()) else { return Ok(false) };
                let (from, original) = self.made[self.linkable[to]];
                let from = &self.directories[from];
                let original = original.name.as_slice();
                rustix::fs::linkat(from, original, directory, name, AtFlags::empty())?;
            }
            Make::Symlink(target) => {
                rustix::fs::symlinkat(target.as_slice(), directory, name)?;
            }
            Make::CharDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor)?,
            Make::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor)?,
            Make::Fifo => node(FileType::Fifo, 0, 0)?,
            Make::Socket => node(FileType::Socket, 0, 0)?,
        }
        Ok(true)
    }

    /// Gives everything its metadata: what lies deeper first, so that no time is touched again.
    fn dress(&self, root: &Dress) {
        for (place, (parent, thing)) in self.made.iter().enumerate().rev() {
            let directory = &self.directories[*parent];
            let path = by_handle(directory, &thing.name);
            let is_symlink = matches!(thing.make, Make::Symlink(_));
            let is_directory = self.handles.contains_key(&place);
            thing.dress.put(&path, is_symlink, is_directory);
        }
        root.put(&by_handle(&self.directories[0], b"."), false, true);
    }
}

impl Dress {
    fn put(&self, path: &[u8], is_symlink: bool, is_directory: bool) {
        let fail = |what: &str, error: Errno| -> ! {
            panic!("{what} {}: {error}", path.escape_ascii());
        };
        let here = rustix::fs::CWD;
        if let Some((uid, gid)) = self.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(here, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .unwrap_or_else(|error| fail("give away", error));
        }
        if !is_symlink {
            let mode = Mode::from_raw_mode(self.mode & 0o7777);
            rustix::fs::chmodat(here, path, mode, AtFlags::empty())
                .unwrap_or_else(|error| fail("set the mode of", error));
        }
        let acl = self.acl.filter(|acl| is_directory || !acl.default).filter(|_| !is_symlink);
        let acl = acl.map(|acl| acl.attribute(self.mode));
        let plain = self.attributes.iter().map(|(name, value)| (name.as_slice(), value.clone()));
        for (name, value) in plain.chain(acl) {
            match rustix::fs::lsetxattr(path, name, &value, XattrFlags::empty()) {
                // Not this kind, not this file system, not this user, or no more room.
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSPC | Errno::TOOBIG) => {}
                Err(error) => fail("set an attribute of", error),
            }
        }
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(here, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .unwrap_or_else(|error| fail("set the time of", error));
    }
}
